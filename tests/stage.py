"""Sets the scene: accounts that lead to a sandbox, senders, contacts and campaigns, for one agency or both."""

from datetime import UTC, datetime
from typing import Any

from campaigns.models import Campaign, Contact, ContactList, Step, Subscription
from providers.accounts.models import Account, Allotment
from providers.sandbox import RESEND_KEY, SENDGRID_KEY, SMTP_PASSWORD, SMTP_USERNAME
from providers.sandbox.service import Sandbox
from providers.senders import dkim
from providers.senders.models import SenderDomain
from providers.senders.pool import add_senders
from providers.senders.published import Key
from tenants import context
from tenants.models import Agency

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


def accounts(sandbox: Sandbox | None = None, **changes: dict[str, Any]) -> dict[str, Account]:
    """The three accounts, by name: resend, sendgrid, smtp. `changes` are fields by account name."""
    ports = sandbox.ports if sandbox else {"http": 1, "smtp": 1}
    base = f"http://127.0.0.1:{ports['http']}"
    wanted: dict[str, dict[str, Any]] = {
        "resend": {
            "kind": "resend",
            "credentials": {"api_key": RESEND_KEY},
            "options": {"api_url": f"{base}/"},
            "traffic_classes": ["high_priority", "cold_outreach"],
            "priority": 10,
        },
        "sendgrid": {
            "kind": "sendgrid",
            "credentials": {"api_key": SENDGRID_KEY},
            "options": {"api_url": f"{base}/v3/"},
            "traffic_classes": ["newsletters", "follow_ups"],
            "priority": 20,
        },
        "smtp": {
            "kind": "smtp",
            "credentials": {"username": SMTP_USERNAME, "password": SMTP_PASSWORD},
            "options": {"host": "127.0.0.1", "port": ports["smtp"], "security": "none"},
            "traffic_classes": ["bulk", "testing"],
            "priority": 30,
        },
    }
    return {
        name: Account.objects.create(name=name, **{**fields, **changes.get(name, {})})
        for name, fields in wanted.items()
    }


def allot(
    agency: Agency,
    *which: Account,
    senders: int = 4,
    per_day: int = 50,
    per_hour: int | None = 1000,
    domains: int = 2,
    **limits: Any,
) -> None:
    """Allot these accounts to the agency, each with senders over domains of its own.

    Unless told, an hour of theirs has room for all that they may send in a day.
    """
    for account in which:
        allotment = Allotment.objects.create(account=account, agency=agency, senders=senders, **limits)
        with context.entered(agency):
            add_senders(
                allotment,
                [
                    (f"s{number}@{account.name}{number % domains}.{agency.slug}.example", f"Sender {number}")
                    for number in range(senders)
                ],
                per_day=per_day,
                per_hour=per_hour,
            )


def signing() -> dict[str, bytes]:
    """Give every domain of the agency entered now a DKIM key that signs; the records to publish, by name."""
    keys = [dkim.make(domain, now=NOON) for domain in SenderDomain.objects.all()]
    for key in keys:
        dkim.switch(key.domain, key.selector, now=NOON)
    return {f"{key.selector}._domainkey.{key.domain}.": Key(key.selector, key.public).value.encode() for key in keys}


def contact_list(name: str, count: int, *, domain: str = "people.example", basis: str = "consent") -> ContactList:
    """A list of so many contacts, who have given consent unless told, in the agency entered now."""
    found = ContactList.objects.create(name=name)
    people = Contact.objects.bulk_create(
        [
            Contact(email=f"{name}{number}@{domain}", first_name=f"N{number}", attributes={"city": "Riga"})
            for number in range(count)
        ]
    )
    Subscription.objects.bulk_create(
        [Subscription(list=found, contact=person, basis=basis) for person in people], batch_size=5_000
    )
    return found


def campaign(people: ContactList, *, html: str = "<p>Hello {{ first_name }}</p>", **fields: Any) -> Campaign:
    """A draft with one step, whose senders do not rest unless told, in the agency entered now."""
    made = Campaign.objects.create(
        name=f"To {people.name}", list=people, **{"gap_seconds": 0, "gap_jitter_seconds": 0, **fields}
    )
    Step.objects.create(campaign=made, position=1, subject="Hello {{ first_name }}", html=html)
    return made


def statuses(campaign: Campaign) -> dict[str, int]:
    """How many messages of the campaign are in each state."""
    found: dict[str, int] = {}
    for status in campaign.messages.values_list("status", flat=True):
        found[status] = found.get(status, 0) + 1
    return found
