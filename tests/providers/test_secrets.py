"""Secrets at rest: encrypted, bound to their place, rotatable, in no dump."""

import base64
import json
from io import StringIO
from typing import Any

import pytest
from django.conf import settings as project
from django.core import serializers
from django.core.exceptions import ImproperlyConfigured
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.utils import timezone

from campaigns.models import Endpoint
from providers.accounts.models import Account
from providers.accounts.secrets import parse_keys, seal, unseal
from tenants import context
from tenants.models import Agency
from tenants.users.models import User

PLACE = "accounts.account.credentials"
SECRET = {"api_key": "SG.planted-secret", "note": "ключ"}


def key(name: str, byte: bytes) -> str:
    return f"{name}:{base64.b64encode(byte * 32).decode()}"


OLD, NEW = key("2025", b"o"), key("2026", b"n")


def stored(account: Account) -> bytes:
    with connection.cursor() as cursor:
        cursor.execute("SELECT credentials FROM accounts_account WHERE id = %s", [account.pk])
        return bytes(cursor.fetchone()[0])


def test_an_account_keeps_its_credentials_and_the_table_holds_none_in_clear(alpha: Agency) -> None:
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)

    assert Account.objects.get().credentials == SECRET
    assert b"planted" not in stored(account)
    first = stored(account)
    account.save()
    assert stored(account) != first, "the same secret encrypted twice looks different"


def test_an_account_without_credentials_has_none(alpha: Agency) -> None:
    Account.objects.create(name="smtp", kind="smtp")
    assert Account.objects.get().credentials == {}


def test_a_ciphertext_moved_to_another_place_is_refused() -> None:
    sealed = seal(SECRET, place=PLACE)

    assert unseal(sealed, place=PLACE) == SECRET
    with pytest.raises(ImproperlyConfigured, match=r"A secret in senders\.mailbox\.password"):
        unseal(sealed, place="senders.mailbox.password")


@pytest.mark.parametrize("position", [0, 8, 20, -1])
def test_a_changed_ciphertext_is_refused(position: int) -> None:
    sealed = bytearray(seal(SECRET, place=PLACE))
    sealed[position] ^= 1
    with pytest.raises(ImproperlyConfigured, match="SECRETS_KEYS"):
        unseal(bytes(sealed), place=PLACE)


def test_a_key_is_rotated_by_putting_a_new_one_first(alpha: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "SECRETS_KEYS", [OLD])
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    assert stored(account).startswith(b"2025\0")

    monkeypatch.setattr(project, "SECRETS_KEYS", [NEW, OLD])
    account = Account.objects.get()
    assert account.credentials == SECRET
    account.save()
    assert stored(account).startswith(b"2026\0")

    monkeypatch.setattr(project, "SECRETS_KEYS", [NEW])
    assert Account.objects.get().credentials == SECRET


def test_a_command_seals_every_secret_anew(alpha: Agency, beta: Agency, settings: Any) -> None:
    settings.SECRETS_KEYS = [OLD]
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    hooks = {}
    for agency in (alpha, beta):
        with context.entered(agency):
            hook = Endpoint.objects.create(
                name="CRM", url="https://crm.test/", secrets={"current": agency.slug}, created_at=timezone.now()
            )
            hooks[agency] = hook.pk
    # Whose work rests has secrets too.
    Agency.objects.filter(pk=beta.pk).update(active=False)

    settings.SECRETS_KEYS = [NEW, OLD]
    Account.objects.create(name="resend", kind="resend", credentials=SECRET)
    before = stored(Account.objects.get(name="resend"))
    told = rotated()
    assert "public: accounts.Account.credentials: 1 of 2 sealed anew" in told
    assert "all are sealed with the key 2026 now" in told
    assert "Take 2025 out of SECRETS_KEYS" in told
    assert "planted" not in told
    assert stored(Account.objects.get(name="resend")) == before, "what the first key has sealed stays"

    settings.SECRETS_KEYS = [NEW]
    account.refresh_from_db()
    assert account.credentials == SECRET
    for agency, pk in hooks.items():
        with context.entered(agency):
            assert Endpoint.objects.get(pk=pk).secrets == {"current": agency.slug}
    assert rotated().startswith("0 of ")


