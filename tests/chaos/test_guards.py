"""For each guard: the fault that it is there for does no harm with it, and does without it."""

import pytest

from outreach.demo.far_end import FarEnd
from tests.chaos import guards, scene
from tests.chaos.guards import Guard
from tests.chaos.scene import Scene


@pytest.fixture
def played(request: pytest.FixtureRequest, guard: Guard, far: FarEnd) -> Scene:
    """Both agencies, whose workers see each other only where the fault is a race, for that is slow."""
    slugs = ("alpha", "beta")
    if guard.races:
        agencies = request.getfixturevalue("committed")
    else:
        agencies = {slug: request.getfixturevalue(slug) for slug in slugs}
    return scene.set_up(agencies, far, senders=6)


@pytest.mark.parametrize("guard", {guard.fault: guard for guard in guards.GUARDS}.values(), ids=str)
def test_the_fault_does_no_harm(guard: Guard, played: Scene) -> None:
    assert guard.fault(played) == []


@pytest.mark.parametrize("guard", guards.GUARDS, ids=str)
def test_it_does_without_the_guard(guard: Guard, played: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    guard.remove(monkeypatch)
    assert guard.fault(played)
