"""From what a provider posts to the agency that the mail belongs to, and to nobody else."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import pytest
from django.db import connection

from campaigns import feedback, jobs
from campaigns.models import CampaignOutcome, Message, Suppression
from providers.accounts import webhooks
from providers.accounts.events import EventType
from providers.accounts.models import Account, WebhookDay, WebhookPost
from providers.senders.models import Event
from tenants import context
from tenants.jobs import waiting
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns.test_feedback import heard, sent
from tests.providers.payloads import KINDS, SECRETS, post
from tests.visitor import Visitor, at, body

NOW = datetime.now(UTC)


@pytest.fixture
def accounts(alpha: Agency, beta: Agency) -> dict[str, Account]:
    found = {}
    for priority, kind in enumerate(KINDS):
        found[kind] = Account.objects.create(
            name=kind, kind=kind, priority=priority, webhook_secrets={"secret": SECRETS[kind][0]}
        )
    for agency in (alpha, beta):
        stage.allot(agency, *found.values(), senders=1, domains=1)
    return found


def told(account: Account, what: str, agency: Agency | str, message: Message | str, **fields: Any) -> None:
    """The provider posts an event of the mail."""
    schema = agency.schema_name if isinstance(agency, Agency) else agency
    key = str(message.key if isinstance(message, Message) else message)
    one = post(account.kind, what, {"agency": schema, "message": key}, now=datetime.now(UTC), **fields)
    answer = Visitor("localhost").post(
        f"/webhooks/{account.webhook_key}/", one.body, content_type="application/json", headers=dict(one.headers)
    )
    assert answer.status_code == 200


def results() -> dict[str, int]:
    found: dict[str, int] = {}
    for result, count in WebhookDay.objects.values_list("result", "count"):
        found[result] = found.get(result, 0) + count
    return found


def test_a_job_leaves_to_the_next_what_it_has_no_time_for(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], settings: Any, monkeypatch: Any
) -> None:
    settings.DRAIN_SECONDS = 0
    monkeypatch.setattr(feedback, "_POSTS", 1)
    monkeypatch.setattr(feedback, "_AT_ONCE", 1)
    with context.entered(alpha):
        mails = sent(alpha, accounts["resend"], 2)
    for mail in mails:
        told(accounts["resend"], "delivered", alpha, mail)
    before = waiting()
    jobs.hear()
    assert (WebhookPost.objects.filter(handled_at=None).count(), waiting()) == (1, before + 1)
    with context.entered(alpha):
        for mail in mails:
            feedback.keep([heard(mail, EventType.CLICKED, account=None)])
        jobs.catch_up()
        assert Event.objects.filter(waits=True).count() == 1
    assert waiting() == before + 2


def test_who_finds_another_at_it_does_not_ring_again(alpha: Agency, beta: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        mail = sent(alpha, accounts["resend"], 1)[0]
    told(accounts["resend"], "delivered", alpha, mail)
    before = waiting()
    # The other worker is another connection.
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [webhooks._LOOKING])
            jobs.hear()
    finally:
        other.close()
    assert (WebhookPost.objects.filter(handled_at=None).count(), waiting()) == (1, before)


@pytest.mark.parametrize("kind", KINDS)
def test_an_event_finds_its_mail(alpha: Agency, beta: Agency, accounts: dict[str, Account], kind: str) -> None:
    account = accounts[kind]
    with context.entered(alpha):
        mails = sent(alpha, account, 2)
    with context.entered(beta):
        (betas,) = sent(beta, account, 1)
    told(account, "opened", alpha, mails[0])
    told(account, "delivered", alpha, mails[0])
    told(account, "hard", alpha, mails[1])
    told(account, "delivered", beta, betas)
    assert feedback.hear(now=NOW) == 4
    assert feedback.hear(now=NOW) == 0
    assert not webhooks.pending()
    with context.entered(alpha):
        outcome = CampaignOutcome.objects.get()
        assert (outcome.delivered, outcome.opened, outcome.bounced) == (1, 1, 1)
        assert Suppression.objects.get().value == mails[1].contact.email
    with context.entered(beta):
        assert CampaignOutcome.objects.get().delivered == 1
        assert not Suppression.objects.exists()
    assert results() == {"events": 4}


def test_what_is_posted_again_after_it_was_handled_has_no_effect(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["sendgrid"], 1)
    told(accounts["sendgrid"], "opened", alpha, mail, unique="e1")
    feedback.hear(now=NOW)
    told(accounts["sendgrid"], "opened", alpha, mail, unique="e1")
    # A worker may be cut off after it has recorded events, too.
    WebhookPost.objects.update(handled_at=None)
    assert feedback.hear(now=NOW) == 0
    with context.entered(alpha):
        assert Event.objects.count() == 1
        assert CampaignOutcome.objects.get().opened == 1


def test_an_agencys_own_account_speaks_of_nobody_else(
    alpha: Agency, beta: Agency, accounts: dict[str, Account]
) -> None:
    """P4: Oscar knows the secret of an account that Beta has brought, and perhaps the key of a mail of Alpha's."""
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"], 1)
    Account.objects.filter(kind="resend").update(owner=beta)
    told(accounts["resend"], "hard", alpha, mail)
    assert feedback.hear(now=NOW) == 0
    with context.entered(alpha):
        assert not Event.objects.exists()
        assert not Suppression.objects.exists()
    assert results() == {"strangers": 1}


@pytest.mark.parametrize("agency", ["public", "a_nobody", "", "a_alpha; DROP SCHEMA a_alpha", "information_schema"])
def test_an_event_of_nobodys_mail_is_counted_and_forgotten(accounts: dict[str, Account], agency: str) -> None:
    told(accounts["resend"], "hard", agency, "not a key")
    assert feedback.hear(now=NOW) == 0
    assert results() == {"strangers": 1}
    assert not webhooks.pending()


