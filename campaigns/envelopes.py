"""A claimed message becomes an envelope: its texts, its links, its pixel, the way out, and the headers of all that.

All that is the same for a step's mails is made once: a mail costs its tokens and the filling in.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any
from urllib.parse import quote
from uuid import UUID

from django.conf import settings
from django.db.models import OuterRef, Subquery, Sum
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns import files, links, rendering, spintax, tokens, variants
from campaigns.lifecycle import Claimed
from campaigns.models import FormerSubject, Message, Step, StepFile
from campaigns.threads import Sent, Thread, thread
from providers.accounts.adapters import mime
from providers.accounts.envelope import Attachment, Envelope
from providers.accounts.models import TrafficClass
from providers.senders.inbound import tokens as returns
from providers.senders.models import Sender
from tenants.models import Agency

OPT_OUT_PATH, TRACKING_PATH = "u/", "t/"
NO_THREAD = Thread(0)
_PIXEL = "polza_pixel"
# Of so many steps the files are kept at hand: they may be large.
_FILES_KEPT = 4
_BYTES_OF_FILES = Subquery(
    StepFile.objects.filter(step=OuterRef("pk")).order_by().values("step").annotate(all=Sum("size")).values("all")
)
_FOOT = (
    '<p style="margin:32px 0 0;font:12px/1.5 Arial,Helvetica,sans-serif;color:#6b7280">{words} '
    '<a href="{{{{ unsubscribe_url }}}}" style="color:#6b7280;text-decoration:underline">{link}</a></p>'
)


@dataclass(frozen=True, slots=True)
class _Mail:
    """A step made ready: its texts with slots, and the headers that all its mails have."""

    texts: rendering.Texts
    links: tuple[tuple[str, int], ...]
    pixel: bool
    headers: dict[str, str]
    names_sender: bool
    shown: frozenset[str]


class Envelopes:
    """Makes the envelopes of an agency's messages."""

    def __init__(self, agency: Agency) -> None:
        self._agency = agency
        own, tracking = agency.addresses()
        self._opt_out, self._tracking = own + OPT_OUT_PATH, tracking + TRACKING_PATH
        self._opt_outs = tokens.Signer(agency.schema_name, tokens.OPT_OUT)
        self._opens = tokens.Signer(agency.schema_name, tokens.OPEN)
        self._clicks = tokens.Signer(agency.schema_name, tokens.CLICK)
        self._return_keys = tokens.envelope_keys()
        self._host = own.partition("://")[2].partition("/")[0].partition(":")[0]
        # By step and letter; a step's own text has none.
        self._mails: dict[tuple[int, str], _Mail | str] = {}
        self._threads: dict[int, Thread] = {}
        self._signatures: dict[int, str] = {}
        # By step, of those that have files.
        self._bytes: dict[int, int] = {}
        self._files: dict[int, list[Attachment]] = {}

    def prepare(self, batch: Sequence[Claimed], before: dict[int, list[Sent]] | None = None) -> None:
        """Make the steps of a batch ready, as they are now, and choose among their variants for what was never tried.
        `before` are the mails that went to the contacts earlier, by message; unless given, those that did.
        """
        if before is None:
            before = _mails_before([message for message in batch if message.in_thread])
        wanted = {message.step_id for message in batch} | {mail.step_id for sent in before.values() for mail in sent}
        found = Step.objects.filter(pk__in=wanted).select_related("campaign").prefetch_related("variants")
        steps = {step.pk: step for step in found.annotate(bytes_of_files=_BYTES_OF_FILES)}
        self._bytes |= {pk: files.encoded(step.bytes_of_files) for pk, step in steps.items() if step.bytes_of_files}
        weights = {pk: step.weights for pk, step in steps.items()}
        for message in batch:
            # What was tried while the step had but one text goes on with it.
            if weights[message.step_id] and not (message.variant or message.attempts or message.sendings):
                message.variant = variants.assigned(weights[message.step_id], message.step_id, message.contact["email"])
        texts = {(pk, variants.further(one.letter)): one for pk, step in steps.items() for one in step.texts}
        needed = {(message.step_id, variants.further(message.variant)) for message in batch}
        needed |= {(mail.step_id, variants.further(mail.variant)) for sent in before.values() for mail in sent}
        self._mails |= {
            key: _made(steps[key[0]], texts[key], self._agency, self._host, key[0] in self._bytes)
            for key in needed
            if key in texts
        }
        if any(isinstance(mail, _Mail) and mail.names_sender for mail in self._mails.values()):
            senders = Sender.objects.filter(pk__in={message.sender_id for message in batch})
            self._signatures |= dict(senders.values_list("pk", "signature"))
        former = _former_subjects(before)
        self._threads |= {
            message.id: thread(
                [replace(mail, subject=_subject_then(texts, former, mail)) for mail in before[message.id]],
                message.step_id,
                _subject(texts, message.step_id, message.variant),
                message.variant,
            )
            for message in batch
            if message.id in before
        }

    def of(self, message: Claimed) -> Envelope:
        """The envelope of one message: the same message, texts and sender make the same one, whenever.

        Raises NotRenderedError and MessageRefused.
        """
        mail = self._mail(message.step_id, message.variant)
        key, contact = message.key.bytes, message.contact
        token = self._opt_outs.of(key)
        filled = {**contact, rendering.UNSUBSCRIBE: self._opt_out + token}
        for slot, number in mail.links:
            filled[slot] = self._tracking + self._clicks.of_link(key, number)
        if mail.pixel:
            filled[_PIXEL] = f"{self._tracking}{self._opens.of(key)}.gif"
        # The thread's subject may name the sender too.
        if mail.names_sender or message.id in self._threads:
            filled["sender_name"] = rendering.Lines(message.sender_name)
            filled["sender_email"] = rendering.Lines(message.sender_address)
            filled["signature"] = rendering.Lines(self._signatures.get(message.sender_id, ""))
        if mail.texts.spins:
            filled[spintax.SEED] = _seed(message.step_id, message.variant, contact["email"])
        begun = self._threads.get(message.id, NO_THREAD)
        if begun.references:
            subject = begun.as_reply(self._subject_of(begun, filled))
            rendered = rendering.render(mail.texts, filled, subject)
        else:
            rendered = rendering.render(mail.texts, filled)
        headers = {**mail.headers, **begun.headers}
        if "List-Unsubscribe-Post" in headers:
            mailto = _mailto(message.sender_address)
            headers = {
                **headers,
                "List-Unsubscribe": f"<{self._opt_out}{token}>, <{mailto}?subject=unsubscribe%20{token}>",
            }
        # What a person has sent again, knowing that it may be there, must not be answered from the provider's memory.
        again = f"/{message.sendings}" if message.sendings else ""
        return Envelope(
            key=f"{self._agency.schema_name}/{message.key}/{message.account_id}{again}",
            sender=message.sender_address,
            sender_name=message.sender_name,
            recipient=contact["email"],
            recipient_name=f"{contact['first_name']} {contact['last_name']}".strip(),
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            message_id=message_id(message.key, message.sender_address),
            headers=headers,
            metadata={"agency": self._agency.schema_name, "message": str(message.key)},
            envelope_sender=self._return_path(message.key),
            files=self._files_of(message.step_id, mail.shown) if message.step_id in self._bytes else (),
        )

    def bytes_of_files(self, message: Claimed) -> int:
        """What the files of the mail's step have in bytes, as they are sent; call `prepare` before."""
        return self._bytes.get(message.step_id, 0)

    def _files_of(self, step_id: int, shown: frozenset[str]) -> tuple[Attachment, ...]:
        """What goes with a text that shows these pictures; the same objects for all of a batch."""
        if step_id not in self._files:
            if len(self._files) >= _FILES_KEPT:
                self._files.pop(next(iter(self._files)))
            self._files[step_id] = [
                Attachment(
                    one.name,
                    one.content_type,
                    one.digest,
                    bytes(one.content),
                    files.content_id(one.name, self._host) if one.inline else "",
                )
                for one in StepFile.objects.filter(step=step_id).order_by("pk")
            ]
        return tuple(one for one in self._files[step_id] if not one.content_id or one.name in shown)

    def _mail(self, step_id: int, variant: str) -> _Mail:
        mail = self._mails.get((step_id, variants.further(variant)), _GONE)
        if not isinstance(mail, _Mail):
            raise rendering.NotRenderedError(str(mail))
        return mail

    def _subject_of(self, begun: Thread, filled: dict[str, Any]) -> str:
        """The subject as the mail that began the thread has it for the same contact."""
        seed = _seed(begun.step_id, begun.variant, filled["email"])
        return rendering.subject(_texts_of(begun.subject), {**filled, spintax.SEED: seed})

    def _return_path(self, key: UUID) -> str | None:
        if not settings.BOUNCE_DOMAIN:
            return None
        return f"{returns.make(self._agency.pk, key, keys=self._return_keys)}@{settings.BOUNCE_DOMAIN}"


