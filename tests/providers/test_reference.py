"""The reference strategy as accounts."""

from decimal import Decimal

from django.core.management import call_command

from providers.accounts import reference
from providers.accounts.models import Account
from tenants.models import Agency


def test_seeding_again_keeps_what_the_operator_set(alpha: Agency, beta: Agency) -> None:
    call_command("seed_accounts")
    assert {(one.name, one.sender_limit, one.per_day, one.enabled) for one in Account.objects.all()} == {
        ("resend", 400, 10_000, False),
        ("sendgrid", 400, 100, False),
        ("smtp", 400, 5_000, False),
    }
    prices = Account.objects.values_list("name", "monthly_price", "included_per_month", "mail_price")
    assert set(prices) == {
        ("resend", Decimal(20), 50_000, Decimal("0.0009")),
        ("sendgrid", 0, 0, 0),
        ("smtp", 0, 0, 0),
    }
    Account.objects.filter(name="resend").update(per_day=500)
    reference.seed({"resend": {"api_key": "re_1"}})
    call_command("seed_accounts")
    resend = Account.objects.get(name="resend")
    assert (resend.per_day, resend.credentials, resend.enabled) == (500, {"api_key": "re_1"}, True)


def test_classes_are_meant_as_the_strategy_says() -> None:
    meant = {one.name: set(one.classes) for one in reference.STRATEGY}
    assert meant == {
        "resend": {"high_priority", "cold_outreach"},
        "sendgrid": {"newsletters", "follow_ups"},
        "smtp": {"bulk", "testing"},
    }
