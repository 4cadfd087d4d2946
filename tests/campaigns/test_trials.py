"""A mail is tried on the agency's own people by the way of every mail: counted, marked, never twice."""

import email
import email.policy
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
import time_machine
from django.conf import settings
from django.utils import timezone

from campaigns import audit, feedback, jobs, launch, preview, signups, trials
from campaigns.models import Campaign, Contact, ContactList, Message, Step, Suppression, TrialMail
from campaigns.progress import progress
from providers.accounts.events import BounceClass, EventType, Heard
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from providers.senders.models import Event
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns import ledgers
from tests.providers.payloads import SECRETS, post
from tests.stage import NOON
from tests.visitor import Visitor, at, body

CAROL = "carol@alpha.test"


@pytest.fixture
def accounts(alpha: Agency, beta: Agency, carol: User, sandbox: Sandbox) -> Iterator[dict[str, Account]]:
    """All three accounts for Alpha, where Carol has signed in; in the end the ledgers say what was sent."""
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    with context.entered(alpha):
        User.objects.update(last_login=NOON)
    yield found
    with context.entered(beta):
        assert not TrialMail.objects.exists()
    assert audit.audit_quota().drifts == []


@pytest.fixture
def step(alpha: Agency, accounts: dict[str, Account]) -> Step:
    with context.entered(alpha):
        html = '<p>{Hello|Hi} {{ first_name }}, <a href="https://a.example/">look</a></p>'
        made = stage.campaign(stage.contact_list("p", 3), html=html)
        return made.steps.select_related("campaign").get()


def ask(step: Step, *to: str, now: datetime = NOON) -> list[TrialMail]:
    return trials.ask(step, Contact.objects.order_by("pk")[0], to, by=CAROL, now=now)


def send(now: datetime = NOON) -> int:
    return trials.send(clock=lambda: now, until=now + timedelta(seconds=15))


def state() -> list[tuple[str, str]]:
    return list(TrialMail.objects.order_by("pk").values_list("status", "detail"))


def read(mail: dict[str, Any]) -> tuple[str, str, str]:
    """Subject, text and HTML as the provider has them."""
    content = mail["content"]
    match mail["provider"]:
        case "resend":
            return content["subject"], content["text"].removesuffix("\n"), content["html"]
        case "sendgrid":
            texts = {part["type"]: part["value"] for part in content["content"]}
            return content["subject"], texts["text/plain"].removesuffix("\n"), texts["text/html"]
        case _:
            whole = email.message_from_string(content, policy=email.policy.default)
            bodies = [whole.get_body([kind]).get_content() for kind in ("plain", "html")]  # type: ignore[union-attr]
            return whole["Subject"], *(one.replace("\r\n", "\n").removesuffix("\n") for one in bodies)  # type: ignore[return-value]


@pytest.mark.parametrize("name", ["resend", "sendgrid", "smtp"])
def test_a_trial_is_the_mail_that_the_contact_would_get(
    name: str, alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, step: Step
) -> None:
    with context.entered(alpha):
        Campaign.objects.update(traffic_class=accounts[name].traffic_classes[0])
        Account.objects.exclude(name=name).update(enabled=False)
        step.refresh_from_db()
        ask(step)
        assert send() == 1
        trial = TrialMail.objects.select_related("account", "sender").get()
        assert (trial.status, trial.account.name, trial.recipient) == ("sent", name, CAROL)  # type: ignore[union-attr]
        seen = preview.of(step, Contact.objects.order_by("pk")[0], sender=trial.sender)
        (got,) = sandbox.messages(CAROL)
        assert read(got) == (f"[Test] {seen.subject}", seen.text.removesuffix("\n"), seen.html)
        assert trials.send(clock=lambda: NOON, until=NOON) == 0
        assert ledgers.used() == {"domains": 1, "senders": 1, "account of all": 1, "account of alpha": 1}
        assert not Message.objects.exists()
        assert progress(step.campaign, now=NOON).total == 0


def test_it_goes_to_people_who_have_signed_in_alone(alpha: Agency, step: Step) -> None:
    with context.entered(alpha):
        User.objects.create_user("prospect@people.example")
        for to, why in [
            (["prospect@people.example"], "signed in"),
            (["p1@people.example", CAROL], "p1@people.example"),
            ([f"a{number}@alpha.test" for number in range(6)], "5 addresses"),
        ]:
            with pytest.raises(trials.TrialRefusedError, match=why):
                ask(step, *to)
        Suppression.objects.create(value=CAROL, source="opt_out")
        with pytest.raises(trials.TrialRefusedError, match="must not be mailed"):
            ask(step)
        Suppression.objects.all().delete()
        Step.objects.update(html="{{ company }}")
        with pytest.raises(trials.TrialRefusedError, match="missing company"):
            ask(Step.objects.select_related("campaign").get())
        assert not TrialMail.objects.exists()