def message_id(key: UUID, sender_address: str) -> str:
    """What a mail is called to the outside world: on the domain of its sender, and the same whenever it is asked."""
    return f"<{key}@{mime.ascii_domain(sender_address.rpartition('@')[2])}>"


def _mails_before(batch: Sequence[Claimed]) -> dict[int, list[Sent]]:
    """The mails that went to the contacts of these messages before, by message; their subjects are left out."""
    if not batch:
        return {}
    by_enrollment: dict[int, list[Sent]] = {}
    sent = Message.objects.filter(
        enrollment__in=[message.enrollment_id for message in batch], status=Message.Status.SENT
    ).order_by("sent_at", "pk")
    for enrollment_id, key, step_id, variant, address, attempted_at, sent_at in sent.values_list(
        "enrollment", "key", "step", "variant", "sender__address", "attempted_at", "sent_at"
    ):
        one = Sent(message_id(key, address), step_id, "", variant, attempted_at or sent_at)
        by_enrollment.setdefault(enrollment_id, []).append(one)
    return {message.id: by_enrollment.get(message.enrollment_id, []) for message in batch}


def _former_subjects(before: Mapping[int, Sequence[Sent]]) -> dict[tuple[int, str], list[tuple[datetime, str]]]:
    """The subjects that the steps of these mails had before those of now, the oldest first, each until when."""
    found: dict[tuple[int, str], list[tuple[datetime, str]]] = {}
    if steps := {mail.step_id for sent in before.values() for mail in sent}:
        rows = FormerSubject.objects.filter(step__in=steps).order_by("until", "pk")
        for step_id, letter, until, subject in rows.values_list("step", "letter", "until", "subject"):
            found.setdefault((step_id, letter), []).append((until, subject))
    return found


