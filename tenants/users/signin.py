"""Signing in to the admin sites, with the same limit on wrong passwords as the portal."""

from typing import Any

from allauth.account.adapter import get_adapter
from unfold.forms import AuthenticationForm


class AdminSignInForm(AuthenticationForm):  # type: ignore[misc]
    """Asks allauth, which counts wrong passwords by address and by person; Django's own form does not count."""

    def clean(self) -> dict[str, Any]:
        email, password = self.cleaned_data.get("username"), self.cleaned_data.get("password")
        if email and password:
            self.user_cache = get_adapter(self.request).authenticate(self.request, email=email, password=password)
            if self.user_cache is None:
                raise self.get_invalid_login_error()
            self.confirm_login_allowed(self.user_cache)
        cleaned: dict[str, Any] = self.cleaned_data
        return cleaned
