"""A campaign of which too much comes back is paused with its evidence, and goes on when a person lets it."""

import logging
from datetime import timedelta

import pytest

from campaigns import actions, backlash, launch
from campaigns.models import Campaign, CampaignOutcome, Message, MessageFacts
from campaigns.summaries import summaries
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


def queue(name: str, count: int) -> Campaign:
    made = stage.campaign(stage.contact_list(name, count), distribution="even")
    launch.launch(made, now=NOON)
    return made


def sent(campaign: Campaign, *, bounced: int = 0, complained: int = 0) -> Campaign:
    """All of its mails have left; so many came back, and so many were complained about."""
    Message.objects.filter(campaign=campaign).update(
        status="sent", sent_at=NOON, attempted_at=NOON, sender=Sender.objects.first()
    )
    mails = list(Message.objects.filter(campaign=campaign).order_by("pk"))
    MessageFacts.objects.bulk_create(
        [MessageFacts(message=mail, bounced_at=NOON, bounce_class="hard") for mail in mails[:bounced]]
        + [MessageFacts(message=mail, complained_at=NOON) for mail in mails[bounced : bounced + complained]]
    )
    CampaignOutcome.objects.create(campaign=campaign, bounced=bounced, complained=complained)
    return campaign


def state(campaign: Campaign) -> tuple[str, str]:
    campaign.refresh_from_db()
    return campaign.status, campaign.paused_reason


def test_too_many_bounces_or_complaints_pause_a_campaign_until_a_person_resumes_it(
    alpha: Agency, beta: Agency, caplog: pytest.LogCaptureFixture
) -> None:
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(beta):
        theirs = sent(queue("t", 100), bounced=7)
    with context.entered(alpha):
        good = sent(queue("g", 100), bounced=6, complained=1)
        few = sent(queue("f", 99), bounced=50)
        bad = sent(queue("b", 100), bounced=7)
        spam = sent(queue("s", 100), complained=2)
        refused = queue("r", 100)
        sent(refused)
        hurt = Message.objects.filter(campaign=refused).values("pk")[:7]
        Message.objects.filter(pk__in=hurt).update(status="failed", reason="recipient_refused", sent_at=None)
        with caplog.at_level(logging.ERROR):
            assert backlash.pause_harmful(alpha, now=NOON) == 3
        assert len(caplog.records) == 3
        assert backlash.pause_harmful(alpha, now=NOON) == 0
        assert [state(one) for one in (good, few)] == [("running", "")] * 2
        assert [state(one) for one in (bad, refused)] == [("paused", "bounces")] * 2
        assert state(spam) == ("paused", "complaints")
        assert "7 / 100" in summaries([bad])[0].paused_because
        # Whoever resumes it has seen that: only what comes back from now on counts.
        later = NOON + timedelta(minutes=5)
        actions.take("resume", bad, now=later)
        assert backlash.pause_harmful(alpha, now=later) == 0
        assert state(bad) == ("running", "")
    with context.entered(beta):
        assert state(theirs) == ("running", "")
