"""P1, P2, P5: each verb changes a message from the state it expects alone, and gives back exactly what was counted."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, transaction

from campaigns import audit, control, dispatch, launch, lifecycle
from campaigns.lifecycle import Claimed
from campaigns.models import Campaign, Contact, Message, Suppression
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from providers.senders.models import DomainDay, SenderDay
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns.ledgers import all_at, used
from tests.stage import NOON

Status = Message.Status
LATER = NOON + timedelta(minutes=6)
OTHERS = 2

VERBS: dict[str, Callable[[Claimed], object]] = {
    "begin": lambda message: lifecycle.begin([message], now=LATER),
    "sent": lambda message: lifecycle.sent([(message, "id")], now=LATER),
    "reschedule": lambda message: lifecycle.reschedule(message, due_at=LATER, reason=Reason.THROTTLED),
    "release": lambda message: lifecycle.release([message]),
    "hold": lambda message: lifecycle.hold(message, Reason.NOT_RENDERED, "why"),
    "fail": lambda message: lifecycle.fail(message, Reason.MESSAGE_REFUSED, "why"),
    "doubt": lambda message: lifecycle.doubt(message, "why"),
    "stop": lambda message: lifecycle.stop([message]),
}
# What needs no claim: it comes from outside.
UNFENCED: dict[str, Callable[[Claimed], object]] = {
    "proved_sent": lambda message: lifecycle.proved_sent([message.id], ["shown"], now=LATER),
}
MOVES = {
    ("begin", "claimed"): "claimed",
    ("sent", "claimed"): "sent",
    ("sent", "unknown"): "sent",
    ("reschedule", "claimed"): "scheduled",
    ("release", "claimed"): "scheduled",
    ("hold", "claimed"): "held",
    ("fail", "claimed"): "failed",
    ("doubt", "claimed"): "unknown",
    ("stop", "claimed"): "scheduled",
    ("proved_sent", "claimed"): "sent",
    ("proved_sent", "unknown"): "sent",
}
COUNTED = {"claimed", "sent", "unknown"}


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    """An account that both use; Beta has mails of its own in a worker's hands, which no test may touch."""
    found = stage.accounts()["smtp"]
    stage.allot(alpha, found)
    stage.allot(beta, found)
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 3)), now=NOON)
        claim(beta, found, OTHERS)
    return found


@pytest.fixture
def campaign(account: Account, alpha: Agency, beta: Agency) -> Iterator[Campaign]:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 4))
        launch.launch(made, now=NOON)
        yield made
        assert audit.audit_quota().drifts == []
    with context.entered(beta):
        assert sorted(Message.objects.values_list("status", flat=True)) == ["claimed"] * OTHERS + ["scheduled"]


def claim(agency: Agency, account: Account, count: int) -> list[Claimed]:
    allotment = Allotment.objects.select_related("account").get(agency=agency, account=account)
    found = dispatch.claim_batch(agency, allotment, now=NOON, limit=count)
    assert len(found) == count
    return found


def put(message: Claimed, status: str) -> None:
    """Bring a claimed message into a state, its claim kept where the engine keeps it, and the ledgers with it."""
    ways: dict[str, Callable[[], object]] = {
        "claimed": lambda: None,
        "sent": lambda: lifecycle.sent([(message, "first")], now=NOON),
        "unknown": lambda: lifecycle.doubt(message, "why"),
        "scheduled": lambda: lifecycle.release([message]),
        "held": lambda: lifecycle.hold(message, Reason.NOT_RENDERED, "why"),
        "failed": lambda: lifecycle.fail(message, Reason.MESSAGE_REFUSED, "why"),
        "cancelled": lambda: (lifecycle.release([message]), lifecycle.cancel(Campaign.objects.get())),
    }
    ways[status]()
    assert Message.objects.get(pk=message.id).status == status


def row(message: Claimed) -> dict[str, object]:
    return Message.objects.filter(pk=message.id).values().get()


@pytest.mark.parametrize("status", Status.values)
@pytest.mark.parametrize("verb", VERBS | UNFENCED)
def test_a_verb_moves_a_message_from_the_state_it_expects_and_from_no_other(
    account: Account, alpha: Agency, campaign: Campaign, verb: str, status: str
) -> None:
    message = claim(alpha, account, 1)[0]
    put(message, status)
    before = row(message)
    (VERBS | UNFENCED)[verb](message)
    wanted = MOVES.get((verb, status))
    assert row(message)["status"] == (wanted or status)
    if wanted is None:
        assert row(message) == before
    assert used() == all_at(int((wanted or status) in COUNTED), others=OTHERS)


