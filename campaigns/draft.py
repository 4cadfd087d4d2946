"""What a draft comes to: whom it writes to, and through which accounts. A launch does it, a forecast foresees it."""

from datetime import datetime
from typing import Any

from django.db import connection
from django.utils.translation import gettext as _

from campaigns import planning, suppressions
from campaigns.models import Campaign, Duplicates
from campaigns.permission import GIVEN
from campaigns.planning import Plan
from providers.senders import routes
from tenants import context

# Whom a campaign to a list writes to, in this order: the contacts of the list that may be mailed, but for those whom
# campaigns in the states `others` have. Its values are those of `audience`.
AUDIENCE = f"""
SELECT p.id, p.email, p.attributes, {GIVEN} AS consented
FROM campaigns_subscription u JOIN campaigns_contact p ON p.id = u.contact_id
WHERE u.list_id = %(list)s AND u.active
  AND NOT EXISTS ({suppressions.matching("p.email", "u.list_id", lasting=True)})
  AND (%(others)s::text[] = '{{}}' OR NOT EXISTS (
      SELECT FROM campaigns_message d JOIN campaigns_campaign o ON o.id = d.campaign_id
      WHERE d.contact_id = p.id AND o.id <> %(campaign)s AND o.status = ANY(%(others)s)
  ))
ORDER BY p.id
"""  # noqa: S608 - see suppressions


def audience(campaign: Campaign) -> dict[str, Any]:
    """The values of AUDIENCE for a campaign."""
    return {"list": campaign.list_id, "campaign": campaign.pk or 0, "others": _OTHERS[campaign.duplicates]}


def sizes(campaign: Campaign) -> tuple[int, int]:
    """How many contacts a launch now would write to: those who have given consent, and the others."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZES, audience(campaign))
        consented, others = cursor.fetchone()
        return consented, others


def size(campaign: Campaign) -> int:
    """How many contacts a launch now would write to."""
    return sum(sizes(campaign))


def plan(campaign: Campaign, consented: int, others: int, *, now: datetime) -> Plan:
    """Spread so many mails to contacts who have given consent, and so many to others, over the accounts of the agency
    entered now. Raises PlanRefusedError."""
    return planning.spread(
        consented,
        others,
        routes.plannable(context.current_agency(), now=now),
        traffic_class=campaign.traffic_class,
        mode=campaign.distribution,
        shares=campaign.shares,
    )


def nobody_consented(total: int) -> str:
    """Why a campaign that could reach so many contacts reaches none, and what to do."""
    return _(
        "Nobody of the list (%(count)d) has given consent, and every account that this agency may use requires it. "
        "Record their consent, or ask the operator for an account that does not require it."
    ) % {"count": total}


_ACTIVE = [Campaign.Status.RUNNING, Campaign.Status.PAUSED]
_OTHERS: dict[str, list[str]] = {
    Duplicates.CAMPAIGN: [],
    Duplicates.ACTIVE: [*_ACTIVE],
    Duplicates.ANY: [*_ACTIVE, Campaign.Status.FINISHED, Campaign.Status.CANCELLED],
}
_SIZES = f"""
SELECT count(*) FILTER (WHERE a.consented), count(*) FILTER (WHERE NOT a.consented) FROM ({AUDIENCE}) a
"""  # noqa: S608 - of constants
