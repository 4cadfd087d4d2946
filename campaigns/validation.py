"""Pure: what becomes of one row of a contact file, and why.

What needs the other rows or the database (duplicates, suppressions, mail hosts) is decided by `intake`.
"""

import re
from functools import lru_cache
from typing import Any, NamedTuple

from disposable_email_domains import blocklist
from django.utils.translation import gettext
from django.utils.translation import gettext_noop as _
from email_validator import EmailNotValidError, validate_email

from campaigns.contact_columns import AROUND, Columns
from campaigns.models import Verdict

# RFC 5321 sections 4.5.3.1.1 and 4.5.3.1.3: 64 for the local part; 256 for the path with its two brackets.
LONGEST_LOCAL_PART = 64
LONGEST_ADDRESS = 254
# Line breaks of every kind, control characters, lone surrogates, marks that turn the reading direction.
_FORBIDDEN = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_LINE_BREAKS = frozenset("\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029")

# What a spreadsheet may take for the start of a formula, in ASCII and full-width form.
FORMULA_STARTS = "=+-@＝＋－＠"
# A phone number, a number, a dash for "nothing", a handle: they start alike and calculate nothing.
_HARMLESS = re.compile(r"[+-][\d\s().,/-]*|@[\w.]{1,64}")

_PLAIN_LOCAL = re.compile(r"[A-Za-z0-9_+-]+(?:\.[A-Za-z0-9_+-]+)*")
_PLAIN_DOMAIN = re.compile(r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]{2,63}")
_OUTSIDE_HOST_NAMES = re.compile(r"[\x00-\x2c/:-@\[-`{-\x7f\s]|\.\.|^\.|\.$|^$")
# RFC 6761 and its relatives: names that never lead anywhere. `.test` and `.example` are left for trials.
_RESERVED = frozenset({"invalid", "localhost", "local", "localdomain", "internal", "lan", "onion", "arpa", "alt"})

# Mailboxes of an office, not of a person: RFC 2142, and what companies put on their sites.
_ROLES = frozenset(
    """
    abuse accounting accounts admin administration administrator all billing bookings careers contact
    contacts contactus customercare customerservice do-not-reply donotreply email enquiries enquiry
    everyone feedback finance ftp hello help helpdesk hi hostmaster hr info information inquiries
    inquiry invoice invoices it jobs legal mail mailer-daemon mailerdaemon marketing media news
    newsletter no-reply noc noreply office order orders partner partners partnership postmaster pr press
    privacy purchasing reception recruiting recruitment registrar reservations return returns root sales
    security service services shop staff subscribe support sysadmin team tech unsubscribe usenet uucp
    web webmaster www
    bron buh buhgalter buhgalteria buhgalteriya dogovor hotline job kadr kadry kanc kancelyaria kontakt
    kontakty magazin opt otdel otdelkadrov pochta pomosch post priem priemka priemnaya prodazhi reklama
    remont rezume sale sbyt secretar secretariat secretary sekretar sekretariat servis snab snabzhenie
    sotrudnichestvo spravka tender tendery vopros voprosy zakaz zakazy zakup zakupki zayavka
    """.split()  # noqa: SIM905 - a list of quoted words would take four pages
)


class Person(NamedTuple):
    """A row that may be taken. `domain` is that of `email`, in small letters and A-labels (RFC 5890)."""

    email: str
    domain: str
    first_name: str
    last_name: str
    company: str
    attributes: dict[str, str]


class Refusal(NamedTuple):
    """A row that may not be taken, and what is wrong with it: words to be translated, and what stands in them."""

    verdict: Verdict
    detail: str
    params: dict[str, Any] = {}
    email: str = ""

    @property
    def said(self) -> str:
        """What is wrong, in the language of the moment."""
        return gettext(self.detail) % self.params


def judge(cells: list[str], columns: Columns) -> Person | Refusal:
    """What the row says, or the first thing that is wrong with it. Never raises."""
    found = _text(cells, columns)
    if isinstance(found, Refusal):
        return found
    written = found[columns.email]
    wrong = _fields(found, columns) if written else Refusal(Verdict.NO_ADDRESS, _("The address is empty."))
    address = wrong or judge_address(written)
    if isinstance(address, Refusal):
        return address._replace(email=shown(written))
    first_name, last_name, company = ("" if place is None else found[place] for place in columns.names)
    # A column without a name is only worth keeping where it says something.
    attributes = {key: found[place] for key, place in columns.attributes if found[place] or columns.header[place]}
    return Person(*address, first_name, last_name, company, attributes)


