"""Up to six texts for a step: who gets which, that it stays so, and what a change does."""

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from django.http import HttpResponse
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import changes, choices, files, inspection, launch, preview, results, variants
from campaigns.changes import Wanted, WantedVariant
from campaigns.envelopes import Envelopes
from campaigns.lifecycle import Claimed
from campaigns.models import Campaign, Contact, Message, MessageFacts, Step, Variant, VariantChoice
from campaigns.variants import assigned
from providers.accounts.envelope import Envelope
from providers.accounts.models import Account
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.campaigns.test_sequences import Days
from tests.stage import NOON
from tests.visitor import Visitor, at

WEIGHTS = st.dictionaries(st.sampled_from("ABCDEF"), st.integers(1, 100), min_size=2)
B = WantedVariant(subject="Good day {{ first_name }}", html="<p>{One|Two} of B {{ first_name }}</p>")


@given(weights=WEIGHTS, step=st.integers(1, 10**9), address=st.text(min_size=1, max_size=30))
@settings(max_examples=60)
def test_only_who_had_what_was_taken_out_gets_another(weights: dict[str, int], step: int, address: str) -> None:
    first = assigned(weights, step, address)
    assert first in weights
    assert assigned(dict(reversed(weights.items())), step, address) == first
    for gone in weights.keys() - {first}:
        assert assigned({letter: weights[letter] for letter in weights if letter != gone}, step, address) == first
    heavier = {**weights, first: weights[first] + 1}
    assert assigned(heavier, step, address) == first


@given(weights=WEIGHTS)
@settings(deadline=None)
def test_shares_add_up(weights: dict[str, int]) -> None:
    found = variants.shares(weights)
    assert sum(found.values()) == 100
    assert found.keys() == weights.keys()


def test_shares_follow_the_weights_and_steps_are_drawn_apart() -> None:
    people = [f"p{number}@people.example" for number in range(4_000)]
    got = [assigned({"A": 3, "B": 1}, 7, one) for one in people]
    assert 920 < got.count("B") < 1080
    other = [assigned({"A": 1, "B": 1}, 8, one) for one in people]
    together = sum(1 for one, two in zip(got, other, strict=True) if one == two == "B")
    assert 430 < together < 570


@pytest.fixture
def draft(alpha: Agency) -> Campaign:
    """A draft to 40 people with texts A and B, and a follow-up in the thread."""
    stage.allot(alpha, stage.accounts()["smtp"])
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("p", 40), traffic_class="bulk")
        (first,) = changes.steps_of(made)
        changes.change(made, [replace(first, variants=(B,)), Wanted(text="And {{ first_name }}?", delay=1)], now=NOON)
    return made


def claimed(message: Message) -> Claimed:
    who = message.contact
    return Claimed(
        id=message.pk,
        key=message.key,
        campaign_id=message.campaign_id,
        step_id=message.step_id,
        enrollment_id=message.enrollment_id,
        traffic_class="bulk",
        contact={"email": who.email, "first_name": who.first_name, "last_name": "", "company": ""},
        account_id=message.account_id,
        refused_by=[],
        attempts=message.attempts,
        sendings=message.sendings,
        variant=message.variant,
        sender_address="s@smtp0.alpha.example",
    )


def made_of(message: Message, agency: Agency) -> tuple[Claimed, Envelope]:
    one, made = claimed(message), Envelopes(agency)
    made.prepare([one])
    return one, made.of(one)


