"""Proof that quotas hold: replays the messages against every ledger and names each row that differs."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db import connection, transaction

from campaigns import caps
from campaigns.models import CampaignDay, RecipientDay
from providers.accounts.models import LedgerRow, Period
from providers.senders.models import DomainDay, SenderDay, SenderHour
from tenants import context
from tenants.models import Agency


@dataclass(frozen=True, slots=True)
class Drift:
    """A ledger row that does not say what the messages say."""

    ledger: str
    key: str
    used: int
    counted: int
    allowed: int

    def __str__(self) -> str:
        return f"{self.ledger} {self.key}: the ledger says {self.used} of {self.allowed}, the messages {self.counted}"


@dataclass(frozen=True, slots=True)
class Audit:
    """How many ledger rows were compared, how many mails were replayed, and what differs or oversteps."""

    rows: int
    mails: int
    drifts: list[Drift]


_Key = tuple[int, date]
_Hour = tuple[int, datetime]


def audit_quota() -> Audit:
    """Replay every agency's messages against the ledgers of its accounts, domains and senders.

    A mail counts from its claim on, on the UTC day for accounts and on the agency's day for senders and domains,
    unless it was surely not sent. For as long as a sender's hours are kept, they are compared too, and no 24 hours up
    to any of its mails may hold more than its limit then. Works in the public schema and enters every agency, also
    those switched off: what they sent counts in the accounts' ledgers.
    """
    with _one_moment():
        return _audit()


def _audit() -> Audit:
    drifts: list[Drift] = []
    rows = mails = 0
    whole: Counter[_Key] = Counter()
    for agency in Agency.objects.exclude(schema_name=context.PUBLIC).filter(ready=True).order_by("pk"):
        with context.entered(agency):
            by_account, by_sender, by_domain = _replay()
            drifts += _compare("sender day", by_sender, _sender_days())
            drifts += _compare("domain day", by_domain, _domain_days())
            by_hour, most = _replay_hours()
            hours = {(row.sender_id, row.hour): (row.used, row.allowed) for row in SenderHour.objects.all()}
            drifts += _compare("sender hour", by_hour, hours)
            drifts += _overstepped(most, hours)
            rows += SenderDay.objects.count() + SenderHour.objects.count() + DomainDay.objects.count()
            found, compared = _campaign_days()
            drifts += found
            rows += compared
        mails += sum(by_account.values())
        whole.update(by_account)
        drifts += _compare_accounts(by_account, agency)
    drifts += _compare_accounts(whole, None)
    return Audit(rows + LedgerRow.objects.count(), mails, drifts)


@contextmanager
def _one_moment() -> Iterator[None]:
    """Mails that are claimed meanwhile would look like drift: all is read as it is at one moment."""
    nested = connection.in_atomic_block
    with transaction.atomic():
        if not nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        yield


def _replay() -> tuple[Counter[_Key], Counter[_Key], Counter[_Key]]:
    counts: tuple[Counter[_Key], Counter[_Key], Counter[_Key]] = (Counter(), Counter(), Counter())
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED)
        for account_id, sender_id, domain_id, utc_day, local_day, count in cursor.fetchall():
            counts[0][account_id, utc_day] += count
            counts[1][sender_id, local_day] += count
            counts[2][domain_id, local_day] += count
    return counts


def _replay_hours() -> tuple[dict[_Hour, int], dict[_Hour, int]]:
    """Mails of each sender in each hour, and the most of it in 24 hours that end in this hour."""
    with connection.cursor() as cursor:
        cursor.execute(_COUNTED_BY_HOUR)
        rows = cursor.fetchall()
    return (
        {(sender_id, hour): count for sender_id, hour, count, _most in rows},
        {(sender_id, hour): most for sender_id, hour, _count, most in rows},
    )


def _overstepped(most: Mapping[_Hour, int], hours: Mapping[_Hour, tuple[int, int]]) -> list[Drift]:
    worst: dict[int, Drift] = {}
    for sender_id, hour in sorted(most.keys() & hours.keys()):
        count, allowed = most[sender_id, hour], hours[sender_id, hour][1]
        if count > allowed and (sender_id not in worst or count > worst[sender_id].counted):
            worst[sender_id] = Drift("sender 24 hours", f"{sender_id} in the hour {hour}", count, count, allowed)
    return list(worst.values())


def _compare_accounts(counted: Mapping[_Key, int], agency: Agency | None) -> list[Drift]:
    by_month: Counter[_Key] = Counter()
    for (account_id, day), count in counted.items():
        by_month[account_id, day.replace(day=1)] += count
    whose = agency.slug if agency else "all agencies"
    found = []
    for period, counts in ((Period.DAY, counted), (Period.MONTH, by_month)):
        rows = LedgerRow.objects.filter(agency=agency, period=period)
        ledger = {(row.account_id, row.starts): (row.used, row.allowed) for row in rows}
        # Where an account has no monthly limit there is no row to compare with.
        relevant = counts if period == Period.DAY else {key: counts[key] for key in ledger if key in counts}
        found += _compare(f"account {period} of {whose}", relevant, ledger)
    return found


def _sender_days() -> dict[_Key, tuple[int, int]]:
    return {(row.sender_id, row.day): (row.used, row.allowed) for row in SenderDay.objects.all()}


def _domain_days() -> dict[_Key, tuple[int, int]]:
    return {(row.domain_id, row.day): (row.used, row.allowed) for row in DomainDay.objects.all()}


def _campaign_days() -> tuple[list[Drift], int]:
    """What differs in the caps of campaigns, and how many rows they have."""
    with connection.cursor() as cursor:
        cursor.execute(_FIRST_MAILS)
        firsts = {(campaign, day): count for campaign, day, count in cursor.fetchall()}
        cursor.execute(_TO_DOMAINS)
        to_domains: Counter[tuple[str, date]] = Counter()
        for campaign, email, day, count in cursor.fetchall():
            to_domains[f"{campaign} to {caps.domain_of(email)}", day] += count
    days = {(row.campaign_id, row.day): (row.used, row.allowed) for row in CampaignDay.objects.all()}
    domains = {
        (f"{row.campaign_id} to {row.domain}", row.day): (row.used, row.allowed) for row in RecipientDay.objects.all()
    }
    found = _compare("campaign day", firsts, days) + _compare("recipient day of campaign", to_domains, domains)
    return found, len(days) + len(domains)


def _compare(ledger: str, counted: Mapping[Any, int], rows: Mapping[Any, tuple[int, int]]) -> list[Drift]:
    found = []
    for key in sorted({*counted, *rows}):
        used, allowed = rows.get(key, (0, 0))
        count = counted.get(key, 0)
        if used != count or used > allowed:
            found.append(Drift(ledger, f"{key[0]} on {key[1]}", used, count, allowed))
    return found


# A mail that was in doubt when it went again stays counted for what was done before. A trial is of no campaign.
_BOOKED = """(
SELECT campaign_id, step_id, contact_id, account_id, sender_id, claimed_at, counted_on FROM campaigns_message
WHERE status IN ('claimed', 'sent', 'unknown')
UNION ALL
SELECT m.campaign_id, m.step_id, m.contact_id, d.account_id, d.sender_id, d.claimed_at, d.counted_on
FROM campaigns_doubtentry d JOIN campaigns_message m ON m.id = d.message_id WHERE d.claimed_at IS NOT NULL
UNION ALL
SELECT NULL, NULL, NULL, account_id, sender_id, claimed_at, counted_on
FROM campaigns_trialmail WHERE claimed_at IS NOT NULL
)"""
_COUNTED = f"""
SELECT m.account_id, m.sender_id, s.domain_id, (m.claimed_at AT TIME ZONE 'UTC')::date,
       m.counted_on, count(*)
