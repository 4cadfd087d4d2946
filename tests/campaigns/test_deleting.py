"""What a launch has read is not deleted, although the database has no foreign keys to say so."""

import threading
from collections.abc import Callable
from datetime import timedelta

import psycopg
import pytest
from django.db import IntegrityError, connection, transaction
from django.db.models import ProtectedError

from campaigns import launch, mail_audit
from campaigns.models import Campaign, Contact, ContactList, Enrollment, Message, Step, Variant
from providers.accounts.models import Account
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = stage.accounts()
    stage.allot(alpha, *found.values())
    return found


@pytest.fixture
def campaign(alpha: Agency, accounts: dict[str, Account]) -> Campaign:
    """Launched by Alpha."""
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 4), traffic_class="bulk")
        launch.launch(made, now=NOON)
        made.refresh_from_db()
        return made


def test_a_draft_is_deleted_with_its_steps(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        stage.campaign(stage.contact_list("a", 4)).delete()
        assert not Step.objects.exists()


@pytest.mark.parametrize(
    "find",
    [
        lambda: Campaign.objects.get(),
        lambda: Step.objects.get(),
        lambda: Contact.objects.all()[0],
        lambda: ContactList.objects.get(),
        lambda: Enrollment.objects.all()[0],
        lambda: Sender.objects.get(pk=Message.objects.exclude(sender=None)[0].sender_id),
    ],
    ids=["campaign", "step", "contact", "list", "enrollment", "sender"],
)
def test_django_refuses_to_delete_what_mails_lead_to(
    alpha: Agency, campaign: Campaign, find: Callable[[], Campaign]
) -> None:
    with context.entered(alpha):
        Message.objects.update(sender=Sender.objects.order_by("pk")[0])
        with pytest.raises(ProtectedError):
            find().delete()
    assert mail_audit.audit_mails(now=NOON) == []


def test_the_senders_of_threads_are_forgotten_with_them(alpha: Agency, campaign: Campaign) -> None:
    with context.entered(alpha):
        sender = Sender.objects.order_by("pk")[0]
        Enrollment.objects.update(sender=sender)
        sender.delete()
        assert set(Enrollment.objects.values_list("sender", flat=True)) == {None}


@pytest.mark.parametrize("table", ["campaigns_campaign", "campaigns_step"])
def test_postgresql_refuses_what_django_does_not_see(alpha: Agency, campaign: Campaign, table: str) -> None:
    with context.entered(alpha), connection.cursor() as cursor:
        with pytest.raises(IntegrityError, match="was launched: it and its steps are kept"), transaction.atomic():
            cursor.execute(f"DELETE FROM {table}")
        Campaign.objects.update(status="draft")
        with transaction.atomic():
            cursor.execute(f"DELETE FROM {table} WHERE id = 0")


@pytest.mark.parametrize("table", ["campaigns_campaign", "campaigns_step", "campaigns_variant"])
def test_it_refuses_whoever_names_the_schema_from_elsewhere_too(alpha: Agency, campaign: Campaign, table: str) -> None:
    with context.entered(alpha):
        Variant.objects.create(step=Step.objects.get(), letter="B", text="Hello")
    connection.set_schema_to_public()
    with connection.cursor() as cursor:
        with pytest.raises(IntegrityError, match="was launched"), transaction.atomic():
            cursor.execute(f"DELETE FROM {alpha.schema_name}.{table}")
        cursor.execute(f"UPDATE {alpha.schema_name}.campaigns_campaign SET status = 'draft'")
        cursor.execute(f"DELETE FROM {alpha.schema_name}.campaigns_variant")
        assert cursor.rowcount == 1


@pytest.mark.parametrize("what", [Campaign, Step])
def test_a_draft_that_is_launched_while_it_is_deleted_stays(
    committed: dict[str, Agency], what: type[Campaign] | type[Step]
) -> None:
    """Django looks for its mails before they are there, and deletes when they are."""
    alpha = committed["alpha"]
    found = stage.accounts()
    stage.allot(alpha, *found.values())
    refused: list[Exception] = []

    def delete(row: Campaign | Step) -> None:
        try:
            with context.entered(alpha):
                row.delete()
        except IntegrityError as error:
            refused.append(error)
        finally:
            connection.close()

    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 4), traffic_class="bulk")
        row: Campaign | Step = what._default_manager.get()
        other = threading.Thread(target=delete, args=[row])
        with transaction.atomic():
            launch.launch(made, now=NOON)
            other.start()
            _until_somebody_waits()
        other.join()
        assert len(refused) == 1
        assert Campaign.objects.get().steps.count() == 1
    assert mail_audit.audit_mails(now=NOON) == []


def _until_somebody_waits() -> None:
    settings = connection.settings_dict
    parts = {"dbname": "NAME", "user": "USER", "password": "PASSWORD", "host": "HOST", "port": "PORT"}
    with psycopg.connect(**{name: settings[key] for name, key in parts.items() if settings[key]}) as watcher:
        while not watcher.execute(_WAITING).fetchone():
            watcher.commit()


_WAITING = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
MAIL = "mails of a campaign, step, enrollment, contact, account or sender that is gone"
ENROLLMENT = "enrollments of a campaign, contact or sender that is gone"


@pytest.mark.parametrize(
    ("model", "field", "problem"),
    [
        *((Message, field, MAIL) for field in ("campaign", "step", "enrollment", "contact", "planned", "account")),
        (Message, "sender", MAIL),
        *((Enrollment, field, ENROLLMENT) for field in ("campaign", "contact", "sender")),
    ],
)
def test_the_audit_finds_what_leads_nowhere(
    alpha: Agency,
    beta: Agency,
    campaign: Campaign,
    model: type[Message] | type[Enrollment],
    field: str,
    problem: str,
) -> None:
    assert mail_audit.audit_mails(now=NOON + timedelta(minutes=1)) == []
    with context.entered(alpha):
        first = model._default_manager.order_by("pk")[0]
        model._default_manager.filter(pk=first.pk).update(**{f"{field}_id": 987_654})
    found = {(one.agency, one.problem, one.count) for one in mail_audit.audit_mails(now=NOON + timedelta(minutes=1))}
    assert ("alpha", problem, 1) in found
