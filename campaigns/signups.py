"""Somebody asks for a list's mails on its public page, or in a form that an agency has on its own site.

ask     ─► a row that waits, and one mail to that address: nobody but its owner can go on
confirm ─► the link of that mail, by POST: contact, subscription and the evidence of their consent; also once the list
           takes nobody new, for they asked before
expire  ─► what was not confirmed in time is deleted; no contact was made of it

What a visitor is told is the same whoever is on the list, has left it, or must not be mailed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, auto
from uuid import UUID

from django.conf import settings
from django.db import connection, transaction
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop as noop

from campaigns import confirmation, consent, erased, suppressions, tokens, trials, validation
from campaigns.consent import Evidence, Source
from campaigns.models import Basis, Contact, ContactList, SignUp, Subscription, Suppression, TrialMail
from campaigns.validation import Refusal
from tenants import context

# Within the time behind it: mails to one address, in all lists; sign-ups from one IP address; of the whole agency.
MOST_TO_ADDRESS, A_DAY = 3, timedelta(days=1)
MOST_FROM_IP, MOST_OF_AGENCY, AN_HOUR = 20, 1000, timedelta(hours=1)
# Any constant of our own; the other half of the lock's name is the schema.
_LOCK = 730_220


class SignUpRefusedError(ValueError):
    """Nothing was kept; says why, and nothing of whether the address is known."""


class SignUpClosedError(SignUpRefusedError):
    """The list takes nobody new."""


class Standing(Enum):
    """What there is to a link of a confirmation mail."""

    FORGED = auto()
    EXPIRED = auto()
    OPEN = auto()
    DONE = auto()


@dataclass(frozen=True, slots=True)
class Visit:
    """What is kept as evidence of whoever fills in or clicks: `text` is what they were shown, `detail` where."""

    text: str
    detail: str = ""
    remote_ip: str | None = None
    user_agent: str = ""


def token_of(into: ContactList) -> str:
    """What names the list in the address of its public page."""
    return tokens.Signer(context.current_schema(), tokens.SIGN_UP).of(UUID(int=into.pk).bytes)


def url_of(into: ContactList, own: str) -> str:
    """The list's public page on the agency's own host, whose address `own` is."""
    return own + confirmation.SIGN_UP_PATH + token_of(into)


def list_of(token: str) -> ContactList | None:
    """The list of the agency entered now whose page this is; None for a token that is forged, cut or another's."""
    named = tokens.read(token, context.current_schema(), tokens.SIGN_UP)
    return ContactList.objects.filter(pk=named[0].int).first() if named and named[0].int < 2**63 else None


def promise(into: ContactList, agency: str) -> str:
    """What whoever signs up agrees to, in the language of the moment: shown on the form and kept as evidence."""
    return _("I want mails of “%(list)s” from %(agency)s. I can leave at any time by the link in each mail.") % {
        "list": into.name,
        "agency": agency,
    }


def change(into: ContactList, *, sign_up_open: bool | None = None, double_opt_in: bool | None = None) -> None:
    """Open or close the list to sign-ups, or let them be confirmed by mail or not; None stays as it is."""
    wanted = {"sign_up_open": sign_up_open, "double_opt_in": double_opt_in}
    changed = {name: value for name, value in wanted.items() if value is not None}
    if changed:
        ContactList.objects.filter(pk=into.pk).update(**changed)


def ask(into: ContactList, written: str, visit: Visit, *, language: str, now: datetime) -> bool:
    """Keep a sign-up and let it be confirmed; return whether a mail will ask for that.

    Where the list asks for no confirmation, who was never on it is on it at once; anyone else has to confirm. Nothing
    is kept for an erased person, or for an address that was asked too often. Raises SignUpRefusedError, and
    SignUpClosedError from the commit on that closed the list.
    """
    judged = validation.judge_address(written.strip())
    if isinstance(judged, Refusal):
        raise SignUpRefusedError(judged.said)
    email = judged[0].lower()
    with transaction.atomic():
        # Locked, so that who closes the list waits for whoever was before them.
        if not ContactList.objects.select_for_update(of=("self",), no_key=True).filter(pk=into.pk, sign_up_open=True):
            raise SignUpClosedError(_("“%(list)s” takes no sign-ups any more.") % {"list": into.name})
        erased.hold()
        # The limits are kept however many ask at once.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(current_schema()))", [_LOCK])
        lately = SignUp.objects.filter(asked_at__gt=now - AN_HOUR)
        crowded = visit.remote_ip and lately.filter(remote_ip=visit.remote_ip).count() >= MOST_FROM_IP
        if crowded or lately.count() >= MOST_OF_AGENCY:
            raise SignUpRefusedError(_("Too many have signed up just now. Try again in an hour."))
        asked = TrialMail.objects.filter(kind=TrialMail.Kind.CONFIRMATION, recipient=email, asked_at__gt=now - A_DAY)
        if asked.count() >= MOST_TO_ADDRESS or erased.among([email]):
            return False
        row = SignUp.objects.create(
            list=into,
            email=email,
            language=language,
            text=visit.text,
            detail=visit.detail[:300],
            remote_ip=visit.remote_ip,
            user_agent=visit.user_agent[:300],
            asked_at=now,
        )
        if not into.double_opt_in and _is_new(into, email):
            row.confirmed_at = now
            row.save(update_fields=["confirmed_at"])
            contact = _subscribed(row)
            consent.record([contact.pk], Basis.CONSENT, _as_asked(row), now=now, into=into)
            return False
        trials.ask_to_confirm(row, now=now)
    return True


