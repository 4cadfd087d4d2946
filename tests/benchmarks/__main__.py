"""`python -m tests.benchmarks [KEY …] [--quick] [--repeat N] [--json]`, from the checkout's root."""

import argparse
import importlib
import json
import signal
import statistics
import sys
import time
import traceback
from typing import Any

from tests.benchmarks import children, ground, keys, machine
from tests.benchmarks.keys import Group

DISTURBED = 0.07


def main() -> int:
    chosen = _arguments()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    found: dict[str, dict[str, Any]] = {}
    with ground.laid(quick=chosen.quick) as laid:
        children.preload()
        failed = []
        paces: list[float] = []
        for group in chosen.groups:
            try:
                found |= measure(group, laid, min(chosen.repeat, group.most), paces)
            except Exception:
                traceback.print_exc()
                failed.append(group.benchmark)
                clear_up()
        print_table(chosen.groups, found)
        if paces:
            print(
                f"The machine's own pace: a fixed piece of work took {min(paces):.0f} to {max(paces):.0f} ms, "
                f"half of the times at most {statistics.median(paces):.0f}."
            )
        for note in laid.notes:
            print(note)
    if chosen.json:
        asked = [key.name for group in chosen.groups for key in group.keys]
        print(json.dumps({name: found[name]["median"] for name in asked if name in found}))
    if failed:
        print(f"Not measured, for the reasons above: {', '.join(failed)}.", file=sys.stderr)
    return 1 if failed else 0


def clear_up() -> None:
    """After a benchmark that failed, so that the next can set its scene."""
    from tests.benchmarks import scene

    scene.clear()


def measure(group: Group, laid: ground.Ground, repeat: int, paces: list[float]) -> dict[str, dict[str, Any]]:
    """Every value of the group's benchmark: its median, least and most, and the foreign share of the machine. Adds the
    machine's pace between measurements to `paces`."""
    module, name = group.benchmark.split(".")
    benchmark: keys.Benchmark = getattr(importlib.import_module(f"tests.benchmarks.{module}"), name)
    values: dict[str, list[float]] = {}
    foreign = []
    began = time.monotonic()
    with benchmark(laid) as once:
        for number in range(repeat):
            paces += [machine.pace() for _ in range(3)]
            with machine.watched(laid.ours) as quiet:
                found = once()
            foreign.append(quiet.foreign)
            for key, value in found.items():
                values.setdefault(key, []).append(value)
            print(
                f"# {group.benchmark} {number + 1}/{repeat}, {time.monotonic() - began:.0f} s, "
                f"others {quiet.foreign:.0%}: " + ", ".join(f"{key} {value:.4g}" for key, value in found.items()),
                file=sys.stderr,
                flush=True,
            )
    print(f"# {group.benchmark}: {time.monotonic() - began:.0f} s in all", file=sys.stderr, flush=True)
    return {
        key: {
            "median": statistics.median(many),
            "least": min(many),
            "most": max(many),
            "runs": len(many),
            "foreign": max(foreign),
        }
        for key, many in values.items()
    }


def print_table(groups: list[Group], found: dict[str, dict[str, Any]]) -> None:
    """The keys with their goals, then the figures behind them."""
    goals = {key.name: key for group in groups for key in group.keys}
    print(f"\n{'key':42}{'value':>9}  {'min-max':>17}  {'runs':>4}{'must':>7}{'aim':>7}  {'reached':8}{'others':>6}")
    for name in [*goals, *(name for name in found if name not in goals)]:
        if (one := found.get(name)) is None:
            continue
        key = goals.get(name)
        must, aim = (_goal(key.must), _goal(key.aim)) if key else ("", "")
        print(
            f"{name:42}{one['median']:9.4g}  {one['least']:8.4g}-{one['most']:<8.4g}  {one['runs']:4}"
            f"{must:>7}{aim:>7}  {key.verdict(one['median']) if key else '':8}{one['foreign']:6.0%}"
        )
    if any(one["foreign"] > DISTURBED for one in found.values()):
        print(f"Others used more than {DISTURBED:.0%} of the machine in some runs: only the ratios mean something.")


def _goal(value: float | None) -> str:
    return "" if value is None else f"{value:g}"


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="make bench ARGS=…", description="Measure ratios and growths on this machine."
    )
    parser.add_argument("keys", nargs="*", help="which lines of the table; none: all")
    parser.add_argument("--quick", action="store_true", help="smaller sizes, one repetition")
    parser.add_argument("--repeat", type=int, help="how often, 5 (1 with --quick) if not given")
    parser.add_argument("--json", action="store_true", help="end with one line of JSON: key → value")
    found = parser.parse_args()
    found.repeat = max(1, found.repeat or (1 if found.quick else 5))
    try:
        found.groups = list(keys.chosen(found.keys, quick=found.quick))
    except ValueError as error:
        parser.error(str(error))
    return found


if __name__ == "__main__":
    sys.exit(main())
