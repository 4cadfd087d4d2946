"""What an agency's people are told by mail, in the agency's language: by the installation's own mail, as a new password
is, for an agency may have no senders."""

from django.core.mail import EmailMessage, get_connection
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _

from campaigns import access
from campaigns.models import Endpoint
from tenants import context
from tenants.users.models import User

# RFC 3834: nobody's absence answers it.
_HEADERS = {"Auto-Submitted": "auto-generated", "Importance": "high", "X-Priority": "1"}


def webhook_is_off(endpoint: Endpoint) -> int:
    """Tell those who may change the webhooks of the agency entered now that this one was switched off; return how many
    they are. Raises OSError or SMTPException where no mail can be sent."""
    agency = context.current_agency()
    people = [user.email for user in User.objects.filter(is_active=True) if access.may_change_endpoints(user)]
    site, _tracking = agency.addresses()
    with translation.override(agency.language):
        subject = _("A webhook was switched off: %(name)s") % {"name": endpoint}
        body = _(
            "Nothing is posted to %(url)s any more: %(why)s.\n\n"
            "What happens meanwhile is kept for it. Once it is switched on it goes on where it stopped:\n%(link)s\n"
        ) % {
            "url": endpoint.url,
            "why": endpoint.get_off_display(),
            "link": site.rstrip("/") + reverse("campaigns:webhook", args=[endpoint.pk]),
        }
    mails = [EmailMessage(subject, body, to=[person], headers=_HEADERS) for person in people]
    return get_connection().send_messages(mails) or 0
