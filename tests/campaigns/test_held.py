"""Mails that lack a value say which, and go on once it is there, whoever fills it in."""

import io
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import audit, control, dispatch, erasure, held, intake, launch, lifecycle
from campaigns.contact_columns import columns_of
from campaigns.models import Campaign, Contact, ContactList, Enrollment, Message, Suppression
from campaigns.validation import Refusal, judge
from providers.accounts.models import Account
from providers.sandbox.service import Sandbox
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, at, body


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Iterator[Account]:
    with Sandbox() as sandbox:
        found = stage.accounts(sandbox)["smtp"]
        stage.allot(alpha, found)
        yield found
    assert audit.audit_quota().drifts == []


@pytest.fixture
def campaign(alpha: Agency, account: Account) -> Campaign:
    """Four mails, held: two for a company, and two that have one for a city."""
    with context.entered(alpha):
        made = stage.campaign(
            stage.contact_list("h", 4), html="<p>{{ company }} {{ town }}</p>", traffic_class="bulk", gap_seconds=0
        )
        Contact.objects.filter(email__in=["h2@people.example", "h3@people.example"]).update(company="Acme")
        Contact.objects.update(attributes={"town": ""})
        launch.launch(made, now=NOON)
        drain(account)
        control.finish_done(now=NOON)
        made.refresh_from_db()
        assert stage.statuses(made) == {"held": 4}
        assert made.status == "finished"
        return made


def drain(account: Account, minutes: int = 0) -> None:
    now = NOON + timedelta(minutes=minutes)
    dispatch.drain(account.pk, clock=lambda: now, until=now + timedelta(seconds=15))


def person(number: int) -> Contact:
    return Contact.objects.get(email=f"h{number}@people.example")


def lacking(campaign: Campaign) -> dict[str, int]:
    return {one.name: one.count for one in held.by_field(campaign)}


def test_it_goes_once_all_that_it_lacks_is_there(alpha: Agency, account: Account, campaign: Campaign) -> None:
    with context.entered(alpha):
        assert lacking(campaign) == {"company": 2, "town": 2}
        assert held.change(person(0), {"company": "Polza"}, now=NOON) == 1
        campaign.refresh_from_db()
        assert campaign.status == "running"
        drain(account)
        assert lacking(campaign) == {"town": 3, "company": 1}
        assert held.change(person(0), {"town": 'Rīga "מזרח" 🌊'}, now=NOON) == 1
        drain(account)
        assert stage.statuses(campaign) == {"held": 3, "sent": 1}
        assert held.try_again(campaign, now=NOON) == 3
        drain(account)
        assert lacking(campaign) == {"town": 2, "company": 1}


def test_a_file_fills_them_in(alpha: Agency, account: Account, campaign: Campaign) -> None:
    with context.entered(alpha):
        file = io.BytesIO(b"email,town\nH2@people.example,Riga\nnew@people.example,Riga\n")
        intake.import_file(
            file, file_name="more.csv", into=ContactList.objects.create(name="more"), now=NOON, check_mx=False
        )
        drain(account)
        assert stage.statuses(campaign) == {"held": 3, "sent": 1}
        assert Message.objects.get(status="sent").contact == person(2)


def test_who_must_not_be_mailed_and_what_is_cancelled_stays(alpha: Agency, campaign: Campaign) -> None:
    with context.entered(alpha):
        Suppression.objects.create(value="h0@people.example", source="opt_out")
        assert held.change(person(0), {"company": "Polza"}, now=NOON) == 0
        Enrollment.objects.filter(contact=person(1)).update(ended="replied", look_at=None)
        assert held.try_again(campaign, now=NOON) == 2
        Campaign.objects.update(status="cancelled")
        assert lifecycle.try_again(None, None, now=NOON) == set()
        assert stage.statuses(campaign) == {"held": 2, "scheduled": 2}


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({"company": "A\nB"}, "line break"),
        ({"company": "=1+1"}, "formula"),
        ({"town": "x" * 2001}, "2001"),
        ({"email": "new@people.example"}, "email"),
        ({"To wn": "x"}, "To wn"),
        ({"town": "\u202eagir"}, "forbidden"),
    ],
)
def test_what_may_not_stand_in_a_file_may_not_be_written(
    alpha: Agency, campaign: Campaign, values: dict[str, str], why: str
) -> None:
    with context.entered(alpha):
        with pytest.raises(held.ContactRefusedError, match=why):
            held.change(person(0), values, now=NOON)
        assert stage.statuses(campaign) == {"held": 4}


