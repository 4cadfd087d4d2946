"""What is measured on: accounts that lead to a sink, senders, people and queues, of both agencies or of one."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from django.db import connection
from django.utils import timezone

from campaigns import launch
from campaigns.models import Campaign, ContactList, Step
from providers.accounts.models import Account, Allotment, TrafficClass
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tests.benchmarks import texts

SENDERS_A_DOMAIN = 50
_PER_RUN = ("campaigns_message", "campaigns_enrollment", "campaigns_step", "campaigns_campaign")
_OF_A_DAY = ("senders_senderday", "senders_senderhour", "senders_domainday")
_READ = (*_PER_RUN, "campaigns_contact", "campaigns_subscription", "senders_sender", "senders_senderday")


def agencies() -> list[Agency]:
    """Alpha and Beta."""
    return list(Agency.objects.filter(slug__in=["alpha", "beta"]).order_by("slug"))


def smtp_accounts(count: int, *, port: int, name: str = "smtp", **options: Any) -> list[Account]:
    """Accounts at the sink, all meant for bulk mail."""
    return [
        Account.objects.create(
            name=f"{name}-{number}",
            kind="smtp",
            credentials={},
            options={"host": "127.0.0.1", "port": port, "security": "none", **options},
            traffic_classes=[TrafficClass.BULK],
            per_day=100_000_000,
            sender_limit=100_000,
        )
        for number in range(1, count + 1)
    ]


def resend_account(*, port: int, per_second: Decimal | None = None, **options: Any) -> Account:
    """One account at the sink's Resend, meant for bulk mail; `per_second` is in requests."""
    return Account.objects.create(
        name="resend-1",
        kind="resend",
        credentials={"api_key": "re_bench"},
        options={"api_url": f"http://127.0.0.1:{port}/", **options},
        per_second=per_second,
        traffic_classes=[TrafficClass.BULK],
        per_day=100_000_000,
        sender_limit=100_000,
    )


def senders(agency: Agency, account: Account, count: int, *, per_day: int = 50) -> None:
    """Allot the account to the agency, with senders over domains of fifty each."""
    allotment = Allotment.objects.create(account=account, agency=agency, senders=count)
    with context.entered(agency):
        add_senders(
            allotment,
            [
                (
                    f"s{number}@d{number // SENDERS_A_DOMAIN}.{account.name}.{agency.slug}.example",
                    f"Sender {number}",
                )
                for number in range(count)
            ],
            per_day=per_day,
            per_hour=per_day,
            domain_per_day=max(2000, per_day * SENDERS_A_DOMAIN),
        )


def people(agency: Agency, count: int) -> None:
    """A list of so many contacts, those of texts.contact but for the address; replaces one from before."""
    with context.entered(agency), connection.cursor() as cursor:
        forget_runs(agency)
        cursor.execute("TRUNCATE campaigns_subscription, campaigns_contactlist, campaigns_contact CASCADE")
        cursor.execute(CONTACTS, [agency.slug, count])
        found = ContactList.objects.create(name="people")
        cursor.execute(
            "INSERT INTO campaigns_subscription (list_id, contact_id, basis) "
            "SELECT %s, id, 'consent' FROM campaigns_contact ORDER BY id",
            [found.pk],
        )
        cursor.execute("ANALYZE campaigns_contact, campaigns_subscription")


def forget_runs(*which: Agency) -> None:
    """Remove campaigns and all that was sent, so that a day begins anew."""
    for agency in which:
        with context.entered(agency), connection.cursor() as cursor:
            cursor.execute(f"TRUNCATE {', '.join(_PER_RUN + _OF_A_DAY)} RESTART IDENTITY CASCADE")
            cursor.execute("UPDATE senders_sender SET used_at = NULL WHERE used_at IS NOT NULL")
            cursor.execute("DELETE FROM accounts_ledgerrow WHERE agency_id = %s OR agency_id IS NULL", [agency.pk])
            cursor.execute("DELETE FROM accounts_health")


def draft(agency: Agency, **step: str) -> Campaign:
    """A campaign to the people of `agency`, not launched. `step` replaces the mail of 5 kB."""
    mail = step or {"subject": texts.SUBJECT, "html": texts.HTML, "text": texts.TEXT}
    with context.entered(agency):
        made = Campaign.objects.create(
            name="bench", list=ContactList.objects.get(name="people"), traffic_class=TrafficClass.BULK
        )
        Step.objects.create(campaign=made, position=1, **mail)
        return made


def queue(*which: Agency, **step: str) -> int:
    """Begin a day anew and launch one campaign to all people of each agency; return how many mails are queued."""
    forget_runs(*which)
    total = 0
    for agency in which:
        with context.entered(agency):
            total += launch.launch(draft(agency, **step), now=timezone.now()).total
    settle(*which)
    return total


def settle(*which: Agency) -> None:
    """Do now what PostgreSQL would do in the middle of a measurement: write its log out, look at what is new."""
    tables = ", ".join(f'"{agency.schema_name}".{table}' for agency in which for table in _READ)
    with connection.cursor() as cursor:
        cursor.execute("CHECKPOINT")
        cursor.execute(f"VACUUM ANALYZE {tables}")


def pairs(which: Iterable[Agency]) -> list[str]:
    """What a worker drains: agency and account, one account after the other."""
    slots = Allotment.objects.filter(agency__in=list(which)).order_by("account_id", "agency_id")
    return [f"{slot.agency.schema_name}:{slot.account_id}" for slot in slots.select_related("agency")]


def statuses(*which: Agency) -> dict[str, int]:
    """How many messages of these agencies are in each state."""
    found: dict[str, int] = {}
    for agency in which:
        with context.entered(agency), connection.cursor() as cursor:
            cursor.execute("SELECT status, count(*) FROM campaigns_message GROUP BY status")
            for status, count in cursor.fetchall():
                found[status] = found.get(status, 0) + count
    return found


def clear() -> None:
    """Remove accounts, senders and people, so that the next benchmark sets its own scene."""
    with connection.cursor() as cursor:
        # With all that leads to them, in every agency.
        cursor.execute("TRUNCATE accounts_account CASCADE")
        # Jobs of workers that were killed would come back minutes later.
        cursor.execute("TRUNCATE django_q_ormq")
    for agency in agencies():
        with context.entered(agency), connection.cursor() as cursor:
            cursor.execute(
                "TRUNCATE campaigns_campaign, campaigns_contactlist, campaigns_contact, senders_senderdomain "
                "RESTART IDENTITY CASCADE"
            )


CONTACTS = """
INSERT INTO campaigns_contact (email, first_name, last_name, company, attributes)
SELECT 'person' || n || '@' || %s || n %% 5000 || '.example', 'Name' || n %% 997, 'Family' || n,
       'Firm ' || n %% 5000 || ' & Sons',
       jsonb_build_object('city', 'Riga', 'plan', CASE WHEN n %% 2 = 1 THEN 'team' ELSE 'solo' END)
FROM generate_series(1, %s) AS n
"""
