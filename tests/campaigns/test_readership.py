"""Opens and clicks by people, by programs and unclear: they add up, and what is not looked for is not called 0."""

from datetime import timedelta

import pytest
from django.core.management import call_command
from hypothesis import given
from hypothesis import strategies as st

from analytics.dashboard import dashboard
from campaigns import feedback, readership
from campaigns.models import Campaign, CampaignOutcome, Message, MessageFacts
from campaigns.progress import Told, progress, told
from providers.accounts.events import EventType, Heard, Reader
from providers.accounts.models import Account
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests.campaigns.test_feedback import sent
from tests.stage import NOON
from tests.visitor import Visitor, at, body

LATER = NOON + timedelta(hours=1)


@pytest.fixture
def mails(alpha: Agency, account: Account) -> list[Message]:
    with context.entered(alpha):
        return sent(alpha, account, 6)


def seen(mail: Message, type_: EventType, reader: Reader | None, raw_id: str, *, after: int = 3600) -> Heard:
    at = NOON + timedelta(seconds=after)
    return Heard("tracking", raw_id, type_, at, at, mail.key, reader=reader)


def of(campaign: Campaign) -> dict[str, Told]:
    return {one.code: one for one in progress(campaign, now=LATER).told}


def story(mails: list[Message]) -> list[Heard]:
    """Three opened by people (one after a machine), one by a program, one unclear, one told by a provider alone."""
    return [
        seen(mails[0], EventType.OPENED, Reader.HUMAN, "1"),
        seen(mails[1], EventType.OPENED, Reader.MACHINE, "2"),
        seen(mails[1], EventType.OPENED, Reader.HUMAN, "3"),
        seen(mails[2], EventType.OPENED, Reader.MACHINE, "4"),
        seen(mails[3], EventType.OPENED, Reader.UNCLEAR, "5"),
        seen(mails[4], EventType.OPENED, None, "6"),
        seen(mails[0], EventType.CLICKED, Reader.HUMAN, "1.a"),
        # A person's browser, so soon after the mail left: a program.
        seen(mails[5], EventType.CLICKED, Reader.HUMAN, "1.b", after=1),
    ]


def test_the_numbers_add_up_however_the_events_come(alpha: Agency, mails: list[Message]) -> None:
    with context.entered(alpha):
        for one in reversed(story(mails)):
            feedback.record([one], now=LATER)
            # Told again, and each time it adds up.
            feedback.record([one], now=LATER)
            outcome = CampaignOutcome.objects.get()
            for fact, found in readership.of(outcome).items():
                assert found.total == getattr(outcome, fact.value)
                assert min(found.human, found.machine, found.unclear) >= 0
        found = of(Campaign.objects.get())
        assert found["opened"].readers == readership.Readership(human=2, machine=1, unclear=2)
        assert found["clicked"].readers == readership.Readership(human=1, machine=1, unclear=0)
        assert (found["opened"].count, found["opened"].percent, found["opened"].human_percent) == (5, 83.33, 33.33)
        assert found["replied"].readers is None
        facts = list(MessageFacts.objects.values_list("opened_by", flat=True))
        assert (facts.count("human"), facts.count("machine")) == (2, 1)


@given(st.lists(st.tuples(st.sampled_from(["", *Reader.values]), st.sampled_from(["", *Reader.values]))))
def test_people_programs_and_unclear_are_all(mails: list[tuple[str, str]]) -> None:
    row = [
        len(mails),
        *(sum(who == one for who, _ in mails) for one in ("human", "machine")),
        len(mails),
        *(sum(who == one for _, who in mails) for one in ("human", "machine")),
    ]
    assert [found.total for found in readership.of_counts(row).values()] == [len(mails)] * 2


def test_what_is_switched_off_is_not_called_nothing(alpha: Agency, mails: list[Message]) -> None:
    with context.entered(alpha):
        campaign = Campaign.objects.get()
        assert of(campaign)["opened"].measured
        campaign.track_opens = False
        campaign.save()
        found = of(campaign)
        assert (found["opened"].measured, found["opened"].percent) == (False, None)
        assert found["clicked"].measured
        # Unless a provider tells of it all the same.
        feedback.record([seen(mails[4], EventType.OPENED, None, "6")], now=LATER)
        found = of(campaign)
        assert (found["opened"].measured, found["opened"].percent) == (True, 16.67)
    assert not {one.code: one for one in told(None, 9, 0, {EventType.OPENED: 0, EventType.CLICKED: 9})}[
        "opened"
    ].measured


def test_pages_and_programs_are_told_apart(alpha: Agency, mails: list[Message], carols: Visitor, carol: User) -> None:
    with context.entered(alpha):
        feedback.record(story(mails), now=LATER)
        Campaign.objects.update(track_clicks=False, name="mine")
        CampaignOutcome.objects.update(clicked=0, clicked_human=0, clicked_machine=0)
        campaign = Campaign.objects.get()
        shown = dashboard(alpha, Campaign.objects.all(), now=LATER)["told"]
        assert [one.readers for one in shown][1] == readership.Readership(2, 1, 2)
        key = keys.issue(carol, "program")
    for path in (f"/campaigns/{campaign.pk}/", "/"):
        page = body(carols.get(path))
        assert "programs 1 · unclear 2 · in all 5" in page
        assert "not measured" in page
        assert "How opens and clicks are counted" in page
    page = body(carols.get(f"/admin/campaigns/campaign/{campaign.pk}/change/"))
    assert "by people 2, by programs 1, unclear 2" in page
    assert "not measured" in page
    answer = at(alpha).get(f"/api/v1/campaigns/{campaign.pk}/", headers={"authorization": f"Bearer {key}"}).json()
    by_code = {one["code"]: one for one in answer["progress"]["told"]}
    assert by_code["opened"]["readers"] == {"human": 2, "machine": 1, "unclear": 2}
    assert (by_code["clicked"]["measured"], by_code["opened"]["measured"]) == (False, True)
    assert by_code["delivered"]["readers"] is None


def test_the_command_tells_them_apart(alpha: Agency, mails: list[Message], capsys: pytest.CaptureFixture[str]) -> None:
    with context.entered(alpha):
        feedback.record(story(mails), now=LATER)
        number = Campaign.objects.get().pk
    call_command("campaign_status", str(number), agency="alpha")
    said = capsys.readouterr().out
    assert "by people" in said
    assert "by programs" in said
