"""P2, pace: two launches at once in two processes share senders, and neither their room nor their gap is overdrawn."""

from collections import Counter

import pytest

from campaigns import audit
from campaigns.models import Campaign
from providers.senders.models import SenderDay
from tenants import context
from tenants.models import Agency
from tests import processes, stage

SENDERS = 6


def race(agency: Agency, campaigns: list[Campaign], account_id: int, *, locked: bool = True) -> list[tuple[int, int]]:
    """Let both be launched and sent together; return (campaign, sender) of every mail that was claimed."""
    racers = [[agency.schema_name, account_id, campaign.pk, locked] for campaign in campaigns]
    answers = processes.race("tests.concurrency.launcher", racers)
    return [(campaign, sender) for answer in answers for campaign, sender in answer]


@pytest.fixture
def shared(committed: dict[str, Agency]) -> tuple[Agency, int]:
    """An agency and the account through which all its campaigns leave, by the same six senders with five mails each."""
    account, agency = stage.accounts()["smtp"], committed["alpha"]
    stage.allot(agency, account, senders=SENDERS, per_day=5, per_hour=5)
    return agency, account.pk


def drafts(agency: Agency, *gaps: int) -> list[Campaign]:
    with context.entered(agency):
        return [
            stage.campaign(stage.contact_list(f"{number}x", 40), gap_seconds=gap) for number, gap in enumerate(gaps)
        ]


def test_they_share_the_room_of_their_senders(shared: tuple[Agency, int]) -> None:
    agency, account = shared
    found = race(agency, drafts(agency, 0, 0), account)
    assert Counter(sender for _, sender in found) == dict.fromkeys({sender for _, sender in found}, 5)
    assert len(found) == 5 * SENDERS
    with context.entered(agency):
        assert set(SenderDay.objects.values_list("used", "allowed")) == {(5, 5)}
    assert audit.audit_quota().drifts == []


def test_a_sender_that_both_want_writes_one_mail_and_rests(shared: tuple[Agency, int]) -> None:
    agency, account = shared
    found = race(agency, drafts(agency, 600, 600), account)
    assert Counter(Counter(sender for _, sender in found).values()) == {1: SENDERS}


@pytest.mark.parametrize("turn", range(2))
def test_a_mail_that_rests_long_leaves_only_a_sender_that_has_written_nothing(
    shared: tuple[Agency, int], turn: int
) -> None:
    """However a launch without a gap and one with a long one meet: before and after its mail the sender rests."""
    agency, account = shared
    hasty, slow = drafts(agency, 0, 600)
    found = race(agency, [hasty, slow][:: 1 if turn % 2 else -1], account)
    written = Counter(sender for _, sender in found)
    assert all(written[sender] == 1 for campaign, sender in found if campaign == slow.pk)
    assert max(written.values()) <= 5


def test_the_same_race_breaks_the_gap_without_the_lock(shared: tuple[Agency, int]) -> None:
    agency, account = shared
    found = race(agency, drafts(agency, 600, 600), account, locked=False)
    assert max(Counter(sender for _, sender in found).values()) > 1
