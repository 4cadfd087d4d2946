"""P2: replaying the messages finds every ledger row that says something else, and nothing where all is well."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta

import pytest
from django.db import connection
from django.db.models import F

from campaigns import audit, dispatch, launch, lifecycle
from campaigns.models import Message
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment, LedgerRow
from providers.senders import ledger as senders_ledger
from providers.senders.models import DomainDay, Sender, SenderDay, SenderHour
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

TODAY = date(2026, 11, 24)
SENT = 6


def set_stage(alpha: Agency, beta: Agency) -> Account:
    """Both agencies have sent through one account with limits of every kind, and have mails in every state."""
    account = stage.accounts(smtp={"per_month": 100})["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, account, per_month=90)
        with context.entered(agency):
            launch.launch(stage.campaign(stage.contact_list("a", 10)), now=NOON)
            allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
            batch = dispatch.claim_batch(agency, allotment, now=NOON, limit=9)
            lifecycle.sent([(message, "id") for message in batch[:4]], now=NOON)
            lifecycle.doubt(batch[4], "no answer")
            lifecycle.fail(batch[5], Reason.MESSAGE_REFUSED, "spam")
            lifecycle.hold(batch[6], Reason.NOT_RENDERED, "why")
            lifecycle.release(batch[7:8])
    return account


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    return set_stage(alpha, beta)


def test_where_all_is_well_nothing_differs(account: Account) -> None:
    found = audit.audit_quota()
    assert found.drifts == []
    assert found.mails == 2 * SENT
    # A day and a month of the account, and of each agency; senders and domains of each.
    senders = domains = 0
    for agency in context.ready_agencies():
        with context.entered(agency):
            senders += SenderDay.objects.count() + SenderHour.objects.count()
            domains += DomainDay.objects.count()
    assert found.rows == LedgerRow.objects.count() + senders + domains
    assert LedgerRow.objects.count() == 6


@pytest.mark.parametrize("by", [1, -1])
@pytest.mark.parametrize("period", ["day", "month"])
@pytest.mark.parametrize("whose", [None, "alpha", "beta"])
def test_a_drift_of_an_account_is_found(account: Account, whose: str | None, period: str, by: int) -> None:
    rows = LedgerRow.objects.filter(agency__slug=whose) if whose else LedgerRow.objects.filter(agency=None)
    rows.filter(period=period).update(used=F("used") + by)
    whole = 2 * SENT if whose is None else SENT
    starts = TODAY if period == "day" else TODAY.replace(day=1)
    allowed = 1000 if period == "day" else (100 if whose is None else 90)
    assert audit.audit_quota().drifts == [
        audit.Drift(
            f"account {period} of {whose or 'all agencies'}", f"{account.pk} on {starts}", whole + by, whole, allowed
        )
    ]


@pytest.mark.parametrize("slug", ["alpha", "beta"])
@pytest.mark.parametrize(
    ("model", "ledger"),
    [(SenderDay, "sender day"), (SenderHour, "sender hour"), (DomainDay, "domain day")],
)
@pytest.mark.parametrize("by", [1, -1])
def test_a_drift_of_a_sender_or_a_domain_is_found(
    account: Account, slug: str, model: type[SenderDay | SenderHour | DomainDay], ledger: str, by: int
) -> None:
    with context.entered(Agency.objects.get(slug=slug)):
        row = model.objects.filter(used__gt=0).earliest("pk")
        model.objects.filter(pk=row.pk).update(used=F("used") + by)
    drifts = audit.audit_quota().drifts
    assert [(drift.ledger, drift.used - drift.counted) for drift in drifts] == [(ledger, by)]
    assert str(TODAY) in str(drifts[0])


def test_a_row_that_is_missing_is_found(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        SenderDay.objects.filter(used__gt=0).earliest("pk").delete()
        SenderHour.objects.latest("pk").delete()
        DomainDay.objects.earliest("pk").delete()
    LedgerRow.objects.filter(agency=alpha, period="day").delete()
    found = {drift.ledger: (drift.used, drift.counted > 0) for drift in audit.audit_quota().drifts}
    ledgers = ("sender day", "sender hour", "domain day", "account day of alpha")
    assert found == dict.fromkeys(ledgers, (0, True))


def test_more_than_a_senders_limit_in_24_hours_is_found_though_each_day_keeps_it(
    account: Account, alpha: Agency, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Midnight in Berlin lies between: without the guard each side of it gets a whole day's mails."""
    evening, morning = NOON + timedelta(hours=10, minutes=50), NOON + timedelta(hours=11, minutes=10)
    with context.entered(alpha):
        Sender.objects.update(per_day=5)
        launch.launch(stage.campaign(stage.contact_list("b", 60)), now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
        assert len(dispatch.claim_batch(alpha, allotment, now=evening, limit=60)) == 4 * 5 - SENT
        assert dispatch.claim_batch(alpha, allotment, now=morning, limit=60) == []
        assert audit.audit_quota().drifts == []
        monkeypatch.setattr(senders_ledger, "WINDOW", -timedelta(hours=1))
        assert len(dispatch.claim_batch(alpha, allotment, now=morning, limit=60)) == 4 * 5
        found = {int(drift.key.split()[0]): drift for drift in audit.audit_quota().drifts}
        assert set(found) == set(Sender.objects.values_list("pk", flat=True))
    assert {(drift.ledger, drift.counted, drift.allowed) for drift in found.values()} == {("sender 24 hours", 10, 5)}


def test_a_row_that_counts_mails_nobody_sent_is_found(account: Account, alpha: Agency) -> None:
    LedgerRow.objects.create(account=account, period="day", starts=TODAY - timedelta(days=9), allowed=9, used=3)
    drifts = audit.audit_quota().drifts
    assert [(drift.used, drift.counted) for drift in drifts] == [(3, 0)]


def test_a_mail_that_went_uncounted_is_found_in_every_ledger(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        held = Message.objects.get(status="held")
        other = Message.objects.filter(status="sent").earliest("pk")
        Message.objects.filter(pk=held.pk).update(
            status="sent",
            sent_at=NOON,
            sender=other.sender,
            claimed_at=other.claimed_at,
            counted_on=other.counted_on,
        )
    drifts = audit.audit_quota().drifts
    assert {drift.counted - drift.used for drift in drifts} == {1}
    assert sorted(drift.ledger for drift in drifts) == [
        "account day of all agencies",
        "account day of alpha",
        "account month of all agencies",
        "account month of alpha",
        "domain day",
        "sender day",
        "sender hour",
    ]


@pytest.fixture
def without_check(account: Account) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("ALTER TABLE accounts_ledgerrow DROP CONSTRAINT account_used_within_allowed")


def test_more_than_allowed_is_a_drift_even_if_it_was_sent(account: Account, without_check: None) -> None:
    LedgerRow.objects.filter(agency=None, period="day").update(allowed=3)
    drifts = audit.audit_quota().drifts
    assert [(drift.used, drift.counted, drift.allowed) for drift in drifts] == [(2 * SENT, 2 * SENT, 3)]
    assert "the ledger says 12 of 3, the messages 12" in str(drifts[0])


def test_an_agency_that_is_switched_off_counts_still(account: Account, alpha: Agency) -> None:
    Agency.objects.filter(pk=alpha.pk).update(active=False)
    found = audit.audit_quota()
    assert (found.drifts, found.mails) == ([], 2 * SENT)


def test_a_time_zone_that_was_changed_is_no_drift(account: Account, alpha: Agency, beta: Agency) -> None:
    Agency.objects.filter(pk=alpha.pk).update(timezone="Pacific/Kiritimati")
    Agency.objects.filter(pk=beta.pk).update(timezone="Pacific/Pago_Pago")
    assert audit.audit_quota().drifts == []


def test_mails_sent_while_it_reads_are_no_drift(committed: dict[str, Agency], monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads one agency after the other and the accounts last; a claim in between must not look like drift."""
    account = set_stage(committed["alpha"], committed["beta"])

    def claim_one_more() -> None:
        try:
            with context.entered(committed["alpha"]):
                allotment = Allotment.objects.select_related("account").get(agency=committed["alpha"], account=account)
                assert len(dispatch.claim_batch(committed["alpha"], allotment, now=NOON, limit=1)) == 1
        finally:
            connection.close()

    replay = audit._replay

    def replayed() -> object:
        found = replay()
        with ThreadPoolExecutor(1) as other:
            other.submit(claim_one_more).result(timeout=20)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(audit, "_replay", replayed)
        found = audit.audit_quota()
    assert (found.drifts, found.mails) == ([], 2 * SENT)
    assert audit.audit_quota().mails == 2 * SENT + 2