def _subject_then(
    texts: Mapping[tuple[int, str], variants.Text],
    former: Mapping[tuple[int, str], Sequence[tuple[datetime, str]]],
    mail: Sent,
) -> str:
    """The subject of the step as it was written when the mail went."""
    known = former.get((mail.step_id, variants.further(mail.variant)), ())
    then = (subject for until, subject in known if mail.at is not None and mail.at < until)
    return next(then, _subject(texts, mail.step_id, mail.variant))


@lru_cache(maxsize=512)
def _texts_of(subject: str) -> rendering.Texts:
    return rendering.parse(subject, "", "-")


def _subject(texts: Mapping[tuple[int, str], variants.Text], step_id: int, variant: str) -> str:
    found = texts.get((step_id, variants.further(variant)))
    return found.subject if found else ""


def _seed(step_id: int, variant: str, address: str) -> bytes:
    letter = variants.further(variant)
    return spintax.seed(step_id, *([letter] if letter else []), address)


def _made(step: Step, text: variants.Text, agency: Agency, host: str, has_files: bool) -> _Mail | str:
    """The text made ready; what does not parse any more is the text that says why."""
    campaign = step.campaign
    if why := files.unknown(text.html, files.pictures(step) if has_files else ()):
        return why
    try:
        return _ready(
            step.pk,
            text.changed_at,
            (text.subject, text.html, text.text),
            agency.schema_name,
            agency.slug,
            agency.language,
            host,
            campaign.pk,
            campaign.list_id,
            campaign.traffic_class,
            (campaign.track_opens, campaign.track_clicks),
        )
    except rendering.NotRenderedError as error:
        return str(error)


