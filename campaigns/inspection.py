"""What is to be said of a campaign before it is launched: what of its texts would be refused, who would be held, what
makes a mail land where nobody reads it, and which gaps its senders will keep. No network is asked but the DNS, about
the hosts of links.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from django.db import connection, models
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from campaigns import draft, files, launch, link_hosts, preview, rendering
from campaigns.link_hosts import Found
from campaigns.models import Campaign, Contact, Step
from campaigns.planning import PlanRefusedError
from campaigns.variants import Text
from providers.accounts.envelope import Envelope
from providers.accounts.errors import MessageRefused
from providers.accounts.models import TrafficClass
from providers.senders import dns
from providers.senders.models import DnsCheck, Home

# Gmail shows no more of a mail's HTML than this.
CLIPPED_BYTES = 102 * 1024
LEAST_TEXT = 100
SHOWN = 10
MOST_LINKS = 15
HEAVY_BYTES = 1024 * 1024
_SHORTENERS = frozenset(["bit.ly", "tinyurl.com", "t.co", "goo.gl", "ow.ly", "is.gd", "buff.ly", "cutt.ly", "clck.ru"])
_SHOUTED = (
    *("100% free", "act now", "buy now", "cash bonus", "click here", "congratulations", "double your", "earn money"),
    *("free money", "guaranteed", "limited time", "no obligation", "risk-free", "urgent", "winner", "you have won"),
    *("бесплатно!", "вы выиграли", "гарантированный доход", "срочно", "только сегодня", "жми"),
)
_OURS = dict.fromkeys((rendering.UNSUBSCRIBE, *rendering.OF_SENDER), "x")
_image = re.compile(r"<img\b", re.IGNORECASE)
# Nothing is looked for beyond the next tag, nor to the end twice: broken HTML takes time that grows as its length does.
_href = re.compile(r"""<a\b[^<>]*?\bhref\s*=\s*("[^"]*"|'[^']*'|[^\s>]+)""", re.IGNORECASE)
_tag = re.compile(r"<style.*?(?:</style>|\Z)|<!--.*?(?:-->|\Z)|<[^<>]*>", re.IGNORECASE | re.DOTALL)
# A post code with a word on its line: what every postal address has.
_postal = re.compile(r"^(?=.*[^\W\d_]{3})(?!.*https?:).*\b\d{4,6}\b", re.MULTILINE)
_host = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+[^\W\d_][\w-]*[^\W_]", re.IGNORECASE)


