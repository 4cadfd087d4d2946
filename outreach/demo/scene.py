"""Agencies Alpha and Beta, the three accounts of the reference strategy led to the sandbox, and 1,200 senders."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.db import connection, transaction

from outreach.demo.far_end import FarEnd
from providers.accounts import reference
from providers.accounts.models import Account, Allotment, Health, InboundMail, LedgerRow, WebhookDay, WebhookPost
from providers.accounts.reference import STRATEGY, Reference
from providers.senders.models import Sender, SenderDomain
from providers.senders.pool import add_senders
from tenants import context, provisioning
from tenants.models import Agency
from tenants.users.models import User

AGENCIES = {"alpha": "Alpha", "beta": "Beta"}
OPERATOR = "operator@polza.example"
_LOOPBACK = {"127.0.0.1", "localhost"}
_FIRST = ("Anna", "Ben", "Carla", "David", "Elena", "Felix", "Greta", "Hugo", "Ines", "Jonas")


class NotADemoError(RuntimeError):
    """This installation has something of its own, which the demo would overwrite."""


@dataclass(frozen=True, slots=True)
class Person:
    """Who can sign in where. The password is made anew at each run and shown once."""

    site: str
    email: str
    password: str


def set_up(far_end: FarEnd) -> list[Person]:
    """Make the scene anew: what an earlier demo sent is forgotten, as the new sandbox has forgotten it.

    Raises NotADemoError, with nothing changed, on an installation that is used for something else.
    """
    provisioning.prepare()
    _refuse_others()
    people = [_operator()]
    agencies = []
    for slug, name in AGENCIES.items():
        person = Person(slug, f"owner@{slug}.example", secrets.token_urlsafe(9))
        owner = provisioning.Owner(person.email, person.password, f"{name}'s owner")
        agency = provisioning.create_agency(slug, name, owner=owner)
        with context.entered(agency):
            _forget()
            _set_password(person)
        people.append(person)
        agencies.append(agency)
    with context.public(), transaction.atomic():
        accounts = _accounts(far_end)
        LedgerRow.objects.filter(account__in=accounts).delete()
        Health.objects.filter(account__in=accounts).delete()
        WebhookPost.objects.filter(account__in=accounts).delete()
        WebhookDay.objects.filter(account__in=accounts).delete()
        InboundMail.objects.all().delete()
        allotments = _allot(accounts, agencies)
    for agency in agencies:
        with context.entered(agency):
            for one in STRATEGY:
                allotment = next(a for a in allotments if a.agency == agency and a.account.name == one.name)
                addresses = list(_addresses(one, agency, list(AGENCIES).index(agency.slug)))
                add_senders(allotment, addresses, per_day=reference.SENDER_PER_DAY)
    return people


def listen(far_end: FarEnd, port: int) -> None:
    """Let the sandbox tell the web server on this port what becomes of mails."""
    with context.public():
        accounts = Account.objects.filter(name__in=far_end.webhook_secrets)
        far_end.listen(
            {
                account.name: f"http://{settings.PUBLIC_HOST}:{port}/webhooks/{account.webhook_key}/"
                for account in accounts
            }
        )


def _refuse_others() -> None:
    with context.public():
        others = [a.slug for a in Agency.objects.exclude(schema_name="public") if a.slug not in AGENCIES]
        real = [a.name for a in Account.objects.all() if not _leads_to_loopback(a)]
    if others or real:
        raise NotADemoError(
            f"This installation is in use ({', '.join([*others, *real])}), and the demo would empty its agencies. "
            "Give the demo a place of its own: POLZA_VAR=var-demo make demo"
        )


def _leads_to_loopback(account: Account) -> bool:
    host = account.options.get("host") or urlsplit(account.options.get("api_url", "")).hostname
    return host in _LOOPBACK


def _operator() -> Person:
    person = Person("", OPERATOR, secrets.token_urlsafe(9))
    with context.public():
        if not User.objects.filter(email=OPERATOR).exists():
            User.objects.create_superuser(OPERATOR, name="Operator")
        _set_password(person)
    return person


def _set_password(person: Person) -> None:
    user = User.objects.get(email=person.email)
    user.set_password(person.password)
    user.save(update_fields=["password"])


def _forget() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "TRUNCATE campaigns_message, campaigns_enrollment, campaigns_step, campaigns_campaign, "
            "campaigns_subscription, campaigns_consententry, campaigns_rejectedrow, campaigns_intake, "
            "campaigns_contactlist, campaigns_contact, campaigns_suppression, "
            "campaigns_feedentry, campaigns_endpoint, "
            "senders_senderday, senders_senderhour, senders_domainday, senders_event, senders_recovery "
            "RESTART IDENTITY CASCADE"
        )
    Sender.objects.exclude(cap=None).update(cap=None)
    SenderDomain.objects.exclude(cap=None).update(cap=None)


def _accounts(far_end: FarEnd) -> list[Account]:
    options: dict[str, dict[str, Any]] = {
        "resend": {"api_url": far_end.urls["resend"]},
        "sendgrid": {"api_url": far_end.urls["sendgrid"]},
        "smtp": {"host": "127.0.0.1", "port": far_end.ports["smtp"], "security": "none"},
    }
    accounts = reference.seed(far_end.credentials, options)
    for account in accounts:
        account.webhook_secrets = {"secret": far_end.webhook_secrets.get(account.name, "")}
        account.save(update_fields=["webhook_secrets"])
    return accounts


def _allot(accounts: list[Account], agencies: list[Agency]) -> list[Allotment]:
    found = []
    for account in accounts:
        for agency in agencies:
            allotment, _created = Allotment.objects.update_or_create(
                account=account, agency=agency, defaults={"senders": account.sender_limit // len(agencies)}
            )
            found.append(allotment)
    return found


def _addresses(one: Reference, agency: Agency, place: int) -> Iterator[tuple[str, str]]:
    """An agency's half of an account's senders: 5 of its 10 domains, 40 senders each."""
    half = one.domains // len(AGENCIES)
    for domain in range(place * half + 1, (place + 1) * half + 1):
        for number in range(one.senders // one.domains):
            name = _FIRST[number % len(_FIRST)]
            yield f"{name.lower()}{number // len(_FIRST) + 1}@{one.name}{domain:02}.{agency.slug}.example", name
