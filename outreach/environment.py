"""The environment, read so that a wrong value stops the start with the variable's name instead of a traceback."""

import builtins
from typing import Any, NoReturn
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

_YES, _NO = {"true", "on", "yes", "y", "ok", "1"}, {"false", "off", "no", "n", "", "0"}
_DATABASE = "postgres://user:password@host:5432/database"


class Environment(environ.Env):  # type: ignore[misc]
    """django-environ, made strict: it guesses or raises, this ends the process and says why."""

    def text(self, var: str, default: str) -> str:
        """A text that is not empty."""
        found: str = self.str(var, default)
        if not found:
            self._stop(var, "is empty (a value that begins with $ is taken for another variable's name)")
        return found

    def choice(self, var: str, default: str, choices: tuple[str, ...]) -> str:
        """One of the given words."""
        found: str = self.str(var, default)
        if found not in choices:
            self._stop(var, f"is {found!r}. Write one of {', '.join(choices)}")
        return found

    def int(self, var: str, default: builtins.int) -> builtins.int:
        """A whole number above zero."""
        found = self.str(var, str(default))
        if not (found.isascii() and found.isdigit() and builtins.int(found) > 0):
            self._stop(var, f"is {found!r}. Write a whole number above zero, such as {default}")
        return builtins.int(found)

    def bool(self, var: str, default: builtins.bool) -> builtins.bool:
        """Yes or no."""
        found = self.str(var, "yes" if default else "no").lower()
        if found not in _YES | _NO:
            self._stop(var, f"is {found!r}. Write true or false")
        return found in _YES

    def db(self, var: str, engine: str) -> dict[str, Any]:
        """Django's settings of a PostgreSQL server, from its URL."""
        url = self.str(var)
        # The URL holds a password, so it is not repeated.
        if urlsplit(url).scheme not in ("postgres", "postgresql"):
            self._stop(var, f"does not begin with postgres://. Write {_DATABASE}")
        try:
            found: dict[str, Any] = self.db_url_config(url, engine=engine)
        except ValueError:
            found = {}
        if not found.get("NAME"):
            self._stop(var, f"cannot be read. Write {_DATABASE}")
        return found

    def email(self, var: str, default: str) -> dict[str, Any]:
        """Django's settings of a mail server, from its URL."""
        try:
            found: dict[str, Any] = self.email_url_config(self.str(var, default))
        except (ValueError, ImproperlyConfigured):
            self._stop(var, "cannot be read. Write smtp+tls://user:password@host:587")
        return found

    def _stop(self, var: str, trouble: str) -> NoReturn:
        raise SystemExit(f"Settings: {var} {trouble}.")
