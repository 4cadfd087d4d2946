"""P2: eight worker processes at the last ten mails of a quota, again and again, and ten are granted each time."""

import subprocess
import sys
from collections import Counter
from typing import Any

import pytest

from campaigns import audit, launch
from campaigns.models import CampaignDay, Message
from providers.accounts.models import Account, Allotment, LedgerRow
from providers.senders.models import DomainDay, SenderDay, SenderDomain
from providers.senders.pool import add_senders
from tenants import context
from tenants.models import Agency
from tests import processes, stage
from tests.chaos import scene
from tests.chaos.scene import scaled
from tests.stage import NOON

LAST = 10
# Which quota has ten left each day: its account's, and what the account, the allotment and the senders get for it.
BINDS: dict[str, dict[str, Any]] = {
    "account": {"per_day": LAST},
    "allotment": {"share": LAST},
    "domain": {"domain": LAST},
    "senders": {"senders": 2, "each": LAST // 2},
    "campaign": {"campaign": LAST},
}


@pytest.mark.timeout(2 * scene.PATIENCE)
def test_the_last_ten_are_ten(committed: dict[str, Agency]) -> None:
    rounds = scaled(8, 200)
    agency = committed["alpha"]
    accounts = [queue_for(agency, name, rounds, **binds) for name, binds in BINDS.items()]
    ids = [str(account.pk) for account in accounts]
    subprocess.run(
        [sys.executable, "-m", "tests.chaos.rounds", agency.schema_name, str(rounds), *ids],
        cwd=processes.ROOT,
        env=processes.environment(),
        check=True,
    )
    with context.entered(agency):
        granted = Counter(Message.objects.filter(status="claimed").values_list("account__name", "claimed_at"))
        assert set(granted.values()) == {LAST}
        assert len(granted) == rounds * len(BINDS)
        assert SenderDay.objects.filter(sender__account__name="senders", used=LAST // 2).count() == 2 * rounds
        assert DomainDay.objects.filter(domain__name="domain.alpha.example", used=LAST).count() == rounds
        assert CampaignDay.objects.filter(used=LAST).count() == rounds
    assert LedgerRow.objects.filter(account__name="account", agency=None, period="day", used=LAST).count() == rounds
    assert audit.audit_quota().drifts == []


def queue_for(
    agency: Agency,
    name: str,
    rounds: int,
    *,
    per_day: int = 1_000,
    share: int | None = None,
    domain: int = 1_000,
    senders: int = 24,
    each: int = 1_000,
    campaign: int | None = None,
) -> Account:
    """An account with one domain of senders, and a campaign with more mails for it than will be granted."""
    account = Account.objects.create(name=name, kind="smtp", credentials={}, options={}, per_day=per_day)
    allotment = Allotment.objects.create(account=account, agency=agency, senders=senders, per_day=share)
    with context.entered(agency):
        addresses = [(f"s{number}@{name}.alpha.example", f"Sender {number}") for number in range(senders)]
        add_senders(allotment, addresses, per_day=each, per_hour=each)
        SenderDomain.objects.filter(name=f"{name}.alpha.example").update(per_day=domain)
        made = stage.campaign(stage.contact_list(name, LAST * rounds + 30), new_contacts_per_day=campaign)
        launch.launch(made, now=NOON)
        Message.objects.filter(campaign=made).update(account=account, planned=account)
    return account
