"""First mails to who came from where too much comes back wait for a person; follow-ups and others' mails go on."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction

from campaigns import control, launch, lifecycle, sources
from campaigns.explain import explain
from campaigns.models import (
    Campaign,
    CampaignOutcome,
    Contact,
    Intake,
    Message,
    MessageFacts,
    SourcePause,
    Subscription,
)
from campaigns.reasons import Reason
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at

LATER = NOON + timedelta(hours=1)


def written_to(name: str, *, bounced: int) -> Campaign:
    """A campaign to 210 contacts, half of them from an import: all but ten have been written to."""
    people = stage.contact_list(name, 210)
    upload = Intake.objects.create(list=people, file_name="bought.csv", status="done", rows=105, accepted=105)
    ids = list(Subscription.objects.filter(list=people).order_by("pk").values_list("pk", flat=True))
    Subscription.objects.filter(pk__in=ids[:105]).update(intake=upload)
    made = stage.campaign(people, distribution="even")
    launch.launch(made, now=NOON)
    mails = list(Message.objects.filter(campaign=made).order_by("contact"))
    sent = [*mails[:100], *mails[105:205]]
    Message.objects.filter(pk__in=[mail.pk for mail in sent]).update(
        status="sent", sent_at=NOON, attempted_at=NOON, sender=Sender.objects.first()
    )
    # One of each hundred at the others, too.
    hurt = [*mails[:bounced], mails[110]]
    MessageFacts.objects.bulk_create([MessageFacts(message=mail, bounced_at=NOON) for mail in hurt])
    CampaignOutcome.objects.create(campaign=made, bounced=len(hurt))
    return made


def held(campaign: Campaign) -> int:
    return Message.objects.filter(campaign=campaign, status="held", reason=Reason.SOURCE_PAUSED).count()


def test_a_bad_import_is_paused_across_campaigns_until_a_person_releases_it(alpha: Agency, beta: Agency) -> None:
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(beta):
        theirs = written_to("t", bounced=6)
        assert sources.pause_harmful(beta, now=LATER) == 0
    with context.entered(alpha):
        made = written_to("a", bounced=7)
        follow_up = Message.objects.filter(campaign=made, status="scheduled").order_by("contact").first()
        assert follow_up is not None
        second = made.steps.create(position=2, subject="Again", text="Again", delay=1, unit="days")
        Message.objects.filter(pk=follow_up.pk).update(step=second)
        assert sources.pause_harmful(alpha, now=LATER) == 1
        assert sources.pause_harmful(alpha, now=LATER) == 0
        pause = SourcePause.objects.get()
        assert (pause.intake.file_name if pause.intake else "", pause.cause) == ("bought.csv", "bounces")
        assert (pause.mails, pause.bounced) == (100, 7)
        # Four of the import wait for their first mail; five of the others and a follow-up go on.
        assert held(made) == 4
        assert Message.objects.filter(campaign=made, status="scheduled").count() == 6
        told = explain(Message.objects.filter(status="held").earliest("pk"), now=LATER)
        assert told.code == Reason.SOURCE_PAUSED
        assert [(one.held, one.file_name) for one in sources.told()] == [(4, "bought.csv")]
        other = stage.campaign(made.list, distribution="even")
        launch.launch(other, now=LATER)
        assert held(other) == 105
        assert Message.objects.filter(campaign=other, status="scheduled").count() == 105
        # Whoever joins later, and what goes back into the queue by itself, is caught too.
        late = Contact.objects.create(email="late@people.example")
        Subscription.objects.create(list=made.list, contact=late, intake=pause.intake, basis="consent")
        launch.join(made, now=LATER)
        assert held(made) == 5
        Message.objects.filter(campaign=other, status="held").update(status="scheduled", reason="")
        assert sources.hold() == 105
        assert sources.hold() == 0
        Message.objects.filter(campaign=made, status="scheduled").update(status="sent", sent_at=LATER, sender=1)
        control.finish_done(now=LATER)
        made.refresh_from_db()
        assert made.status == "finished"
        assert sources.release(pause, by="ann@x.example", why="cleaned", now=LATER)
        assert not sources.release(pause, by="ann@x.example", why="again", now=LATER)
        assert held(made) == held(other) == 0
        made.refresh_from_db()
        assert made.status == "running"
        # It was released in the light of what had come back.
        assert sources.pause_harmful(alpha, now=LATER) == 0
        assert sources.pause(made.list, None, by="bob@x.example", why="unknown origin", now=LATER)
        assert not sources.pause(made.list, None, by="bob@x.example", why="again", now=LATER)
        assert held(other) == 105
    with context.entered(beta):
        assert held(theirs) == 0
        assert not SourcePause.objects.exists()


def test_the_database_keeps_one_pause_of_a_source_and_its_words(alpha: Agency) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1)
        fields = {"list": people, "cause": "person", "by": "a", "why": "b", "began_at": NOON}
        SourcePause.objects.create(**fields)
        for wrong in ({}, {"ended_at": NOON}, {"why": "", "ended_at": NOON, "ended_by": "c", "ended_why": "d"}):
            with pytest.raises(IntegrityError), transaction.atomic():
                SourcePause.objects.create(**{**fields, **wrong})
        assert lifecycle.held_of_sources() == {}


def test_the_administration_pauses_a_list_without_its_imports(alpha: Agency, beta: Agency, carol: User) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1)
    carols, path = at(alpha, carol), "/admin/campaigns/sourcepause/"
    assert carols.post(f"{path}add/", {"list": people.pk, "why": ""}).status_code == 200
    assert carols.post(f"{path}add/", {"list": people.pk, "why": "bought"}).status_code == 302
    assert carols.post(f"{path}add/", {"list": people.pk, "why": "bought"}).status_code == 200
    with context.entered(alpha):
        pause = SourcePause.objects.get()
    assert (pause.list_id, pause.intake_id, pause.by, pause.ended_at) == (people.pk, None, carol.email, None)
    assert carols.post(f"{path}{pause.pk}/change/", {"ended_why": "asked them"}).status_code == 302
    with context.entered(alpha):
        pause.refresh_from_db()
    assert (pause.ended_by, pause.ended_why) == (carol.email, "asked them")
