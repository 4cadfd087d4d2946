"""A mail is seen as it will be sent, and what is wrong with it is said before the launch."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import dispatch, inspection, launch, lifecycle, preview
from campaigns.envelopes import Envelopes
from campaigns.models import Campaign, Contact, Link, Step
from providers.accounts.envelope import Envelope
from providers.accounts.models import Account, Allotment
from providers.senders.models import Sender
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, at, body

GOOD = (
    "<style>p{color:red}</style><p>{Hello|Hi|Dear} {{ first_name }}, {how|where} are you? "
    + "We would like to show you what we make. " * 4
    + '<a href="https://a.example/{{ city }}">look</a></p><p>Polza GmbH, Hauptstrasse 1, 10115 Berlin</p>'
)


@pytest.fixture
def account(alpha: Agency, beta: Agency) -> Account:
    found = stage.accounts()
    stage.allot(alpha, found["smtp"])
    return found["smtp"]


@pytest.fixture
def draft(alpha: Agency, account: Account) -> Campaign:
    with context.entered(alpha):
        return stage.campaign(stage.contact_list("p", 12), html=GOOD, traffic_class="bulk")


def codes(campaign: Campaign, **changes: Any) -> set[str]:
    """What is said of the campaign with these texts."""
    Step.objects.filter(campaign=campaign).update(**changes)
    return {one.code for one in inspection.inspect(campaign, now=NOON)}


def bare(envelope: Envelope) -> tuple[str, str, str | None]:
    """What is read of it, without the names of the mail in its addresses."""
    token = re.compile(r"/(u|t)/[\w-]{40,44}")
    return envelope.subject, token.sub("", envelope.text), envelope.html and token.sub("", envelope.html)


def test_what_is_previewed_before_the_launch_is_what_is_sent(alpha: Agency, account: Account, draft: Campaign) -> None:
    with context.entered(alpha):
        step = draft.steps.select_related("campaign").get()
        seen = {one.email: preview.of(step, one) for one in Contact.objects.all()}
        launch.launch(draft, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=12)
        made = Envelopes(alpha)
        made.prepare(batch)
        sent = {one.recipient: one for one in map(made.of, batch)}
        lifecycle.release(batch)
        assert len(sent) == 12
        assert {email: bare(one) for email, one in seen.items()} == {email: bare(one) for email, one in sent.items()}
        assert len({bare(one)[1].split()[0] for one in sent.values()}) > 1
        assert all('<p style="color: red' in (one.html or "") for one in seen.values())
        # No mail is named, so nobody leaves and no reader is counted.
        assert not {one.text for one in seen.values()} & {one.text for one in sent.values()}
        assert Link.objects.count() == 1


def test_a_follow_up_is_seen_in_its_thread(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        second = Step.objects.create(campaign=draft, position=2, subject="", text="Still there? {{ city }}")
        seen = preview.of(second, Contact.objects.first())
        assert seen.subject == "Re: Hello N0"
        assert "Still there? Riga" in seen.text


def test_each_sender_signs_with_its_own_words(alpha: Agency, account: Account, draft: Campaign) -> None:
    with context.entered(alpha):
        for sender in Sender.objects.all():
            Sender.objects.filter(pk=sender.pk).update(signature=f"Best,\n<{sender.name}> & Co")
        blank = Sender.objects.order_by("-pk").first()
        Sender.objects.filter(pk=blank.pk).update(signature="")  # type: ignore[union-attr]
        Contact.objects.update(attributes={"city": "Riga", "signature": "not mine"})
        Step.objects.update(
            html='<p>{{ signature }}</p><a href="https://a.example/?by={{ sender_email }}">{{ sender_name }}</a>'
        )
        assert codes(draft) & {"texts", "missing_value"} == set()
        launch.launch(draft, now=NOON)
        allotment = Allotment.objects.select_related("account").get(agency=alpha, account=account)
        batch = dispatch.claim_batch(alpha, allotment, now=NOON, limit=12)
        made = Envelopes(alpha)
        made.prepare(batch)
        for message in batch:
            sent, name = made.of(message), message.sender_name
            html = "" if message.sender_id == blank.pk else f"Best,<br>&lt;{name}&gt; &amp; Co"  # type: ignore[union-attr]
            assert f"<p>{html}</p>" in (sent.html or "")
            assert f'href="https://a.example/?by={message.sender_address}">{name}</a>' in (sent.html or "")
        assert len({message.sender_id for message in batch}) == 4
        lifecycle.release(batch)


def test_the_page_shows_the_mail_of_whoever_is_asked_for(
    carols: Visitor, oscars: Visitor, alpha: Agency, draft: Campaign
) -> None:
    page = body(carols.get(f"/campaigns/{draft.pk}/preview/", {"contact": "P3@people.example", "width": "narrow"}))
    assert "Hello N3" in page
    assert "p3@people.example" in page
    assert 'class="preview-mail narrow" sandbox' in page
    frame = carols.get(f"/campaigns/{draft.pk}/preview/html/", {"contact": "p3@people.example"})
    assert "N3, " in body(frame)
    assert ".gif" not in body(frame)
    assert "sandbox;" in frame.headers["Content-Security-Policy"]
    assert "script-src" not in frame.headers["Content-Security-Policy"]
    assert frame.headers["X-Frame-Options"] == "SAMEORIGIN"
    assert "No contact" in body(carols.get(f"/campaigns/{draft.pk}/preview/", {"contact": "oscar@beta.test"}))
    assert carols.get(f"/campaigns/{draft.pk}/preview/", {"step": "9" * 30}).status_code == 200
    for path in ("preview/", "preview/html/", "inspection/"):
        assert oscars.get(f"/campaigns/{draft.pk}/{path}").status_code == 404


def test_the_page_says_why_there_is_no_mail(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        Step.objects.update(html="<p>{{ company }}</p>")
    assert "missing company" in body(carols.get(f"/campaigns/{draft.pk}/preview/"))
    assert carols.get(f"/campaigns/{draft.pk}/preview/html/").status_code == 404


def test_a_good_mail_has_nothing_but_a_note(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        assert codes(draft) == {"unsubscribe_added"}
        assert codes(draft, html=GOOD + '<a href="{{ unsubscribe_url }}">leave</a>') == set()


def test_it_says_how_many_will_be_held_and_for_what(carols: Visitor, alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        people = list(Contact.objects.order_by("pk"))
        Contact.objects.exclude(pk__in=[one.pk for one in people[:5]]).update(company="Acme")
        Contact.objects.filter(pk__in=[one.pk for one in people[5:8]]).update(attributes={"city": " "})
        Contact.objects.filter(pk=people[11].pk).update(attributes=["no", "table"])
        Step.objects.update(html=GOOD + "{% if first_name %}{a|b {{ company }}}{% endif %}", subject="{{ city }}")
        told = [one for one in inspection.inspect(draft, now=NOON) if one.code == "missing_value"]
        assert {re.match(r"(\d+) of 12 contacts ha(?:s|ve) no (\w+)", one.text).groups() for one in told} == {  # type: ignore[union-attr]
            ("5", "company"),
            ("4", "city"),
        }
        assert "{{ company | default: '…' }}" in told[0].text + told[1].text
        Step.objects.update(html=GOOD + "{% if company %}{{ company }}{% endif %}", subject="{{ city | default: 'x' }}")
        assert "missing_value" in codes(draft)
        Step.objects.update(html=GOOD.replace("{{ city }}", "{{ city | default: 'x' }}"))
        assert "missing_value" not in codes(draft)
    page = body(carols.get(f"/campaigns/{draft.pk}/inspection/"))
    assert "Check before launch" in page


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"html": f"<p>{'long text ' * 11_000}</p>"}, "clipped"),
        ({"html": '<img src="https://a.example/all.png" alt="x">'}, "image_only"),
        ({"html": "<p>Hello there, whoever you are and wherever you may be.</p>"}, "no_postal_address"),
        ({"html": '<p>x <a href="">y</a></p>'}, "broken_link"),
        ({"html": '<p>x <a href="http:/a.example">y</a></p>'}, "broken_link"),
        ({"html": '<p>x <a href="www.a.example">y</a></p>'}, "broken_link"),
        ({"html": '<p>x <a href="https://localhost/x">y</a></p>'}, "broken_link"),
        ({"html": '<p>x <a href="https://[::1">y</a></p>'}, "broken_link"),
        ({"html": '<p>x <a href="https://bit.ly/x">y</a></p>'}, "shortened_link"),
        ({"html": "".join(f'<a href="https://a.example/{n}">y</a>' for n in range(16))}, "many_links"),
        ({"subject": "BUY THIS NOW PLEASE"}, "shouting"),
        ({"subject": "Hello!! You"}, "shouting"),
        ({"subject": "Congratulations, winner"}, "spam_words"),
        ({"subject": "a long subject " * 8}, "long_subject"),
        ({"html": "<p>{{ nothing }}</p>"}, "texts"),
        ({"html": "<script>x</script>"}, "texts"),
        ({"html": "<p>{% for x in y %}</p>"}, "texts"),
    ],
)
def test_each_fault_is_found(alpha: Agency, draft: Campaign, changes: dict[str, Any], code: str) -> None:
    with context.entered(alpha):
        assert code not in codes(draft)
        assert code in codes(draft, **changes)


def test_only_what_a_launch_refuses_is_called_so(alpha: Agency, draft: Campaign) -> None:
    with context.entered(alpha):
        Step.objects.update(html="<script>x</script>")
        assert {one.severity for one in inspection.inspect(draft, now=NOON)} == {inspection.Severity.REFUSED}
        with pytest.raises(launch.LaunchRefusedError, match="<script>"):
            launch.launch(draft, now=NOON)


def test_programs_and_the_admin_read_the_same(alpha: Agency, beta: Agency, carol: User, draft: Campaign) -> None:
    with context.entered(alpha):
        secret = keys.issue(carol, "program")
        found = inspection.inspect(draft, now=NOON)
        User.objects.filter(pk=carol.pk).update(is_staff=True, is_superuser=True)
        carol.refresh_from_db()
    headers = {"authorization": f"Bearer {secret}"}
    answer = at(alpha).get(f"/api/v1/campaigns/{draft.pk}/inspection/", headers=headers)
    assert answer.json() == [
        {"code": one.code, "severity": one.severity, "where": one.where, "variant": "", "text": one.text}
        for one in found
    ]
    assert found[0].text in body(at(alpha, carol).get(f"/admin/campaigns/campaign/{draft.pk}/change/"))
    assert at(beta).get(f"/api/v1/campaigns/{draft.pk}/inspection/", headers=headers).status_code == 401


@given(st.text(max_size=60))
def test_any_address_is_judged(address: str) -> None:
    inspection._broken(address)
