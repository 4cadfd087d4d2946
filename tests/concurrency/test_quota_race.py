"""P2: many real processes race for the last mails of every quota, and none is ever oversold."""

from collections.abc import Iterator, Sequence

import pytest
from django.db import connection

from campaigns import audit, launch
from campaigns.models import CampaignDay, Contact, RecipientDay
from providers.accounts.models import Account, LedgerRow
from providers.senders.models import DomainDay, Sender, SenderDay, SenderDomain
from tenants import context
from tenants.models import Agency
from tests import processes, stage
from tests.stage import NOON

RACERS = 6
CHECK = "account_used_within_allowed"


def race(agencies: Sequence[Agency], account: Account, *, locked: bool = True) -> int:
    """Let racers of each agency go together, and return how many mails they claimed in all."""
    whose = [agencies[number % len(agencies)].schema_name for number in range(RACERS)]
    return sum(processes.race("tests.concurrency.racer", [[schema, account.pk, locked] for schema in whose]))


def test_the_last_mails_of_an_account_go_to_nobody_twice(committed: dict[str, Agency]) -> None:
    accounts = stage.accounts(smtp={"per_day": 50})
    queue_for(committed, accounts["smtp"])
    assert race(list(committed.values()), accounts["smtp"]) == 50
    assert LedgerRow.objects.get(agency=None, account=accounts["smtp"]).used == 50
    assert audit.audit_quota().drifts == []


def queue_for(agencies: dict[str, Agency], account: Account) -> None:
    """Both agencies have more to send than the account allows, through senders of their own."""
    for agency in agencies.values():
        stage.allot(agency, account, senders=60, domains=3)
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", 200)), now=NOON)


def test_senders_and_domains_keep_their_limits_too(committed: dict[str, Agency]) -> None:
    accounts = stage.accounts()
    agency = committed["alpha"]
    stage.allot(agency, accounts["smtp"], senders=12, per_day=5, domains=3)
    with context.entered(agency):
        SenderDomain.objects.filter(name="smtp0.alpha.example").update(per_day=11)
        launch.launch(stage.campaign(stage.contact_list("a", 200)), now=NOON)
    # Two domains of four senders with five mails each, and one that is capped at eleven.
    assert race([agency], accounts["smtp"]) == 20 + 20 + 11
    with context.entered(agency):
        assert max(SenderDay.objects.values_list("used", flat=True)) == 5
        assert sorted(DomainDay.objects.values_list("used", flat=True)) == [11, 20, 20]
    assert audit.audit_quota().drifts == []


def test_eight_processes_race_for_the_last_mails_of_who_recovers(committed: dict[str, Agency]) -> None:
    accounts = stage.accounts()
    for agency in committed.values():
        stage.allot(agency, accounts["smtp"], senders=2)
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", 100)), now=NOON)
    with context.entered(committed["alpha"]):
        sender, mate = Sender.objects.order_by("pk")
        Sender.objects.filter(pk=sender.pk).update(cap=5)
        SenderDomain.objects.filter(pk=mate.domain_id).update(cap=25)
    whose = [(committed["alpha"], committed["beta"])[number % 2].schema_name for number in range(8)]
    claimed = processes.race("tests.concurrency.racer", [[schema, accounts["smtp"].pk, True] for schema in whose])
    assert sum(claimed) == 5 + 25 + 2 * 50
    with context.entered(committed["alpha"]):
        assert set(SenderDay.objects.values_list("sender", "used", "allowed")) == {
            (sender.pk, 5, 5),
            (mate.pk, 25, 50),
        }
        assert set(DomainDay.objects.values_list("used", flat=True)) == {5, 25}
    assert audit.audit_quota().drifts == []


def test_a_campaigns_own_caps_hold_over_all_its_accounts(committed: dict[str, Agency]) -> None:
    accounts = stage.accounts()
    agency = committed["alpha"]
    stage.allot(agency, accounts["smtp"], senders=60, domains=3)
    with context.entered(agency):
        contacts = stage.contact_list("a", 100)
        made = stage.campaign(contacts, new_contacts_per_day=45, per_domain_per_day=25)
        for person in contacts.subscriptions.order_by("pk")[:60]:
            Contact.objects.filter(pk=person.contact_id).update(email=f"b{person.pk}@other.example")
        launch.launch(made, now=NOON)
    # 40 of one domain and 60 of another: 25 of the first that come, then 20 more first mails.
    assert race([agency], accounts["smtp"]) == 45
    with context.entered(agency):
        assert CampaignDay.objects.get().used == 45
        assert sorted(RecipientDay.objects.values_list("used", flat=True)) == [20, 25]
    assert audit.audit_quota().drifts == []


@pytest.fixture
def without_check(committed: dict[str, Agency]) -> Iterator[None]:
    """The database's own guard taken out as well."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE accounts_ledgerrow DROP CONSTRAINT {CHECK}")
    yield
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE accounts_ledgerrow")
        cursor.execute(f"ALTER TABLE accounts_ledgerrow ADD CONSTRAINT {CHECK} CHECK (used <= allowed)")


def test_the_same_race_oversells_without_the_lock(committed: dict[str, Agency], without_check: None) -> None:
    accounts = stage.accounts(smtp={"per_day": 50})
    queue_for(committed, accounts["smtp"])
    assert race(list(committed.values()), accounts["smtp"], locked=False) > 50
    assert audit.audit_quota().drifts
