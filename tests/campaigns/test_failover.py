"""P6: what an account cannot send finds another way, in the order of its class and in proportion to what is free."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from campaigns import audit, control, dispatch, failover, launch, precedence
from campaigns.models import Campaign, Enrollment, Message
from campaigns.outcomes import WHEN_ALL_REFUSE
from campaigns.reasons import Reason
from providers.accounts import health
from providers.accounts.models import Account, Allotment
from providers.senders.models import Home, Sender
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> Iterator[dict[str, Account]]:
    """For bulk: smtp first, then sendgrid (30 a day) and resend (10 a day). Beta's mails stay where they are."""
    found = stage.accounts(
        smtp={"per_day": 40}, sendgrid={"per_day": 30, "priority": 10}, resend={"per_day": 10, "priority": 10}
    )
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 5), traffic_class="bulk"), now=NOON)
    yield found
    with context.entered(beta):
        assert set(Message.objects.values_list("account", "due_at")) == {(found["smtp"].pk, NOON)}
    assert audit.audit_quota().drifts == []


def queue(count: int, **fields: str) -> Campaign:
    campaign = stage.campaign(stage.contact_list("a", count), **{"traffic_class": "bulk", **fields})
    launch.launch(campaign, now=NOON)
    return campaign


def where() -> dict[str, int]:
    """How many scheduled mails there are at each account."""
    found: dict[str, int] = {}
    for name in Message.objects.filter(status="scheduled").values_list("account__name", flat=True):
        found[name] = found.get(name, 0) + 1
    return found


def close(account: Account) -> None:
    for _ in range(health.BREAKS_AFTER):
        health.refused(account.pk, "down", now=NOON)


def fill(agency: Agency, account: Account) -> None:
    """Use up the account's day by the agency's share of it."""
    Allotment.objects.filter(agency=agency, account=account).update(per_day=0)


def relieve(agency: Agency, account: Account) -> set[int]:
    return failover.relieve(agency, account.pk, now=NOON)


