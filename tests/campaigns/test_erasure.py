"""Who asks for it is erased: nothing names them any more, all counts stay, and nobody takes them up again."""

import io
from datetime import datetime, timedelta
from uuid import uuid4

import pytest
from django.apps import apps
from django.conf import LazySettings
from django.contrib.admin.models import ADDITION, LogEntry
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection

from campaigns import audit, erased, erasure, feedback, intake, jobs, launch, lifecycle, mail_audit, optout, returned
from campaigns.models import (
    Campaign,
    Contact,
    ContactList,
    Enrollment,
    Erasure,
    ErasureKey,
    Intake,
    Message,
    RecipientDay,
    RejectedRow,
    Subscription,
    Suppression,
)
from campaigns.progress import progress
from providers.accounts import inbox
from providers.accounts.events import EventType, Heard
from providers.accounts.models import Account, InboundMail, OperatorErasure, OperatorSuppression, WebhookPost
from providers.accounts.secrets import parse_keys
from providers.senders.models import Event
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns.test_feedback import claim
from tests.providers.inbound_mails import reply
from tests.stage import NOON
from tests.visitor import Visitor, at, body

ZOE = "Zoe.Unlikely@zoe-unlikely.example"
FILE = (
    f"email,first_name,company,note\n{ZOE},Zöe,Unlikely Ltd,hers\nbob@office.example,Bob,,ask {ZOE.lower()}\n"
    f"{ZOE},again,,\n"
).encode()
LATER = NOON + timedelta(hours=1)


def clock() -> datetime:
    return LATER


def take(into: ContactList, data: bytes = FILE) -> Intake:
    return intake.import_file(io.BytesIO(data), file_name="people.csv", into=into, now=NOON)


def told_of(words: list[str]) -> list[str]:
    """The tables of Alpha and of everybody in which any of these words stands, in whatever way it is stored."""
    found = []
    with connection.cursor() as cursor:
        cursor.execute("SELECT schemaname, tablename FROM pg_tables WHERE schemaname IN ('a_alpha', 'public')")
        for schema, table in cursor.fetchall():
            cursor.execute(f'SELECT row_to_json(t)::text FROM {schema}."{table}" t')
            rows = " ".join(row[0] for row in cursor.fetchall()).lower()
            hidden = [word.lower().encode().hex() for word in words] + [word.encode().hex() for word in words]
            if any(word.lower() in rows for word in words) or any(word in rows for word in hidden):
                found.append(f"{schema}.{table}")
    return found


@pytest.fixture
def mails(alpha: Agency, account: Account) -> list[Message]:
    """Zoe's and Bob's of Alpha, sent; Zoe's first."""
    with context.entered(alpha):
        people = ContactList.objects.create(name="people")
        assert take(people).accepted == 2
        launch.launch(stage.campaign(people, per_domain_per_day=5), now=NOON)
        claimed = claim(alpha, account, 2)
        lifecycle.begin(claimed, now=NOON)
        lifecycle.sent([(one, f"id-{one.id}") for one in claimed], now=NOON)
        return list(Message.objects.order_by("-contact"))


def zoes(email: str = ZOE) -> Contact:
    """Zoe again, by a way that asks nobody."""
    found = Contact.objects.create(email=email, first_name="Zöe")
    people = ContactList.objects.create(name=f"by hand {uuid4()}")
    Subscription.objects.create(list=people, contact=found)
    return found


