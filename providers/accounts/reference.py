"""The reference strategy: three accounts that carry 1,200 senders, and what each is meant for."""

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from providers.accounts.models import Account, TrafficClass


@dataclass(frozen=True, slots=True)
class Reference:
    """One account of the strategy: senders, mails a UTC day, traffic classes it is meant for; its price a month in $,
    the mails within that and the price of each further one."""

    name: str
    kind: str
    senders: int
    per_day: int
    classes: tuple[TrafficClass, ...]
    priority: int
    monthly_price: Decimal
    domains: int
    included_per_month: int = 0
    mail_price: Decimal = Decimal(0)


STRATEGY = (
    Reference(
        "resend",
        "resend",
        400,
        10_000,
        (TrafficClass.HIGH_PRIORITY, TrafficClass.COLD_OUTREACH),
        10,
        Decimal("20.00"),
        10,
        # https://resend.com/changelog/pay-as-you-go-pricing, the Pro plan.
        included_per_month=50_000,
        mail_price=Decimal("0.0009"),
    ),
    Reference(
        "sendgrid",
        "sendgrid",
        400,
        100,
        (TrafficClass.NEWSLETTERS, TrafficClass.FOLLOW_UPS),
        20,
        Decimal("0.00"),
        10,
    ),
    Reference("smtp", "smtp", 400, 5_000, (TrafficClass.BULK, TrafficClass.TESTING), 30, Decimal("0.00"), 10),
)
SENDER_PER_DAY = 50


def seed(
    credentials: Mapping[str, Mapping[str, str]] | None = None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> list[Account]:
    """The accounts of the strategy, by name. Safe to repeat: an account that is there keeps what the operator set.

    A new account without credentials is not in use, so that nothing tries it before its key is entered. Given
    credentials and connections replace those of an account that is there.
    """
    accounts = []
    for one in STRATEGY:
        account, _created = Account.objects.get_or_create(
            name=one.name,
            defaults={
                "kind": one.kind,
                "traffic_classes": list(one.classes),
                "priority": one.priority,
                "sender_limit": one.senders,
                "per_day": one.per_day,
                "monthly_price": one.monthly_price,
                "included_per_month": one.included_per_month,
                "mail_price": one.mail_price,
                "enabled": False,
            },
        )
        if credentials and one.name in credentials:
            account.credentials = dict(credentials[one.name])
            account.options = dict((options or {}).get(one.name, {}))
            account.enabled = True
            account.save(update_fields=["credentials", "options", "enabled"])
        accounts.append(account)
    return accounts
