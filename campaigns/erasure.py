"""Erasure of a person: what names them goes, what was counted stays, and a keyed hash refuses them from then on.

erase ─► optout     nothing more is sent to them
      ─► forget     contact, subscriptions, events, suppressions, posts and mails that came back; every other text of
                    the agency in which their address stands
      ─► receipt    what was erased, when and by whom, without the address (Erasure)

The contact's row stays, for mails are counted by it, with an address that is made up and suppressed as theirs was.
While a worker holds a mail to them nothing more is begun, and the rest waits for the minute's work.
"""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid4

from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import connection, transaction
from django.db.models.functions import Lower
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns import answers, consent, erased, optout, signups, stops, tokens, trials
from campaigns.caps import domain_of
from campaigns.models import (
    Contact,
    Enrollment,
    Erasure,
    ErasureKey,
    MailDomain,
    Message,
    Pause,
    RecipientDay,
    Reply,
    Subscription,
    Suppression,
)
from campaigns.reasons import Reason
from providers.accounts import inbox, webhooks
from providers.accounts.models import OperatorErasure, OperatorErasureKey, OperatorSuppression
from providers.senders.inbound import tokens as returns
from providers.senders.models import Event
from tenants import context, visits

# What counts under no domain of anybody's.
NOWHERE = "erased.invalid"
LABELS: dict[str, str | Promise] = {
    "agencies": gettext_lazy("agencies"),
    "contacts": gettext_lazy("contact"),
    "subscriptions": gettext_lazy("subscriptions"),
    "sign_ups": gettext_lazy("sign-ups"),
    "consents": gettext_lazy("evidence of consent"),
    "mails": gettext_lazy("mails, kept without a name"),
    "events": gettext_lazy("events, kept without a name"),
    "pauses": gettext_lazy("pauses that they had asked for"),
    "replies": gettext_lazy("replies"),
    "answers": gettext_lazy("answers to replies, kept without a name"),
    "suppressions": gettext_lazy("suppressions, kept as a hash"),
    "texts": gettext_lazy("other texts that named the address"),
    "posts": gettext_lazy("posts of providers"),
    "inbound": gettext_lazy("mails that came back"),
}
# What people wrote for everybody, own addresses and who works here: no data about the person.
_NOT_ABOUT_THEM = (
    "users_%",
    "auth_%",
    "account_%",
    "senders_sender",
    "senders_senderdomain",
    "campaigns_campaign",
    "campaigns_step",
    "campaigns_link",
    "campaigns_erasure",
    "campaigns_doubtentry",
    "django_session",
    "django_migrations",
)
# As long as the shortest address, so it fits wherever one stood.
_WORD = "erased"


class ErasureRefusedError(ValueError):
    """What was given is not an address; says what to do."""


@dataclass(frozen=True, slots=True)
class Line:
    """One kind of rows of a receipt."""

    code: str
    label: str
    count: int


def lines(receipt: Erasure | OperatorErasure) -> list[Line]:
    """What was erased, in words."""
    return [Line(code, str(label), receipt.counts[code]) for code, label in LABELS.items() if receipt.counts.get(code)]


def erase(address: str, *, by: str, clock: Callable[[], datetime]) -> Erasure:
    """Erase a person in the agency entered now and return the receipt, also where nothing was known of them.

    No mail to them is begun once it returns. `by`: who asked for it, empty for the machine. Harmless when repeated.
    Raises ErasureRefusedError.
    """
    value = _address(address)
    with transaction.atomic():
        _take_time()
        erased.hold_alone()
        contact = _contact(value)
        pending = contact and Erasure.objects.filter(contact=contact, done_at=None).first()
        receipt = pending or _receipt(value, contact, by=by, now=clock())
        _go_on(receipt, value, clock)
    return receipt


def finish(*, clock: Callable[[], datetime]) -> None:
    """Go on with erasures that had to wait, in the agency entered now."""
    for receipt in Erasure.objects.filter(done_at=None, contact__isnull=False):
        with transaction.atomic():
            _take_time()
            erased.hold_alone()
            again = Erasure.objects.select_related("contact").get(pk=receipt.pk)
            if again.done_at is None and again.contact is not None:
                _go_on(again, again.contact.email.lower(), clock)


