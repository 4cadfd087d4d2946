"""A step's mail as a contact would get it, made by what makes the mails that are sent.

Its way out, pixel and links name no mail, so that whoever looks at it opts nobody out and counts as no reader.
"""

import re
from uuid import UUID

from campaigns import rendering
from campaigns.envelopes import TRACKING_PATH, Envelopes, message_id
from campaigns.lifecycle import Claimed
from campaigns.models import Contact, Enrollment, Step
from campaigns.threads import Sent
from providers.accounts.envelope import Envelope
from providers.senders.models import Sender
from tenants import context

NOBODY = UUID(int=0)
_NO_SENDER = "sender@example.com"
_pixel = re.compile(rf'<img src="[^"]*/{TRACKING_PATH}[\w-]{{40}}\.gif"[^>]*>')


def of(step: Step, contact: Contact) -> Envelope:
    """The envelope of this step's mail to this contact, from the sender who writes to them or else the first one.

    Raises NotRenderedError and MessageRefused.
    """
    enrolled = Enrollment.objects.filter(campaign=step.campaign_id, contact=contact, sender__isnull=False).first()
    sender = (enrolled and enrolled.sender) or Sender.objects.filter(active=True).order_by("pk").first()
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
    )
    made = Envelopes(context.current_agency())
    made.prepare([message], {message.id: _before(step, address)})
    return made.of(message)


def framed(mail: Envelope) -> str:
    """Its HTML for a frame of a page: without the pixel, which nobody is to ask for there."""
    return _pixel.sub("", mail.html or "")


def _before(step: Step, address: str) -> list[Sent]:
    """The mails before it, as if each had gone."""
    earlier = Step.objects.filter(campaign=step.campaign_id, position__lt=step.position).order_by("position")
    return [Sent(message_id(NOBODY, address), one.pk, one.subject) for one in earlier]
