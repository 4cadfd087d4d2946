"""One definition of who must not be mailed, asked at the import, at the launch, at the claim and before sending."""

import io

import pytest
from django.core.exceptions import ValidationError
from django.db import connection

from campaigns import dispatch, intake, launch, lifecycle, mail_audit, optout, suppressions
from campaigns.models import Contact, ContactList, Message, Subscription, Suppression, Verdict
from campaigns.reasons import Reason
from providers.accounts.models import Account, LedgerRow, OperatorSuppression, suppressed_value
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

ADDRESS = "Anna.Berg@mail.shop.example"
BARS = ["anna.berg@mail.shop.example", "mail.shop.example", "shop.example", "example"]
BARS += ["*.shop.example", "*.example", "anna.berg@*"]
LETS = [
    "anna@mail.shop.example",
    "berg@*",
    "*.mail.shop.example",
    "hop.example",
    "*.op.example",
    "anna.berg@shop.example",
]
LETS += ["mail.shop", "*", "*@mail.shop.example", "%.example", "anna.berg@mail.shop.exampl_"]


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    found = stage.accounts()["smtp"]
    stage.allot(alpha, found)
    stage.allot(beta, found)
    return found


def suppress(value: str, by: str) -> None:
    if by == "operator":
        with context.public():
            OperatorSuppression.objects.create(value=value)
    else:
        Suppression.objects.create(value=value, source=Suppression.Source.MANUAL)


def people() -> ContactList:
    """A list of Anna and of somebody else."""
    found = stage.contact_list("other", 1, domain="people.test")
    anna = Contact.objects.create(email=ADDRESS)
    Subscription.objects.create(list=found, contact=anna)
    return found


def claim(agency: Agency, account: Account) -> list[lifecycle.Claimed]:
    allotment = agency.allotments.select_related("account").get(account=account)
    return dispatch.claim_batch(agency, allotment, now=NOON, limit=10)


@pytest.mark.parametrize("by", ["agency", "operator"])
@pytest.mark.parametrize(("value", "barred"), [*((value, True) for value in BARS), *((value, False) for value in LETS)])
def test_all_who_ask_get_the_same_answer(account: Account, alpha: Agency, value: str, barred: bool, by: str) -> None:
    with context.entered(alpha):
        before = stage.campaign(people())
        launch.launch(before, now=NOON)
        held = claim(alpha, account)
        assert len(held) == 2
        lifecycle.release([one for one in held if one.contact["email"] == ADDRESS])
        (other,) = [one for one in held if one.contact["email"] != ADDRESS]

        suppress(value, by)

        # At the claim, before any quota is counted.
        again = claim(alpha, account)
        assert len(again) == (0 if barred else 1)
        anna = Message.objects.get(contact__email=ADDRESS)
        assert (anna.status, anna.reason) == (("cancelled", Reason.SUPPRESSED) if barred else ("claimed", ""))
        # Just before sending.
        assert lifecycle.begin([*again, other], now=NOON) == {one.id for one in [*again, other]}
        # At a launch.
        assert launch.launch(stage.campaign(before.list), now=NOON).total == (1 if barred else 2)
        # At an import.
        file = io.BytesIO(f"email\n{ADDRESS}\nx@people.test\n".encode())
        done = intake.import_file(file, file_name="a.csv", into=ContactList.objects.create(name="new"), now=NOON)
        assert dict(done.rejected_rows.values_list("number", "verdict")) == ({2: Verdict.SUPPRESSED} if barred else {})
    used = LedgerRow.objects.get(account=account, agency=None, period="day").used
    assert used == (1 if barred else 2)


@pytest.mark.parametrize("by", ["agency", "operator"])
def test_what_a_worker_holds_is_refused_just_before_sending(account: Account, alpha: Agency, by: str) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(people()), now=NOON)
        held = claim(alpha, account)
        suppress("*.shop.example", by)
        (other,) = [one.id for one in held if one.contact["email"] != ADDRESS]
        assert lifecycle.begin(held, now=NOON) == {other}