def test_a_preview_a_retry_and_the_mail_are_the_same(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        step = draft.steps.get(position=1)
        seen: dict[str, int] = {}
        for message in draft.messages.select_related("contact"):
            one, mail = made_of(message, alpha)
            assert preview.of(step, message.contact).subject == mail.subject
            assert mail.subject.startswith("Good day" if one.variant == "B" else "Hello")
            seen[one.variant] = seen.get(one.variant, 0) + 1
        assert set(seen) == {"A", "B"}
        # Once tried, it stays so, whatever is on now.
        tried = message
        Message.objects.filter(pk=tried.pk).update(variant=one.variant, attempts=1)
        first, second = changes.steps_of(draft)
        off = replace(first, weight=0) if one.variant == "A" else replace(first, variants=())
        changes.change(draft, [off, second], now=NOON)
        again, same = made_of(Message.objects.get(pk=tried.pk), alpha)
        assert (again.variant, same) == (one.variant, mail)
        assert preview.of(step, tried.contact).subject == mail.subject
        others = {made_of(each, alpha)[0].variant for each in draft.messages.exclude(pk=tried.pk)}
        assert others == {"B" if one.variant == "A" else "A"}


def test_what_was_tried_before_there_were_variants_keeps_its_text(alpha: Agency) -> None:
    stage.allot(alpha, stage.accounts()["smtp"])
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("q", 12), traffic_class="bulk")
        launch.launch(made, now=NOON)
        made.messages.update(attempts=1)
        (first,) = changes.steps_of(made)
        changes.change(made, [replace(first, variants=(B,))], now=NOON)
        assert {made_of(one, alpha)[0].variant for one in made.messages.all()} == {""}
        made.messages.update(attempts=0)
        assert {made_of(one, alpha)[0].variant for one in made.messages.all()} == {"A", "B"}


def test_mails_leave_with_their_variant_and_follow_ups_go_on_with_its_subject(alpha: Agency, account: Account) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("r", 16), traffic_class="bulk")
        (first,) = changes.steps_of(made)
        later = Wanted(text="And?", delay=1, unit="days")
        changes.change(made, [replace(first, variants=(B,)), later], now=NOON)
        launch.launch(made, now=NOON)
        days = Days(alpha, account)
        days.live(NOON + timedelta(days=3))
        got = dict(made.messages.filter(step__position=1).values_list("contact__email", "variant"))
        assert set(got.values()) == {"A", "B"}
        for who, (mail, follow_up) in days.envelopes.items():
            assert mail.subject.startswith("Good day N" if got[who] == "B" else "Hello N")
            assert follow_up.subject == f"Re: {mail.subject}"
            assert follow_up.headers["In-Reply-To"] == mail.message_id
        assert set(made.messages.filter(step__position=2).values_list("variant", flat=True)) == {""}
        # Whoever answered to B goes on with B's thread, though B is off by now.
        step = made.steps.get(position=2)
        someone = Contact.objects.get(email=next(who for who, letter in got.items() if letter == "B"))
        assert preview.of(step, someone).subject.startswith("Re: Good day N")


