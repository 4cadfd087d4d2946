"""Lists are double opt-in: nobody gets a list's mails who has not pressed the button behind a mail to their address."""

import re
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.conf import settings
from django.db import connection
from django.utils import timezone

from campaigns import audit, consent, erasure, jobs, launch, optout, signups, trials
from campaigns.consent import Evidence, Source
from campaigns.models import (
    ConsentEntry,
    Contact,
    ContactList,
    Enrollment,
    Message,
    SignUp,
    Subscription,
    Suppression,
    TrialMail,
)
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.campaigns import ledgers
from tests.campaigns.test_trials import read
from tests.visitor import at, body

ZOE = "zoe@people.example"
LINK = re.compile(r"http://alpha\.localhost:8000(/c/[A-Za-z0-9_-]{40})(?![A-Za-z0-9_-])")
SEEN = signups.Visit("I want mails", "https://shop.example", "198.51.100.7", "Browser/1")


@pytest.fixture(scope="module")
def shared_sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def sandbox(shared_sandbox: Sandbox) -> Sandbox:
    shared_sandbox.reset()
    return shared_sandbox


@pytest.fixture
def account(alpha: Agency, beta: Agency, sandbox: Sandbox) -> Iterator[Account]:
    """For mails that go at once; it requires consent, and nothing of Beta's is touched."""
    found = stage.accounts(sandbox)["resend"]
    assert found.requires_consent
    stage.allot(alpha, found)
    yield found
    connection.set_schema_to_public()
    with context.entered(beta):
        assert not SignUp.objects.exists()
        assert not TrialMail.objects.exists()
    assert audit.audit_quota().drifts == []


@pytest.fixture
def news(alpha: Agency) -> Iterator[ContactList]:
    with context.entered(alpha):
        yield ContactList.objects.create(name="news")


def asked(into: ContactList, email: str = ZOE, visit: signups.Visit = SEEN) -> str:
    """The token of the mail that asks this address to confirm."""
    signups.ask(into, email, visit, language="en", now=timezone.now())
    row = SignUp.objects.latest("pk")
    return signups.tokens.Signer(context.current_schema(), signups.tokens.CONFIRM).of(row.key.bytes)


def confirm(token: str) -> signups.Standing:
    return signups.confirm(token, SEEN, now=timezone.now())[0]


def gone_out() -> int:
    return trials.send(clock=timezone.now, until=timezone.now() + timedelta(seconds=15))


def test_the_whole_way(alpha: Agency, carol: User, account: Account, sandbox: Sandbox, news: ContactList) -> None:
    page = body(at(alpha, carol).get("/contacts/"))
    found = re.search(r"&lt;form action=&quot;http://alpha\.localhost:8000(/s/[\w-]{40})&quot;", page)
    assert found is not None
    path, stranger = found[1], at(alpha)
    assert "I want mails of “news”" in body(stranger.get(path))
    assert "Хочу" in body(stranger.get(f"{path}?lang=ru"))

    done = stranger.post(path, {"email": " Zoe@People.example ", "lang": "en"}, headers={"user-agent": "Browser/1"})

    assert "Look into your mailbox" in body(done)
    assert not Contact.objects.exists()
    jobs.send_trials()
    (mail,) = sandbox.messages(ZOE)
    subject, text, html = read(mail)
    assert subject == "Please confirm: news"
    headers = {name.lower(): value for name, value in mail["content"]["headers"].items()}
    assert headers["auto-submitted"] == "auto-generated"
    assert not [name for name in headers if name.startswith("list-")]
    assert "/t/" not in html
    assert ledgers.used() == {"domains": 1, "senders": 1, "account of all": 1, "account of alpha": 1}
    link = LINK.search(text)
    assert link is not None
    assert link[1] in html

    # Programs open links: nothing happens.
    assert "Yes, I want these mails" in body(stranger.get(link[1]))
    assert not Contact.objects.exists()
    for _twice in range(2):
        assert "It is confirmed" in body(stranger.post(link[1], headers={"user-agent": "Browser/2"}))
    subscription = Subscription.objects.select_related("contact").get()
    assert (subscription.contact.email, subscription.basis, subscription.active) == (ZOE, "consent", True)
    entries = ConsentEntry.objects.order_by("pk").values_list("source", "basis", "remote_ip", "user_agent", "list")
    assert list(entries) == [
        ("sign_up", "", "127.0.0.1", "Browser/1", news.pk),
        ("confirmation", "consent", "127.0.0.1", "Browser/2", news.pk),
    ]
    assert {one.text for one in ConsentEntry.objects.all()} == {signups.promise(news, alpha.name)}
    assert gone_out() == 0
    assert not Message.objects.exists()


def test_a_forged_link_and_an_old_one_say_so(alpha: Agency, account: Account, news: ContactList) -> None:
    token, stranger = asked(news), at(alpha)
    with context.entered(alpha):
        forged = stranger.post(f"/c/{token[:-1]}{'A' if token[-1] != 'A' else 'B'}")
        assert (forged.status_code, "does not work" in body(forged)) == (404, True)
        assert stranger.post(f"/s/{token}").status_code == 404
        SignUp.objects.update(asked_at=timezone.now() - settings.SIGN_UP_LIFE)
        for _before_and_after in range(2):
            old = stranger.post(f"/c/{token}")
            assert (old.status_code, "too old" in body(old)) == (410, True)
            jobs.expire_sign_ups()
        assert not SignUp.objects.exists()
        assert not Contact.objects.exists()
        assert gone_out() == 0
        assert set(TrialMail.objects.values_list("status", "recipient")) == {("failed", "")}


