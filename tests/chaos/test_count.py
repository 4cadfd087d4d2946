"""What comes back is counted exactly: by posts and by mail, some of it told twice, out of order, or only when asked for
again. The sandbox keeps its own count, and its population is scripted, so both ends are known.

A sequence of two mails runs through everything as it is deployed: clusters, web server, the server for incoming mail.
"""

import random
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.models import F
from django.utils import timezone

from analytics import operation
from campaigns import audit, jobs, launch, progress, results
from campaigns.mail_audit import audit_mails
from campaigns.models import (
    Campaign,
    Contact,
    ContactList,
    Enrollment,
    Message,
    MessageFacts,
    Reply,
    Step,
    Subscription,
    Suppression,
)
from outreach.cluster import Machine
from providers.accounts import inbox, webhooks
from providers.accounts.events import FACTS, EventType
from providers.sandbox.population import answer, story
from providers.senders.models import Event, SenderDomain
from tenants import context
from tenants.jobs import enqueue
from tests import processes, stage
from tests.chaos import scene
from tests.chaos.scene import Scene, scaled, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(max(300, 2 * scene.PATIENCE))]
MAILS = scaled(480, 20_000)
BOUNCES = "bounces.test"
# Of 1,000 people; the others only get their mails. Few enough come back that nothing is paused for it.
PEOPLE = {
    "bounce": 5,
    "full": 3,
    "complain": 0.5,
    "optout": 4,
    "slow": 10,
    "click": 40,
    "open": 250,
    "interested": 12,
    "question": 8,
    "notinterested": 10,
    "later": 5,
    "wrong": 4,
    "leave": 6,
    "away": 15,
    "auto": 10,
}


def people(slug: str, count: int, *, least: int) -> list[str]:
    """Addresses of a scripted population in a random order, at least so many of each kind."""
    kinds = {name: max(least, round(count * share / 1_000)) for name, share in PEOPLE.items()}
    kinds["plain"] = count - sum(kinds.values())
    found = [f"{name}{number}.{slug}@people.example" for name, many in kinds.items() for number in range(many)]
    random.Random(slug).shuffle(found)
    return found


def written_to(addresses: list[str]) -> ContactList:
    """A list of these people, who have given consent, in the agency entered now."""
    found = ContactList.objects.create(name="Everybody")
    contacts = Contact.objects.bulk_create(
        [Contact(email=one, first_name="Max") for one in addresses], batch_size=2_000
    )
    Subscription.objects.bulk_create(
        [Subscription(list=found, contact=one, basis="consent") for one in contacts], batch_size=2_000
    )
    return found


@dataclass
class Ground:
    """What runs: `machine` is all of ours, and `scene` knows the far end."""

    scene: Scene
    machine: Machine

    def until(self, done: Callable[[], bool], what: Callable[[], object]) -> None:
        """Let everything run until something is so."""

        def looked() -> bool:
            self.machine.look_after()
            connection.set_schema_to_public()
            return done()

        wait_for(looked, lambda: f"{what()}")

    def told(self) -> dict[str, Any]:
        """What the far end says became of the mails."""
        return self.scene.far.events()

    def all_heard(self) -> bool:
        """Whether all that the far end has told is acted on; what waited for its mail is looked at again."""
        if webhooks.pending() or inbox.pending():
            return False
        waiting = False
        for agency in self.scene.agencies.values():
            with context.entered(agency):
                waiting |= Event.objects.filter(waits=True).exists()
        if waiting:
            enqueue(jobs.tick)
        return not waiting

    def hear(self) -> None:
        """Hear everything but what is lost, and then that."""
        self.until(
            lambda: (told := self.told())["left"] == told["lost"] and self.all_heard(), lambda: ("told", self.told())
        )
        self.scene.far.replay()
        self.until(lambda: not self.told()["left"] and self.all_heard(), lambda: ("replayed", self.told()))


