"""A step's mail as a contact would get it, made by what makes the mails that are sent.

Its way out, pixel and links name no mail, so that whoever looks at it opts nobody out and counts as no reader.
"""

import re
from uuid import UUID

from campaigns import rendering, variants
from campaigns.envelopes import TRACKING_PATH, Envelopes, message_id
from campaigns.lifecycle import Claimed
from campaigns.models import Contact, Enrollment, Message, Step
from campaigns.threads import Sent
from providers.accounts.envelope import Envelope
from providers.senders.models import Sender
from tenants import context

NOBODY = UUID(int=0)
_NO_SENDER = "sender@example.com"
_pixel = re.compile(rf'<img src="[^"]*/{TRACKING_PATH}[\w-]{{40}}\.gif"[^>]*>')


def sender_of(step: Step, contact: Contact) -> Sender | None:
    """The sender who writes to this contact, or else the first one."""
    enrolled = Enrollment.objects.filter(campaign=step.campaign_id, contact=contact, sender__isnull=False).first()
    return (enrolled and enrolled.sender) or Sender.objects.filter(active=True).order_by("pk").first()


def of(step: Step, contact: Contact, variant: str = "", sender: Sender | None = None) -> Envelope:
    """The envelope of this step's mail to this contact, from this sender or that of `sender_of`.

    Without a `variant` it is the one that they have got or will get. Raises NotRenderedError and MessageRefused.
    """
    sender = sender or sender_of(step, contact)
    address, name = (sender.address, sender.name) if sender else (_NO_SENDER, "")
    message = Claimed(
        id=0,
        key=NOBODY,
        campaign_id=step.campaign_id,
        step_id=step.pk,
        enrollment_id=0,
        traffic_class=step.campaign.traffic_class,
        contact=rendering.fields(
            contact.email, contact.first_name, contact.last_name, contact.company, contact.attributes
        ),
        account_id=0,
        refused_by=[],
        attempts=0,
        sender_id=sender.pk if sender else 0,
        sender_address=address,
        sender_name=name,
        variant=variant or got(step, contact),
    )
    made = Envelopes(context.current_agency())
    made.prepare([message], {message.id: _before(step, contact, address)})
    return made.of(message)


def framed(mail: Envelope) -> str:
    """Its HTML for a frame of a page: with its pictures, without the pixel, which nobody is to ask for there."""
    html = _pixel.sub("", mail.html or "")
    for file in mail.files:
        if file.content_id:
            html = html.replace(f"cid:{file.content_id}", f"data:{file.content_type};base64,{file.base64}")
    return html


def got(step: Step, contact: Contact) -> str:
    """The variant of the step that the contact has got, or else will get; empty where there is one text."""
    tried = (
        Message.objects.filter(step=step, contact=contact).exclude(attempted_at=None, attempts=0, variant="").first()
    )
    return tried.variant if tried else variants.assigned(step.weights, step.pk, contact.email)


def _before(step: Step, contact: Contact, address: str) -> list[Sent]:
    """The mails before it, as if each had gone."""
    earlier = Step.objects.filter(campaign=step.campaign_id, position__lt=step.position).order_by("position")
    return [
        Sent(message_id(NOBODY, address), one.pk, "", got(one, contact)) for one in earlier.prefetch_related("variants")
    ]
