"""The far end of every scene, and the workers: one process each for all tests."""

from collections.abc import Iterator

import pytest

from outreach.demo import far_end
from outreach.demo.far_end import FarEnd
from tenants.models import Agency
from tests.chaos import scene
from tests.chaos.scene import Fleet, Scene


@pytest.fixture(scope="session")
def far() -> Iterator[FarEnd]:
    """The sandbox, without faults."""
    with far_end.running([]) as found:
        yield found


@pytest.fixture
def two_agencies(committed: dict[str, Agency], far: FarEnd) -> Scene:
    """Two agencies with three accounts each, ready to send."""
    return scene.set_up(committed, far)


@pytest.fixture(scope="session")
def fleet(django_db_setup: None) -> Iterator[Fleet]:
    """Workers, none of which works yet."""
    found = Fleet()
    yield found
    found.close()
