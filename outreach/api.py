"""The API's manners: keys, one error shape."""

import json
from typing import Any

from django.utils import timezone
from django.utils.translation import gettext_lazy as _
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import AuthenticationFailed, ParseError
from rest_framework.parsers import JSONParser
from rest_framework.request import Request
from rest_framework.response import Response

from tenants.users import keys
from tenants.users.models import ApiKey, User


class Parser(JSONParser):
    """JSON that can be kept and told again: no halves of characters, which JSON may escape, and of no endless depth."""

    def parse(self, stream: Any, media_type: str | None = None, parser_context: Any = None) -> Any:
        try:
            found = super().parse(stream, media_type, parser_context)
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ParseError(_("The body has half a character in it, a lone surrogate.")) from None
        except RecursionError:
            raise ParseError(_("The body is nested too deeply.")) from None
        return found


class KeyAuthentication(BaseAuthentication):
    """`Authorization: Bearer pk_…`, a key of this host's agency."""

    def authenticate(self, request: Request) -> tuple[User, ApiKey] | None:
        scheme, _space, secret = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not secret:
            return None
        key = keys.check(secret.strip(), now=timezone.now())
        if key is None:
            raise AuthenticationFailed(
                _("This key is unknown here or has expired. Make a new one in the administration.")
            )
        return key.user, key

    def authenticate_header(self, request: Request) -> str:
        return "Bearer"


def error(exc: Exception, context: dict[str, Any]) -> Response | None:
    """Every error as {"error": {"code", "message", "fields"}}: a code for programs, a message for people."""
    # DRF's views import the authentication above while they load, so they cannot be imported before it.
    from rest_framework.views import exception_handler

    response = exception_handler(exc, context)
    if response is None:
        return None
    detail = response.data.get("detail") if isinstance(response.data, dict) else None
    code, message = (getattr(detail, "code", "error"), detail) if detail else ("invalid", _("Not valid."))
    response.data = {"error": {"code": code, "message": message, "fields": {} if detail else response.data}}
    return response
