"""The keys of the table: what each means, what it must be, what it aims at, and what measures it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass

from tests.benchmarks.ground import Ground

Values = dict[str, float]
# Sets a scene, gives the function that measures once, and clears up.
Benchmark = Callable[[Ground], AbstractContextManager[Callable[[], Values]]]


@dataclass(frozen=True)
class Key:
    """One line of the table. `more`: whether more is better. A goal of None is none."""

    name: str
    more: bool
    must: float | None
    aim: float | None

    def verdict(self, value: float) -> str:
        """aim, must or missed."""
        for word, goal in (("aim", self.aim), ("must", self.must)):
            if goal is not None and (value >= goal if self.more else value <= goal):
                return word
        return "missed" if self.must is not None else ""


@dataclass(frozen=True)
class Group:
    """Keys that one benchmark measures together. `most` bounds the repetitions of an expensive one.

    One that is not `quick` cannot be made short: with --quick it is left out unless it is asked for.
    """

    benchmark: str
    keys: tuple[Key, ...]
    most: int = 5
    quick: bool = True


GROUPS = (
    Group(
        "draining.over_smtp",
        (Key("engine_vs_raw_loop", True, 0.9, 3.0), Key("two_workers_vs_one", True, 1.7, 1.9)),
    ),
    Group("draining.slow_http", (Key("http_50ms_vs_session", True, 20, 60),)),
    Group(
        "draining.limited_resend",
        (Key("resend_5rps_mails_per_s", True, 4.5, 450), Key("resend_5rps_answers_429", False, 0, 0)),
    ),
    Group("draining.slow_smtp", (Key("smtp_10ms_vs_one_connection", True, 10, 60),)),
    Group("claiming.growth", (Key("claim_growth_10k_to_1m", False, 1.5, 1.15),)),
    Group("claiming.held_snapshot", (Key("claim_growth_held_snapshot", False, 3, 1.3),), most=1),
    Group(
        "launching.million",
        (Key("launch_1m_vs_insert_select", False, 6, 3), Key("launch_rss_mb", False, 300, None)),
    ),
    Group("draining.more_senders", (Key("senders_5000_vs_1200", False, 1.1, 1.0),)),
    Group("fairness.delays", (Key("fairness_p95_growth", False, 1.05, 1.02),), most=1, quick=False),
    Group("killing.in_doubt", (Key("in_doubt_per_kill", False, 25, None),)),
    Group("remembering.worker", (Key("worker_pss_growth", False, 1.10, 1.03),), most=1),
    Group(
        "remembering.stack",
        (Key("stack_pss_mb", False, 700, 550), Key("idle_queries_per_s", False, 30, 10)),
        most=3,
    ),
    Group("idling.tick", (Key("tick_500_agencies_ms", False, 150, 50),)),
    Group("reading.making", (Key("render_mail_ms", False, 1.5, 0.75),), quick=False),
    Group(
        "reading.pixels",
        (Key("tracking_requests_per_s", True, 1_000, 2_000), Key("tracking_events_lost", False, 0, 0)),
        quick=False,
    ),
    Group(
        "hearing.posts",
        (
            Key("webhook_events_per_s", True, 2_000, 4_000),
            Key("webhook_resend_events_per_s", True, 500, 2_000),
            Key("webhook_posts_lost", False, 0, 0),
        ),
        quick=False,
    ),
    Group("hearing.pending", (Key("feedback_100k_s", False, 60, 30),), most=1, quick=False),
    Group(
        "hearing.under_events",
        (Key("claim_under_events", False, 1.1, 1.02), Key("claim_cpu_under_2000_events", False, 1.1, 1.02)),
        most=1,
        quick=False,
    ),
)


def chosen(names: list[str], *, quick: bool) -> Iterator[Group]:
    """The groups with one of these keys, or all that there is time for. Raises ValueError that lists the known keys."""
    known = {key.name for group in GROUPS for key in group.keys}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"No such key: {', '.join(unknown)}. Known: {', '.join(sorted(known))}.")
    for group in GROUPS:
        if any(key.name in names for key in group.keys) or (not names and (group.quick or not quick)):
            yield group