def test_nothing_names_them_any_more_and_everything_is_counted(
    alpha: Agency, beta: Agency, account: Account, mails: list[Message], carol: User
) -> None:
    hers, bobs = mails
    with context.entered(beta):
        stage.contact_list("b", 1)
        Contact.objects.update(email=ZOE)
    with context.entered(alpha):
        told = Heard("smtp", "1", EventType.DELIVERED, LATER, LATER, hers.key, account.pk, recipient=ZOE, detail=ZOE)
        stray = Heard("smtp", "2", EventType.OTHER, LATER, LATER, None, account.pk, recipient=ZOE.lower())
        feedback.record([told, stray], now=LATER)
        feedback.opted_out(hers, how=optout.PAGE, clock=clock, remote_ip="198.51.100.7")
        Message.objects.filter(pk=bobs.pk).update(detail=f"stopped for {ZOE}, not for x{ZOE}")
        of_contacts = ContentType.objects.get_for_model(Contact)
        LogEntry.objects.create(
            user=carol, content_type=of_contacts, object_id="1", object_repr=ZOE, action_flag=ADDITION
        )
    connection.set_schema_to_public()
    inbox.keep(ZOE, ["replies@us.test"], reply("No!").replace(b"7c3e1f@sender.test", f"{hers.key}@x".encode()))
    returned.take_in(clock=clock)
    post = f'[{{"email": "{ZOE}", "message": "{hers.key}"}}]'.encode()
    WebhookPost.objects.create(account=account, digest=uuid4(), body=post, handled_at=LATER)
    with context.entered(alpha):
        before = progress(Campaign.objects.get(), now=LATER)

        receipt = erasure.erase(f" {ZOE.upper()} ", by="carol", clock=clock)

        assert (receipt.by, receipt.asked_at, receipt.done_at) == ("carol", LATER, LATER)
        assert receipt.counts == {
            "contacts": 1,
            "subscriptions": 1,
            # That she opted out.
            "consents": 1,
            "mails": 1,
            "events": 3,
            "replies": 1,
            "suppressions": 1,
            # The stray event, Bob's field, his mail's detail, the log, the repeated row, the feed.
            "texts": 6,
            "posts": 1,
            "inbound": 1,
        }
        assert {line.code: line.count for line in erasure.lines(receipt)} == receipt.counts
        after = progress(Campaign.objects.get(), now=LATER)
        assert (after.total, after.sent, after.told) == (before.total, before.sent, before.told)
        assert Contact.objects.get(email="bob@office.example").attributes == {"note": "ask erased"}
        assert Message.objects.get(pk=bobs.pk).detail == f"stopped for erased, not for x{ZOE}"
        Message.objects.filter(pk=bobs.pk).update(detail="")
        # The domain was hers alone; the day's count of it is nobody's.
        assert set(RecipientDay.objects.values_list("domain", "used")) == {("erased.invalid", 1), ("office.example", 1)}
        row = Suppression.objects.get()
        assert (row.value, row.source, row.remote_ip) == (
            Message.objects.get(pk=hers.pk).contact.email,
            "opt_out",
            None,
        )
    connection.set_schema_to_public()
    assert told_of([ZOE, "zoe-unlikely", "Zöe", "Unlikely", "198.51.100.7"]) == []
    assert audit.audit_quota().drifts == []
    assert mail_audit.audit_mails(now=LATER) == []
    with context.entered(beta):
        assert Contact.objects.get().email == ZOE


def test_every_table_that_leads_to_a_person_was_thought_of() -> None:
    """A new one fails here: see to it in `erasure`, then name it."""
    about = {Contact, Enrollment, Message}
    found = {
        model._meta.label_lower
        for model in apps.get_models()
        if any(field.related_model in about for field in model._meta.get_fields() if field.concrete)
    }
    emptied = {
        "campaigns.subscription",
        "campaigns.consententry",
        "campaigns.reply",
        "campaigns.message",
        "campaigns.suppression",
    }
    nameless = {"campaigns.enrollment", "campaigns.messagefacts", "campaigns.doubtentry", "campaigns.erasure"}
    # Of trials the answers to them are emptied.
    to_us = {"campaigns.trialmail"}
    assert found == emptied | nameless | to_us | {"campaigns.pause"}


def test_a_domain_that_others_have_stays_for_what_is_counted_by_it(alpha: Agency, mails: list[Message]) -> None:
    with context.entered(alpha):
        Contact.objects.create(email="max@zoe-unlikely.example")
        erasure.erase(ZOE, by="carol", clock=clock)
        assert Contact.objects.exclude(erased_at=None).get().email.endswith("@zoe-unlikely.example")
    connection.set_schema_to_public()
    assert audit.audit_quota().drifts == []


def test_no_file_brings_them_back(alpha: Agency, beta: Agency, mails: list[Message]) -> None:
    with context.entered(alpha):
        erasure.erase(ZOE, by="carol", clock=clock)
        done = take(ContactList.objects.create(name="again"), FILE.replace(ZOE.encode(), ZOE.upper().encode()))
        assert (done.accepted, done.rejected) == (1, 2)
        row = RejectedRow.objects.filter(intake=done).first()
        assert row is not None
        assert (row.verdict, row.email) == ("suppressed", "")
        assert "erased" in row.said
        assert ErasureKey.objects.count() == 1
    with context.entered(beta):
        assert take(ContactList.objects.create(name="theirs")).accepted == 2


def test_no_launch_writes_to_them_whoever_brought_them_back(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        erasure.erase(ZOE, by="carol", clock=clock)
        again = zoes()
        Contact.objects.create(email="max@people.example")
        Subscription.objects.create(list=ContactList.objects.get(), contact=Contact.objects.latest("pk"))
        launched = launch.launch(stage.campaign(ContactList.objects.get()), now=LATER)
        assert launched.total == 1
        assert Enrollment.objects.get().contact.email == "max@people.example"
        again.refresh_from_db()
        assert (again.erased_at, again.first_name, Erasure.objects.count()) == (LATER, "", 2)


def test_a_mail_in_a_workers_hands_does_not_go_and_is_waited_for(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("p", 1)), now=NOON)
        held = claim(alpha, account, 1)
        address = Contact.objects.get().email

        receipt = erasure.erase(address, by="carol", clock=clock)

        assert (receipt.done_at, receipt.counts) == (None, {})
        assert lifecycle.begin(held, now=LATER) == set()
        lifecycle.stop(held)
        assert erasure.erase(address, by="carol", clock=clock).pk == receipt.pk
        erasure.finish(clock=clock)
        receipt.refresh_from_db()
        assert receipt.done_at == LATER
        assert Contact.objects.get().erased_at == LATER
        assert Message.objects.get().status == "cancelled"