@pytest.fixture
def ground(two_agencies: Scene, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ground]:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as found:
            ports.append(found.getsockname()[1])
    domains: list[str] = []
    for agency in two_agencies.agencies.values():
        with context.entered(agency):
            domains += SenderDomain.objects.values_list("name", flat=True)
            # Room for both mails of everybody in one day.
            SenderDomain.objects.update(per_day=1_000_000)
    ours = {"BOUNCE_DOMAIN": BOUNCES, "INBOUND_DOMAINS": ",".join(domains), "INBOUND_PORT": str(ports[1])}
    for name, value in {**processes.environment(), **ours}.items():
        monkeypatch.setenv(name, value)
    hooks = {"inbound": f"smtp://127.0.0.1:{ports[1]}"}
    for kind, secret in two_agencies.far.webhook_secrets.items():
        account = two_agencies.accounts[kind]
        account.webhook_secrets = {"secret": secret}
        hooks[kind] = f"http://{settings.PUBLIC_HOST}:{ports[0]}/webhooks/{account.webhook_key}/"
    for account in two_agencies.accounts.values():
        # Nothing is slow here but the machine, and no answer shall be in doubt for that.
        account.options |= {"answer_timeout": 60} if account.kind == "smtp" else {"read_timeout": 60}
        account.save()
    with Machine(ports[0], clusters=2, workers=1, stop_seconds=20, inbound=True) as running:
        for port in ports:
            processes.await_port(port)
        two_agencies.far.listen(hooks)
        yield Ground(two_agencies, running)
    two_agencies.far.listen({})


