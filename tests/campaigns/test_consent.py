"""Mails to contacts without consent never leave through an account that requires it: not by the plan, not by failover,
not by a claim, not at the last moment."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.utils import timezone
from hypothesis import given
from hypothesis import strategies as st

from campaigns import advance, audit, consent, dispatch, failover, forecast, launch, lifecycle
from campaigns.consent import Evidence, Source
from campaigns.delivery import Batch, Delivery, Lines
from campaigns.explain import explain
from campaigns.models import (
    Basis,
    Campaign,
    ConsentEntry,
    Contact,
    ContactList,
    Enrollment,
    Message,
    Step,
    Subscription,
    Suppression,
)
from campaigns.planning import Plan, spread
from campaigns.progress import progress
from campaigns.reasons import Reason
from providers.accounts.models import Account, Allotment
from providers.accounts.routing import Route, next_route
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

GIVEN = Evidence(Source.PERSON, NOON, text="Yes, write to me", detail="trade fair", by="carol@alpha.example")
pools = st.lists(st.tuples(st.booleans(), st.booleans(), st.integers(0, 50), st.integers(1, 3)), min_size=1, max_size=8)


def routes_of(drawn: list[tuple[bool, bool, int, int]]) -> list[Route]:
    """Accounts: whether each requires consent and is meant for the class, its room and its priority."""
    return [
        Route(number, f"a{number}", "smtp", frozenset({"bulk"} if meant else ()), priority, free, True, strict)
        for number, (strict, meant, free, priority) in enumerate(drawn, start=1)
    ]


class TestThePlan:
    @given(st.integers(0, 500), st.integers(0, 500), pools, st.sampled_from(["even", "by_class", "shares"]), st.data())
    def test_over_any_pool_nobody_without_consent_is_placed_where_it_is_required_and_all_others_are_served(
        self, consented: int, others: int, drawn: list[tuple[bool, bool, int, int]], mode: str, data: st.DataObject
    ) -> None:
        routes = routes_of(drawn)
        shares: dict[str, float] = {route.name: 0 for route in routes}
        shares[data.draw(st.sampled_from(routes)).name] = 100
        plan = spread(consented, others, routes, traffic_class="bulk", mode=mode, shares=shares)
        strict = {route.account_id for route in routes if route.consent_required}
        placed = placed_of(plan)
        for account_id, count in placed[False].items():
            assert not count or account_id not in strict
        lenient = len(strict) < len(routes)
        assert plan.held == (0 if lenient else others)
        assert sum(sum(pool.values()) for pool in placed.values()) + plan.held == consented + others
        if None not in placed:
            assert sum(placed[True].values()) == consented

    @given(st.integers(0, 500), st.integers(0, 500), pools)
    def test_it_is_the_plan_for_all_as_far_as_that_goes(
        self, consented: int, others: int, drawn: list[tuple[bool, bool, int, int]]
    ) -> None:
        """Where the accounts that take them have room for those without consent, every account has its usual share."""
        routes = routes_of(drawn)
        plan = spread(consented, others, routes, traffic_class="bulk", mode="even")
        usual = spread(consented + others, 0, routes, traffic_class="bulk", mode="even")
        lenient = {route.account_id for route in routes if not route.consent_required}
        if others <= sum(share.count for share in usual.shares if share.account_id in lenient):
            assert {one.name: one.count for one in plan.shares} == {one.name: one.count for one in usual.shares}

    @given(pools, st.booleans(), st.sets(st.integers(1, 8)))
    def test_failover_asks_the_same(
        self, drawn: list[tuple[bool, bool, int, int]], consented: bool, refused_by: set[int]
    ) -> None:
        routes = routes_of(drawn)
        found = next_route([one for one in routes if one.takes(consented=consented)], "bulk", refused_by=refused_by)
        possible = [
            one
            for one in routes
            if one.free and one.account_id not in refused_by and (consented or not one.consent_required)
        ]
        assert (found is None) == (not possible)
        assert found is None or found in possible


def placed_of(plan: Plan) -> dict[bool | None, dict[int, int]]:
    """Mails by account, of each pool; what is for all counts as without consent too."""
    found: dict[bool | None, dict[int, int]] = {False: {}}
    for pool in plan.pools:
        found[pool.consented] = {share.account_id: share.count for share in pool.shares}
    return found


@pytest.fixture
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as running:
        yield running


@pytest.fixture
def accounts(sandbox: Sandbox, alpha: Agency, beta: Agency) -> Iterator[dict[str, Account]]:
    """Resend and SendGrid require consent by their terms, the SMTP server does not. Beta has contacts without it."""
    found = stage.accounts(sandbox)
    stage.allot(alpha, *found.values())
    stage.allot(beta, *found.values())
    with context.entered(beta):
        launch.launch(stage.campaign(stage.contact_list("b", 4, basis="")), now=NOON)
    with context.entered(alpha):
        yield found
    with context.entered(beta):
        assert set(Message.objects.values_list("account", "status")) == {(found["smtp"].pk, "scheduled")}
    assert audit.audit_quota().drifts == []


def mixed(name: str, without: int, having: int, **fields: Any) -> Campaign:
    """A draft to so many contacts without consent, and so many with it."""
    made = stage.campaign(stage.contact_list(name, without + having, basis=""), distribution="even", **fields)
    ids = Contact.objects.order_by("pk").values_list("pk", flat=True)[without:]
    Subscription.objects.filter(contact__in=list(ids)).update(basis=Basis.CONSENT)
    return made


def take_away(accounts: dict[str, Account], *names: str) -> None:
    Allotment.objects.filter(account__in=[accounts[name] for name in names]).delete()


def drain(accounts: dict[str, Account]) -> None:
    for account in accounts.values():
        dispatch.drain(account.pk, clock=lambda: NOON, until=NOON + timedelta(seconds=15))


def whereabouts() -> dict[tuple[str, str, bool], int]:
    """How many mails there are by account, state, and whether the contact has given consent."""
    found: dict[tuple[str, str, bool], int] = {}
    for key in Message.objects.values_list("account__name", "status", "enrollment__consented"):
        found[key] = found.get(key, 0) + 1
    return found


def test_what_the_terms_say_holds_until_the_operator_says_otherwise(accounts: dict[str, Account]) -> None:
    def required() -> list[str]:
        return [one.name for one in Account.objects.order_by("pk") if one.requires_consent]

    assert required() == ["resend", "sendgrid"]
    Account.objects.filter(name="resend").update(consent_required=False)
    Account.objects.filter(name="smtp").update(consent_required=True)
    assert required() == ["sendgrid", "smtp"]


def test_a_campaign_goes_through_the_accounts_that_take_its_contacts(
    accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    made = mixed("a", without=12, having=18)
    foreseen = forecast.forecast(made, now=NOON)
    assert foreseen.consent is not None
    assert (foreseen.consent.without, foreseen.consent.held) == (12, 0)
    assert "12 contacts have given no consent and do not leave through resend, sendgrid" in foreseen.consent.text
    launch.launch(made, now=NOON)
    assert whereabouts() == {
        ("resend", "scheduled", True): 9,
        ("sendgrid", "scheduled", True): 9,
        ("smtp", "scheduled", False): 12,
    }
    drain(accounts)
    assert stage.statuses(made) == {"sent": 30}
    seen = sandbox.snapshot()["accepted"]
    assert (seen["resend"], seen["sendgrid"], seen["smtp"]) == (9, 9, 12)


def test_what_no_account_takes_waits_with_its_reason_until_consent_is_given(accounts: dict[str, Account]) -> None:
    take_away(accounts, "smtp")
    made = mixed("a", without=2, having=3)
    foreseen = forecast.forecast(made, now=NOON)
    assert foreseen.mails == 3
    assert foreseen.consent
    assert foreseen.consent.held == 2
    assert launch.launch(made, now=NOON).held == 2
    report = progress(made, now=NOON)
    assert report.total == 5
    assert {one.code: one.count for one in report.reasons}[Reason.NEEDS_CONSENT] == 2
    held = made.messages.filter(status="held").earliest("pk")
    told = explain(held, now=NOON)
    assert [(one.used, one.allowed) for one in told.numbers] == [(3, 5), (0, 2)]

    consent.record([held.contact_id], Basis.CONSENT, GIVEN, now=NOON, into=made.list)
    failover.rehome(context.current_agency(), now=NOON)
    assert made.messages.filter(status="held").count() == 1
    drain(accounts)
    assert stage.statuses(made) == {"sent": 4, "held": 1}


def test_a_campaign_that_reaches_nobody_says_so_in_words(accounts: dict[str, Account]) -> None:
    take_away(accounts, "smtp")
    made = mixed("a", without=3, having=0)
    with pytest.raises(launch.LaunchRefusedError, match=r"Nobody of the list \(3\) has given consent"):
        launch.launch(made, now=NOON)
    assert not Enrollment.objects.exists()
    assert "Nobody of the list (3)" in forecast.forecast(made, now=NOON).problems[0]


def test_a_full_account_moves_only_what_the_other_takes(accounts: dict[str, Account]) -> None:
    made = mixed("a", without=4, having=2, traffic_class="bulk")
    Campaign.objects.update(distribution="shares", shares={"smtp": 100})
    made.refresh_from_db()
    launch.launch(made, now=NOON)
    Allotment.objects.filter(account=accounts["smtp"]).update(per_day=0)
    failover.relieve(context.current_agency(), accounts["smtp"].pk, now=NOON)
    found = whereabouts()
    assert found.pop(("smtp", "scheduled", False)) == 4
    assert sum(found.values()) == 2
    assert {name for name, _, _ in found} <= {"resend", "sendgrid"}


def test_an_account_that_refuses_passes_on_only_what_the_next_takes(
    accounts: dict[str, Account], sandbox: Sandbox
) -> None:
    made = mixed("a", without=2, having=2)
    Campaign.objects.update(distribution="shares", shares={"smtp": 100})
    made.refresh_from_db()
    launch.launch(made, now=NOON)
    sandbox.script("smtp=down")
    agency = context.current_agency()
    allotment = Allotment.objects.select_related("account").get(account=accounts["smtp"], agency=agency)
    send(agency, accounts["smtp"], dispatch.claim_batch(agency, allotment, now=NOON, limit=10))
    assert {key: count for key, count in whereabouts().items() if not key[2]} == {("smtp", "scheduled", False): 2}
    assert ("smtp", "scheduled", True) not in whereabouts()


def test_a_claim_takes_none_that_the_account_does_not(accounts: dict[str, Account]) -> None:
    """The operator has changed their mind since the mails were placed."""
    made = mixed("a", without=6, having=0)
    launch.launch(made, now=NOON)
    Account.objects.filter(name="smtp").update(consent_required=True)
    Account.objects.filter(name="sendgrid").update(consent_required=False)
    allotment = Allotment.objects.select_related("account").get(
        account=accounts["smtp"], agency=context.current_agency()
    )
    assert dispatch.claim_batch(context.current_agency(), allotment, now=NOON, limit=10) == []
    assert whereabouts() == {("smtp", "held", False): 6}
    assert failover.rehome(context.current_agency(), now=NOON) == 6
    assert whereabouts() == {("sendgrid", "scheduled", False): 6}
    Account.objects.filter(name="smtp").update(consent_required=None)


def send(agency: Agency, account: Account, batch: list[Any]) -> None:
    with Lines(account) as lines:
        Delivery(agency, account, lines, lambda: NOON, until=NOON + timedelta(minutes=1)).run(
            Batch(batch), lambda: None
        )


@pytest.mark.parametrize("whole", [True, False])
def test_consent_that_is_withdrawn_stops_what_a_worker_holds(
    accounts: dict[str, Account], sandbox: Sandbox, whole: bool
) -> None:
    agency = context.current_agency()
    made = mixed("a", without=0, having=2)
    Campaign.objects.update(distribution="shares", shares={"resend": 100})
    made.refresh_from_db()
    launch.launch(made, now=NOON)
    allotment = Allotment.objects.select_related("account").get(account=accounts["resend"], agency=agency)
    batch = dispatch.claim_batch(agency, allotment, now=NOON, limit=10)
    message = made.messages.earliest("pk")
    consent.withdraw(message.contact_id, GIVEN, now=NOON, into=None if whole else made.list)
    # As if a launch had enrolled them in that very moment.
    Enrollment.objects.update(consented=True)
    send(agency, accounts["resend"], batch)
    message.refresh_from_db()
    assert (message.status, message.reason) == ("held", Reason.NEEDS_CONSENT)
    assert sandbox.snapshot()["accepted"]["resend"] == 1
    failover.rehome(agency, now=NOON)
    message.refresh_from_db()
    assert (message.status, message.account.name) == ("scheduled", "smtp")


def test_what_waits_leaves_the_queue_with_the_consent(accounts: dict[str, Account]) -> None:
    take_away(accounts, "smtp")
    made = mixed("a", without=0, having=3)
    launch.launch(made, now=NOON)
    consent.withdraw(made.messages.earliest("pk").contact_id, GIVEN, now=NOON)
    assert stage.statuses(made) == {"scheduled": 2, "held": 1}
    assert [one.basis for one in ConsentEntry.objects.all()] == [Basis.WITHDRAWN]


def test_a_follow_up_is_held_where_the_consent_is_gone(accounts: dict[str, Account]) -> None:
    made = mixed("a", without=0, having=1)
    Campaign.objects.update(distribution="shares", shares={"resend": 100})
    made.refresh_from_db()
    Step.objects.create(campaign=made, position=2, subject="Again", text="Again", delay=1)
    launch.launch(made, now=NOON)
    drain(accounts)
    consent.withdraw(made.messages.get().contact_id, GIVEN, now=NOON)
    advance.advance(now=NOON)
    assert made.messages.filter(step__position=2).values_list("status", "reason").get() == (
        "held",
        Reason.NEEDS_CONSENT,
    )


def test_a_doubt_is_not_asked_about_with_the_mail_itself_without_consent(accounts: dict[str, Account]) -> None:
    made = mixed("a", without=0, having=1)
    Campaign.objects.update(distribution="shares", shares={"resend": 100})
    made.refresh_from_db()
    launch.launch(made, now=NOON)
    message = made.messages.get()

    def asked() -> set[int]:
        Message.objects.update(ask_at=None)
        return lifecycle.ask_again([message.pk], now=NOON, later=NOON)

    Message.objects.update(
        status="unknown", reason="in_doubt", fingerprint="x", attempted_at=NOON, claimed_at=NOON, counted_on=NOON.date()
    )
    assert asked() == {message.pk}
    consent.withdraw(message.contact_id, GIVEN, now=NOON)
    assert asked() == set()
    Message.objects.update(status="scheduled", claimed_at=None, counted_on=None)


class TestEvidence:
    def test_it_is_kept_as_it_was(self, accounts: dict[str, Account]) -> None:
        made = mixed("a", without=1, having=0)
        person = Contact.objects.get()
        consent.record([person.pk], Basis.CONSENT, GIVEN, now=NOON, into=made.list)
        entry = ConsentEntry.objects.get()
        assert (entry.email, entry.text, entry.detail, entry.by) == (
            person.email,
            "Yes, write to me",
            "trade fair",
            "carol@alpha.example",
        )
        for change in (
            lambda: ConsentEntry.objects.update(text="No"),
            lambda: ConsentEntry.objects.all().delete(),
        ):
            with pytest.raises(IntegrityError, match="kept as it is"), transaction.atomic():
                change()
        assert consent.forget([person.pk]) == 1

    @pytest.mark.parametrize(
        ("of_contact", "of_list", "consented"),
        [
            ("", "", False),
            ("consent", "", True),
            ("", "consent", True),
            ("consent", "legitimate_interest", False),
            ("legitimate_interest", "consent", True),
            ("withdrawn", "consent", False),
            ("consent", "withdrawn", False),
            ("contract", "", False),
        ],
    )
    def test_the_lists_own_comes_first_but_for_a_withdrawal(
        self, accounts: dict[str, Account], of_contact: str, of_list: str, consented: bool
    ) -> None:
        made = mixed("a", without=1, having=0)
        Contact.objects.update(basis=of_contact)
        Subscription.objects.update(basis=of_list)
        launch.launch(made, now=NOON)
        assert Enrollment.objects.get().consented is consented
        consent.follow([Contact.objects.get().pk], now=NOON)
        assert Enrollment.objects.get().consented is consented


def test_a_program_reads_and_sets_a_basis_with_its_evidence(alpha: Agency, beta: Agency, carol: User) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1, basis="")
        contact = Contact.objects.get()
        other = ContactList.objects.create(name="other")
        secret = keys.issue(carol, "program")
    headers = {"authorization": f"Bearer {secret}"}
    path = f"/api/v1/contacts/{contact.pk}/consent/"

    def said(**body: Any) -> Any:
        answer = at(alpha).post(path, body, content_type="application/json", headers=headers)
        return answer.status_code, answer.json()

    for wrong in (
        {"basis": "consent"},
        {"basis": "consent", "where": " ", "text": "\n"},
        {"basis": "consent", "where": "shop", "at": (timezone.now() + timedelta(hours=1)).isoformat()},
        {"basis": "consent", "where": "shop", "list": other.pk},
    ):
        assert said(**wrong)[0] == 409
    for wrong in (
        {"basis": "love"},
        {},
        {"basis": "", "at": "yesterday"},
        {"basis": "", "remote_ip": "::g"},
        {"basis": "", "where": "a\0b"},
    ):
        assert said(**wrong)[0] == 400
    assert said(basis="", list=10**12)[0] == 404
    with context.entered(alpha):
        assert not ConsentEntry.objects.exists()

    given = {
        "at": "2026-05-01T10:00:00+02:00",
        "where": "the fair of May",
        "text": "Send me “news”",
        "remote_ip": "::1",
    }
    status, told = said(basis="consent", list=people.pk, **given)

    assert (status, told["basis"]) == (201, "")
    assert [(one["list"], one["basis"], one["active"]) for one in told["subscriptions"]] == [
        (people.pk, "consent", True)
    ]
    (entry,) = told["evidence"]
    assert {name: entry[name] for name in given} == given | {"at": entry["at"]}
    assert datetime.fromisoformat(entry["at"]) == datetime.fromisoformat(given["at"])
    assert (entry["source"], entry["by"], entry["email"]) == ("api", carol.email, contact.email)
    read = at(alpha).get(path, headers=headers).json()
    assert read == told

    # What was withdrawn since is not brought back by what was given before.
    assert said(basis="withdrawn", list=people.pk, at="2026-06-01T00:00:00Z")[0] == 201
    assert said(basis="consent", list=people.pk, **given)[0] == 409
    assert said(basis="consent", list=people.pk, **given | {"at": "2026-06-02T00:00:00Z"})[0] == 201


def test_a_program_reads_lists_and_opens_and_closes_them(alpha: Agency, beta: Agency, carol: User, oscar: User) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 0)
        secret = keys.issue(carol, "program")
    path, headers = f"/api/v1/lists/{people.pk}/", {"authorization": f"Bearer {secret}"}

    def said(**body: Any) -> Any:
        answer = at(alpha).patch(path, body, content_type="application/json", headers=headers)
        return answer.status_code, answer.json()

    (shown,) = at(alpha).get("/api/v1/lists/", headers=headers).json()["results"]
    assert (shown["name"], shown["double_opt_in"], shown["sign_up_open"]) == ("a", True, True)
    assert at(alpha).get(shown["sign_up_url"].partition(":8000")[2]).status_code == 200
    status, told = said(sign_up_open=False)
    assert (status, told["sign_up_open"], told["double_opt_in"]) == (200, False, True)
    with context.entered(alpha):
        User.objects.filter(pk=carol.pk).update(is_superuser=False)
    assert said(double_opt_in=False)[0] == 403
    assert said(sign_up_open=True)[0] == said(sign_up_open=False)[0] == 200
    with context.entered(alpha):
        User.objects.filter(pk=carol.pk).update(is_superuser=True)
    assert said(double_opt_in=False, name="mine")[1] == told | {"double_opt_in": False}
    assert said(double_opt_in="perhaps")[0] == 400
    with context.entered(beta):
        theirs = {"authorization": f"Bearer {keys.issue(oscar, 'program')}"}
    assert at(beta).get(path, headers=theirs).status_code == 404


def test_a_person_reads_and_sets_a_basis_with_its_evidence(
    alpha: Agency, beta: Agency, carol: User, oscar: User
) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 1, basis="")
        contact = Contact.objects.get()
        Contact.objects.update(attributes={"text": "own", "basis": "own"})
        other = ContactList.objects.create(name="other")
        Suppression.objects.create(value=contact.email.partition("@")[2], source="manual")
        Suppression.objects.create(value=contact.email, source="opt_out", list=people)
    carols, path = at(alpha, carol), f"/contacts/{contact.pk}/"

    def said(**given: Any) -> str:
        return body(carols.post(f"{path}consent/", given, follow=True))

    for wrong, why in (
        ({"basis": "consent"}, "Say where they gave consent"),
        ({"basis": "consent", "where": "shop", "at": "2999-01-01T10:00"}, "Evidence cannot be of the future"),
        ({"basis": "consent", "where": "shop", "at": "0001-01-01T00:00"}, "Evidence cannot be from before 1900"),
        ({"basis": "consent", "where": "shop", "list": other.pk}, "Select a valid choice"),
        ({"basis": "love"}, "Select a valid choice"),
        ({"basis": "consent", "where": "a\0b"}, "Null characters are not allowed"),
    ):
        assert why in said(**wrong)
    with context.entered(alpha):
        assert not ConsentEntry.objects.exists()

    text = "Send me <news>\nand offers"
    page = said(basis="consent", list=people.pk, at="2026-05-01T10:00", where="the fair of May", text=text)

    assert "Recorded, with its evidence." in page
    for shown in ("the fair of May", "Send me &lt;news&gt;", "Entered by a person", carol.email, contact.email):
        assert shown in page
    assert f"Added by a person · {contact.email.partition('@')[2]} · all mails" in page
    assert f"Opted out · {contact.email} · only “a”" in page
    with context.entered(alpha):
        (entry,) = ConsentEntry.objects.all()
        assert (entry.basis, entry.list, entry.source, entry.by) == ("consent", people, "person", carol.email)
        assert entry.at == datetime(2026, 5, 1, 10, tzinfo=alpha.zone)
        assert Subscription.objects.get().basis == Basis.CONSENT
    # It asks nothing back of what else the page changes, and its fields have names of their own.
    assert carols.post(path, {"text": "new", "basis": "own"}).status_code == 302
    with context.entered(alpha):
        assert Contact.objects.get().attributes == {"text": "new", "basis": "own"}

    assert carols.get("/contacts/", {"find": contact.email.upper()}).url == path
    assert "No contact has the address" in body(carols.get("/contacts/", {"find": "nobody@people.test"}))
    assert at(beta, oscar).post(f"{path}consent/", {"basis": ""}).status_code == 404
    assert carols.get(f"{path}consent/").status_code == 405