def test_a_post_that_cannot_be_read_is_kept_with_its_trouble(accounts: dict[str, Account]) -> None:
    WebhookPost.objects.create(account=accounts["sendgrid"], digest="0" * 32, body=b'{"no": "list"')
    assert feedback.hear(now=NOW) == 0
    kept = WebhookPost.objects.get()
    assert kept.handled_at == NOW
    assert "SendGrid" in kept.trouble
    assert results() == {"unreadable": 1}


def test_what_is_wrong_with_one_agency_stops_no_other_and_is_tried_three_times(
    alpha: Agency, beta: Agency, accounts: dict[str, Account], monkeypatch: pytest.MonkeyPatch
) -> None:
    mails = {}
    for agency in (alpha, beta):
        with context.entered(agency):
            (mails[agency],) = sent(agency, accounts["resend"], 1)
        told(accounts["resend"], "delivered", agency, mails[agency])
    record = feedback.record

    def broken(*args: Any, **kwargs: Any) -> int:
        if context.current_agency() == alpha:
            raise RuntimeError("planted")
        return record(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(feedback, "record", broken)
        assert feedback.hear(now=NOW) == 1
        assert webhooks.pending()
    assert feedback.hear(now=NOW) == 1
    told(accounts["resend"], "opened", alpha, mails[alpha])
    monkeypatch.setattr(feedback, "record", broken)
    for _ in range(webhooks.ATTEMPTS):
        assert webhooks.pending()
        feedback.hear(now=NOW)
    assert not webhooks.pending()
    assert WebhookPost.objects.latest("pk").trouble == "RuntimeError"


def test_a_post_rings_for_a_worker_and_the_minutes_job_too(alpha: Agency, accounts: dict[str, Account]) -> None:
    with context.entered(alpha):
        (mail,) = sent(alpha, accounts["resend"], 1)
    told(accounts["resend"], "delivered", alpha, mail)
    assert waiting() == 1
    jobs.tick()
    assert waiting() == 2
    jobs.hear()
    with context.entered(alpha):
        assert CampaignOutcome.objects.get().delivered == 1


def test_only_one_worker_handles_posts(committed: dict[str, Agency]) -> None:
    def try_it(_: int) -> bool:
        try:
            with webhooks.alone() as mine:
                return mine
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other:
        with webhooks.alone() as mine:
            assert mine
            assert list(other.map(try_it, [1])) == [False]
        assert list(other.map(try_it, [1])) == [True]


def test_what_was_heard_is_shown_wherever_the_mail_is(
    alpha: Agency, beta: Agency, carol: User, accounts: dict[str, Account]
) -> None:
    with context.entered(alpha):
        mails = sent(alpha, accounts["sendgrid"], 2)
        secret = keys.issue(carol, "program")
    told(accounts["sendgrid"], "delivered", alpha, mails[0])
    told(accounts["sendgrid"], "hard", alpha, mails[1])
    feedback.hear(now=NOW)
    site = at(alpha, carol)
    page = body(site.get(f"/campaigns/{mails[0].campaign_id}/"))
    assert page.count('<b class="number">1</b>') == 2
    assert "50 %" in page
    assert '<b class="number">1</b>' in body(site.get("/"))
    mail = site.get(f"/api/v1/messages/{mails[1].key}/", headers={"authorization": f"Bearer {secret}"}).json()
    (event,) = mail["events"]
    assert (event["code"], event["source"]) == ("bounced", "sendgrid")
    assert event["detail"] == "The address does not exist: 550 5.1.1 no such user"
    assert "550 5.1.1 no such user" in body(site.get(f"/admin/campaigns/message/{mails[1].pk}/change/"))


def test_the_operator_sees_what_an_account_hears_and_never_its_secret(accounts: dict[str, Account]) -> None:
    operator = User.objects.create_superuser("operator@polza.test")
    site = Visitor("localhost")
    site.force_login(operator, backend="django.contrib.auth.backends.ModelBackend")
    account = accounts["sendgrid"]
    webhooks.count(account.pk, {WebhookDay.Result.BAD_SIGNATURE: 7, WebhookDay.Result.EVENTS: 1234}, now=NOW)
    url = f"/admin/accounts/account/{account.pk}/change/"
    page = body(site.get(url))
    assert f"http://localhost:8000/webhooks/{account.webhook_key}/" in page
    assert "1,234 Events" in page
    assert "7 Refused: the signature is wrong" in page
    assert SECRETS["sendgrid"][0] not in page
    form = {
        "name": "sendgrid",
        "options": "{}",
        "priority": 1,
        "sender_limit": 400,
        "per_day": 9,
        "monthly_price": "0",
        "mail_price": "0",
        "included_per_month": 0,
        "api_key": "SG.x",
        "webhook_secret": "not a key",
        "allotments-TOTAL_FORMS": 0,
        "allotments-INITIAL_FORMS": 0,
    }
    assert "This cannot be the secret of such a webhook." in body(site.post(url, form))
    answer = site.post(url, {**form, "webhook_secret": SECRETS["sendgrid"][1]})
    assert answer.status_code == 302, answer.context["adminform"].form.errors
    assert Account.objects.get(pk=account.pk).webhook_secrets == {"secret": SECRETS["sendgrid"][1]}
    assert site.post(url, {**form, "webhook_secret": ""}).status_code == 302
    assert Account.objects.get(pk=account.pk).webhook_secrets == {"secret": SECRETS["sendgrid"][1]}
