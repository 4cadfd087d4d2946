"""The DNS check and DKIM keys where people and programs meet them: administration, API, command, before a launch."""

from io import StringIO
from typing import Any

import dns.asyncresolver
import pytest
from django.core.management import CommandError, call_command

from campaigns import inspection
from providers.senders import dns as checks
from providers.senders.models import DkimKey, DnsCheck, SenderDomain
from providers.senders.published import Answer
from tenants import context
from tenants.models import Agency
from tenants.users import keys
from tenants.users.models import User
from tests import stage
from tests.stage import NOON
from tests.visitor import at, body

# What the administration calls its buttons.
PRESSED = "senders_senderdomain_"


@pytest.fixture
def zone(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], Answer]:
    """What the DNS says; a name that is not in it does not exist."""
    held: dict[tuple[str, str], Answer] = {}

    async def answer(name: str, kind: str, resolver: dns.asyncresolver.Resolver) -> Answer:
        known = any(name == one for one, _kind in held)
        return held.get((name, kind), Answer(exists=known))

    monkeypatch.setattr(checks, "_answer", answer)
    return held


@pytest.fixture
def domain(alpha: Agency, beta: Agency) -> SenderDomain:
    account = stage.accounts()["smtp"]
    for agency in (alpha, beta):
        stage.allot(agency, account, domains=1)
    with context.entered(alpha):
        return SenderDomain.objects.get()


def test_a_program_makes_a_key_publishes_it_and_checks(
    alpha: Agency, beta: Agency, carol: User, oscar: User, domain: SenderDomain, zone: dict[tuple[str, str], Answer]
) -> None:
    secrets = {}
    for agency, user in ((alpha, carol), (beta, oscar)):
        with context.entered(agency):
            secrets[agency.slug] = {"authorization": f"Bearer {keys.issue(user, 'program')}"}
    ours = secrets["alpha"]
    (shown,) = at(alpha).get("/api/v1/domains/", headers=ours).json()["results"]
    assert (shown["name"], shown["dns"], shown["dkim_keys"]) == ("smtp0.alpha.example", None, [])
    address = f"/api/v1/domains/{domain.pk}/"

    made = at(alpha).post(f"{address}dkim-keys/", headers=ours)
    assert made.status_code == 201
    assert made.json()["name"].endswith("._domainkey.smtp0.alpha.example")
    zone[made.json()["name"], "TXT"] = Answer((made.json()["value"],))
    zone["smtp0.alpha.example", "MX"] = Answer(("10 mx.example.",))
    found = at(alpha).post(f"{address}check-dns/", headers=ours).json()
    assert found["dkim_keys"][0]["signs_since"] is not None
    assert found["dns"]["sound"] is False
    (dmarc,) = [one for one in found["dns"]["findings"] if one["part"] == "dmarc"]
    assert dmarc["text"].startswith("smtp0.alpha.example has no DMARC record")
    assert dmarc["record"]["name"] == "_dmarc.smtp0.alpha.example"
    assert "PRIVATE" not in str(found)
    assert at(alpha).get(address, headers=ours).json() == found

    (other,) = at(beta).get("/api/v1/domains/", headers=secrets["beta"]).json()["results"]
    assert (other["name"], other["dkim_keys"]) == ("smtp0.beta.example", [])
    assert at(alpha).get(address, headers=secrets["beta"]).status_code == 401


def test_whoever_may_not_change_domains_makes_no_key(alpha: Agency, carol: User, domain: SenderDomain) -> None:
    with context.entered(alpha):
        reader = User.objects.create(email="reader@alpha.test")
        headers = {"authorization": f"Bearer {keys.issue(reader, 'program')}"}
    assert at(alpha).get("/api/v1/domains/", headers=headers).status_code == 403
    assert at(alpha).post(f"/api/v1/domains/{domain.pk}/dkim-keys/", headers=headers).status_code == 403
    with context.entered(alpha):
        assert not DkimKey.objects.exists()


def test_the_administration_shows_what_to_publish(
    alpha: Agency,
    carol: User,
    domain: SenderDomain,
    zone: dict[tuple[str, str], Answer],
    django_capture_on_commit_callbacks: Any,
) -> None:
    zone[domain.name, "MX"] = Answer(("10 mx.example.",))
    page, visitor = f"/admin/senders/senderdomain/{domain.pk}/change/", at(alpha, carol)
    with context.entered(alpha):
        home = domain.homes.get()
    fields = {
        "per_day": 100,
        "warmup_step": 1,
        "homes-TOTAL_FORMS": 1,
        "homes-INITIAL_FORMS": 1,
        "homes-0-id": home.pk,
        "homes-0-account": home.account_id,
        "homes-0-domain": domain.pk,
    }
    with django_capture_on_commit_callbacks(execute=True):
        told = body(visitor.post(page, {**fields, f"{PRESSED}save_and_make_key": "1"}, follow=True))
    assert "p=MII" in told
    with django_capture_on_commit_callbacks(execute=True):
        assert visitor.post(page, {**fields, f"{PRESSED}save_and_check_dns": "1"}).status_code == 302
    shown = body(visitor.get(page))
    assert f"_dmarc.{domain.name} TXT" in shown
    assert "v=DMARC1; p=none; rua=mailto:dmarc@" in shown
    assert "PRIVATE" not in told + shown
    chosen = {"action": "check_dns", "_selected_action": [domain.pk]}
    assert "the DNS is not sound" in body(visitor.post("/admin/senders/senderdomain/", chosen, follow=True))


def test_the_command_says_what_is_wrong(
    alpha: Agency, beta: Agency, domain: SenderDomain, zone: dict[tuple[str, str], Answer]
) -> None:
    told = StringIO()
    with pytest.raises(CommandError, match="Not every domain is sound"):
        call_command("check_dns", "alpha", "smtp0.alpha.example", "--make-key", stdout=told)
    assert "There is no domain smtp0.alpha.example in the DNS." in told.getvalue()
    with pytest.raises(CommandError, match="No domain of this agency"):
        call_command("check_dns", "alpha", "smtp0.beta.example")
    with context.entered(alpha):
        assert DkimKey.objects.count() == 1
    with context.entered(beta):
        assert not DnsCheck.objects.exists()


def test_a_launch_is_warned_of_domains_that_are_not_sound(alpha: Agency, domain: SenderDomain) -> None:
    with context.entered(alpha):
        draft = stage.campaign(stage.contact_list("a", 1))

        def warned() -> list[str]:
            return [one.text for one in inspection.inspect(draft, now=NOON) if one.code == "dns"]

        assert warned() == []
        wrong = {"part": "dmarc", "level": "wrong", "code": "dmarc_none", "about": {"domain": domain.name}}
        check = DnsCheck.objects.create(domain=domain, at=NOON, sound=False, findings=[wrong])
        (told,) = warned()
        assert "smtp0.alpha.example has no DMARC record" in told
        DnsCheck.objects.filter(pk=check.pk).update(at=NOON - checks.FRESH)
        assert warned() == []