def test_an_agency_sends_so_many_a_day(alpha: Agency, step: Step) -> None:
    with context.entered(alpha):
        for _ in range(trials.MOST_A_DAY - 1):
            TrialMail.objects.create(step=step, recipient=CAROL, by=CAROL, asked_at=NOON, status="failed")
        ask(step)
        with pytest.raises(trials.TrialRefusedError, match="100 tests"):
            ask(step)
        ask(step, now=NOON + timedelta(days=1, seconds=1))


def test_who_opts_out_before_it_leaves_does_not_get_it(alpha: Agency, sandbox: Sandbox, step: Step) -> None:
    with context.entered(alpha):
        ask(step)
        Suppression.objects.create(value=CAROL, source="opt_out")
        assert send() == 0
        assert state() == [("failed", "The address must not be mailed any more.")]
        assert set(ledgers.used().values()) == {0}
    assert not sandbox.messages(CAROL)


def test_it_waits_for_quota_for_an_hour(alpha: Agency, step: Step) -> None:
    with context.entered(alpha):
        Account.objects.update(per_day=0)
        ask(step)
        assert send() == 0
        assert state()[0][0] == "waiting"
        assert "quota" in state()[0][1]
        assert send(NOON + timedelta(minutes=61)) == 0
        assert state()[0][0] == "failed"
        assert "quota" in state()[0][1]


def test_a_refusal_goes_to_the_next_account_and_a_lost_answer_is_not_sent_again(
    alpha: Agency, accounts: dict[str, Account], sandbox: Sandbox, step: Step
) -> None:
    with context.entered(alpha):
        sandbox.script("resend=down")
        ask(step)
        assert send() == 1
        assert TrialMail.objects.get().account_id == accounts["sendgrid"].pk
        sandbox.heal()
        sandbox.script("sendgrid=lost_answers:1")
        Account.objects.filter(pk=accounts["resend"].pk).update(enabled=False)
        ask(step)
        assert send() == 0
        assert send() == 0
        assert state()[1][0] == "unknown"
        assert ledgers.used()["senders"] == 2


def test_what_a_dead_worker_held_is_taken_back_or_in_doubt(
    alpha: Agency, sandbox: Sandbox, step: Step, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: Any) -> Any:
        raise KeyboardInterrupt

    later = NOON + settings.LEASE + timedelta(seconds=1)
    with context.entered(alpha):
        ask(step)
        for name in ("_begin", "_settle"):
            with monkeypatch.context() as patched:
                patched.setattr(trials, name, dies)
                with pytest.raises(KeyboardInterrupt):
                    send()
            assert state() == [("claimed", "")]
            if name == "_begin":
                # Never tried: the rescue gives it back, and it goes.
                trials._rescue(alpha, later)
                assert state()[0][0] == "waiting"
                assert set(ledgers.used().values()) == {0}
        assert send(later) == 0
        assert state()[0][0] == "unknown"
        assert ledgers.used()["senders"] == 1
    assert len(sandbox.messages(CAROL)) == 1


def test_pages_programs_and_the_admin_send_it(
    alpha: Agency, carol: User, oscars: Visitor, step: Step, sandbox: Sandbox
) -> None:
    carols = at(alpha, carol)
    path = f"/campaigns/{step.campaign_id}/trials/"
    with context.entered(alpha):
        secret = keys.issue(carol, "program")
        User.objects.update(is_staff=True, is_superuser=True)
    with time_machine.travel(NOON, tick=False):
        assert "Send a test" in body(carols.get(f"/campaigns/{step.campaign_id}/preview/"))
        answer = carols.post(f"{path}?contact=p2@people.example", {"to": [CAROL]}, follow=True)
        assert "1 test mail is on its way" in body(answer)
        assert "every 2s" in body(answer)
        assert "p1@people.example: " not in body(answer)
        assert "has not" in body(carols.post(path, {"to": ["x@y.example"]}, follow=True))
        headers = {"authorization": f"Bearer {secret}"}
        api = f"/api/v1/campaigns/{step.campaign_id}/trials/"
        made = at(alpha).post(api, {"contact": "p2@people.example"}, content_type="application/json", headers=headers)
        assert [one["status"] for one in made.json()] == ["waiting", "waiting"]
        refused = at(alpha).post(
            api,
            {"contact": "p2@people.example", "to": ["x@y.example"]},
            content_type="application/json",
            headers=headers,
        )
        assert refused.status_code == 409
        with context.entered(alpha):
            carol.refresh_from_db()
        chosen = {"action": "send_trial", "_selected_action": step.campaign_id}
        admin = at(alpha, carol).post("/admin/campaigns/campaign/", chosen, follow=True)
        assert "1 test mail is on its way" in body(admin)
        with context.entered(alpha):
            jobs.send_trials()
            assert [one for one, _ in state()] == ["sent"] * 3
            assert {read(one)[0] for one in sandbox.messages(CAROL)} == {"[Test] Hello N2", "[Test] Hello N0"}
    assert "every 2s" not in body(carols.get(path))
    assert carols.get(path).status_code == 200
    assert oscars.get(path).status_code == 404
    assert oscars.post(path, {"to": [CAROL]}).status_code == 404


