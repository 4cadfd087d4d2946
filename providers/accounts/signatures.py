"""Whether a webhook's post comes from the account's provider: each provider signs in its own way."""

import json
import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from anymail.exceptions import AnymailError, AnymailNotSupportedWarning
from anymail.webhooks import mailgun, postmark, sendgrid
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from providers.accounts.models import WebhookDay

Result = WebhookDay.Result
Check = Callable[[HttpRequest, datetime], None]

# SendGrid and Mailgun post an event again for up to 24 and 8 hours, perhaps with the stamp of the first time; a replay
# within a day has no effect, because every event counts once. Resend stamps each attempt anew: 5 minutes, by its
# library.
OLDEST = timedelta(hours=24)
_AHEAD = timedelta(minutes=5)

# What is entered for each kind of account.
SECRETS: Mapping[str, Any] = {
    "resend": _("The signing secret of the webhook, such as whsec_…"),
    "sendgrid": _("The verification key of the signed event webhook"),
    "postmark": _("user:password, as entered for the webhook's basic authentication"),
    "mailgun": _("The HTTP webhook signing key"),
    "amazon_ses": _("user:password, as part of the address that is subscribed to the SNS topic"),
}


class PostRefused(Exception):
    """Not from the provider, or too late; `result` says which."""

    def __init__(self, result: WebhookDay.Result) -> None:
        self.result = result
        super().__init__(result)


def check(kind: str, secret: str, request: HttpRequest, *, now: datetime) -> None:
    """Raise PostRefused unless the request is signed with this secret of an account of this kind."""
    if not secret:
        raise PostRefused(Result.NO_SECRET)
    try:
        _checker(kind, secret)(request, now)
    except PostRefused:
        raise
    except Exception as error:
        # Whatever a stranger sends must not be more than refused.
        raise PostRefused(Result.BAD_SIGNATURE) from error


def usable(kind: str, secret: str) -> bool:
    """Whether this can be the secret of an account of this kind."""
    try:
        _checker(kind, secret)
    except (ValueError, TypeError, AnymailError, EmptyWebhookSecretError):
        return False
    return kind not in BASIC or ":" in secret


@lru_cache(maxsize=256)
def _checker(kind: str, secret: str) -> Check:
    return _CHECKERS[kind](secret)


def _resend(secret: str) -> Check:
    webhook = Webhook(secret)

    def check(request: HttpRequest, now: datetime) -> None:
        headers = {
            f"webhook-{name}": request.headers.get(f"svix-{name}", "") for name in ("id", "timestamp", "signature")
        }
        try:
            webhook.verify(request.body, headers, json_parse=False)
        except WebhookVerificationError as error:
            raise PostRefused(Result.TOO_OLD if "too old" in str(error) else Result.BAD_SIGNATURE) from None

    return check


def _sendgrid(secret: str) -> Check:
    view = SendGridView(tracking_webhook_verification_key=secret, webhook_secret=[])

    def check(request: HttpRequest, now: datetime) -> None:
        view.run_validators(request)
        _check_age(request.headers["X-Twilio-Email-Event-Webhook-Timestamp"], now)

    return check


def _mailgun(secret: str) -> Check:
    view = mailgun.MailgunTrackingWebhookView(webhook_signing_key=secret, webhook_secret=[])

    def check(request: HttpRequest, now: datetime) -> None:
        view.run_validators(request)
        # It signs the stamp and a token, not the events: `webhooks` takes the same token only once.
        _check_age(json.loads(request.body)["signature"]["timestamp"], now)

    return check


def _postmark(secret: str) -> Check:
    view = postmark.PostmarkTrackingWebhookView(webhook_secret=secret)
    return lambda request, now: view.run_validators(request)


def _amazon_ses(secret: str) -> Check:
    # It brings boto3, which costs each process some megabytes: only who has an account there pays them.
    from anymail.webhooks import amazon_ses

    view = amazon_ses.AmazonSESTrackingWebhookView(webhook_secret=secret, auto_confirm_sns_subscriptions=False)
    return lambda request, now: view.run_validators(request)


class SendGridView(sendgrid.SendGridTrackingWebhookView):  # type: ignore[misc]
    """Anymail's, without its warning that it tests SendGrid no longer. We do: tests/providers/test_webhooks.py."""

    def __init__(self, **kwargs: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", AnymailNotSupportedWarning)
            super().__init__(**kwargs)


def _check_age(stamp: str, now: datetime) -> None:
    """Seconds since 1970 as the provider signed them."""
    age = now - datetime.fromtimestamp(float(stamp), tz=UTC)
    if age > OLDEST:
        raise PostRefused(Result.TOO_OLD)
    if age < -_AHEAD:
        raise PostRefused(Result.BAD_SIGNATURE)


# Their posts are not signed: they name a user and a password.
BASIC = ("postmark", "amazon_ses")
_CHECKERS: Mapping[str, Callable[[str], Check]] = {
    "resend": _resend,
    "sendgrid": _sendgrid,
    "postmark": _postmark,
    "mailgun": _mailgun,
    "amazon_ses": _amazon_ses,
}