def judge_address(written: str) -> tuple[str, str] | Refusal:
    """The address as it is mailed and its domain, or why it is not one that outreach may write to."""
    local, at, domain = written.rpartition("@")
    if not at or not local:
        return Refusal(Verdict.BAD_SYNTAX, _("An address looks like name@company.com."))
    if len(local) > LONGEST_LOCAL_PART or len(written) > LONGEST_ADDRESS:
        return Refusal(
            Verdict.TOO_LONG,
            _("An address has at most %(local)d characters before the @ and %(all)d in all."),
            {"local": LONGEST_LOCAL_PART, "all": LONGEST_ADDRESS},
        )
    wrong = "" if _PLAIN_LOCAL.fullmatch(local) else _local_problem(local)
    if wrong:
        return Refusal(Verdict.BAD_SYNTAX, wrong)
    place = _judge_domain(domain.lower())
    if isinstance(place, Refusal):
        return place
    if len(local) + 1 + len(place) > LONGEST_ADDRESS:
        return Refusal(Verdict.TOO_LONG, _("The address is too long once its domain is written in ASCII."))
    if local.lower().partition("+")[0] in _ROLES:
        return Refusal(Verdict.ROLE, _("“%(local)s@” is read by an office, not by a person."), {"local": local})
    return f"{local}@{place}", place


def shown(text: str) -> str:
    """The text for a person to read: without what a database or a terminal cannot take, and not too long."""
    return _FORBIDDEN.sub("\ufffd", text)[:LONGEST_ADDRESS]


def is_formula(value: str) -> bool:
    """Whether a spreadsheet would calculate this value. Phone numbers and @handles are none."""
    return value[:1] in FORMULA_STARTS and value != "" and not _HARMLESS.fullmatch(value)


def _text(cells: list[str], columns: Columns) -> list[str] | Refusal:
    """The cells without the space around them, as many as the header has."""
    width = len(columns.keys)
    if len(cells) != width:
        # A separator too many at the end of every line is what some exports write.
        if len(cells) < width or any(cells[width:]):
            return Refusal(
                Verdict.BAD_COLUMNS,
                _("The row has %(cells)d columns, the header %(width)d. Separate the columns and quote the texts."),
                {"cells": len(cells), "width": width},
                shown(cells[columns.email]) if columns.email < len(cells) else "",
            )
        del cells[width:]
    # Nearly every row is printable all over, which is the fastest thing to ask.
    if not "".join(cells).isprintable():
        for key, cell in zip(columns.keys, cells, strict=True):
            if bad := _FORBIDDEN.search(cell):
                return Refusal(Verdict.BAD_TEXT, *_forbidden(key, bad[0]), shown(cells[columns.email]))
    found = [cell.strip(AROUND) for cell in cells]
    if found[columns.email].casefold() == columns.header[columns.email] and columns.repeats(found):
        return Refusal(Verdict.HEADER_AGAIN, _("The header line again."), {}, found[columns.email])
    return found


def _forbidden(key: str, character: str) -> tuple[str, dict[str, str]]:
    if character in _LINE_BREAKS:
        return _("“%(field)s” has a line break. Put it on one line."), {"field": key}
    if "\ud800" <= character <= "\udfff":
        return _("“%(field)s” has a byte that is not text in the file's encoding."), {"field": key}
    code = f"U+{ord(character):04X}"
    return _("“%(field)s” has the forbidden character %(code)s. Take it out."), {"field": key, "code": code}


def _fields(found: list[str], columns: Columns) -> Refusal | None:
    for key, limit, value in zip(columns.keys, columns.limits, found, strict=True):
        if not value:
            continue
        if len(value) > limit:
            return Refusal(
                Verdict.TOO_LONG,
                _("“%(field)s” has %(length)d characters; at most %(limit)d are taken."),
                {"field": key, "length": len(value), "limit": limit},
            )
        if value[0] in FORMULA_STARTS and is_formula(value):
            return Refusal(
                Verdict.FORMULA,
                _("“%(field)s” starts with %(start)s like a formula of a spreadsheet. Put its value there."),
                {"field": key, "start": value[0]},
            )
    return None


def _local_problem(local: str) -> str:
    if not local.isascii():
        return _("The part before the @ has letters outside A to Z: few servers take such mail (SMTPUTF8).")
    try:
        validate_email(f"{local}@host.example", check_deliverability=False)
    except EmailNotValidError:
        return _("The part before the @ has a character or a dot that an address cannot have there.")
    return ""


@lru_cache(maxsize=65_536)
def _judge_domain(domain: str) -> str | Refusal:
    if _OUTSIDE_HOST_NAMES.search(domain):
        return Refusal(Verdict.BAD_SYNTAX, _("The part after the @ is not a host name."))
    if not _PLAIN_DOMAIN.fullmatch(domain) or "--" in domain or len(domain) > 253:
        try:
            known = validate_email(f"a@{domain}", check_deliverability=False, test_environment=True)
        except EmailNotValidError:
            return Refusal(Verdict.BAD_DOMAIN, _("“%(domain)s” is no name that a domain can have."), {"domain": domain})
        domain = known.ascii_domain.lower()
    if "." not in domain or domain.rpartition(".")[2] in _RESERVED:
        return Refusal(Verdict.BAD_DOMAIN, _("“%(domain)s” can have no mail server."), {"domain": domain})
    labels = domain.split(".")
    for first in range(len(labels) - 1):
        if (parent := ".".join(labels[first:])) in blocklist:
            return Refusal(Verdict.DISPOSABLE, _("%(domain)s gives addresses out to throw away."), {"domain": parent})
    return domain
