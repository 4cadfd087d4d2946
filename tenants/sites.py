"""The two admin sites. Each is mounted on its own host only, so both can keep Django's name for the URLs."""

from django.utils.translation import gettext_lazy as _
from unfold.sites import UnfoldAdminSite


class OperatorSite(UnfoldAdminSite):  # type: ignore[misc]
    """What the operator sees on the public host."""

    site_header = _("Polza Outreach · operator")
    site_title = _("Polza Outreach")
    index_title = _("Operator console")


class AgencySite(UnfoldAdminSite):  # type: ignore[misc]
    """What an agency's staff see on the agency's host."""

    site_header = _("Polza Outreach")
    site_title = _("Polza Outreach")
    index_title = _("Administration")


operator = OperatorSite(name="admin")
agency = AgencySite(name="admin")
