"""What a draft comes to: whom it writes to, and through which accounts. A launch does it, a forecast foresees it."""

from datetime import datetime

from django.db import connection

from campaigns import planning, suppressions
from campaigns.models import Campaign
from campaigns.planning import Share
from providers.senders import routes
from tenants import context

# Whom a campaign to a list writes to, in this order: the contacts of the list that may be mailed.
AUDIENCE = f"""
SELECT p.id, p.email, p.attributes
FROM campaigns_subscription u JOIN campaigns_contact p ON p.id = u.contact_id
WHERE u.list_id = %(list)s AND u.active
  AND NOT EXISTS ({suppressions.matching("p.email", "u.list_id")})
ORDER BY p.id
"""  # noqa: S608 - see suppressions


def size(campaign: Campaign) -> int:
    """How many contacts a launch now would write to."""
    with connection.cursor() as cursor:
        cursor.execute(_SIZE, {"list": campaign.list_id})
        return int(cursor.fetchone()[0])


def plan(campaign: Campaign, total: int, *, now: datetime) -> list[Share]:
    """Spread so many mails over the accounts of the agency entered now. Raises PlanRefusedError."""
    return planning.distribute(
        total,
        routes.plannable(context.current_agency(), now=now),
        traffic_class=campaign.traffic_class,
        mode=campaign.distribution,
        shares=campaign.shares,
    )


_SIZE = f"SELECT count(*) FROM ({AUDIENCE}) a"  # noqa: S608 - of constants
