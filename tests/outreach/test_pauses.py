"""The operator sees what is paused in every agency, with the evidence, and ends it from one page."""

from datetime import timedelta

import pytest

from campaigns import sources
from campaigns.models import SourcePause
from providers.senders import recovering
from providers.senders.models import Recovery, Sender
from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import Visitor, body

PAGE = "/admin/pauses/"


@pytest.fixture
def paused(alpha: Agency, beta: Agency) -> dict[str, int]:
    """A sender and a domain of Alpha's, and a list of Beta's."""
    found = stage.accounts()
    for agency in (alpha, beta):
        stage.allot(agency, *found.values())
    with context.entered(alpha):
        sender = Sender.objects.select_related("domain").order_by("pk")[0]
        for whose in (sender, sender.domain):
            recovering.pause(whose, alpha, by="carol@alpha.test", why="on leave", now=NOON)
        Recovery.objects.filter(sender=sender).update(mails=120, bounced=14, least=0.056, cause="bounces")
        ids = {"sender": Recovery.objects.get(sender=sender).pk, "domain": Recovery.objects.get(sender=None).pk}
    with context.entered(beta):
        people = stage.contact_list("Bought <b>list</b>", 1)
        sources.pause(people, None, by="dora@beta.test", why="bought", now=NOON + timedelta(hours=1))
        return {**ids, "source": SourcePause.objects.get().pk}


def visitor(person: User) -> Visitor:
    found = Visitor("localhost")
    found.force_login(person)
    return found


def test_the_operator_ends_pauses_of_all_agencies_and_says_why(
    alpha: Agency, beta: Agency, paused: dict[str, int]
) -> None:
    operator = visitor(User.objects.create_superuser("olga@operator.test", "correct horse battery"))
    page = body(operator.get(PAGE))
    for told in ("Alpha", "Beta", "14 came back", "surely above 5.60", "Sends nothing", "carol@alpha.test: on leave"):
        assert told in page
    assert "Bought &lt;b&gt;list&lt;/b&gt;" in page
    assert page.index("Bought") < page.index("14 came back"), "the latest first"
    assert PAGE in body(operator.get("/admin/"))

    def release(agency: Agency, kind: str, id: int, why: str = "asked them") -> str:
        return body(operator.post(f"{PAGE}{agency.pk}/{kind}/{id}/release/", {"why": why}, follow=True))

    assert "Say why" in release(alpha, "sender", paused["sender"], why=" ")
    for agency, kind in ((alpha, "sender"), (alpha, "domain"), (beta, "source")):
        assert "sends again" in release(agency, kind, paused[kind])
        assert "Somebody else was faster" in release(agency, kind, paused[kind])
    assert "Nothing is paused." in body(operator.get(PAGE))
    with context.entered(alpha):
        ended = set(Recovery.objects.values_list("ended_by", "ended_why"))
        assert not Sender.objects.exclude(cap=None).exists()
    with context.entered(beta):
        ended |= set(SourcePause.objects.values_list("ended_by", "ended_why"))
    assert ended == {("olga@operator.test", "asked them")}
    for path in (f"{alpha.pk}/campaign/{paused['sender']}", f"{alpha.pk}/sender/999999", "999999/sender/1"):
        assert operator.post(f"{PAGE}{path}/release/", {"why": "x"}).status_code == 404


def test_nobody_else_may(alpha: Agency, carol: User, paused: dict[str, int]) -> None:
    path = f"{PAGE}{alpha.pk}/sender/{paused['sender']}/release/"
    clerk = visitor(User.objects.create_user("clerk@operator.test", is_staff=True))
    assert clerk.get(PAGE).status_code == 403
    assert clerk.post(path, {"why": "x"}).status_code == 403
    assert Visitor("localhost").post(path, {"why": "x"}).status_code == 302
    with context.entered(alpha):
        carols = Visitor("alpha.localhost")
        carols.force_login(carol)
    assert carols.get(PAGE).status_code == 404
    assert carols.post(path, {"why": "x"}).status_code == 404
    with context.entered(alpha):
        assert Recovery.objects.filter(ended_at=None).count() == 2