def settle(*, now: datetime) -> None:
    """Say of erasures everywhere that they are done once no agency has one that waits. Works in the public schema."""
    walked = OperatorErasure.objects.filter(done_at=None).exclude(counts={})
    if not walked.exists():
        return
    for agency in context.ready_agencies():
        with context.entered(agency):
            if Erasure.objects.filter(done_at=None).exists():
                return
    walked.update(done_at=now)


def erase_everywhere(address: str, *, by: str, clock: Callable[[], datetime]) -> OperatorErasure:
    """Erase a person in every agency, for good: none may ever mail them again. Works in the public schema.

    An agency that knew nothing of them has no receipt. Harmless when repeated. Raises ErasureRefusedError.
    """
    value = _address(address)
    key = erased.newest(OperatorErasureKey)
    receipt, _new = OperatorErasure.objects.get_or_create(
        digest=erased.digest(key, value), done_at=None, defaults={"key": key, "by": by, "asked_at": clock()}
    )
    counts: Counter[str] = Counter()
    waits = False
    for agency in context.ready_agencies():
        with context.entered(agency), transaction.atomic():
            _take_time()
            erased.hold_alone()
            contact = _contact(value)
            one = _receipt(value, contact, by="operator", now=clock())
            _go_on(one, value, clock)
            if contact is None and not one.counts:
                one.delete()
                continue
            waits |= one.done_at is None
            counts["agencies"] += 1
            counts.update(one.counts)
    with transaction.atomic():
        counts["suppressions"] += OperatorSuppression.objects.filter(value=value).delete()[0]
        receipt.counts = dict(+counts)
        receipt.done_at = None if waits else clock()
        receipt.save(update_fields=["counts", "done_at"])
    return receipt


def _address(text: str) -> str:
    value = text.strip().lower()
    try:
        validate_email(value)
    except ValidationError:
        raise ErasureRefusedError(_("“%(given)s” is not an address: write it in full.") % {"given": text}) from None
    return value


def _take_time() -> None:
    """The web's limit on a statement is for pages."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL statement_timeout = 0")
        # What else is never changed.
        cursor.execute("SET LOCAL campaigns.erasure = 'on'")


def _contact(value: str) -> Contact | None:
    return Contact.objects.annotate(small=Lower("email")).filter(small=value).first()


def _receipt(value: str, contact: Contact | None, *, by: str, now: datetime) -> Erasure:
    key = erased.newest(ErasureKey)
    digest = erased.digest(key, value)
    return Erasure.objects.create(digest=digest, key=key, contact=contact, by=by, asked_at=now)


def _go_on(receipt: Erasure, value: str, clock: Callable[[], datetime]) -> None:
    """Erase what may be erased now; all but the way of the mails waits where a worker has one of them."""
    contact, counts = receipt.contact, Counter[str]()
    if contact is not None:
        mails = dict(
            Message.objects.select_for_update().filter(contact=contact).order_by("pk").values_list("key", "status")
        )
        optout.forget(contact, clock=clock)
        Enrollment.objects.filter(contact=contact, ended="").update(
            ended=Reason.OPTED_OUT, ended_at=clock(), look_at=None
        )
        if Message.Status.CLAIMED in mails.values():
            visits.ask(clock())
            return
        counts["mails"] = len(mails)
        counts.update(_forget(contact, value, clock()))
        needles = [needle for key in mails for needle in _needles(key)]
        if needles:
            counts["posts"] = webhooks.forget(needles)
            counts["inbound"] = inbox.forget(needles, now=clock())
    else:
        counts["suppressions"] = Suppression.objects.filter(value=value).delete()[0]
    counts["sign_ups"] = signups.forget(value)
    counts["texts"] = _forget_texts(value)
    receipt.counts, receipt.done_at = dict(+counts), clock()
    receipt.save(update_fields=["counts", "done_at"])


def _forget(contact: Contact, value: str, now: datetime) -> dict[str, int]:
    """Make the contact nobody's; return how many rows of what were erased."""
    made_up = f"{_WORD}-{uuid4().hex[:16]}@{_domain_kept(contact, domain_of(value))}"
    counts = {
        "contacts": Contact.objects.filter(pk=contact.pk).update(
            email=made_up, first_name="", last_name="", company="", attributes={}, basis="", erased_at=now
        ),
        "consents": consent.forget([contact.pk]),
        "subscriptions": Subscription.objects.filter(contact=contact).delete()[0],
        "events": Event.objects.filter(
            message__in=Message.objects.filter(contact=contact).values("key"),
        ).update(recipient="", detail="", provider_id=""),
        "pauses": Pause.objects.filter(value=value).delete()[0],
        "answers": trials.forget(answers.of(contact), subject="", text="", provider_id="", reply=None),
        "replies": Reply.objects.filter(message__contact=contact).delete()[0],
        "suppressions": Suppression.objects.filter(value=value).update(value=made_up, evidence="", remote_ip=None),
    }
    Message.objects.filter(contact=contact).update(detail="", provider_id="", fingerprint="")
    return counts


