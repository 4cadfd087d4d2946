"""The steps of a campaign in the portal, in the administration and for programs: one verb behind all of them."""

import json
from typing import Any

from campaigns import changes, launch
from campaigns.models import Campaign, Enrollment, Message
from providers.accounts.models import Account
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.campaigns.test_api import key
from tests.campaigns.test_portal import details
from tests.campaigns.test_sequences import HOUR, Days, campaign
from tests.stage import NOON
from tests.visitor import Visitor, at


def formset(*steps: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"steps-TOTAL_FORMS": len(steps), "steps-INITIAL_FORMS": 0}
    for number, step in enumerate(steps):
        found |= {f"steps-{number}-{name}": value for name, value in step.items()}
    return found


NEW = {
    "delay": 2,
    "unit": "working_days",
    "condition": "not_opened",
    "otherwise": "end",
    "subject": "",
    "html": "<p>2</p>",
}
UNTOUCHED = {"delay": 3, "unit": "days", "condition": "", "otherwise": "next", "subject": "", "html": "", "text": ""}


def test_a_draft_is_written_with_its_follow_ups(carols: Visitor, alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        people = stage.contact_list("a", 2)
    assert 'name="steps-0-delay"' in carols.get("/campaigns/new/?more=1").content.decode()
    taken_out = {**NEW, "html": "<p>not</p>", "DELETE": "on"}
    answers = details(
        people,
        distribution="by_class",
        stop_scope="company",
        duplicates="any",
        stop_on=["reply"],
        goal_url="https://x/",
    )
    carols.post("/campaigns/new/", {**answers, **formset(NEW, taken_out, UNTOUCHED)})
    with context.entered(alpha):
        made = Campaign.objects.get()
        assert (made.stop_scope, made.duplicates, made.stop_on, made.goal_url) == (
            "company",
            "any",
            ["reply"],
            "https://x/",
        )
        _, second = changes.steps_of(made)
        assert (second.delay, second.unit, second.condition, second.otherwise) == (
            2,
            "working_days",
            "not_opened",
            "end",
        )
    page = carols.post("/campaigns/new/", {**answers, **formset({**NEW, "html": "{{ nobody }}"})})
    assert "Step 2 names nobody" in page.content.decode()
    with context.entered(alpha):
        assert Campaign.objects.count() == 1


def fields_of(page: Any) -> dict[str, Any]:
    formset_ = page.context["steps"]
    found: dict[str, Any] = {
        "steps-TOTAL_FORMS": formset_.total_form_count(),
        "steps-INITIAL_FORMS": formset_.initial_form_count(),
    }
    for form in formset_.forms:
        for name in form.fields:
            value = form[name].value()
            found[form.add_prefix(name)] = "" if value in (None, False) else value
    return found


def test_the_page_says_what_happens_before_it_saves(
    carols: Visitor, alpha: Agency, beta: Agency, account: Account
) -> None:
    with context.entered(alpha):
        made = campaign(2, {}, {"delay": 4})
        Days(alpha, account).live(NOON + HOUR)
    url = f"/campaigns/{made.pk}/sequence/"
    answers = {**fields_of(carols.get(url)), "steps-1-delay": 9}

    page = carols.post(url, answers)
    assert "2 contacts wait for step 2" in page.content.decode()
    with context.entered(alpha):
        assert made.steps.get(position=2).delay == 3

    # Other steps than those whose effects were seen are not saved unseen.
    page = carols.post(url, {**answers, "steps-1-delay": 8, "seen": page.context["seen"]})
    assert page.context["effects"]
    answers |= {"steps-1-delay": 8, "seen": page.context["seen"]}
    assert carols.post(url, answers).status_code == 302
    with context.entered(alpha):
        assert made.steps.get(position=2).delay == 8
        assert set(Enrollment.objects.exclude(look_at=None).values_list("campaign", flat=True)) == {made.pk}

    answers = {**fields_of(carols.get(url)), "steps-0-DELETE": "on"}
    assert "stays the first" in carols.post(url, answers).content.decode()


def test_another_agencys_steps_are_not_there(oscars: Visitor, alpha: Agency, beta: Agency, account: Account) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 1))
    assert oscars.get(f"/campaigns/{made.pk}/sequence/").status_code == 404
    assert oscars.post(f"/campaigns/{made.pk}/sequence/", formset(NEW)).status_code == 404


def test_contacts_join_by_a_button(carols: Visitor, alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 1), traffic_class="bulk")
        launch.launch(made, now=NOON)
        other = stage.contact_list("b", 1)
        made.list.subscriptions.create(contact=other.subscriptions.get().contact)
    carols.post(f"/campaigns/{made.pk}/join/")
    with context.entered(alpha):
        assert Message.objects.count() == 2
        assert Message.objects.values("contact").distinct().count() == 2


def test_programs_read_and_change_the_steps(alpha: Agency, carol: User, account: Account) -> None:
    with context.entered(alpha):
        made = campaign(2, {})
        Days(alpha, account).live(NOON + HOUR)
    headers = {"authorization": f"Bearer {key(alpha, carol)}"}
    path = f"/api/v1/campaigns/{made.pk}/steps/"

    def put(**body: Any) -> Any:
        return at(alpha).put(path, json.dumps(body), content_type="application/json", headers=headers)

    found = at(alpha).get(path, headers=headers).json()
    first, second = found["steps"]
    assert (second["delay"], second["unit"], second["subject"]) == (3, "days", "")
    more = [first, {**second, "delay": 5}, {"html": "<p>3</p>"}]
    told = put(steps=more).json()
    assert (told["saved"], [one["count"] for one in told["effects"]]) == (False, [2])
    with context.entered(alpha):
        assert made.steps.count() == 2
    assert put(steps=more, seen=told["seen"]).json()["saved"] is True
    with context.entered(alpha):
        assert [one.delay for one in made.steps.all()] == [3, 5, 3]
    refused = put(steps=[{"html": "<p>1</p>"}])
    assert refused.status_code == 400
    assert "stays the first" in refused.content.decode()


def test_the_administration_shows_steps_with_their_delays(carols: Visitor, alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("a", 1))
    page = carols.get(f"/admin/campaigns/campaign/{made.pk}/change/").content.decode()
    for name in ("steps-0-delay", "steps-0-condition", "stop_scope", "duplicates", "goal_url", "stop_on"):
        assert f'name="{name}"' in page
