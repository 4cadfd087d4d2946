"""What Carol sees and does in a real browser, while Oscar's agency is there too."""

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from campaigns import changes, dispatch, replies
from providers.accounts import inbox
from providers.accounts.models import Account, InboundMail
from providers.sandbox.service import Sandbox
from providers.senders.inbound.verdict import classify
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.browser.conftest import Complaints, Site, sign_in
from tests.campaigns.test_feedback import sent
from tests.campaigns.test_inbox import raw

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]


def drain_in_background(agency: Agency, accounts: list[Account]) -> threading.Thread:
    """A worker beside the browser."""

    def work() -> None:
        try:
            with context.entered(agency):
                for account in accounts:
                    until = timezone.now() + timedelta(seconds=60)
                    dispatch.drain(account.pk, clock=timezone.now, until=until)
        finally:
            connection.close()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_carol_launches_a_campaign_and_watches_it_to_the_end(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints
) -> None:
    with Sandbox(faults=["smtp=slow:0.01"]) as sandbox:
        accounts = stage.accounts(sandbox)
        for agency in committed.values():
            stage.allot(agency, accounts["smtp"], senders=20)
        with context.entered(committed["beta"]):
            stage.campaign(stage.contact_list("theirs", 5))
        with context.entered(committed["alpha"]):
            campaign = stage.campaign(stage.contact_list("ours", 200))
        page = browser.new_page()
        complaints.listen(page)
        sign_in(page, site, "alpha", "carol@alpha.test")
        page.goto(site.url("alpha", f"/campaigns/{campaign.pk}/"))
        assert "To theirs" not in page.content()
        page.get_by_role("button", name="Launch").click()
        page.locator("dialog[open] button[value=yes]").click()
        page.get_by_text("Running", exact=True).first.wait_for()
        worker = drain_in_background(committed["alpha"], [accounts["smtp"]])
        # The page follows by itself: nothing reloads it.
        page.get_by_text("200 of 200 mails have gone out").wait_for(timeout=60_000)
        worker.join()
        assert sandbox.snapshot()["distinct_recipients"] == 200


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1440, 390])
def test_pages_fit_and_do_not_complain(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints, scheme: str, width: int
) -> None:
    accounts = stage.accounts()
    for agency in committed.values():
        stage.allot(agency, *accounts.values())
    with context.entered(committed["alpha"]):
        campaign = stage.campaign(stage.contact_list("ours", 20))
    page = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme).new_page()
    complaints.listen(page)
    sign_in(page, site, "alpha", "carol@alpha.test")
    own = f"/campaigns/{campaign.pk}/"
    for path in ("/", "/campaigns/", own, f"{own}preview/", "/campaigns/new/?more=1", "/contacts/", "/inbox/"):
        answer = page.goto(site.url("alpha", path))
        assert answer.status == 200
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
        red, green, blue = (int(part) for part in shade.strip("rgb()").split(",")[:3])
        assert (red + green + blue < 3 * 80) == (scheme == "dark")


