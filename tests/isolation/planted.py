"""One of everything that an agency has, each with a mark that must never be seen by another.

Whoever adds a model to an agency's schema adds a sample here, or `test_surfaces` says so.
"""

from datetime import UTC, date, datetime, timedelta
from itertools import count
from typing import Any

from django.contrib.auth.models import Group
from django.db.models import Model

from campaigns.models import (
    Campaign,
    CampaignDay,
    CampaignOutcome,
    ConsentEntry,
    Contact,
    ContactList,
    DoubtEntry,
    Endpoint,
    Enrollment,
    Erasure,
    ErasureKey,
    FeedEntry,
    FormerSubject,
    HookAttempt,
    HookDelivery,
    Intake,
    IntakePart,
    LaunchForecast,
    Link,
    Message,
    MessageFacts,
    Pause,
    RecipientDay,
    RejectedRow,
    Reply,
    SignUp,
    SourcePause,
    Step,
    StepFile,
    Subscription,
    Suppression,
    TrialMail,
    Variant,
    VariantChoice,
)
from providers.accounts.models import Account, Allotment, Health, LedgerRow
from providers.senders.models import (
    DkimKey,
    DnsCheck,
    DomainDay,
    Event,
    Home,
    Recovery,
    Sender,
    SenderDay,
    SenderDomain,
    SenderHour,
)
from tenants import context
from tenants.models import Agency
from tenants.users.models import ApiKey, User

