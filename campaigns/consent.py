"""On what grounds a person is written to: the one definition of consent, its evidence, and who changes it.

An account may take mails to contacts who have given consent alone. That is asked for where a mail is placed on an
account, when it is claimed (by the mark on its enrollment, kept true here) and, of the contact itself, just before it
is sent.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db import connection, transaction
from django.db.models import Q
from django.utils.translation import gettext as _

from campaigns import lifecycle
from campaigns.models import Basis, ConsentEntry, Contact, ContactList, Subscription
from campaigns.permission import GIVEN
from tenants import visits

Source = ConsentEntry.Source
# Nobody who is written to now said so earlier; and not every clock can tell the years when counting began.
EARLIEST_YEAR = 1900


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is kept of how a basis came to be: `at` is when it was given, `text` what the person was shown, `detail`
    where, `by` who recorded it."""

    source: Source
    at: datetime
    text: str = ""
    detail: str = ""
    remote_ip: str | None = None
    user_agent: str = ""
    by: str = ""


class ConsentRefusedError(ValueError):
    """The contact's basis is as it was; says why."""


def record(
    contact_ids: Iterable[int],
    basis: Basis | str,
    evidence: Evidence,
    *,
    now: datetime,
    into: ContactList | None = None,
) -> int:
    """Let these contacts have that basis, "" being none known, for one list or as a whole; return how many there are.

    Mails that wait for it go, and from the commit on none leaves that needs what was taken back, not even one that a
    worker holds.
    """
    ids = sorted(set(contact_ids))
    with transaction.atomic(), connection.cursor() as cursor:
        values = _values(ids, basis, evidence, now, into.pk if into else None)
        cursor.execute(_SET_OF_LIST if into else _SET, values)
        cursor.execute(_TELL, values)
        count = cursor.rowcount
        follow(ids, now=now)
    return int(count)


def enter(
    contact: Contact, basis: Basis | str, evidence: Evidence, *, now: datetime, into: ContactList | None = None
) -> None:
    """Record what a person or a program says of one contact's basis.

    Raises ConsentRefusedError with nothing changed: where a consent has no evidence or was withdrawn after it was
    given, where evidence is of the future or older than anybody, and where the contact is not on the list.
    """
    with transaction.atomic():
        if into and not Subscription.objects.filter(list=into, contact=contact).exists():
            raise ConsentRefusedError(_("%(email)s is not on that list.") % {"email": contact.email})
        if evidence.at > now:
            raise ConsentRefusedError(_("Evidence cannot be of the future."))
        if evidence.at.year < EARLIEST_YEAR:
            raise ConsentRefusedError(_("Evidence cannot be from before %(year)d.") % {"year": EARLIEST_YEAR})
        if basis == Basis.CONSENT:
            if not (evidence.detail.strip() or evidence.text.strip()):
                raise ConsentRefusedError(_("Say where they gave consent: without evidence it is none."))
            # Locked, as an opt-out locks it: none commits between this look and the change.
            Contact.objects.select_for_update(no_key=True).get(pk=contact.pk)
            withdrawn = ConsentEntry.objects.filter(contact=contact, basis=Basis.WITHDRAWN, at__gte=evidence.at)
            if withdrawn.filter(Q(list=None) | Q(list=into)).exists():
                raise ConsentRefusedError(_("They took their consent back after that: an older one does not return."))
        record([contact.pk], basis, evidence, now=now, into=into)


def asked(contact_id: int, evidence: Evidence, *, now: datetime, into: ContactList) -> None:
    """Keep how the contact asked for a list's mails, which is no consent yet."""
    with connection.cursor() as cursor:
        cursor.execute(_TELL, _values([contact_id], "", evidence, now, into.pk))


def withdraw(contact_id: int, evidence: Evidence, *, now: datetime, into: ContactList | None = None) -> None:
    """The contact takes their consent back, to one list's mails or to all."""
    record([contact_id], Basis.WITHDRAWN, evidence, now=now, into=into)