def test_a_trial_of_a_deleted_draft_stays_counted(alpha: Agency, step: Step) -> None:
    with context.entered(alpha):
        ask(step)
        assert send() == 1
        Campaign.objects.all().delete()
        assert TrialMail.objects.get().step is None
        launch.launch(stage.campaign(stage.contact_list("q", 2)), now=NOON)


def test_whoever_sent_a_trial_is_told_that_it_came_back_and_nobody_is_suppressed(
    alpha: Agency, carol: User, accounts: dict[str, Account], step: Step
) -> None:
    now = timezone.now()
    Account.objects.filter(name="resend").update(webhook_secrets={"secret": SECRETS["resend"][0]})
    with context.entered(alpha):
        Account.objects.exclude(name="resend").update(enabled=False)
        (trial,) = ask(step, now=now)
        send(now)
        page = f"/campaigns/{step.campaign_id}/"
    assert "came back" not in body(at(alpha, carol).get(page))
    seen: list[str] = []
    for what in ("hard", "complained", "hard"):
        one = post("resend", what, {"agency": alpha.schema_name, "trial": str(trial.key)}, now=now)
        path = f"/webhooks/{accounts['resend'].webhook_key}/"
        Visitor("localhost").post(path, one.body, content_type="application/json", headers=dict(one.headers))
        feedback.hear(now=now)
        with context.entered(alpha):
            trial.refresh_from_db()
            words = {"bounced": "came back.", "complained": "was reported as spam"}[trial.came_back]
            seen.append(trial.came_back)
            assert not Suppression.objects.exists()
            # Its events wait for no message.
            assert not Event.objects.filter(waits=True).exists()
        assert f"Your test mail to {CAROL} {words}" in body(at(alpha, carol).get(page))
    assert seen == ["bounced", "complained", "complained"]
    with context.entered(alpha):
        TrialMail.objects.update(by="somebody@else.example")
    assert "Your test mail" not in body(at(alpha, carol).get(page))


def test_a_confirmation_that_comes_back_suppresses_its_address_and_is_forgotten_with_the_sign_up(
    alpha: Agency, accounts: dict[str, Account]
) -> None:
    now = timezone.now()
    with context.entered(alpha):
        into = ContactList.objects.create(name="news")
        visit = signups.Visit("I want mails")
        for email in ("zoe@people.example", "max@people.example", "eve@people.example"):
            signups.ask(into, email, visit, language="en", now=now)
        assert send(now) == 3
        made = list(TrialMail.objects.order_by("pk"))
        hard, soft, complained = (
            Heard("x", f"{mail.pk}", EventType.BOUNCED, now, now, mail.key, mail.account_id, mail.recipient, "no")
            for mail in made
        )
        feedback.record(
            [
                replace(hard, bounce_class=BounceClass.HARD),
                replace(soft, bounce_class=BounceClass.SOFT),
                replace(complained, type=EventType.COMPLAINED),
            ],
            now=now,
        )
        assert set(Suppression.objects.values_list("value", "source")) == {
            ("zoe@people.example", "bounce"),
            ("eve@people.example", "complaint"),
        }
        assert Event.objects.filter(recipient="zoe@people.example").exists()
        signups.forget("zoe@people.example")
        feedback.record([replace(hard, raw_id="late", detail="zoe")], now=now)
        of_zoe = Event.objects.filter(message=made[0].key)
        assert set(of_zoe.values_list("recipient", "detail", "provider_id")) == {("", "", "")}
        assert TrialMail.objects.get(pk=made[0].pk).came_back_with == ""
        assert Event.objects.filter(recipient="max@people.example").exists()
