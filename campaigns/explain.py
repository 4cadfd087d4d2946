"""Why a mail is not sent: one answer for every page, program and command."""

from datetime import datetime

from campaigns.models import Campaign, Message
from campaigns.reasons import Reason
from providers.accounts import health, ledger
from providers.accounts.routing import Route
from providers.senders import ledger as senders
from providers.senders import routes
from tenants.models import Agency

Status = Message.Status


class Why:
    """Why a mail of this campaign is not sent: from its row where that says it, else from the state of its account."""

    def __init__(self, campaign: Campaign, agency: Agency, now: datetime) -> None:
        self._campaign = campaign
        self._agency = agency
        self._now = now
        self._known: dict[int, tuple[str, datetime | None]] = {}
        self._routes: list[Route] | None = None

    def __call__(
        self, status: str, account_id: int, reason: str, later: datetime | None
    ) -> tuple[str, datetime | None]:
        if status == Status.CLAIMED:
            return Reason.SENDING, None
        if status != Status.SCHEDULED:
            return reason, None
        if self._campaign.status == Campaign.Status.CANCELLED:
            return Reason.CAMPAIGN_CANCELLED, None
        if self._campaign.status == Campaign.Status.PAUSED:
            return Reason.CAMPAIGN_PAUSED, None
        if later is not None:
            return reason or Reason.NOT_DUE, later
        if account_id not in self._known:
            self._known[account_id] = self._account(account_id)
        return self._known[account_id]

    def _account(self, account_id: int) -> tuple[str, datetime | None]:
        allotment = ledger.allotment(self._agency, account_id)
        if allotment is None:
            return Reason.ACCOUNT_GONE, None
        state = health.of(account_id)
        if not state.open(self._now):
            if health.broken(state) and self._others_have_room(account_id):
                return Reason.IN_QUEUE, None
            return (Reason.ACCOUNT_BLOCKED, None) if state.blocked else (Reason.ACCOUNT_CLOSED, state.closed_until)
        if self._campaign.overflow == Campaign.Overflow.REROUTE and self._others_have_room(account_id):
            return Reason.IN_QUEUE, None
        spent = ledger.spent(allotment.account, allotment, now=self._now)
        if spent is not None:
            return Reason(spent.reason), spent.until
        if account_id not in senders.accounts_with_senders():
            return Reason.NO_SENDERS, None
        day = senders.local_day(self._now, self._agency.zone)
        if not senders.room_today([account_id], day=day).get(account_id):
            return Reason.SENDERS_SPENT, senders.next_day(self._now, self._agency.zone)
        return Reason.IN_QUEUE, None

    def _others_have_room(self, account_id: int) -> bool:
        """Whether what this account cannot send is about to move."""
        if self._routes is None:
            self._routes = routes.usable(self._agency, now=self._now)
        return any(route.open and route.free > 0 for route in self._routes if route.account_id != account_id)