def left(contact_id: int, evidence: Evidence, *, now: datetime, list_id: int | None = None) -> None:
    """The contact wants no more mails, of one list or at all, which takes back whatever they were written to for.

    Call it in the transaction that suppresses them, before what waits for them is cancelled. Harmless when repeated:
    the first evidence stays.
    """
    values = _values([contact_id], Basis.WITHDRAWN, evidence, now, list_id)
    with connection.cursor() as cursor:
        cursor.execute((_SET if list_id is None else _SET_OF_LIST) + _YET, values)
        if cursor.rowcount:
            cursor.execute(_TELL, values)
            cursor.execute(_FOLLOW, [[contact_id]])


def follow(contact_ids: Sequence[int], *, now: datetime) -> None:
    """Let the mails of these contacts know what their basis is now."""
    with connection.cursor() as cursor:
        cursor.execute(_FOLLOW, [list(contact_ids)])
    lifecycle.hold_unconsented(contact_ids)
    visits.ask(now)


def forget(contact_ids: Sequence[int]) -> int:
    """Delete the evidence about these persons, for their erasure; return how many entries there were."""
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT set_config('campaigns.erasure', 'on', true)")
        cursor.execute("DELETE FROM campaigns_consententry WHERE contact_id = ANY(%s)", [list(contact_ids)])
        count = cursor.rowcount
    return int(count)


def _values(
    ids: Sequence[int], basis: Basis | str, evidence: Evidence, now: datetime, list_id: int | None
) -> dict[str, Any]:
    return {
        "ids": ids,
        "list": list_id,
        "basis": basis,
        "source": evidence.source,
        "at": evidence.at,
        "now": now,
        "text": evidence.text,
        "detail": evidence.detail[:300],
        "ip": evidence.remote_ip,
        "agent": evidence.user_agent[:300],
        "by": evidence.by[:254],
    }


# Not against who only refers to the contact: a follow-up is made with its enrollment locked, and that is next here.
_SET = """
UPDATE campaigns_contact p SET basis = %(basis)s
FROM (SELECT id FROM campaigns_contact WHERE id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE) locked
WHERE p.id = locked.id
"""
_SET_OF_LIST = """
UPDATE campaigns_subscription s SET basis = %(basis)s
FROM (
    SELECT id FROM campaigns_subscription WHERE list_id = %(list)s AND contact_id = ANY(%(ids)s) ORDER BY id FOR UPDATE
) locked
WHERE s.id = locked.id
"""
_YET = " AND basis <> 'withdrawn'"
_TELL = """
INSERT INTO campaigns_consententry (contact_id, list_id, basis, source, at, recorded_at, email, remote_ip, user_agent,
    text, detail, by)
SELECT p.id, %(list)s, %(basis)s, %(source)s, %(at)s, %(now)s, p.email, %(ip)s, %(agent)s, %(text)s, %(detail)s, %(by)s
FROM campaigns_contact p WHERE p.id = ANY(%(ids)s) ORDER BY p.id
"""
# Which enrollments a contact has is known by its mails.
_FOLLOW = f"""
WITH found AS (
    SELECT e.id, {GIVEN} AS given
    FROM campaigns_enrollment e
    JOIN campaigns_campaign c ON c.id = e.campaign_id
    JOIN campaigns_contact p ON p.id = e.contact_id
    LEFT JOIN campaigns_subscription u ON u.list_id = c.list_id AND u.contact_id = p.id
    WHERE e.id IN (SELECT m.enrollment_id FROM campaigns_message m WHERE m.contact_id = ANY(%s))
    ORDER BY e.id FOR UPDATE OF e
)
UPDATE campaigns_enrollment e SET consented = found.given
FROM found WHERE e.id = found.id AND e.consented <> found.given
"""  # noqa: S608 - of constants