@given(st.text(max_size=30))
def test_any_value_is_judged_as_in_a_file(value: str) -> None:
    judged = judge(["a@example.com", value], columns_of(["email", "town"]))
    assert isinstance(judged, Refusal) or judged.attributes == {"town": judged.attributes["town"]}


def test_a_person_who_was_erased_meanwhile_gets_no_name_again(alpha: Agency, campaign: Campaign) -> None:
    with context.entered(alpha):
        contact = Contact.objects.order_by("pk")[0]
        erasure.erase(contact.email, by="carol@alpha.test", clock=lambda: NOON)
        with pytest.raises(held.ContactRefusedError, match="was erased"):
            held.change(contact, {"first_name": "Zoe"}, now=NOON)
        assert not Contact.objects.filter(first_name="Zoe").exists()


def test_pages_programs_and_the_admin_fill_them_in(
    alpha: Agency, carol: User, oscars: Visitor, account: Account, campaign: Campaign
) -> None:
    with context.entered(alpha):
        secret, ids = keys.issue(carol, "program"), [person(number).pk for number in range(4)]
        User.objects.update(is_staff=True, is_superuser=True)
        carol.refresh_from_db()
    carols = at(alpha, carol)
    page = body(carols.get(f"/campaigns/{campaign.pk}/"))
    assert "Held: values are missing" in page
    path = f"/contacts/{ids[0]}/?field=company&campaign={campaign.pk}"
    assert path.replace("&", "&amp;") in page
    assert 'name="company"' in body(carols.get(path))
    done = carols.post(path, {"first_name": "N0", "company": "Polza", "town": "Riga"}, follow=True)
    assert "1 mail that was held is tried again." in body(done)
    assert "line break" in body(carols.post(path, {"company": "Po\rlza"}))
    assert oscars.get(f"/contacts/{ids[0]}/").status_code == 404
    assert oscars.post(f"/contacts/{ids[1]}/", {"company": "x"}).status_code == 404
    headers: dict[str, Any] = {"authorization": f"Bearer {secret}"}
    api = f"/api/v1/contacts/{ids[1]}/"
    wanted = {"company": "Polza", "attributes": {"town": "Riga"}}
    answer = at(alpha).patch(api, wanted, content_type="application/json", headers=headers)
    assert answer.json()["attributes"] == {"town": "Riga"}
    wrong = at(alpha).patch(api, {"company": "=1+1"}, content_type="application/json", headers=headers)
    assert wrong.status_code == 400
    told = at(alpha).get(f"/api/v1/campaigns/{campaign.pk}/held/", headers=headers).json()
    assert told == [{"name": "town", "count": 2}]
    fields = {"first_name": "N2", "last_name": "", "company": "Acme", "attributes": '{"town": "Riga"}'}
    saved = carols.post(f"/admin/campaigns/contact/{ids[2]}/change/", fields)
    assert saved.status_code == 302
    with context.entered(alpha):
        drain(account, minutes=24 * 60)
        assert stage.statuses(campaign) == {"held": 1, "sent": 3}
    again = carols.post(f"/campaigns/{campaign.pk}/try-again/", follow=True)
    assert "1 mail that was held is tried again." in body(again)
    assert at(alpha).post(f"/api/v1/campaigns/{campaign.pk}/held/", headers=headers).status_code == 409