def _domain_kept(contact: Contact, domain: str) -> str:
    """The domain under which their mails go on to be counted: their own unless it tells who they were."""
    others = Contact.objects.annotate(at=MailDomain("email")).filter(at=domain).exclude(pk=contact.pk)
    if domain in stops.shared_domains() or others.exists():
        return domain
    for day in RecipientDay.objects.filter(domain=domain):
        with connection.cursor() as cursor:
            cursor.execute(_COUNT_NOWHERE, [day.campaign_id, NOWHERE, day.day, day.allowed, day.used])
        day.delete()
    return NOWHERE


def _needles(key: UUID) -> list[str]:
    """What of a mail's key stands in what comes back about it: itself, its way out, its envelope sender."""
    agency = context.current_agency()
    way_out = tokens.Signer(agency.schema_name, tokens.OPT_OUT).of(key.bytes)
    envelope = returns.make(agency.pk, key, keys=tokens.envelope_keys()).partition("+")[2]
    # Without the last letters, which are of a MAC whose key may have been another.
    return [str(key), way_out[:21].lower(), envelope[:33]]


def _forget_texts(value: str) -> int:
    """Take the address out of every other text of the agency; return how many rows had it."""
    pattern = rf"(?<![[:alnum:]._%+-]){re.escape(value)}(?!\.?[[:alnum:]-])"
    rows = 0
    with connection.cursor() as cursor:
        cursor.execute(_TEXTS, [list(_NOT_ABOUT_THEM)])
        for table, columns in cursor.fetchall():
            said = f"concat_ws(chr(10), {', '.join(f'{name}::text' for name, _type in columns)})"
            changes = ", ".join(
                f"{name} = regexp_replace({name}::text, %(pattern)s, '{_WORD}', 'gi')::{type_}"
                for name, type_ in columns
            )
            cursor.execute(
                f"UPDATE {table} SET {changes} WHERE strpos(lower({said}), %(value)s) > 0 AND {said} ~* %(pattern)s",  # noqa: S608 - of names in the database's catalogue
                {"pattern": pattern, "value": value},
            )
            rows += cursor.rowcount
    return rows


_TEXTS = """
SELECT quote_ident(c.relname), array_agg(ARRAY[quote_ident(a.attname), format_type(a.atttypid, NULL)])
FROM pg_class c
JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
WHERE c.relnamespace = current_schema()::regnamespace AND c.relkind = 'r'
  AND a.atttypid IN ('text'::regtype, 'varchar'::regtype, 'jsonb'::regtype, 'text[]'::regtype, 'varchar[]'::regtype)
  AND NOT c.relname LIKE ANY(%s)
GROUP BY c.relname ORDER BY c.relname
"""
_COUNT_NOWHERE = """
INSERT INTO campaigns_recipientday AS d (campaign_id, domain, day, allowed, used) VALUES (%s, %s, %s, %s, %s)
ON CONFLICT (campaign_id, day, domain) DO UPDATE
SET used = d.used + EXCLUDED.used, allowed = d.allowed + EXCLUDED.allowed
"""