def test_a_secret_whose_key_is_gone_stops_the_rotation_with_its_place(alpha: Agency, settings: Any) -> None:
    settings.SECRETS_KEYS = [OLD]
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    before = stored(account)
    settings.SECRETS_KEYS = [NEW]
    with pytest.raises(CommandError, match="the key '2025', which SECRETS_KEYS does not hold"):
        rotated()
    assert stored(account) == before


def rotated() -> str:
    """What the command says."""
    out = StringIO()
    call_command("rotate_secrets", stdout=out)
    return out.getvalue()


@pytest.mark.parametrize("keys", [[NEW], [key("2025", b"x")]])
def test_a_missing_or_changed_key_is_named(monkeypatch: pytest.MonkeyPatch, keys: list[str]) -> None:
    monkeypatch.setattr(project, "SECRETS_KEYS", [OLD])
    sealed = seal(SECRET, place=PLACE)

    monkeypatch.setattr(project, "SECRETS_KEYS", keys)
    with pytest.raises(ImproperlyConfigured, match="the key '2025', which SECRETS_KEYS does not hold") as refused:
        unseal(sealed, place=PLACE)
    assert "Put that key back behind the current one" in str(refused.value)
    assert "planted" not in str(refused.value)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ((), "SECRETS_KEYS is empty"),
        (("x",), "each entry is an id, a colon and 32 bytes"),
        (("2026:not base64!",), "each entry is an id, a colon and 32 bytes"),
        (("2026:ключ",), "each entry is an id, a colon and 32 bytes"),
        (("2026:" + base64.b64encode(b"short").decode(),), "each entry is an id, a colon and 32 bytes"),
        ((NEW[4:],), "each entry is an id, a colon and 32 bytes"),
        ((NEW, key("2026", b"z")), "two keys have the id 2026"),
    ],
)
def test_bad_keys_are_refused_by_the_setting_and_not_repeated(lines: tuple[str, ...], said: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="SECRETS_KEYS") as refused:
        parse_keys(lines)
    assert said in str(refused.value)
    assert not any(line.partition(":")[2] and line.partition(":")[2] in str(refused.value) for line in lines)


def test_a_dump_holds_no_secret_and_is_loaded_without_one(alpha: Agency) -> None:
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    out = StringIO()
    call_command("dumpdata", "accounts", stdout=out)
    dump = out.getvalue()

    sealed = stored(account)
    assert json.loads(dump)[0]["fields"]["name"] == "sendgrid"
    for form in (b"planted", sealed, base64.b64encode(sealed), sealed.hex().encode()):
        assert form not in dump.encode()

    (loaded,) = serializers.deserialize("json", dump)
    loaded.save()
    assert Account.objects.get().credentials == {}


def test_nothing_that_shows_an_account_shows_its_secret(alpha: Agency) -> None:
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    field = Account._meta.get_field("credentials")

    assert not field.editable, "no form may offer it"
    for text in (str(account), repr(account), repr(Account.objects.all()), field.value_to_string(account)):
        assert "planted" not in text


def test_the_operators_pages_show_no_secret(alpha: Agency) -> None:
    account = Account.objects.create(name="sendgrid", kind="sendgrid", credentials=SECRET)
    client = Client(headers={"host": "localhost"})
    client.force_login(User.objects.create_superuser("op@polza.test"))

    for path in ("", f"{account.pk}/change/", f"{account.pk}/history/", f"{account.pk}/delete/"):
        page = client.get(f"/admin/accounts/account/{path}")
        assert page.status_code in (200, 403), path
        assert b"planted" not in page.content
    assert b"sendgrid" in client.get("/admin/accounts/account/").content