MARK = "planted-at-alpha"
# No other agency's row has such a number, so a page that shows one of these has looked it up here.
FIRST_ID = 7_000_001
NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def plant(agency: Agency) -> dict[str, Model]:
    """Make one row of every model, public ones that are this agency's own too; by label, such as campaigns.campaign."""
    numbers = count(FIRST_ID)
    planted: dict[str, Model] = {}

    def make(model: type[Model], **fields: Any) -> Any:
        row = model.objects.create(**{"id": next(numbers), **fields})  # type: ignore[attr-defined]
        planted[model._meta.label_lower] = row
        return row

    credentials = {"password": f"{MARK}-secret"}
    account = make(Account, name=f"{MARK}-account", kind="smtp", owner=agency, credentials=credentials)
    make(Allotment, account=account, agency=agency, senders=5)
    make(LedgerRow, account=account, agency=agency, period="day", starts=date(2026, 11, 24), allowed=50)
    planted["accounts.health"] = Health.objects.create(account=account, detail=f"{MARK} refused")
    with context.entered(agency):
        domain = make(SenderDomain, name=f"{MARK}.example")
        make(Home, domain=domain, account=account)
        secret = {"key": f"{MARK}-secret"}
        make(DkimKey, domain=domain, selector=f"{MARK}-1", private=secret, public=MARK, created_at=NOW)
        make(DnsCheck, domain=domain, at=NOW, sound=True)
        sender = make(Sender, domain=domain, account=account, address=f"anna@{MARK}.example", name=f"{MARK} Anna")
        make(SenderDay, sender=sender, day=date(2026, 11, 24), allowed=50)
        make(SenderHour, sender=sender, hour=datetime(2026, 11, 24, 12, tzinfo=UTC), allowed=50)
        make(DomainDay, domain=domain, day=date(2026, 11, 24), allowed=50)
        make(
            Recovery,
            sender=sender,
            cause="person",
            by=f"dan@{MARK}.test",
            why=MARK,
            began_at=NOW,
            stage_at=NOW,
            counted_from=date(2026, 11, 24),
        )
        people = make(ContactList, name=f"{MARK} list")
        person = make(Contact, email=f"kim@{MARK}.test", first_name=f"{MARK} Kim", attributes={"city": MARK})
        upload = make(Intake, list=people, file_name=f"{MARK}.csv", status="done", rows=1, rejected=1)
        make(SourcePause, list=people, intake=upload, cause="person", by=f"dan@{MARK}.test", why=MARK, began_at=NOW)
        make(IntakePart, intake=upload, number=0, content=MARK.encode())
        make(RejectedRow, intake=upload, number=2, email=f"bad@{MARK}", verdict="bad_syntax", detail=MARK)
        make(Subscription, list=people, contact=person, intake=upload)
        key = make(ErasureKey, secret={"key": MARK})
        make(Erasure, digest=b"0", key=key, contact=person, by=f"dan@{MARK}.test", asked_at=NOW, done_at=NOW)
        make(Pause, value=f"later@{MARK}.test", until=NOW)
        make(
            ConsentEntry,
            contact=person,
            list=people,
            basis="consent",
            source="import",
            at=NOW,
            email=person.email,
            detail=MARK,
            intake=upload,
        )
        make(
            SignUp,
            list=people,
            email=f"new@{MARK}.test",
            language="en",
            text=MARK,
            remote_ip="198.51.100.7",
            asked_at=NOW,
        )
        make(Suppression, value=f"no@{MARK}.test", source="manual", evidence=MARK)
        campaign = make(Campaign, name=f"{MARK} campaign", list=people, status="running", launched_at=NOW)
        make(CampaignDay, campaign=campaign, day=date(2026, 11, 24), allowed=50)
        make(RecipientDay, campaign=campaign, domain=f"{MARK}.test", day=date(2026, 11, 24), allowed=50)
        make(
            LaunchForecast,
            campaign=campaign,
            made_at=NOW,
            mails=1,
            cost=1,
            days=[{"day": "2026-11-24", "accounts": {MARK: 1}, "limit": "gap"}],
        )
        step = make(Step, campaign=campaign, subject=f"{MARK} subject", html=f"<p>{MARK}</p>")
        make(Variant, step=step, letter="B", subject=f"{MARK} other", text=MARK)
        make(VariantChoice, step=step, letter="B", by=f"dan@{MARK}.test", at=NOW, evidence={"because": MARK})
        make(FormerSubject, step=step, subject=f"{MARK} before", until=NOW)
        make(
            StepFile,
            step=step,
            name=f"{MARK}.txt",
            content_type="text/plain",
            content=MARK.encode(),
            size=len(MARK),
            digest="0" * 64,
            by=f"dan@{MARK}.test",
            added_at=NOW,
        )
        make(Link, step=step, url=f"https://{MARK}.example/offer")
        enrollment = make(Enrollment, campaign=campaign, contact=person, sender=sender)
        planted["campaigns.campaignoutcome"] = CampaignOutcome.objects.create(campaign=campaign, bounced=1)
        message = make(
            Message,
            campaign=campaign,
            step=step,
            enrollment=enrollment,
            contact=person,
            planned=account,
            account=account,
            sender=sender,
            status="failed",
            reason="message_refused",
            detail=f"{MARK} detail",
            due_at=NOW + timedelta(days=1),
        )
        planted["campaigns.messagefacts"] = MessageFacts.objects.create(message=message, bounced_at=NOW)
        make(
            Event,
            message=message.key,
            account=account,
            source="smtp",
            raw_id=f"{MARK} event",
            type="bounced",
            at=NOW,
            recipient=f"kim@{MARK}.test",
            detail=f"{MARK} bounce",
        )
        colleague = make(User, email=f"dan@{MARK}.test", name=f"{MARK} Dan", is_staff=True)
        make(
            Reply,
            message=message,
            assigned_to=colleague,
            digest=message.key,
            sender=f"kim@{MARK}.test",
            subject=f"Re: {MARK}",
            text=MARK,
            label="question",
            found="question",
            rules="1",
            received_at=NOW,
        )
        make(FeedEntry, kind="suppression.added", at=NOW, position=FIRST_ID, data={"value": f"no@{MARK}.test"})
        hook = make(
            Endpoint,
            url=f"https://{MARK}.example/hook",
            name=f"{MARK} hook",
            secrets={"current": "whsec_" + MARK},
            created_at=NOW,
        )
        posted = make(HookDelivery, endpoint=hook, position=FIRST_ID, kind="suppression.added", at=NOW, next_at=NOW)
        make(HookAttempt, delivery=posted, at=NOW, status=500, milliseconds=1, answer=MARK)
        make(DoubtEntry, message=message, what="sent_again", by=f"dan@{MARK}.test", at=NOW)
        make(TrialMail, step=step, contact=person, recipient=f"dan@{MARK}.test", by=f"dan@{MARK}.test", asked_at=NOW)
        make(Group, name=f"{MARK} group")
        make(ApiKey, user=colleague, name=f"{MARK} key", prefix=f"{MARK}"[:12], digest="0" * 64)
    return planted