@pytest.mark.parametrize("width", [1440, 390])
def test_carol_adds_a_follow_up_and_takes_another_out(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints, width: int
) -> None:
    with context.entered(committed["alpha"]):
        campaign = stage.campaign(stage.contact_list("ours", 2))
    page = browser.new_context(viewport={"width": width, "height": 900}).new_page()
    complaints.listen(page)
    sign_in(page, site, "alpha", "carol@alpha.test")
    page.goto(site.url("alpha", f"/campaigns/{campaign.pk}/sequence/"))
    for text in ("<p>Not this</p>", "<p>Again</p>"):
        page.get_by_role("button", name="Add a step").click()
        page.locator("[data-step]").last.get_by_label("HTML").first.fill(text)
    page.locator("[data-step]").last.get_by_label("Counted in").select_option("working_days")
    page.get_by_role("button", name="Take this step out").first.click()
    tried = page.locator("[data-step]").first
    tried.get_by_text("Variants", exact=True).click()
    for letter in "BC":
        assert not tried.locator(f"[data-variant={letter}]").is_visible()
        tried.get_by_role("button", name="Add a variant").click()
        tried.locator(f"[data-variant={letter}]").get_by_label("Subject").fill(f"Text {letter}")
        tried.locator(f"[data-variant={letter}]").get_by_label("Plain text").fill("Other words")
    tried.get_by_role("button", name="Take this variant out").first.click()
    assert page.locator("[data-number]:visible").all_inner_texts() == ["1", "2"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.get_by_role("button", name="Save").click()
    page.get_by_text("are saved").first.wait_for()
    with context.entered(committed["alpha"]):
        found = changes.steps_of(campaign)
        assert [(one.html, one.unit) for one in found[1:]] == [("<p>Again</p>", "working_days")]
        assert [(one.letter, one.subject) for one in found[0].variants or ()] == [("B", "Text C")]


def test_carol_reads_the_portal_in_russian(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints
) -> None:
    page = browser.new_page()
    complaints.listen(page)
    sign_in(page, site, "alpha", "carol@alpha.test")
    page.get_by_role("button", name="Your menu").click()
    page.get_by_role("button", name="Русский").click()
    page.wait_for_load_state()
    assert page.locator("html").get_attribute("lang") == "ru"
    page.get_by_role("link", name="Кампании").first.click()
    page.get_by_role("heading", level=1, name="Кампании").wait_for()


def test_the_admin_of_both_hosts_works_without_complaints(
    committed: dict[str, Agency], site: Site, browser: Any, complaints: Complaints
) -> None:
    accounts = stage.accounts()
    stage.allot(committed["alpha"], *accounts.values())
    page = browser.new_page()
    complaints.listen(page)
    sign_in(page, site, "alpha", "carol@alpha.test")
    for path in ("campaigns/campaign/", "senders/sender/", "campaigns/contact/"):
        assert page.goto(site.url("alpha", f"/admin/{path}")).status == 200


def test_a_reply_s_html_runs_loads_and_sends_nothing(committed: dict[str, Agency], site: Site, browser: Any) -> None:
    account = stage.accounts()["smtp"]
    for agency in committed.values():
        stage.allot(agency, account)
    inbox.keep("max@client.test", ["replies@us.test"], raw())
    digest = InboundMail.objects.get().digest
    with context.entered(committed["alpha"]):
        message = sent(committed["alpha"], account)[0]
        reply = replies.keep(message, classify(raw()), digest=digest, received_at=timezone.now())
    assert reply is not None
    asked: list[str] = []
    visitor = browser.new_context(viewport={"width": 390, "height": 900})
    # Nobody answers elsewhere: what counts is who is asked.
    visitor.route(lambda url: "localhost" not in url, lambda route: route.abort())
    visitor.on("request", lambda request: "localhost" in request.url or asked.append(request.url))
    visitor.on("dialog", lambda dialog: asked.append(dialog.message) or dialog.dismiss())
    page = visitor.new_page()
    sign_in(page, site, "alpha", "carol@alpha.test")
    page.goto(site.url("alpha", f"/inbox/{reply.pk}/"))
    page.get_by_role("button", name="As it came").click()
    frame = page.frame_locator("iframe.original-html")
    frame.get_by_text("Hello Anna").click()
    page.wait_for_load_state("networkidle")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    # By itself, without the frame around it, it does no more.
    bare = visitor.new_page()
    bare.goto(site.url("alpha", f"/inbox/{reply.pk}/original/html/"))
    bare.get_by_text("Hello Anna").click()
    bare.wait_for_load_state("networkidle")
    assert bare.url == site.url("alpha", f"/inbox/{reply.pk}/original/html/")
    assert [url for url in asked if not url.startswith("data:")] == []
    with page.expect_request("https://pixel.test/p.gif"):
        page.get_by_role("button", name="Load them").click()
    frame.get_by_text("Hello Anna").wait_for()
    assert {url for url in asked if not url.startswith("data:")} == {"https://pixel.test/p.gif"}
