"""A contact and a step become an envelope. Texts are Liquid, made by clients, so every render is bounded."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.utils.translation import gettext as _
from inscriptis import get_text
from inscriptis.model.config import ParserConfig
from liquid import Environment, StrictDefaultUndefined
from liquid.exceptions import LiquidError
from liquid.template import BoundTemplate

MAX_SOURCE = 256 * 1024
MAX_OUTPUT = 512 * 1024
MAX_LOOPS = 10_000


class _Texts(Environment):
    """Liquid with hard limits: what a client writes can neither hang nor fill a worker."""

    output_stream_limit = MAX_OUTPUT
    loop_iteration_limit = MAX_LOOPS
    local_namespace_limit = MAX_OUTPUT
    context_depth_limit = 30


_html = _Texts(autoescape=True, undefined=StrictDefaultUndefined)
_plain = _Texts(autoescape=False, undefined=StrictDefaultUndefined)
_spaces = re.compile(r"[\r\n\t ]+")

_links_shown = ParserConfig(display_links=True)

FIELDS = ("email", "first_name", "last_name", "company")


class NotRenderedError(ValueError):
    """The text cannot be made; the message names the part and says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Texts:
    """A step's three templates, parsed. `html` is None for a plain mail."""

    subject: BoundTemplate
    text: BoundTemplate
    html: BoundTemplate | None


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the reader gets: one line, plain text, and HTML where there is some."""

    subject: str
    text: str
    html: str | None


@lru_cache(maxsize=512)
def parse(subject: str, html: str, text: str) -> Texts:
    """Parse a step's texts; a missing plain text is made from the HTML, tags of Liquid and all, once and not per mail.

    Raises NotRenderedError that names the part and the line.
    """
    # The HTML before what is made from it: a fault is named where it was written.
    parsed = _parse(_html, html, "HTML") if html else None
    return Texts(
        _parse(_plain, subject, _("subject")),
        _parse(_plain, text or get_text(html, _links_shown).strip() + "\n", _("plain text")),
        parsed,
    )


def variables(texts: Texts) -> set[str]:
    """The names that the texts take from the contact."""
    found: set[str] = set()
    for template in filter(None, (texts.subject, texts.text, texts.html)):
        found |= set(template.analyze().globals)
    return found


def render(texts: Texts, contact: Mapping[str, Any]) -> Rendered:
    """Fill in a contact's fields. Raises NotRenderedError for a missing one or a text over its limits."""
    subject = _spaces.sub(" ", _fill(texts.subject, contact, _("subject"))).strip()
    html = _fill(texts.html, contact, "HTML") if texts.html is not None else None
    text = _fill(texts.text, contact, _("plain text"))
    if not subject:
        raise NotRenderedError(_("The subject is empty for this contact."))
    return Rendered(subject, text, html)


def fields(email: str, first_name: str, last_name: str, company: str, attributes: Mapping[str, Any]) -> dict[str, Any]:
    """What templates may name: the contact's own fields over those of its file."""
    return {**attributes, "email": email, "first_name": first_name, "last_name": last_name, "company": company}


def _parse(environment: Environment, source: str, part: str) -> BoundTemplate:
    if len(source) > MAX_SOURCE:
        raise NotRenderedError(
            _("The %(part)s is longer than %(limit)d kB.") % {"part": part, "limit": MAX_SOURCE // 1024}
        )
    try:
        return environment.from_string(source)
    except LiquidError as error:
        raise NotRenderedError(
            _("The %(part)s is not valid: %(why)s") % {"part": part, "why": _first_line(error)}
        ) from None


def _fill(template: BoundTemplate, contact: Mapping[str, Any], part: str) -> str:
    try:
        return template.render(**contact)
    except LiquidError as error:
        raise NotRenderedError(
            _("The %(part)s cannot be filled in: %(why)s") % {"part": part, "why": _first_line(error)}
        ) from None
    except RecursionError:
        raise NotRenderedError(_("The %(part)s is nested too deeply.") % {"part": part}) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