def test_a_person_lets_somebody_never_be_written_to_again(
    account: Account, alpha: Agency, beta: Agency, carol: User, oscar: User
) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(people()), now=NOON)
        held = [one for one in claim(alpha, account) if one.contact["email"] == ADDRESS]
        again = launch.launch(stage.campaign(ContactList.objects.get(), duplicates="campaign"), now=NOON)
        assert again.total == 2
        anna = Contact.objects.get(email=ADDRESS)
    path = f"/contacts/{anna.pk}/"
    assert at(beta, oscar).post(f"{path}bar/").status_code == 404
    for _twice in range(2):
        page = body(at(alpha, carol).post(f"{path}bar/", follow=True))
        assert "They are not written to any more." in page
        assert "Never write to them again" not in page
    with context.entered(alpha):
        found = Suppression.objects.get()
        assert (found.value, found.source, carol.email in found.evidence) == (ADDRESS.lower(), "manual", True)
        assert Message.objects.get(contact=anna, status="cancelled").reason == Reason.SUPPRESSED
        assert lifecycle.begin(held, now=NOON) == set()


def test_an_agencys_own_holds_for_no_other(account: Account, alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        suppress("shop.example", "agency")
    with context.entered(beta):
        assert launch.launch(stage.campaign(people()), now=NOON).total == 2


def test_a_full_batch_of_barred_mails_hides_no_other(account: Account, alpha: Agency) -> None:
    with context.entered(alpha):
        launch.launch(stage.campaign(stage.contact_list("a", 4)), now=NOON)
        for number in range(3):
            suppress(f"a{number}@people.example", "agency")
        allotment = alpha.allotments.select_related("account").get(account=account)
        (left,) = dispatch.claim_batch(alpha, allotment, now=NOON, limit=3)
        assert left.contact["email"] == "a3@people.example"


def test_it_probes_indexes_alone(account: Account, alpha: Agency) -> None:
    with context.entered(alpha), connection.cursor() as cursor:
        Suppression.objects.bulk_create(
            Suppression(value=f"x{number}@shop.example", source="manual") for number in range(3000)
        )
        launch.launch(stage.campaign(people()), now=NOON)
        cursor.execute("ANALYZE campaigns_suppression")
        probe = suppressions.matching("p.email", "c.list_id")
        cursor.execute(
            f"EXPLAIN SELECT m.id, EXISTS ({probe}) FROM campaigns_message m "
            "JOIN campaigns_campaign c ON c.id = m.campaign_id JOIN campaigns_contact p ON p.id = m.contact_id"
        )
        plan = "\n".join(row[0] for row in cursor.fetchall())
    assert "Seq Scan on campaigns_suppression" not in plan, plan
    assert "one_suppression_per_value_and_list" in plan, plan


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" Anna@Shop.example ", "anna@shop.example"),
        ("@shop.example", "shop.example"),
        ("*.Shop.example", "*.shop.example"),
        ("info@*", "info@*"),
        ("*@shop.example", "shop.example"),
    ],
)
def test_what_a_person_enters_is_kept_as_it_is_looked_up(text: str, value: str) -> None:
    assert suppressed_value(text) == value


@pytest.mark.parametrize("text", ["", "*", "*@*", "@*", "a b", "a*@*", "*.*", "shop", "an*na@shop.example"])
def test_what_would_match_nothing_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(ValidationError):
        suppressed_value(text)


class TestAudit:
    """The time from an opt-out to the last mail is zero."""

    def test_it_names_a_mail_that_was_begun_after_the_opt_out(self, account: Account, alpha: Agency) -> None:
        with context.entered(alpha):
            campaign = stage.campaign(people())
            launch.launch(campaign, now=NOON)
            held = claim(alpha, account)
            lifecycle.begin(held, now=NOON)
            lifecycle.sent([(one, "id") for one in held], now=NOON)
            message = Message.objects.get(contact__email=ADDRESS)
            optout.leave(message, how="test", clock=lambda: NOON)
            Suppression.objects.update(in_force_at=NOON)
        assert not [one for one in mail_audit.audit_mails(now=NOON) if "opted out" in one.problem]
        with context.entered(alpha):
            Suppression.objects.update(in_force_at=NOON.replace(hour=11))
        (found,) = [one for one in mail_audit.audit_mails(now=NOON) if "opted out" in one.problem]
        assert (found.agency, found.count) == ("alpha", 1)