@pytest.mark.parametrize("status", ["claimed", "unknown"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_with_another_claim_changes_nothing(
    account: Account, alpha: Agency, campaign: Campaign, verb: str, status: str
) -> None:
    message = claim(alpha, account, 1)[0]
    put(message, status)
    before = row(message)
    VERBS[verb](replace(message, claim=uuid4()))
    VERBS[verb](replace(message, claim=UUID(int=0)))
    assert row(message) == before
    assert used() == all_at(1, others=OTHERS)


@pytest.mark.parametrize("verb", ["reschedule", "release", "hold", "fail", "stop"])
def test_a_verb_called_twice_gives_back_once(account: Account, alpha: Agency, campaign: Campaign, verb: str) -> None:
    messages = claim(alpha, account, 3)
    VERBS[verb](messages[0])
    VERBS[verb](messages[0])
    assert used() == all_at(2, others=OTHERS)


def test_a_claim_marks_its_rows_and_counts_them_in_every_ledger(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    messages = claim(alpha, account, 3)
    assert used() == all_at(3, others=OTHERS)
    for message in messages:
        found = Message.objects.get(pk=message.id)
        assert (found.status, found.claim, found.claimed_at) == (Status.CLAIMED, message.claim, NOON)
        assert found.lease_until == NOON + timedelta(minutes=5)
        assert found.attempted_at is None
        assert found.epoch is not None
        assert found.sender is not None
        assert found.sender.address == message.sender_address
    assert len({message.sender_id for message in messages}) == 3


def test_what_was_claimed_is_claimed_by_no_other(account: Account, alpha: Agency, campaign: Campaign) -> None:
    first, second = claim(alpha, account, 2), claim(alpha, account, 2)
    assert not {message.id for message in first} & {message.id for message in second}
    with pytest.raises(RuntimeError, match="not locked"):
        lifecycle.claim(first, claim=uuid4(), now=NOON, day=NOON.date(), lease=timedelta(minutes=5))


@pytest.mark.parametrize("change", ["pause", "cancel", "finish", "address", "domain"])
def test_begin_lets_nothing_go_that_must_not(account: Account, alpha: Agency, campaign: Campaign, change: str) -> None:
    """P5, and what a person decided since the claim."""
    stopped, other = claim(alpha, account, 2)
    email = Contact.objects.get(pk=Message.objects.get(pk=stopped.id).contact_id).email
    match change:
        case "pause":
            control.pause(campaign)
        case "cancel":
            control.cancel(campaign, now=NOON)
        case "finish":
            Campaign.objects.update(status=Campaign.Status.FINISHED)
        case "address":
            # Any case: what a contact file wrote and what an opt-out says need not look the same.
            Contact.objects.filter(email=email).update(email=email.upper())
            Suppression.objects.create(value=email, source="opt_out")
        case "domain":
            Suppression.objects.create(value=email.partition("@")[2], source="manual")
    allowed = lifecycle.begin([stopped, other], now=NOON)
    assert allowed == ({other.id} if change == "address" else set())
    assert row(stopped)["attempted_at"] is None
    lifecycle.stop([stopped])
    wanted = {"pause": "scheduled", "finish": "scheduled"}.get(change, "cancelled")
    assert row(stopped)["status"] == wanted
    assert row(stopped)["reason"] == {
        "cancel": Reason.CAMPAIGN_CANCELLED,
        "address": Reason.OPTED_OUT,
        "domain": Reason.SUPPRESSED,
    }.get(change, "")
    assert used() == all_at(1, others=OTHERS)


def test_begin_marks_the_attempt(account: Account, alpha: Agency, campaign: Campaign) -> None:
    message, other = claim(alpha, account, 2)
    assert lifecycle.begin([message], now=LATER) == {message.id}
    assert row(message)["attempted_at"] == LATER
    assert row(other)["attempted_at"] is None
    assert lifecycle.begin([], now=LATER) == set()


def test_a_reschedule_says_when_why_and_through_which_account(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    message = claim(alpha, account, 1)[0]
    other = Account.objects.get(name="resend")
    lifecycle.reschedule(
        message,
        due_at=LATER,
        reason=Reason.RECIPIENT_BUSY,
        detail="x" * 999,
        account_id=other.pk,
        refused_by=[account.pk],
    )
    found = Message.objects.get(pk=message.id)
    assert (found.due_at, found.reason, found.detail) == (LATER, Reason.RECIPIENT_BUSY, "x" * 300)
    assert (found.account, found.planned, found.refused_by, found.attempts) == (other, account, [account.pk], 1)
    assert (found.sender, found.claim, found.claimed_at, found.counted_on, found.epoch) == (None,) * 5


def test_a_message_put_off_uses_no_attempt(account: Account, alpha: Agency, campaign: Campaign) -> None:
    message = claim(alpha, account, 1)[0]
    lifecycle.reschedule(message, due_at=LATER, reason=Reason.THROTTLED, attempt_used=False)
    assert row(message)["attempts"] == 0


@pytest.mark.parametrize("verb", ["reschedule", "release", "hold", "stop", "rescue"])
def test_what_comes_back_to_a_cancelled_campaign_is_cancelled(
    account: Account, alpha: Agency, campaign: Campaign, verb: str
) -> None:
    """P3: else it would be scheduled for ever, in a campaign that nobody sends."""
    message = claim(alpha, account, 1)[0]
    assert control.cancel(campaign, now=NOON)
    assert row(message)["status"] == "claimed"
    if verb == "rescue":
        assert lifecycle.rescue(now=LATER) == (1, 0)
    else:
        VERBS[verb](message)
    assert (row(message)["status"], row(message)["reason"]) == ("cancelled", Reason.CAMPAIGN_CANCELLED)
    assert stage.statuses(campaign) == {"cancelled": 4}
    assert used() == all_at(0, others=OTHERS)


def test_a_stray_of_a_cancelled_campaign_is_cancelled_within_the_minute(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    """What was given back by a transaction that did not see the cancelling yet, nor was seen by it."""
    control.cancel(campaign, now=NOON)
    Message.objects.filter(pk=Message.objects.earliest("pk").pk).update(status=Status.SCHEDULED, reason="")
    assert control.cancel_strays() == 1
    assert control.cancel_strays() == 0
    assert stage.statuses(campaign) == {"cancelled": 4}


def test_a_cancelled_campaign_keeps_what_is_final(account: Account, alpha: Agency, campaign: Campaign) -> None:
    sent, failed, doubted, held = claim(alpha, account, 4)
    put(sent, "sent")
    put(failed, "failed")
    put(doubted, "unknown")
    put(held, "held")
    control.cancel(campaign, now=NOON)
    assert stage.statuses(campaign) == {"sent": 1, "failed": 1, "unknown": 1, "cancelled": 1}
    assert used() == all_at(2, others=OTHERS)


def test_a_rescue_takes_back_what_was_not_tried_and_doubts_what_was(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    tried, untried = claim(alpha, account, 2)
    lifecycle.begin([tried], now=NOON)
    assert lifecycle.rescue(now=NOON + timedelta(minutes=4)) == (0, 0)
    assert lifecycle.rescue(now=LATER) == (1, 1)
    assert (row(tried)["status"], row(tried)["reason"]) == ("unknown", Reason.IN_DOUBT)
    assert row(untried)["status"] == "scheduled"
    assert used() == all_at(1, others=OTHERS)
    assert lifecycle.rescue(now=LATER) == (0, 0)


def test_a_mark_made_while_a_rescuer_looks_is_not_overlooked(
    account: Account, alpha: Agency, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark comes between the rescuer's two looks: after it sought what was tried, before it takes the rest."""
    tried, _untried = claim(alpha, account, 2)
    lifecycle.begin([tried], now=NOON)
    monkeypatch.setattr(lifecycle, "_RESCUE_DOUBT", "UPDATE campaigns_message SET reason = %s WHERE lease_until > %s")
    assert lifecycle.rescue(now=LATER) == (1, 0)
    assert row(tried)["status"] == "claimed"


def test_a_claim_of_yesterday_is_given_back_to_yesterday(account: Account, alpha: Agency, campaign: Campaign) -> None:
    """Berlin is an hour ahead: at 23:30 UTC its senders count for the next day already, and the account does not."""
    night = NOON.replace(hour=23, minute=30)
    allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
    message = dispatch.claim_batch(alpha, allotment, now=night, limit=1)[0]
    tomorrow = dispatch.claim_batch(alpha, allotment, now=night + timedelta(hours=2), limit=1)[0]
    assert {day for (day,) in SenderDay.objects.values_list("day")} == {(NOON + timedelta(days=1)).date()}
    lifecycle.release([message])
    assert used() == all_at(1, others=OTHERS)
    assert row(tomorrow)["status"] == "claimed"


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_a_new_time_zone_changes_nothing_of_what_was_counted(
    account: Account, alpha: Agency, campaign: Campaign, zone: str
) -> None:
    messages = claim(alpha, account, 3)
    Agency.objects.filter(pk=alpha.pk).update(timezone=zone)
    with context.entered(Agency.objects.get(pk=alpha.pk)):
        lifecycle.release(messages[:1])
        lifecycle.fail(messages[1], Reason.MESSAGE_REFUSED, "why")
        assert used() == all_at(1, others=OTHERS)
        assert {found for (found,) in DomainDay.objects.values_list("day")} == {NOON.date()}
        assert audit.audit_quota().drifts == []


def test_what_was_counted_is_given_back_after_the_allotment_was_taken(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    messages = claim(alpha, account, 2)
    Allotment.objects.filter(agency=alpha).delete()
    lifecycle.release(messages)
    assert used() == all_at(0, others=OTHERS)


def test_a_message_that_ended_a_worker_is_tried_alone(account: Account, alpha: Agency, campaign: Campaign) -> None:
    """What merely lay beside it in a dead worker's hands is not held for its sake."""
    allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
    now = NOON
    poison = claim(alpha, account, 4)[0].id
    for _ in range(12):
        now += timedelta(minutes=6)
        lifecycle.rescue(now=now)
        batch = dispatch.claim_batch(alpha, allotment, now=now, limit=50)
        if not batch:
            break
        assert len(batch) == 1
        if batch[0].id != poison:
            lifecycle.begin(batch, now=now)
            lifecycle.sent([(batch[0], "id")], now=now)
    assert stage.statuses(campaign) == {"sent": 3, "held": 1}
    assert (Message.objects.get(pk=poison).status, Message.objects.get(pk=poison).reason) == (
        Status.HELD,
        Reason.BREAKS_WORKERS,
    )


def test_a_mail_that_came_first_stays_the_threads_sender(account: Account, alpha: Agency, campaign: Campaign) -> None:
    messages = claim(alpha, account, 2)
    lifecycle.sent([(message, "") for message in messages], now=NOON)
    lifecycle.sent([], now=NOON)
    senders = dict(campaign.enrollments.values_list("pk", "sender"))
    assert {message.enrollment_id: message.sender_id for message in messages}.items() <= senders.items()
    assert list(senders.values()).count(None) == 2


def test_the_database_refuses_what_must_never_be(account: Account, alpha: Agency, campaign: Campaign) -> None:
    for status in ("claimed", "sent", "held", "failed", "cancelled", "unknown"):
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("UPDATE campaigns_message SET status = %s", [status])


@pytest.mark.parametrize("known", ["", "first"])
def test_proof_that_a_mail_was_sent_tells_when_and_keeps_its_sender(
    account: Account, alpha: Agency, campaign: Campaign, known: str
) -> None:
    shown, other = claim(alpha, account, 2)
    lifecycle.begin([shown, other], now=NOON)
    lifecycle.doubt(shown, "why")
    Message.objects.filter(pk=shown.id).update(provider_id=known)
    assert lifecycle.proved_sent([shown.id, 0], ["", ""], now=LATER) == {shown.id}
    assert lifecycle.proved_sent([shown.id], ["again"], now=LATER) == set()
    found = row(shown)
    assert (found["status"], found["sent_at"], found["attempts"], found["provider_id"]) == ("sent", NOON, 1, known)
    assert Message.objects.get(pk=shown.id).enrollment.sender_id == shown.sender_id
    assert Message.objects.get(pk=other.id).enrollment.sender_id is None


def test_a_worker_whose_mail_was_shown_to_be_sent_cannot_say_otherwise(
    account: Account, alpha: Agency, campaign: Campaign
) -> None:
    message = claim(alpha, account, 1)[0]
    lifecycle.begin([message], now=NOON)
    lifecycle.proved_sent([message.id], ["shown"], now=LATER)
    before = row(message)
    for verb in VERBS.values():
        verb(message)
    assert row(message) == before
    assert used() == all_at(1, others=OTHERS)
