"""The wire to a provider: `open` a kind's Wire, `send` envelopes. It raises the errors of `errors` alone.

wire            the contract: send, verify, close
anymail         Resend, SendGrid, Postmark, Mailgun, Amazon SES: all through django-anymail
smtp            a mail server, with the phase that tells "surely not taken" from "in doubt"
classification  pure: an exception or an answer → a typed error
mime            envelope → Django's class or ready bytes
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any
from urllib.parse import urlsplit

from anymail.exceptions import AnymailConfigurationError
from django.conf import settings
from django.utils.translation import gettext as _

from providers.accounts.adapters import anymail, smtp
from providers.accounts.adapters.wire import Sign, Wire
from providers.accounts.envelope import Envelope
from providers.accounts.errors import AccountMisconfigured
from providers.accounts.models import Account

__all__ = ["KINDS", "KindOfAccount", "Sign", "Wire", "check", "fingerprint", "open"]

# Settings of an account that are not for its wire: how many lines a worker may hold open to it, and what the SPF of
# its senders has to name.
_NOT_OURS = frozenset({"connections", "spf"})
_NUMBERS = frozenset({"connections", "port", "mails_per_connection", "connection_seconds"})


@dataclass(frozen=True)
class KindOfAccount:
    """What an account of this kind needs: names of credentials it must and may have, and of its options.

    `idempotent`: the provider sends an envelope once, however often it gets it within 24 hours. `together`: how many
    mails without files it takes in one request; one with files goes by itself.
    """

    label: str
    required: tuple[str, ...]
    optional: tuple[str, ...]
    options: tuple[str, ...]
    idempotent: bool = False
    together: int = 1


KINDS: Mapping[str, KindOfAccount] = {
    "smtp": KindOfAccount("SMTP", (), ("username", "password"), tuple(smtp.DEFAULTS)),
    **{
        name: KindOfAccount(
            kind.label,
            kind.credentials,
            kind.optional,
            ("api_url", *kind.options, *anymail.DEFAULTS),
            idempotent=kind.idempotent,
            together=kind.together,
        )
        for name, kind in anymail.HTTP_KINDS.items()
    },
}


def open(kind: str, credentials: Mapping[str, str], options: Mapping[str, Any], *, sign: Sign | None = None) -> Wire:
    """The wire of an account, a context manager. Nothing is connected before the first mail.

    `sign` is for a mail server: providers with an HTTP interface sign themselves.

    Raises AccountMisconfigured that names the setting which is missing, unknown or unusable.
    """
    check(kind, credentials, options)
    ours = {name: value for name, value in options.items() if name not in _NOT_OURS}
    if kind == "smtp":
        return smtp.SmtpWire(credentials, ours, sign)
    try:
        return anymail.AnymailWire(anymail.HTTP_KINDS[kind], credentials, ours)
    except AnymailConfigurationError as error:
        raise AccountMisconfigured("options", str(error).splitlines()[0]) from None


def fingerprint(account: Account, envelope: Envelope) -> str:
    """32 characters that change when the mail does, or the account behind these settings.

    An idempotency key holds for the same bytes at the same account alone, and another API key may be another account's.
    """
    where = (account.kind, sorted(account.credentials.items()), account.options.get("api_url"))
    secret = blake2b(settings.SECRET_KEY.encode()).digest()
    return blake2b(repr((where, envelope, *envelope.files)).encode(), key=secret, digest_size=16).hexdigest()


def check(kind: str, credentials: Mapping[str, str], options: Mapping[str, Any]) -> None:
    """Raise AccountMisconfigured unless these are the settings that this kind has."""
    if kind not in KINDS:
        raise AccountMisconfigured(
            "kind",
            _("“%(kind)s” is not known; known are %(known)s") % {"kind": kind, "known": ", ".join(sorted(KINDS))},
        )
    wanted = KINDS[kind]
    for name in wanted.required:
        if not credentials.get(name):
            raise AccountMisconfigured(
                name, _("is missing: %(kind)s cannot be used without it") % {"kind": wanted.label}
            )
    for name, value in credentials.items():
        if name not in (*wanted.required, *wanted.optional):
            raise AccountMisconfigured(
                name,
                _("is no credential of %(kind)s; known are %(known)s")
                % {"kind": wanted.label, "known": _names(wanted.required + wanted.optional)},
            )
        if not isinstance(value, str) or not value.isprintable() or value != value.strip():
            raise AccountMisconfigured(
                name, _("has a space, a line break or another invisible character around or in it")
            )
    for name, value in options.items():
        if name not in wanted.options and name not in _NOT_OURS:
            raise AccountMisconfigured(
                name,
                _("is not an option of %(kind)s; known are %(known)s")
                % {"kind": wanted.label, "known": _names(wanted.options)},
            )
        if value is not None:
            _check_value(name, value)


def _check_value(name: str, value: Any) -> None:
    if name in _NUMBERS or name.endswith("_timeout"):
        if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
            raise AccountMisconfigured(name, _("must be a number that is not negative"))
    elif not isinstance(value, str):
        raise AccountMisconfigured(name, _("must be text in quotes"))
    elif name == "api_url" and not _is_address(value):
        raise AccountMisconfigured(name, _("must be an address such as https://api.example.com/"))


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and bool(parts.hostname)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names)