def test_what_a_change_does_is_told_first(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        assert changes.foresee(draft, [replace(changes.steps_of(draft)[0], weight=3)], now=NOON) == []
        launch.launch(draft, now=NOON)
        draft.messages.filter(pk__in=list(draft.messages.values_list("pk", flat=True)[:10])).update(variant="A")
        first, second = changes.steps_of(draft)
        (effect,) = changes.foresee(draft, [replace(first, weight=3), second], now=NOON)
        assert (effect.count, effect.to, effect.shares) == (30, 1, {"A": 75, "B": 25})
        assert "30 contacts have not had step 1" in effect.text
        assert "A 75 %, B 25 %" in effect.text
        assert changes.foresee(draft, [first, second], now=NOON) == []


def test_a_launched_variant_is_switched_off_and_never_lost(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        first, second = changes.steps_of(draft)
        changes.change(draft, [replace(first, variants=()), second], now=NOON)
        (kept,) = changes.steps_of(draft)[0].variants or ()
        assert (kept.letter, kept.weight, kept.html) == ("B", 0, B.html)
        assert changes.steps_of(draft)[0] == changes.steps_of(draft)[0]
        with pytest.raises(IntegrityError), transaction.atomic():
            Variant.objects.all().delete()
        changes.change(draft, [replace(first, variants=(kept, B)), second], now=NOON)
        assert [one.letter for one in changes.steps_of(draft)[0].variants or ()] == ["B", "C"]


def test_who_leaves_variants_out_leaves_them_as_they_are(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        first, second = changes.steps_of(draft)
        old = Wanted(first.id, "New", first.html, first.text)
        changes.change(draft, [old, second], now=NOON)
        assert changes.steps_of(draft)[0].variants == first.variants


def test_only_what_is_side_by_side_and_the_same_is_compared(alpha: Agency, draft: Campaign) -> None:
    def since() -> object:
        return draft.steps.get(position=1).compared_since

    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        first, second = changes.steps_of(draft)
        changes.change(draft, [replace(first, delay=9), second], now=NOON)
        assert since() is None
        b = (first.variants or ())[0]
        three = replace(first, variants=(b, WantedVariant(subject="C", text="C")))
        for number, wanted in enumerate([three, replace(first, variants=(replace(b, html="<p>Other</p>"),))]):
            now = NOON + timedelta(hours=number)
            changes.change(draft, [wanted, second], now=now)
            assert since() == now
        changes.change(draft, [replace(first, variants=()), second], now=NOON + timedelta(days=1))
        assert since() == now


@pytest.mark.parametrize(
    ("further", "said"),
    [
        ([WantedVariant(subject="x")], "write the variant"),
        ([WantedVariant(html="x")], "needs a subject"),
        ([WantedVariant(subject="x", html="{{ nobody }}")], "Step 1B names nobody"),
        ([WantedVariant(subject="x", html="{% if %}")], "Step 1B: "),
        ([WantedVariant(subject="x", html="x", weight=101)], "weight is 0 to 100"),
        ([WantedVariant(subject="x", html="x")] * 6, "more than 6 variants"),
        ([WantedVariant(subject="a\nb", html="x")], "one line"),
    ],
)
def test_a_variant_that_cannot_be_is_refused(
    alpha: Agency, draft: Campaign, further: list[WantedVariant], said: str
) -> None:
    with context.entered(alpha):
        first, second = changes.steps_of(draft)
        with pytest.raises(changes.ChangeRefusedError, match=said):
            changes.change(draft, [replace(first, variants=tuple(further)), second], now=NOON)
        assert changes.steps_of(draft) == [first, second]
        with pytest.raises(changes.ChangeRefusedError, match="leave at least one"):
            changes.change(draft, [replace(first, weight=0, variants=(replace(B, weight=0),)), second], now=NOON)


def test_the_database_keeps_texts_and_choices_in_bounds(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.get(position=1)
        b = {"step": step, "letter": "C", "subject": "x", "text": "x"}
        for constraint, further in (
            ("a_step_has_six_variants_at_most", {"letter": "G"}),
            ("a_step_has_six_variants_at_most", {"letter": "A"}),
            ("one_variant_per_step_and_letter", {"letter": "B"}),
            ("variant_has_a_body", {"text": ""}),
            ("variant_weight_is_in_bounds", {"weight": 101}),
        ):
            with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
                Variant.objects.create(**{**b, **further})
        for constraint, changed in (
            ("step_weight_is_in_bounds", {"weight": 101}),
            ("chosen_variant_has_its_time", {"chosen": "B"}),
            ("chosen_variant_has_its_time", {"chosen_at": NOON}),
            ("certainty_is_80_to_99_percent", {"sure_at": 79}),
            ("certainty_is_80_to_99_percent", {"sure_at": 100}),
            ("variants_have_30_mails_before_a_choice", {"least_sends": 29}),
        ):
            with pytest.raises(IntegrityError, match=constraint), transaction.atomic():
                Step.objects.filter(pk=step.pk).update(**changed)


def test_every_variant_is_looked_at_before_a_launch(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        first, second = changes.steps_of(draft)
        shouting = WantedVariant(subject="BUY NOW OR NEVER", html="<p>Hello {{ first_name }}</p>")
        changes.change(draft, [replace(first, variants=(shouting,)), second], now=NOON)
        found = [one for one in inspection.inspect(draft, now=NOON) if one.code == "shouting" and one.where == 1]
        assert [one.variant for one in found] == ["B"]
        Variant.objects.update(html="{{ nobody }}")
        with pytest.raises(launch.LaunchRefusedError, match="1B"):
            launch.launch(draft, now=NOON)


def answered(made: Campaign, replies: dict[str, int], mails: int = 200) -> None:
    """As if so many mails had gone with each text, and so many of them been answered."""
    step = made.steps.get(position=1)
    one = Message.objects.filter(campaign=made).first()
    assert one
    Message.objects.filter(campaign=made).update(status="cancelled", reason="campaign_cancelled")
    for letter, count in replies.items():
        sent = Message.objects.bulk_create(
            Message(
                campaign=made,
                step=step,
                enrollment_id=10**9 + mails * ord(letter) + number,
                contact_id=one.contact_id,
                planned_id=one.planned_id,
                account_id=one.account_id,
                sender=Sender.objects.first(),
                status="sent",
                due_at=NOON,
                sent_at=NOON,
                variant=letter,
            )
            for number in range(mails)
        )
        MessageFacts.objects.bulk_create(MessageFacts(message=mail, replied_at=NOON) for mail in sent[:count])


def told_to_choose(made: Campaign, **more: object) -> None:
    first, second = changes.steps_of(made)
    changes.change(made, [replace(first, auto_choice=True, **more), second], now=NOON)  # type: ignore[arg-type]


def test_the_machine_chooses_what_is_surely_better_and_a_person_takes_it_back(
    alpha: Agency, beta: Agency, draft: Campaign, carols: Visitor
) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        told_to_choose(draft)
        answered(draft, {"A": 6, "B": 14})
        assert choices.decide(now=NOON) == []
        (found, _) = results.results(draft)
        assert (found.verdict, found.leader, found.chosen) == ("open", "B", "")
        assert found.more
        assert "Not decided: B leads" in found.told
        answered_more = Message.objects.filter(variant="B", facts=None)[:30]
        MessageFacts.objects.bulk_create(MessageFacts(message=mail, replied_at=NOON) for mail in answered_more)
        later = NOON + timedelta(minutes=1)
        (made,) = choices.decide(now=later)
        assert (made.letter, made.by) == ("B", "")
        assert made.evidence["texts"]["B"][:2] == [200, 44]
        assert choices.decide(now=later) == []
        step = draft.steps.get(position=1)
        assert step.weights == {"B": 1}
        # Who has A keeps it; who comes gets B.
        Message.objects.filter(status="cancelled").update(status="scheduled", reason="")
        mails = list(Message.objects.filter(status="scheduled")[:2])
        Message.objects.filter(pk=mails[0].pk).update(variant="A")
        assert [made_of(Message.objects.get(pk=one.pk), alpha)[0].variant for one in mails] == ["A", "B"]
    page = carols.get(f"/campaigns/{draft.pk}/results/").content.decode()
    assert "chosen automatically" in page
    answer = carols.post(f"/campaigns/{draft.pk}/steps/{step.pk}/choice/", {"variant": ""})
    assert answer.status_code == 302
    with context.entered(alpha):
        step.refresh_from_db()
        assert (step.chosen, step.auto_choice) == ("", False)
        # Mails of the meantime had nothing beside them, so it begins anew.
        assert results.results(draft)[0].verdict == "early"
        assert choices.decide(now=later) == []
        last = VariantChoice.objects.first()
        assert last
        assert (last.letter, last.by) == ("", "carol@alpha.test")
        choices.choose(step, "A", by="carol@alpha.test", now=later)
        with pytest.raises(choices.ChoiceRefusedError):
            choices.choose(step, "B", by="carol@alpha.test", now=later)
    with context.entered(beta):
        assert choices.decide(now=later) == []


def test_the_machine_leaves_alone_what_a_person_takes_from_it_while_it_looks(
    alpha: Agency, draft: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = results.of

    def taken(step: Step) -> results.StepResult:
        found = looked(step)
        Step.objects.update(auto_choice=False)
        return found

    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        told_to_choose(draft)
        answered(draft, {"A": 6, "B": 60})
        monkeypatch.setattr(results, "of", taken)
        assert choices.decide(now=NOON) == []
        assert not VariantChoice.objects.exists()


@pytest.mark.parametrize("status", ["draft", "cancelled", "finished"])
def test_a_text_is_chosen_only_where_contacts_are_to_come(alpha: Agency, draft: Campaign, status: str) -> None:
    with context.entered(alpha):
        Campaign.objects.update(status=status)
        step = Step.objects.select_related("campaign").get(campaign=draft, position=1)
        with pytest.raises(choices.ChoiceRefusedError, match="runs or is paused"):
            choices.choose(step, "B", by="carol@alpha.test", now=NOON)
        assert not VariantChoice.objects.exists()


def test_nothing_is_chosen_by_mails_from_before_a_change_or_too_few(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        told_to_choose(draft, least_sends=300)
        answered(draft, {"A": 6, "B": 60})
        assert results.results(draft)[0].verdict == "early"
        assert choices.decide(now=NOON) == []
        told_to_choose(draft, least_sends=100)
        assert results.results(draft)[0].verdict == "winner"
        first, second = changes.steps_of(draft)
        better = replace((first.variants or ())[0], html="<p>Better</p>")
        changes.change(draft, [replace(first, variants=(better,)), second], now=NOON + timedelta(hours=1))
        assert results.results(draft)[0].verdict == "early"
        assert choices.decide(now=NOON) == []


def test_nobody_is_won_by_replies_that_ask_for_no_more_mails(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        told_to_choose(draft)
        answered(draft, {"A": 6, "B": 60})
        angry = MessageFacts.objects.filter(message__variant="B").values("pk")[:58]
        MessageFacts.objects.filter(pk__in=angry).update(unsubscribed_at=NOON)
        (found, _) = results.results(draft)
        assert [(one.counts.replied, one.did) for one in found.texts] == [(6, 6), (60, 2)]
        assert choices.decide(now=NOON) == []


def test_programs_read_what_came_of_each_step(alpha: Agency, carol: User, draft: Campaign) -> None:
    with context.entered(alpha):
        launch.launch(draft, now=NOON)
        answered(draft, {"A": 6, "B": 50})
        headers = {"authorization": f"Bearer {keys.issue(carol, 'program')}"}
        step = draft.steps.get(position=1)
    client = at(alpha)
    first, second = client.get(f"/api/v1/campaigns/{draft.pk}/results/", headers=headers).json()
    assert first["counts"] | {"replied": 56} == first["counts"]
    assert (first["counts"]["due"], first["counts"]["sent"]) == (440, 400)
    assert [(one["letter"], one["counts"]["replied"]) for one in first["texts"]] == [("A", 6), ("B", 50)]
    assert (first["verdict"], first["leader"], second["texts"]) == ("winner", "B", [])
    choice = f"/api/v1/campaigns/{draft.pk}/steps/{step.pk}/choice/"

    def choose(letter: str) -> HttpResponse:
        found: HttpResponse = client.post(choice, {"variant": letter}, content_type="application/json", headers=headers)
        return found

    assert choose("B").json()[0]["chosen"] == "B"  # type: ignore[attr-defined]
    assert choose("A").status_code == 409
    steps = client.get(f"/api/v1/campaigns/{draft.pk}/steps/", headers=headers).json()
    assert [one["letter"] for one in steps["steps"][0]["variants"]] == ["B"]
    told = client.put(f"/api/v1/campaigns/{draft.pk}/steps/", steps, content_type="application/json", headers=headers)
    assert told.json()["saved"], told.json()


def test_a_campaign_is_written_and_changed_with_variants_in_the_portal(
    alpha: Agency, account: Account, carols: Visitor
) -> None:
    with context.entered(alpha):
        made = stage.campaign(stage.contact_list("w", 3), traffic_class="bulk")
        (first,) = changes.steps_of(made)
    url = f"/campaigns/{made.pk}/sequence/"
    page = carols.get(url).content.decode()
    assert 'name="steps-0-html_F"' in page
    fields = {
        "steps-TOTAL_FORMS": 1,
        "steps-INITIAL_FORMS": 1,
        "steps-0-id": first.id,
        "steps-0-subject": "Hello",
        "steps-0-html": "<p>A</p>",
        "steps-0-subject_C": "Other",
        "steps-0-html_C": "<p>B</p>",
        "steps-0-weight_C": 3,
        "steps-0-auto_choice": "on",
    }
    assert carols.post(url, fields).status_code == 302
    with context.entered(alpha):
        (one,) = changes.steps_of(made)
        assert one.variants == (WantedVariant("B", "Other", "<p>B</p>", "", 3),)
        assert one.auto_choice
    seen = carols.get(f"/campaigns/{made.pk}/preview/?variant=B").content.decode()
    assert "Other" in seen


def test_the_administration_writes_variants_of_a_draft_and_shows_those_of_others(
    alpha: Agency, draft: Campaign, carols: Visitor
) -> None:
    with context.entered(alpha):
        step = draft.steps.get(position=1)
        b = step.variants.get()
        files.add(step, "a.txt", b"a", by="carol@alpha.test", now=NOON)
    url = f"/admin/campaigns/step/{step.pk}/change/"
    page = carols.get(url)
    assert f"/campaigns/{draft.pk}/sequence/" in page.content.decode()
    given = {
        **{name: page.context["adminform"].form[name].value() for name in page.context["adminform"].form.fields},
        "auto_choice": "on",
        "variants-TOTAL_FORMS": 2,
        "variants-INITIAL_FORMS": 1,
        "variants-0-id": b.pk,
        "variants-0-step": step.pk,
        "variants-0-letter": "B",
        "variants-0-weight": 2,
        "variants-0-subject": "Other",
        "variants-0-text": "Other",
        "variants-1-step": step.pk,
        "variants-1-letter": "C",
        "variants-1-weight": 1,
        "variants-1-subject": "",
        "variants-1-html": "<p>{{ nobody }}</p>",
    }
    assert "a variant of the first step needs a subject" in carols.post(url, given).content.decode()
    given["variants-1-subject"] = "Third"
    assert "Step 1C names nobody" in carols.post(url, given).content.decode()
    assert carols.post(url, {**given, "variants-1-html": "<p>C</p>"}).status_code == 302
    with context.entered(alpha):
        step.refresh_from_db()
        assert [(one.letter, one.subject, one.weight) for one in step.variants.all()] == [
            ("B", "Other", 2),
            ("C", "Third", 1),
        ]
        assert step.auto_choice
        launch.launch(draft, now=NOON)
    assert 'name="subject"' not in carols.get(url).content.decode()
    carols.post(url, {**given, "variants-0-subject": "Late"})
    with context.entered(alpha):
        assert step.variants.get(letter="B").subject == "Other"
        other = stage.campaign(draft.list)
        changes.change(other, [replace(changes.steps_of(other)[0], variants=(B,))], now=NOON)
        files.add(other.steps.get(), "a.txt", b"a", by="carol@alpha.test", now=NOON)
    # A draft goes with all that it has.
    carols.post(f"/admin/campaigns/campaign/{other.pk}/delete/", {"post": "yes"})
    with context.entered(alpha):
        assert list(Campaign.objects.all()) == [draft]
