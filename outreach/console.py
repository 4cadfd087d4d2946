"""The navigation of the two admin sites."""

from typing import Any

from django.http import HttpRequest


def subheader(request: HttpRequest) -> str:
    """Whose console it is."""
    return ""


def navigation(request: HttpRequest) -> list[dict[str, Any]]:
    """The sidebar of the admin site that this request is on."""
    return []