def test_after_a_campaign_every_count_is_the_far_ends(ground: Ground) -> None:
    agencies = ground.scene.agencies
    addresses = {
        "alpha": people("alpha", MAILS - MAILS // 4, least=2),
        "beta": people("beta", MAILS // 4, least=1),
    }
    campaigns: dict[str, Campaign] = {}
    for slug, agency in agencies.items():
        with context.entered(agency):
            made = stage.campaign(written_to(addresses[slug]), distribution="even")
            Step.objects.create(campaign=made, position=2, delay=1, unit="hours", html="<p>And?</p>")
            launch.launch(made, now=timezone.now())
            jobs.ring()
        campaigns[slug] = made
        ground.scene.campaigns.append((agency, made))
    ground.until(lambda: ground.scene.statuses()["sent"] >= MAILS, lambda: ("sent", ground.scene.statuses()))
    ground.hear()
    compare(ground, campaigns)

    # An hour later: who was to hear from us again does.
    for agency in agencies.values():
        with context.entered(agency):
            enqueue(jobs.tick)
    expected = Counter({one: mails_to(one) for one in chain(*addresses.values())})
    ground.until(lambda: following(ground) == 0, lambda: ("queued", ground.scene.statuses()))
    hasten(ground)
    ground.until(
        lambda: ground.scene.statuses()["sent"] >= expected.total(), lambda: ("sent again", ground.scene.statuses())
    )
    ground.hear()
    compare(ground, campaigns)
    assert ground.scene.taken() == expected
    for slug, agency in agencies.items():
        with context.entered(agency):
            suppressed = set(Suppression.objects.values_list("value", flat=True))
            assert suppressed == {one for one in addresses[slug] if leaves(one)}
    disorder = ground.told()["disorder"]
    assert min(disorder["lost"], disorder["repeated"], disorder["late"]) > 0
    connection.set_schema_to_public()
    assert audit.audit_quota().drifts == []
    assert list(audit_mails(now=timezone.now())) == []


def leaves(address: str) -> bool:
    """Whether nothing may be sent to this address any more, after one mail."""
    said = answer(address)
    last = story(address)[-1]
    return last in ("bounced", "complained", "unsubscribed") or (said is not None and said.label == "opt_out")


def mails_to(address: str) -> int:
    """How many mails of the sequence of two go to this address by the next hour."""
    said = answer(address)
    # Answers of people end it, and who is away is written to when they are back.
    ended = said is not None and (not said.automatic or said.label == "out_of_office")
    return 1 if ended or leaves(address) or story(address)[-1] == "soft" else 2


def following(ground: Ground) -> int:
    """How many contacts nobody has looked at yet to see what follows."""
    found = 0
    for agency in ground.scene.agencies.values():
        with context.entered(agency):
            found += Enrollment.objects.filter(look_at__lte=timezone.now()).count()
    return found


def hasten(ground: Ground) -> None:
    """What is due within two hours is due now."""
    for agency in ground.scene.agencies.values():
        with context.entered(agency):
            Message.objects.filter(status="scheduled", due_at__lt=timezone.now() + timedelta(hours=2)).update(
                due_at=timezone.now()
            )
            jobs.ring()


def compare(ground: Ground, campaigns: dict[str, Campaign]) -> None:
    """Everything that we count against what the far end has counted."""
    outcomes = {kind: Counter(counts) for kind, counts in ground.told()["outcomes"].items()}
    answers = {kind: Counter(counts) for kind, counts in ground.told()["answers"].items()}
    bounces = {
        kind: +Counter(hard=one.pop("bounced", 0), mailbox_full=one.pop("soft", 0)) for kind, one in outcomes.items()
    }
    delayed = Counter({kind: one.pop("delayed", 0) for kind, one in outcomes.items()})
    for kind, one in outcomes.items():
        one["bounced"] = bounces[kind].total()
    # Mail by mail.
    assert facts(ground) == outcomes
    assert classes(ground) == {kind: one for kind, one in bounces.items() if one}
    assert labels(ground) == answers
    assert deferred(ground) == delayed
    # What pages show: a campaign's and its steps', and the operator's of each account.
    everything: Counter[str] = sum(outcomes.values(), Counter())
    shown: Counter[str] = Counter()
    stepwise: Counter[str] = Counter()
    for slug, campaign in campaigns.items():
        with context.entered(ground.scene.agencies[slug]):
            campaign.refresh_from_db()
            shown.update({one.code: one.count for one in progress.progress(campaign, now=timezone.now()).told})
            for step in results.results(campaign):
                counts = step.counts
                stepwise.update(replied=counts.replied, bounced=counts.bounced, unsubscribed=counts.unsubscribed)
    assert +shown == everything
    assert all(everything[fact.value] for fact in FACTS)
    assert stepwise == {one: everything[one] for one in ("replied", "bounced", "unsubscribed")}
    connection.set_schema_to_public()
    rates = operation.rates(now=timezone.now())
    names = ("delivered", "bounced", "complained")
    for kind, one in outcomes.items():
        found = rates[ground.scene.accounts[kind].pk]
        assert {name: getattr(found, name) for name in names} == {name: one[name] for name in names}, kind


def per_kind(ground: Ground, counted: Callable[[], Any]) -> dict[str, Counter[str]]:
    """Rows of (account, what) of all agencies, counted by the account's kind."""
    kinds = {account.pk: kind for kind, account in ground.scene.accounts.items()}
    found: dict[str, Counter[str]] = {}
    for agency in ground.scene.agencies.values():
        with context.entered(agency):
            for account, what in counted():
                found.setdefault(kinds[account], Counter())[what] += 1
    return found


def facts(ground: Ground) -> dict[str, Counter[str]]:
    """Facts of mails by the account's kind."""

    def rows() -> Iterator[tuple[int, str]]:
        for fact in FACTS:
            having = MessageFacts.objects.filter(**{f"{fact.value}_at__isnull": False})
            for account in having.values_list("message__account", flat=True):
                yield account, fact.value

    return per_kind(ground, rows)


def classes(ground: Ground) -> dict[str, Counter[str]]:
    """Bounces by their class."""
    having = MessageFacts.objects.exclude(bounce_class="")
    return per_kind(ground, lambda: having.values_list("message__account", "bounce_class"))


def labels(ground: Ground) -> dict[str, Counter[str]]:
    """Answers by what they mean."""
    return per_kind(ground, lambda: Reply.objects.values_list("message__account", "label"))


def deferred(ground: Ground) -> Counter[str]:
    """Mails that were put off for a while."""

    def rows() -> Any:
        keys = Event.objects.filter(type=EventType.DEFERRED).values("message")
        return Message.objects.filter(key__in=keys).values_list("account", F("campaign__status"))

    return Counter({kind: counts.total() for kind, counts in per_kind(ground, rows).items()})
