"""Mails that are held until somebody fills in what their text needs: which values those are, and on they go.

A contact's change, by a person, a program or a file, has their held mails tried again; so has a person for a whole
campaign. `lifecycle.try_again` is the one way out of being held, and what still lacks a value is held anew.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from django.db import connection, transaction
from django.db.models import Count
from django.utils.translation import gettext as _

from campaigns import contact_columns, control, erased, lifecycle, rendering, validation
from campaigns.models import Campaign, Contact, Message
from campaigns.reasons import Reason
from campaigns.validation import Refusal
from tenants import visits

# Of the reason that is kept with a mail, before the name of the field.
MISSING = "missing "
_SOMEBODY = "a@example.com"


class ContactRefusedError(ValueError):
    """The contact is as it was; says which value is not fit and why."""


@dataclass(frozen=True, slots=True)
class Missing:
    """So many mails of a campaign are held because their contacts have no value in a field; some of these contacts."""

    name: str
    count: int
    contacts: list[Contact]


def by_field(campaign: Campaign, *, shown: int = 0) -> list[Missing]:
    """What the campaign's held mails lack, the commonest first, each with up to so many of the contacts."""
    held = Message.objects.filter(campaign=campaign, status=Message.Status.HELD, reason=Reason.MISSING_VALUE)
    counts = held.values_list("detail").annotate(count=Count("pk")).order_by("-count", "detail")
    return [
        Missing(
            detail.removeprefix(MISSING),
            count,
            [one.contact for one in held.filter(detail=detail).select_related("contact").order_by("pk")[:shown]],
        )
        for detail, count in counts
    ]


def try_again(campaign: Campaign, *, now: datetime) -> int:
    """Queue again what is held in the campaign for its text; return how many mails those are."""
    return _release(campaign, None, now)


def change(contact: Contact, values: Mapping[str, str], *, now: datetime) -> int:
    """Write these fields of a contact, by the names that texts show, and try their held mails again; return how many.

    What may stand in a file may stand here. Raises ContactRefusedError with nothing changed.
    """
    names = [*values]
    unknown = [name for name in names if name not in rendering.FIELDS and contact_columns.key_of(name) != name]
    if "email" in names or unknown:
        raise ContactRefusedError(", ".join(unknown[:10] or ["email"]))
    if len(names) >= contact_columns.MOST_COLUMNS:
        raise ContactRefusedError(contact_columns.too_many())
    columns = contact_columns.columns_of(["email", *names])
    judged = validation.judge([_SOMEBODY, *(values[name] for name in names)], columns)
    if isinstance(judged, Refusal):
        raise ContactRefusedError(judged.said)
    with transaction.atomic():
        erased.hold()
        found = Contact.objects.select_for_update().filter(pk=contact.pk, erased_at=None).first()
        if found is None:
            raise ContactRefusedError(_("The person was erased meanwhile."))
        attributes = found.attributes if isinstance(found.attributes, dict) else {}
        before = len(attributes)
        for name in names:
            value = values[name].strip()
            if name in contact_columns.NAMES:
                setattr(found, name, value)
            else:
                attributes = {**attributes, name: value}
        if len(attributes) > max(before, contact_columns.MOST_COLUMNS):
            raise ContactRefusedError(contact_columns.too_many())
        found.attributes = attributes
        found.save(update_fields=[*contact_columns.NAMES, "attributes"])
        return release(found.pk, now=now)


def release(*contact_ids: int, now: datetime) -> int:
    """Try the held mails of these contacts again, whose values have changed; return how many those are."""
    return _release(None, contact_ids, now) if contact_ids else 0


def release_taken(*, now: datetime) -> int:
    """The same for the contacts of the file that is being taken in. Call in its transaction."""
    with connection.cursor() as cursor:
        cursor.execute(_TAKEN)
        taken = [row[0] for row in cursor.fetchall()]
    return release(*taken, now=now)


def _release(campaign: Campaign | None, contact_ids: Collection[int] | None, now: datetime) -> int:
    with transaction.atomic():
        again = lifecycle.try_again(campaign.pk if campaign else None, contact_ids, now=now)
        if again:
            control.reopen(Message.objects.filter(pk__in=again).values_list("campaign_id", flat=True).distinct())
            visits.ask(now)
    return len(again)


# By campaign, for there is an index of that and of the state.
_TAKEN = """
SELECT DISTINCT c.id FROM campaigns_campaign k
JOIN campaigns_message m ON m.campaign_id = k.id AND m.status = 'held'
JOIN campaigns_contact c ON c.id = m.contact_id
JOIN pg_temp.intake_row r ON r.key = lower(c.email) AND r.verdict = 'accepted'
WHERE k.status <> 'cancelled'
"""
