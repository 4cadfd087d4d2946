"""Visits may come too early, never too late."""

from datetime import UTC, datetime, timedelta

import pytest

from tenants import context, visits
from tenants.models import Agency

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def due(now: datetime) -> list[str]:
    return [visit.agency.slug for visit in visits.due(now=now)]


def test_an_agency_nothing_is_known_of_is_visited(alpha: Agency, beta: Agency) -> None:
    assert due(NOON) == ["alpha", "beta"]


def test_a_visit_is_due_when_the_one_before_said_so(alpha: Agency, beta: Agency) -> None:
    of_alpha, of_beta = visits.due(now=NOON)
    visits.done(of_alpha, NOON + 5 * MINUTE, now=NOON)
    visits.done(of_beta, NOON, now=NOON)
    assert due(NOON) == ["beta"]
    assert due(NOON + 4 * MINUTE) == ["beta"]
    assert due(NOON + 5 * MINUTE) == ["alpha", "beta"]


@pytest.mark.parametrize("following", [None, NOON + timedelta(days=3)])
def test_whatever_it_said_an_agency_is_visited_within_the_hour(
    alpha: Agency, beta: Agency, following: datetime | None
) -> None:
    for visit in visits.due(now=NOON):
        visits.done(visit, following, now=NOON)
    assert due(NOON + 29 * MINUTE) == []
    assert due(NOON + 60 * MINUTE) == ["alpha", "beta"]


@pytest.mark.parametrize("known", [False, True])
def test_what_is_asked_for_during_a_visit_outlives_it(alpha: Agency, beta: Agency, known: bool) -> None:
    if known:
        for visit in visits.due(now=NOON):
            visits.done(visit, NOON, now=NOON)
    of_alpha, of_beta = visits.due(now=NOON)
    with context.entered(alpha):
        visits.ask(NOON + MINUTE)
    visits.done(of_alpha, None, now=NOON)
    visits.done(of_beta, None, now=NOON)
    assert due(NOON + MINUTE) == ["alpha"]


def test_asking_never_makes_a_visit_later(alpha: Agency, beta: Agency) -> None:
    for visit in visits.due(now=NOON):
        visits.done(visit, NOON + MINUTE, now=NOON)
    with context.entered(alpha):
        visits.ask(NOON + 9 * MINUTE)
    with context.entered(beta):
        visits.ask(NOON)
    assert due(NOON) == ["beta"]
    assert due(NOON + MINUTE) == ["alpha", "beta"]


@pytest.mark.parametrize("off", ["ready", "active"])
def test_an_agency_that_is_switched_off_is_not_visited(alpha: Agency, beta: Agency, off: str) -> None:
    Agency.objects.filter(pk=alpha.pk).update(**{off: False})
    assert due(NOON) == ["beta"]