class Severity(models.TextChoices):
    """What a finding means for the launch."""

    REFUSED = "refused", gettext_lazy("Prevents the launch")
    WARNING = "warning", gettext_lazy("Warning")
    NOTE = "note", gettext_lazy("Note")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing to be said: `where` is the position of its step, None for the campaign as a whole; `variant` is the
    letter of its text, where the step has more than one."""

    code: str
    severity: Severity
    where: int | None
    text: str
    variant: str = ""


def inspect(campaign: Campaign, *, now: datetime) -> list[Finding]:
    """All that is to be said of a draft as it is now, the worst first."""
    steps = list(campaign.steps.filter(position__isnull=False).prefetch_related("variants"))
    texts = [(step, text) for step in steps for text in step.texts]
    problems = [*launch.check_texts(campaign, [text for _step, text in texts]), *files.problems(steps)]
    refused = [Finding("texts", Severity.REFUSED, None, problem) for problem in problems]
    found = [*refused] if refused else [one for step, text in texts for one in _of_text(campaign, step, text)]
    through = _accounts(campaign, now)
    found += _shared_senders(campaign, through)
    found += _unsound_domains(through, now)
    if not refused:
        found += _hosts([text for _step, text in texts])
    order = list(Severity)
    return sorted(found, key=lambda one: (order.index(one.severity), one.where or 0, one.variant))


def _of_text(campaign: Campaign, step: Step, text: Text) -> Iterator[Finding]:
    for code, severity, told in _told_of(campaign, step, text):
        yield Finding(code, severity, text.place, told, text.letter)


def _told_of(campaign: Campaign, step: Step, text: Text) -> Iterator[tuple[str, Severity, str]]:
    texts = rendering.parse(text.subject, text.html, text.text)
    groups = _groups(campaign, sorted(rendering.variables(texts) - _OURS.keys()))
    missing: dict[str, int] = {}
    sample: Contact | None = None
    for count, pk in groups:
        contact = Contact.objects.get(pk=pk)
        if name := _missing(texts, contact):
            missing[name] = missing.get(name, 0) + count
        else:
            sample = sample or contact
    total = sum(count for count, _pk in groups)
    for name, count in missing.items():
        words = ngettext(
            "%(count)d of %(total)d contacts has no %(name)s: its mail will be held. Give it another word:",
            "%(count)d of %(total)d contacts have no %(name)s: their mails will be held. Give them another word:",
            count,
        )
        example = f"{{{{ {name} | default: '…' }}}}"
        told = f"{words % {'count': count, 'total': total, 'name': name}} {example}"
        yield "missing_value", Severity.WARNING, told
    if sample is None:
        return
    try:
        made = preview.of(step, sample, text.letter)
    except (rendering.NotRenderedError, MessageRefused) as error:
        yield "not_rendered", Severity.WARNING, f"{sample.email}: {error}"
        return
    for code, words in _of_mail(text, campaign.traffic_class, made):
        yield code, Severity.WARNING, words
    if campaign.traffic_class != TrafficClass.HIGH_PRIORITY and not any(
        rendering.always_shows(source, rendering.UNSUBSCRIBE, html=html)
        for source, html in ((text.html, True), (text.text, False))
    ):
        words = _("There is no link to unsubscribe, so a line with one is added at the end of each mail.")
        yield "unsubscribe_added", Severity.NOTE, words


def _of_mail(source: Text, traffic_class: str, made: Envelope) -> Iterator[tuple[str, str]]:
    html = made.html or ""
    size = len(html.encode())
    if size > CLIPPED_BYTES:
        words = _("The HTML has %(size)d kB: Gmail shows the first 102 kB and hides the rest, the way out with it.")
        yield "clipped", words % {"size": size // 1024}
    text = " ".join(_tag.sub(" ", source.html or source.text).split())
    if html and _image.search(source.html) and len(text) < LEAST_TEXT:
        yield (
            "image_only",
            _("The mail is pictures with hardly any text: filters take it for spam, and many readers see nothing."),
        )
    if traffic_class != TrafficClass.HIGH_PRIORITY and not _postal.search(made.text):
        yield (
            "no_postal_address",
            _("There is no postal address of the sender, which the law of many countries asks for in advertising."),
        )
    attached = [one.name for one in made.files if not one.content_id]
    if attached and traffic_class == TrafficClass.COLD_OUTREACH and source.place == 1:
        words = _(
            "The first mail to strangers has a file attached, which filters and readers take for a virus: %(names)s. "
            "Link to it, or send it with a later mail."
        )
        yield "attached_at_first", words % {"names": ", ".join(attached)}
    weight = size + sum(files.encoded(len(one.content)) for one in made.files)
    if weight > HEAVY_BYTES:
        words = _("With its files the mail has %(size)s: it takes long to send, and some servers refuse it.")
        yield "heavy", words % {"size": filesizeformat(weight)}
    yield from _links(source)
    yield from _spam(made, text)


def _hosts(texts: Sequence[Text]) -> Iterator[Finding]:
    """What the DNS says of the hosts that the texts' links lead to."""
    hrefs = [href for text in texts for href in _hrefs(text)]
    hosts = [host for href in hrefs if not _broken(href) and (host := _host_of(href))]
    answers = link_hosts.look_up(hosts)
    for said, words in (
        (Found.UNKNOWN, _("The DNS knows no such host, so links to it lead nowhere: %(hosts)s.")),
        (Found.INSIDE, _("This host is at an address that nobody outside can reach: %(hosts)s.")),
    ):
        for host in [host for host, answer in answers.items() if answer is said]:
            yield Finding("lost_host", Severity.WARNING, None, words % {"hosts": host})
    if rest := [host for host, answer in answers.items() if answer is Found.NOT_ASKED]:
        words = _("The DNS could not be asked in time, so whether links lead anywhere is not checked: %(hosts)s.")
        yield Finding("unchecked_hosts", Severity.NOTE, None, words % {"hosts": ", ".join(rest[:SHOWN])})


def _hrefs(source: Text) -> list[str]:
    aside, pieces = rendering.set_liquid_aside(source.html)
    return [rendering.put_liquid_back(found[1].strip("\"'").strip(), pieces) for found in _href.finditer(aside)]


def _host_of(href: str) -> str:
    """The host of an address that is not broken; empty where Liquid makes it, or it has none."""
    host = urlsplit(href).hostname or "" if href.startswith(("http://", "https://")) else ""
    return "" if "{{" in host or "{%" in host else host.lower()


def _links(source: Text) -> Iterator[tuple[str, str]]:
    hrefs = _hrefs(source)
    if len(hrefs) > MOST_LINKS:
        yield "many_links", _("The mail has %(count)d links; filters like few.") % {"count": len(hrefs)}
    for href in dict.fromkeys(hrefs):
        shown = href[:80] or 'href=""'
        if why := _broken(href):
            yield "broken_link", _("The link “%(link)s” leads nowhere: %(why)s.") % {"link": shown, "why": why}
        elif urlsplit(href).hostname in _SHORTENERS:
            words = _("The link “%(link)s” is of a shortener, which filters distrust: give the address itself.")
            yield "shortened_link", words % {"link": shown}


def _broken(href: str) -> str | None:
    """Why this address cannot lead anywhere, None if it can. What begins with Liquid is not known."""
    if href.startswith(("{{", "{%", "mailto:", "tel:", "sms:", "cid:")):
        return None
    if href in ("", "#") or href.startswith("#"):
        return _("it has no address")
    try:
        parts = urlsplit(href)
        host = parts.hostname or ""
    except ValueError:
        return _("it is no address")
    if parts.scheme not in ("http", "https"):
        return _("it does not begin with https://")
    if "{{" not in host and "{%" not in host and not _host.fullmatch(host):
        return _("“%(host)s” is no host name") % {"host": host[:60]}
    return None