def test_a_mail_on_the_wire_is_waited_for(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("p", 1)), now=NOON)
        held = claim(alpha, account, 1)
        lifecycle.begin(held, now=NOON)
        receipt = erasure.erase("p0@people.example", by="carol", clock=clock)
        erasure.finish(clock=clock)
        assert Contact.objects.get().first_name == "N0"
        lifecycle.sent([(held[0], "id-1")], now=LATER)
        erasure.finish(clock=clock)
        receipt.refresh_from_db()
        assert receipt.done_at == LATER
        assert (Contact.objects.get().first_name, Message.objects.get().provider_id) == ("", "")
    connection.set_schema_to_public()
    assert audit.audit_quota().drifts == []
    assert mail_audit.audit_mails(now=LATER) == []


def test_what_is_heard_of_them_later_is_counted_and_not_kept(
    alpha: Agency, account: Account, mails: list[Message]
) -> None:
    with context.entered(alpha):
        erasure.erase(ZOE, by="carol", clock=clock)
    connection.set_schema_to_public()
    inbox.keep(ZOE, ["replies@us.test"], reply("No!").replace(b"7c3e1f@sender.test", f"{mails[0].key}@x".encode()))
    returned.take_in(clock=clock)
    mail = InboundMail.objects.get()
    assert (bytes(mail.body), mail.sender, mail.recipients, mail.kind) == (b"", "", [], "human")
    with context.entered(alpha):
        late = Heard("smtp", "1", EventType.OPENED, LATER, LATER, mails[0].key, account.pk, recipient=ZOE, detail=ZOE)
        feedback.act(feedback.keep([late]), now=LATER)
        assert set(Event.objects.values_list("recipient", "detail", "provider_id")) == {("", "", "")}
        assert mails[0].facts.opened_at == LATER
        assert erased.mails([mails[0].key, mails[1].key]) == {mails[0].key}


def test_the_operator_erases_in_every_agency(alpha: Agency, beta: Agency, mails: list[Message]) -> None:
    with context.entered(beta):
        assert take(ContactList.objects.create(name="theirs")).accepted == 2
    connection.set_schema_to_public()
    OperatorSuppression.objects.create(value=ZOE.lower())

    receipt = erasure.erase_everywhere(ZOE, by="root", clock=clock)

    assert receipt.done_at == LATER
    assert (receipt.counts["agencies"], receipt.counts["contacts"], receipt.counts["mails"]) == (2, 2, 1)
    assert not OperatorSuppression.objects.exists()
    for agency in (alpha, beta):
        with context.entered(agency):
            assert take(ContactList.objects.create(name="again")).accepted == 1
            assert erased.among([ZOE.lower(), "bob@office.example"]) == {ZOE.lower()}
            assert Erasure.objects.get().by == "operator"
    with context.public():
        erasure.erase_everywhere("nobody@nowhere.example", by="root", clock=clock)
    with context.entered(alpha):
        assert Erasure.objects.count() == 1
        assert erased.among(["nobody@nowhere.example"])


def test_erasures_everywhere_are_done_when_the_last_agency_is(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("p", 1)), now=NOON)
        held = claim(alpha, account, 1)
        lifecycle.begin(held, now=NOON)
    receipt = erasure.erase_everywhere("p0@people.example", by="root", clock=clock)
    erasure.settle(now=LATER)
    receipt.refresh_from_db()
    assert receipt.done_at is None
    with context.entered(alpha):
        lifecycle.sent([(held[0], "id-1")], now=LATER)
    jobs.tick()
    erasure.settle(now=LATER)
    receipt.refresh_from_db()
    assert receipt.done_at == LATER


def test_the_key_outlives_a_change_of_the_secrets_key(alpha: Agency, settings: LazySettings) -> None:
    with context.entered(alpha):
        erasure.erase(ZOE, by="carol", clock=clock)
        old = settings.SECRETS_KEYS
        new = "new:" + "A" * 43 + "="
        settings.SECRETS_KEYS = [new, *old]
        assert erased.among([ZOE])
        for key in ErasureKey.objects.all():
            key.save()
        settings.SECRETS_KEYS = [new]
        assert erased.among([ZOE])
        # A second key makes new hashes; those of the first still count.
        ErasureKey.objects.create(secret={"key": "00" * 32})
        erasure.erase("bob@office.example", by="carol", clock=clock)
        assert erased.among([ZOE, "bob@office.example", "max@office.example"]) == {ZOE, "bob@office.example"}
        assert len({bytes(one) for one in Erasure.objects.values_list("digest", flat=True)}) == 2
        settings.SECRETS_KEYS = old
        with pytest.raises(ImproperlyConfigured):
            erased.among([ZOE])
    parse_keys.cache_clear()