def test_a_closed_list_takes_nobody_new_and_lets_who_asked_before_confirm(
    alpha: Agency, carol: User, account: Account, news: ContactList
) -> None:
    waiting, path = asked(news), f"/s/{signups.token_of(news)}"
    switch = f"/contacts/lists/{news.pk}/sign-up/"
    assert at(alpha, carol).post(switch, {"open": "2"}).status_code == 404
    assert at(alpha, carol).post(switch, {"open": "0"}).status_code == 302
    closed = at(alpha).get(path), at(alpha).post(path, {"email": "max@people.example"})
    for answer in closed:
        assert (answer.status_code, "takes no sign-ups for “news”" in body(answer)) == (410, True)
    # `news` was read before it was closed.
    with pytest.raises(signups.SignUpClosedError):
        asked(news, "max@people.example")
    assert SignUp.objects.count() == 1
    assert "Open sign-up" in body(at(alpha, carol).get("/contacts/"))

    assert "It is confirmed" in body(at(alpha).post(f"/c/{waiting}"))
    assert Subscription.objects.get().basis == "consent"
    at(alpha, carol).post(switch, {"open": "1"})
    assert "Look into your mailbox" in body(at(alpha).post(path, {"email": "max@people.example"}))


def test_a_program_that_fills_in_all_is_told_the_same(alpha: Agency, account: Account, news: ContactList) -> None:
    path = f"/s/{signups.token_of(news)}"
    trap = at(alpha).post(path, {"email": ZOE, "website": "https://spam.example"})
    assert not SignUp.objects.exists()
    assert body(at(alpha).post(path, {"email": ZOE})) == body(trap)
    assert SignUp.objects.count() == 1
    wrong = at(alpha).post(path, {"email": "zoe"})
    assert (wrong.status_code, "name@company.com" in body(wrong)) == (400, True)


def test_one_address_and_one_network_may_ask_so_often(account: Account, news: ContactList) -> None:
    for _ in range(signups.MOST_TO_ADDRESS + 2):
        asked(news)
    assert TrialMail.objects.count() == signups.MOST_TO_ADDRESS
    SignUp.objects.bulk_create(
        SignUp(list=news, email=ZOE, language="en", remote_ip=SEEN.remote_ip, asked_at=timezone.now())
        for _ in range(signups.MOST_FROM_IP)
    )
    with pytest.raises(signups.SignUpRefusedError, match="an hour"):
        asked(news, "max@people.example")
    asked(news, "max@people.example", signups.Visit("", "", "198.51.100.8"))


@pytest.mark.parametrize("source", ["bounce", "complaint", "opt_out", "manual"])
@pytest.mark.parametrize("everywhere", [True, False])
def test_it_takes_back_that_they_left_this_list_and_nothing_else(
    source: str, everywhere: bool, account: Account, sandbox: Sandbox, news: ContactList
) -> None:
    other = ContactList.objects.create(name="other")
    Suppression.objects.create(value=ZOE, list=other, source="opt_out")
    barring = Suppression.objects.create(value=ZOE, list=None if everywhere else news, source=source)
    token, lifts = asked(news), source == "opt_out" and not everywhere

    assert gone_out() == lifts
    assert len(sandbox.messages(ZOE)) == lifts
    assert confirm(token) is signups.Standing.DONE

    assert Suppression.objects.filter(pk=barring.pk).exists() != lifts
    assert signups.barred(SignUp.objects.get()) != lifts
    assert Suppression.objects.filter(list=other).exists()


def test_where_no_confirmation_is_asked_for_only_strangers_are_taken_at_once(
    account: Account, news: ContactList
) -> None:
    ContactList.objects.update(double_opt_in=False)
    news.refresh_from_db()
    asked(news)
    zoe = Contact.objects.get()
    assert (Subscription.objects.get().basis, TrialMail.objects.count()) == ("consent", 0)
    consent.withdraw(zoe.pk, Evidence(Source.OPT_OUT, timezone.now()), now=timezone.now(), into=news)
    asked(news)
    assert (Subscription.objects.get().basis, TrialMail.objects.count()) == ("withdrawn", 1)


def test_leaving_takes_consent_back_and_a_fresh_one_is_for_this_list_alone(account: Account, news: ContactList) -> None:
    confirm(asked(news))
    launched = stage.campaign(news, traffic_class="high_priority")
    launch.launch(launched, now=timezone.now())
    mail = Message.objects.get()
    for _twice in range(2):
        optout.leave_list(mail, news.pk, how=optout.PAGE, clock=timezone.now, remote_ip="198.51.100.7")
    assert (Subscription.objects.get().basis, Enrollment.objects.get().consented) == ("withdrawn", False)
    assert ConsentEntry.objects.filter(source="opt_out", list=news, remote_ip="198.51.100.7").count() == 1

    confirm(asked(news))
    assert (Subscription.objects.get().basis, Subscription.objects.get().active) == ("consent", True)
    assert not Suppression.objects.exists()

    for _twice in range(2):
        optout.leave(mail, how=optout.PAGE, clock=timezone.now)
    assert Contact.objects.get().basis == "withdrawn"
    assert ConsentEntry.objects.filter(source="opt_out", list=None).count() == 1
    assert Enrollment.objects.get().consented is False


def test_erasure_takes_sign_ups_along_and_refuses_new_ones(
    alpha: Agency, account: Account, sandbox: Sandbox, news: ContactList
) -> None:
    token = asked(news)
    assert erasure.erase(ZOE, by="carol", clock=timezone.now).counts["sign_ups"] == 1
    assert not signups.ask(news, ZOE, SEEN, language="en", now=timezone.now())
    assert confirm(token) is signups.Standing.EXPIRED
    assert gone_out() == 0
    assert (sandbox.messages(ZOE), SignUp.objects.count(), Contact.objects.count()) == ([], 0, 0)
    assert set(TrialMail.objects.values_list("recipient", flat=True)) == {""}