def _spam(made: Envelope, text: str) -> Iterator[tuple[str, str]]:
    subject = made.subject
    letters = [letter for letter in subject if letter.isalpha()]
    if len(letters) > 7 and sum(letter.isupper() for letter in letters) > 0.7 * len(letters):
        yield "shouting", _("The subject is in capitals, which filters take for shouting.")
    if subject.count("!") > 1 or "?!" in subject or "$$" in subject:
        yield "shouting", _("The subject has more than one exclamation mark or dollar sign.")
    if len(subject) > 90:
        yield "long_subject", _("The subject has %(count)d characters; phones show about 40.") % {"count": len(subject)}
    lower = f"{subject} {text}".lower()
    if found := [words for words in _SHOUTED if words in lower]:
        words = _("Filters know these words from spam: %(words)s.")
        yield "spam_words", words % {"words": ", ".join(found[:5])}


def _accounts(campaign: Campaign, now: datetime) -> list[int]:
    """Through which accounts its mails would go."""
    try:
        shares = draft.plan(campaign, *draft.sizes(campaign), now=now).shares
    except PlanRefusedError:
        return []
    return [share.account_id for share in shares if share.count]


def _shared_senders(campaign: Campaign, through: Sequence[int]) -> Iterator[Finding]:
    """Senders keep the longest gap of all campaigns that they write for: whose mails are slowed down by whose."""
    reach = set(Home.objects.filter(domain__homes__account__in=through).values_list("account", flat=True))
    running = Campaign.objects.filter(status=Campaign.Status.RUNNING).exclude(pk=campaign.pk).order_by("pk")
    sharing = [one for one in running if not reach.isdisjoint(one.accounts)]
    slower = max(sharing, key=lambda one: one.gap.seconds, default=None)
    if slower and slower.gap.seconds > campaign.gap.seconds:
        words = _(
            "It shares senders with “%(name)s”, whose senders write every %(minutes)g minutes at most: while that one "
            "runs, this one goes no faster."
        )
        told = words % {"name": slower.name, "minutes": round(slower.gap.seconds / 60, 1)}
        yield Finding("slowed_down", Severity.WARNING, None, told)
    if faster := [one.name for one in sharing if one.gap.seconds < campaign.gap.seconds]:
        words = _(
            "It shares senders with %(names)s, which have a shorter gap: while this campaign runs, its senders write "
            "every %(minutes)g minutes at most for those too."
        )
        told = words % {
            "names": ", ".join(f"“{name}”" for name in faster[:5]),
            "minutes": round(campaign.gap.seconds / 60, 1),
        }
        yield Finding("slows_down", Severity.WARNING, None, told)


def _unsound_domains(through: Sequence[int], now: datetime) -> Iterator[Finding]:
    """Domains that it may be sent from whose DNS the last check found wrong: Gmail and Yahoo refuse their bulk mail."""
    checks = DnsCheck.objects.filter(
        sound=False, at__gt=now - dns.FRESH, domain__senders__active=True, domain__homes__account__in=through
    )
    for check in checks.select_related("domain").distinct().order_by("domain__name")[:SHOWN]:
        words = _("The DNS of %(domain)s is not sound, so its mails may be refused or taken for spam. %(wrong)s")
        told = words % {"domain": check.domain, "wrong": " ".join(dns.wrongs(check))}
        yield Finding("dns", Severity.WARNING, None, told)


def _missing(texts: rendering.Texts, contact: Contact) -> str | None:
    """The first field that the texts show and the contact lacks, in whatever option of a group it is."""
    who = rendering.fields(contact.email, contact.first_name, contact.last_name, contact.company, contact.attributes)
    try:
        rendering.render(texts, {**who, **_OURS}, "x")
        rendering.subject(texts, {**who, **_OURS})
    except rendering.MissingValueError as missing:
        return missing.name
    except rendering.NotRenderedError:
        return None
    return None


def _groups(campaign: Campaign, names: Sequence[str]) -> list[tuple[int, int]]:
    """The audience by which of these fields are blank: of each group how many, and one of them."""
    values: dict[str, Any] = draft.audience(campaign)
    blanks = []
    for number, name in enumerate(names):
        values[f"name{number}"] = name
        if name in rendering.FIELDS:
            blanks.append(f"p.{name} !~ '\\S'")
        else:
            blanks.append(f"COALESCE(p.attributes ->> %(name{number})s, '') !~ '\\S'")
    with connection.cursor() as cursor:
        cursor.execute(_GROUPS.format(blanks=", ".join(blanks), audience=draft.AUDIENCE), values)
        return [(row[0], row[1]) for row in cursor.fetchall()]


_GROUPS = """
SELECT count(*), min(p.id) FROM ({audience}) a JOIN campaigns_contact p ON p.id = a.id
GROUP BY ARRAY[{blanks}]::boolean[] ORDER BY 2
"""