def standing(token: str, *, now: datetime) -> tuple[Standing, SignUp | None]:
    """What the link of a confirmation mail is good for, and its sign-up where that is still there."""
    named = tokens.read(token, context.current_schema(), tokens.CONFIRM)
    if named is None:
        return Standing.FORGED, None
    row = SignUp.objects.select_related("list").filter(key=named[0], asked_at__gt=now - settings.SIGN_UP_LIFE).first()
    if row is None:
        return Standing.EXPIRED, None
    return (Standing.OPEN if row.confirmed_at is None else Standing.DONE), row


def confirm(token: str, visit: Visit, *, now: datetime) -> tuple[Standing, SignUp | None]:
    """Whoever holds the mail wants the list's mails: from now on they have given consent. Harmless when repeated.

    It takes back that they had left this list, and nothing else that keeps them from being mailed.
    """
    with transaction.atomic():
        erased.hold()
        found, row = standing(token, now=now)
        if found is not Standing.OPEN or row is None:
            return found, row
        if erased.among([row.email]):
            return Standing.EXPIRED, None
        if not SignUp.objects.filter(pk=row.pk, confirmed_at=None).update(confirmed_at=now):
            return Standing.DONE, row
        contact = _subscribed(row)
        left = Suppression.objects.filter(value=row.email, list=row.list_id, source=Suppression.Source.OPT_OUT).delete()
        detail = noop("They had left the list, and come back.") if left[0] else visit.detail
        consent.asked(contact.pk, _as_asked(row), now=now, into=row.list)
        evidence = Evidence(
            Source.CONFIRMATION,
            now,
            text=visit.text,
            detail=detail,
            remote_ip=visit.remote_ip,
            user_agent=visit.user_agent,
        )
        consent.record([contact.pk], Basis.CONSENT, evidence, now=now, into=row.list)
    return Standing.DONE, row


def barred(row: SignUp) -> bool:
    """Whether mails to this address are stopped by more than its own list."""
    with connection.cursor() as cursor:
        cursor.execute(_BARRED, {"address": row.email, "list": row.list_id})
        return bool(cursor.fetchone()[0])


def expire(*, now: datetime) -> int:
    """Delete what is older than it may be confirmed; return how many rows there were."""
    return _forget(SignUp.objects.filter(asked_at__lte=now - settings.SIGN_UP_LIFE).values_list("pk", flat=True))


def forget(email: str) -> int:
    """Delete the sign-ups of a person, for their erasure; return how many there were."""
    return _forget(SignUp.objects.filter(email=email).values_list("pk", flat=True))


def _forget(ids: Iterable[int]) -> int:
    """Their mails stay, for they are counted, without whom they went to."""
    ids = list(ids)
    with transaction.atomic():
        trials.forget(TrialMail.objects.filter(sign_up__in=ids))
        SignUp.objects.filter(pk__in=ids).delete()
    return len(ids)


def _is_new(into: ContactList, email: str) -> bool:
    """Whether nothing speaks against it that only the owner of the address can take back."""
    known = Contact.objects.filter(email__iexact=email)
    return not (
        known.filter(subscriptions__list=into).exists()
        or known.filter(basis=Basis.WITHDRAWN).exists()
        or Suppression.objects.filter(value=email).exists()
    )


def _subscribed(row: SignUp) -> Contact:
    """The contact of a sign-up, on its list."""
    contact = Contact.objects.filter(email__iexact=row.email).first()
    if contact is None:
        made = Contact(email=row.email, attributes={"language": row.language})
        # Who signs up for two lists may confirm both at once.
        Contact.objects.bulk_create([made], ignore_conflicts=True)
        contact = Contact.objects.get(email__iexact=row.email)
    Subscription.objects.update_or_create(list=row.list, contact=contact, defaults={"active": True})
    return contact


def _as_asked(row: SignUp) -> Evidence:
    return Evidence(
        Source.SIGN_UP,
        row.asked_at,
        text=row.text,
        detail=row.detail,
        remote_ip=row.remote_ip,
        user_agent=row.user_agent,
    )


_BARRED = f"""
SELECT EXISTS ({suppressions.matching("%(address)s", "%(list)s::bigint")} AND NOT {suppressions.LEFT_THE_LIST})
"""