FROM {_BOOKED} m JOIN senders_sender s ON s.id = m.sender_id
GROUP BY 1, 2, 3, 4, 5
"""  # noqa: S608 - of constants
_FIRST_MAILS = f"""
SELECT m.campaign_id, m.counted_on, count(*)
FROM {_BOOKED} m JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.new_contacts_per_day IS NOT NULL
WHERE m.step_id = (SELECT id FROM campaigns_step WHERE campaign_id = c.id ORDER BY position LIMIT 1)
GROUP BY 1, 2
"""  # noqa: S608 - of constants
_TO_DOMAINS = f"""
SELECT m.campaign_id, p.email, m.counted_on, count(*)
FROM {_BOOKED} m
JOIN campaigns_campaign c ON c.id = m.campaign_id AND c.per_domain_per_day IS NOT NULL
JOIN campaigns_contact p ON p.id = m.contact_id
GROUP BY 1, 2, 3
"""  # noqa: S608 - of constants
# Hours are kept for some days; the mails of the 24 hours before are read with them.
_COUNTED_BY_HOUR = f"""
SELECT sender_id, date_trunc('hour', claimed_at, 'UTC') AS hour, count(*), max(lately)
FROM (
    SELECT sender_id, claimed_at, count(*) OVER (
        PARTITION BY sender_id ORDER BY claimed_at
        RANGE BETWEEN interval '24 hours' PRECEDING AND CURRENT ROW
    ) AS lately
    FROM {_BOOKED} m
    WHERE claimed_at >= (SELECT min(hour) FROM senders_senderhour) - interval '24 hours'
) counted
WHERE claimed_at >= (SELECT min(hour) FROM senders_senderhour)
GROUP BY 1, 2
"""  # noqa: S608 - of constants