def test_an_account_that_can_send_keeps_all(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(50)
        assert relieve(alpha, accounts["smtp"]) == set()
        assert where() == {"smtp": 50}


def test_the_load_of_a_broken_account_is_spread_in_proportion_to_what_is_free(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    with context.entered(alpha):
        queue(20)
        close(accounts["smtp"])
        assert relieve(alpha, accounts["smtp"]) == {accounts["sendgrid"].pk, accounts["resend"].pk}
        assert where() == {"sendgrid": 15, "resend": 5}
        assert set(Message.objects.values_list("planned", flat=True)) == {accounts["smtp"].pk}


def test_no_more_is_moved_than_there_is_room_for(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(60)
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert where() == {"sendgrid": 30, "resend": 10, "smtp": 20}
        # What found no room is not lost: it is still due, at the account that is tried again in a minute.
        assert not Message.objects.exclude(due_at=NOON).exists()


def test_the_accounts_meant_for_the_class_are_filled_before_the_others(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    Account.objects.filter(name="resend").update(traffic_classes=["bulk"])
    with context.entered(alpha):
        queue(25)
        Message.objects.update(account=accounts["smtp"])
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert where() == {"resend": 10, "sendgrid": 15}


def test_the_first_in_the_queue_move_first(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(60)
        last = Message.objects.latest("pk")
        Message.objects.filter(pk=last.pk).update(priority=precedence.HIGH)
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        last.refresh_from_db()
        assert last.account != accounts["smtp"]
        left = set(Message.objects.filter(account=accounts["smtp"]).values_list("pk", flat=True))
        assert min(left) > max(
            set(Message.objects.exclude(pk__in=left).exclude(pk=last.pk).values_list("pk", flat=True))
        )


@pytest.mark.parametrize(("overflow", "moved"), [("reroute", {"sendgrid": 15, "resend": 5}), ("wait", {"smtp": 20})])
def test_a_full_account_gives_up_what_did_not_choose_to_wait(
    alpha: Agency, accounts: dict[str, Account], overflow: str, moved: dict[str, int]
) -> None:
    with context.entered(alpha):
        queue(20, overflow=overflow)
        fill(alpha, accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert where() == moved


def test_a_broken_account_gives_up_also_what_chose_to_wait(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(20, overflow="wait")
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert where() == {"sendgrid": 15, "resend": 5}


def test_a_pause_that_the_provider_asked_for_moves_nothing(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(20)
        health.throttled(accounts["smtp"].pk, 30, "too fast", now=NOON)
        assert relieve(alpha, accounts["smtp"]) == set()
        assert where() == {"smtp": 20}


def test_a_mail_is_not_moved_to_an_account_that_refused_it(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(8)
        refused = list(Message.objects.order_by("pk").values_list("pk", flat=True)[:4])
        Message.objects.filter(pk__in=refused).update(refused_by=[accounts["sendgrid"].pk])
        close(accounts["smtp"])
        for _ in range(3):
            relieve(alpha, accounts["smtp"])
        found = set(Message.objects.filter(pk__in=refused).values_list("account__name", flat=True))
        assert "sendgrid" not in found
        assert "smtp" not in where()


def test_mails_that_are_not_due_or_not_running_stay(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        campaign = queue(6)
        Message.objects.filter(pk=Message.objects.earliest("pk").pk).update(due_at=NOON + timedelta(hours=1))
        close(accounts["smtp"])
        control.pause(campaign)
        assert relieve(alpha, accounts["smtp"]) == set()
        control.resume(campaign, now=NOON)
        relieve(alpha, accounts["smtp"])
        assert where() == {"smtp": 1, "sendgrid": 4, "resend": 1}


def test_what_a_worker_holds_is_not_moved(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(6)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["smtp"])
        held = {message.id for message in dispatch.claim_batch(alpha, allotment, now=NOON, limit=2)}
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert set(Message.objects.filter(account=accounts["smtp"]).values_list("pk", flat=True)) == held


def test_when_every_account_refuses_all_is_tried_again_in_an_hour(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        queue(6)
        Message.objects.update(refused_by=[1, 2, 3])
        for account in accounts.values():
            close(account)
        assert relieve(alpha, accounts["smtp"]) == set()
        for message in Message.objects.all():
            assert (message.due_at, message.reason) == (NOON + WHEN_ALL_REFUSE, Reason.ACCOUNTS_REFUSED)
            assert message.refused_by == []


@pytest.mark.parametrize("other", ["throttled", "full"])
def test_an_account_that_is_only_busy_does_not_refuse(alpha: Agency, accounts: dict[str, Account], other: str) -> None:
    """Its mails wait for the next minute, not for an hour."""
    with context.entered(alpha):
        queue(6)
        close(accounts["smtp"])
        close(accounts["resend"])
        if other == "full":
            fill(alpha, accounts["sendgrid"])
        else:
            health.throttled(accounts["sendgrid"].pk, 10, "too fast", now=NOON)
        assert relieve(alpha, accounts["smtp"]) == set()
        assert set(Message.objects.values_list("due_at", "reason")) == {(NOON, "")}


@pytest.mark.parametrize("change", ["blocked", "disabled", "no allotment"])
def test_where_a_person_must_act_mails_move_or_wait_for_that(
    alpha: Agency, accounts: dict[str, Account], change: str
) -> None:
    with context.entered(alpha):
        queue(40 + 5)
        match change:
            case "blocked":
                health.block(accounts["smtp"].pk, "wrong key", now=NOON)
            case "disabled":
                Account.objects.filter(name="smtp").update(enabled=False)
            case _:
                Allotment.objects.filter(agency=alpha, account=accounts["smtp"]).delete()
        relieve(alpha, accounts["smtp"])
        assert where() == {"sendgrid": 30, "resend": 10, "smtp": 5}
        for name in ("sendgrid", "resend"):
            close(accounts[name])
        relieve(alpha, accounts["smtp"])
        assert set(Message.objects.filter(account=accounts["smtp"]).values_list("due_at", "reason")) == {(NOON, "")}


def test_a_thread_moves_only_to_where_its_senders_domain_is_verified(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    with context.entered(alpha):
        queue(2)
        stays, moves = Message.objects.order_by("pk")
        at_home, elsewhere = Sender.objects.filter(account=accounts["smtp"]).order_by("pk")[:2]
        assert at_home.domain_id != elsewhere.domain_id
        Home.objects.create(domain=elsewhere.domain, account=accounts["resend"])
        Enrollment.objects.filter(pk=stays.enrollment_id).update(sender=at_home)
        Enrollment.objects.filter(pk=moves.enrollment_id).update(sender=elsewhere)
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        stays.refresh_from_db()
        moves.refresh_from_db()
        assert (stays.account, moves.account) == (accounts["smtp"], accounts["resend"])


@pytest.mark.parametrize("overflow", ["reroute", "wait"])
def test_a_thread_whose_sender_leaves_only_elsewhere_goes_there_from_an_account_with_room(
    alpha: Agency, accounts: dict[str, Account], overflow: str
) -> None:
    with context.entered(alpha):
        queue(3, overflow=overflow)
        first, stays, moves = Message.objects.order_by("pk")
        at_home = Sender.objects.filter(account=accounts["smtp"]).first()
        elsewhere = Sender.objects.filter(account=accounts["resend"]).first()
        Enrollment.objects.filter(pk=stays.enrollment_id).update(sender=at_home)
        Enrollment.objects.filter(pk=moves.enrollment_id).update(sender=elsewhere)
        assert relieve(alpha, accounts["smtp"]) == {accounts["resend"].pk}
        assert relieve(alpha, accounts["smtp"]) == set()
        where = dict(Message.objects.values_list("pk", "account__name"))
        assert where == {first.pk: "smtp", stays.pk: "smtp", moves.pk: "resend"}
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=accounts["resend"])
        claimed = dispatch.claim_batch(alpha, allotment, now=NOON, limit=10)
        assert [(message.id, message.sender_id) for message in claimed] == [(moves.pk, elsewhere.pk)]


def test_classes_are_spread_each_by_its_own_order(alpha: Agency, accounts: dict[str, Account]) -> None:
    Account.objects.filter(name="resend").update(traffic_classes=["testing"])
    with context.entered(alpha):
        queue(4)
        testing = stage.campaign(stage.contact_list("t", 4), traffic_class="testing")
        launch.launch(testing, now=NOON)
        Message.objects.update(account=accounts["smtp"])
        close(accounts["smtp"])
        relieve(alpha, accounts["smtp"])
        assert set(testing.messages.values_list("account__name", flat=True)) == {"resend"}