@lru_cache(maxsize=512)
def _ready(
    step_id: int,
    changed_at: object,
    sources: tuple[str, str, str],
    schema: str,
    slug: str,
    language: str,
    host: str,
    campaign_id: int,
    list_id: int,
    traffic_class: str,
    track: tuple[bool, bool],
) -> _Mail:
    """Remembered by all that it is made of. The time of the change tells a step from one of its number in another
    life of the database, whose links are not there any more."""
    made = rendering.sources(*sources)
    html, text = files.with_content_ids(made.html, host), made.text
    opens, clicks = track
    headers = {"Feedback-ID": f"c{campaign_id}:{slug}:{traffic_class.replace('_', '-')}:{_FEEDBACK_SENDER}"}
    # A receipt or a password is not a mailing: its reader cannot leave, and mail programs must not offer it.
    if traffic_class != TrafficClass.HIGH_PRIORITY:
        headers["List-Id"] = f"<l{list_id}.{host}>"
        headers["List-Unsubscribe-Post"] = "List-Unsubscribe=One-Click"
        with translation.override(language):
            html, text = with_way_out(html, text)
    else:
        # RFC 3834 section 5: who is out of office need not answer it. What a person writes to people is not automatic.
        headers["Auto-Submitted"] = "auto-generated"
    text = text or rendering.text_of(html)
    slots: dict[str, int] = {}
    if html and clicks:
        found = links.find(html)
        numbers = links.numbers_of(step_id, [href.url for href in found])
        html = links.replace(html, found, numbers)
        slots = {f"{links.SLOT}{number}": number for number in numbers.values()}
    if html and opens:
        html = _before_end(html, f'<img src="{{{{ {_PIXEL} }}}}" width="1" height="1" alt="" style="border:0">')
    # With room for what was added to texts that were checked before.
    texts = rendering.parse_sources(rendering.Sources(made.subject, html, text), 2 * rendering.MAX_SOURCE)
    names_sender = not rendering.variables(texts).isdisjoint(rendering.OF_SENDER)
    shown = frozenset(files.shown(sources[1]))
    return _Mail(texts, tuple(slots.items()), bool(html and opens), headers, names_sender, shown)


def with_way_out(html: str, text: str) -> tuple[str, str]:
    """Both texts with a link to leave in every mail: the author's own, or a line at the end.

    A missing plain text stays missing where the HTML that it is made from has the link.
    """
    words, link = _("Prefer not to hear from us?"), _("Unsubscribe")
    if html and not rendering.always_shows(html, rendering.UNSUBSCRIBE, html=True):
        foot = _FOOT.format(words=words, link=link)
        # Where the author's own words would hide it, it goes where they cannot.
        candidates = (_before_end(html, foot), html + foot, foot + html)
        shows = (made for made in candidates if rendering.always_shows(made, rendering.UNSUBSCRIBE, html=True))
        html = next(shows, candidates[-1])
    text = text or rendering.text_of(html)
    if not rendering.always_shows(text, rendering.UNSUBSCRIBE, html=False):
        text = f"{text.rstrip()}\n\n{words}\n{link}: {{{{ {rendering.UNSUBSCRIBE} }}}}\n"
    return html, text


def _before_end(html: str, addition: str) -> str:
    end = html.lower().rfind("</body")
    return html[:end] + addition + html[end:] if end >= 0 else html + addition


@lru_cache(maxsize=4096)
def _mailto(address: str) -> str:
    return "mailto:" + quote(mime.wire_address(address), safe="@")


_FEEDBACK_SENDER = "polza"
_GONE = gettext_lazy("The variant that this mail was tried with is not there any more.")