class TestSurfaces:
    def test_the_portal(self, alpha: Agency, mails: list[Message], carols: Visitor) -> None:
        assert "receipt here" in body(carols.get("/contacts/erasures/"))
        assert "Tick this too" in body(carols.post("/contacts/erasures/", {"address": ZOE}))
        assert "write it in full" in body(carols.post("/contacts/erasures/", {"address": "zoe", "meant": "on"}))
        page = body(carols.post("/contacts/erasures/", {"address": ZOE, "meant": "on"}, follow=True))
        assert "The person is erased" in page
        assert ZOE.lower() not in page.lower()
        assert "carol@alpha.test" in page
        with context.entered(alpha):
            assert Erasure.objects.get().counts["contacts"] == 1

    def test_the_api(self, alpha: Agency, mails: list[Message], carol: User) -> None:
        with context.entered(alpha):
            key = keys.issue(carol, "program")
        asked = {"headers": {"authorization": f"Bearer {key}"}, "content_type": "application/json"}
        assert at(alpha).post("/api/v1/erasures/", {"address": "zoe"}, **asked).status_code == 400
        answer = at(alpha).post("/api/v1/erasures/", {"address": ZOE}, **asked)
        assert answer.status_code == 201
        made = answer.json()
        assert "address" not in made
        assert {"code": "contacts", "label": "contact", "count": 1} in made["erased"]
        headers = {"authorization": f"Bearer {key}"}
        assert at(alpha).get(f"/api/v1/erasures/{made['id']}/", headers=headers).json() == made
        assert at(alpha).get("/api/v1/erasures/", headers=headers).json()["results"] == [made]

    def test_who_may_not(self, alpha: Agency, mails: list[Message]) -> None:
        with context.entered(alpha):
            eve = User.objects.create_user("eve@alpha.test", "correct horse battery")
            key = keys.issue(eve, "program")
        connection.set_schema_to_public()
        eves = at(alpha, eve)
        assert "You may not erase" in body(eves.get("/contacts/erasures/"))
        assert eves.post("/contacts/erasures/", {"address": ZOE, "meant": "on"}).status_code == 403
        headers = {"authorization": f"Bearer {key}"}
        assert at(alpha).post("/api/v1/erasures/", {"address": ZOE}, headers=headers).status_code == 403
        with context.entered(alpha):
            assert not Erasure.objects.exists()
            eve.user_permissions.add(Permission.objects.get(codename="add_erasure"))
        connection.set_schema_to_public()
        assert eves.post("/contacts/erasures/", {"address": ZOE, "meant": "on"}).status_code == 302

    def test_the_admin(self, alpha: Agency, mails: list[Message], carols: Visitor) -> None:
        assert "Write the address in full" in body(carols.post("/admin/campaigns/erasure/add/", {"address": "zoe"}))
        page = carols.post("/admin/campaigns/erasure/add/", {"address": ZOE}, follow=True)
        assert page.status_code == 200
        with context.entered(alpha):
            receipt = Erasure.objects.get()
        assert "subscriptions: 1" in body(carols.get(f"/admin/campaigns/erasure/{receipt.pk}/change/"))
        connection.set_schema_to_public()
        assert told_of([ZOE]) == []

    def test_the_operators_admin(self, db: None, mails: list[Message]) -> None:
        root = User.objects.create_superuser("root@operator.test", "correct horse battery")
        visitor = Visitor("localhost")
        visitor.force_login(root, backend="django.contrib.auth.backends.ModelBackend")
        assert visitor.post("/admin/accounts/operatorerasure/add/", {"address": ZOE}).status_code == 302
        receipt = OperatorErasure.objects.get()
        assert (receipt.by, receipt.counts["contacts"]) == ("root@operator.test", 1)
        assert "agencies: 1" in body(visitor.get("/admin/accounts/operatorerasure/"))

    def test_the_command(self, alpha: Agency, mails: list[Message], capsys: pytest.CaptureFixture[str]) -> None:
        call_command("erase_person", ZOE, agency="alpha")
        assert "contact: 1" in capsys.readouterr().out
        call_command("erase_person", ZOE, everywhere=True)
        with pytest.raises(CommandError, match="in full"):
            call_command("erase_person", "zoe", agency="alpha")
        with context.entered(alpha):
            assert not Contact.objects.filter(email__iexact=ZOE).exists()
