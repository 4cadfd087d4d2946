from allauth.account.adapter import DefaultAccountAdapter
from django.http import HttpRequest


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    """People are invited by the operator or an agency's staff; nobody signs up alone."""

    def is_open_for_signup(self, request: HttpRequest) -> bool:
        return False
