"""The mail that asks whoever signed up whether it was they: no mailing, so it is not tracked and has no way out."""

from django.conf import settings
from django.utils import translation
from django.utils.html import escape
from django.utils.translation import gettext as _

from campaigns import tokens
from campaigns.models import SignUp
from providers.accounts.envelope import Envelope
from providers.accounts.models import TrafficClass
from providers.senders.models import Sender
from tenants.models import Agency

SIGN_UP_PATH, CONFIRM_PATH = "s/", "c/"
_HTML = (
    '<div style="font:16px/1.5 Arial,Helvetica,sans-serif;color:#111827">'
    '<p>{asked}</p><p><a href="{link}" style="display:inline-block;padding:10px 20px;border-radius:6px;'
    'background:#1d4ed8;color:#ffffff;text-decoration:none">{button}</a></p><p>{otherwise}</p></div>'
)


def envelope(sign_up: SignUp, agency: Agency, sender: Sender, key: str, message_id: str) -> Envelope:
    """The mail from this sender, in the language of the page that was filled in. Raises MessageRefused."""
    link = (
        agency.addresses()[0] + CONFIRM_PATH + tokens.Signer(agency.schema_name, tokens.CONFIRM).of(sign_up.key.bytes)
    )
    with translation.override(sign_up.language):
        names = {"agency": agency.name, "list": sign_up.list.name, "days": settings.SIGN_UP_LIFE.days}
        subject = _("Please confirm: %(list)s") % names
        asked = _("Somebody has asked %(agency)s for mails of “%(list)s” to this address.") % names
        button = _("Yes, I want these mails")
        otherwise = _("If it was not you, do nothing: within %(days)d days what was entered is deleted.") % names
    traffic_class = TrafficClass.HIGH_PRIORITY.replace("_", "-")
    return Envelope(
        key=key,
        sender=sender.address,
        sender_name=sender.name,
        recipient=sign_up.email,
        subject=subject,
        text=f"{asked}\n\n{button}:\n{link}\n\n{otherwise}\n",
        html=_HTML.format(asked=escape(asked), link=link, button=escape(button), otherwise=escape(otherwise)),
        message_id=message_id,
        headers={
            "Feedback-ID": f"l{sign_up.list_id}:{agency.slug}:{traffic_class}:polza",
            # RFC 3834 section 5: who is out of office need not answer it.
            "Auto-Submitted": "auto-generated",
        },
    )
