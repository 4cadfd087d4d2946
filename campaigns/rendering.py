"""A contact and a step become an envelope. Texts are Liquid, made by clients, so every render is bounded."""

import re
import time
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TextIO

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from inscriptis import get_text
from inscriptis.css_profiles import CSS_PROFILES
from inscriptis.html_properties import Display
from inscriptis.model.config import ParserConfig
from inscriptis.model.html_element import HtmlElement
from inscriptis.model.tag import CustomHtmlTagHandlerMapping
from liquid import Environment, RenderContext, StrictDefaultUndefined
from liquid.ast import Node
from liquid.builtin.expressions.filtered import FilteredExpression
from liquid.builtin.expressions.path import Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError, ResourceLimitError
from liquid.expression import Expression
from liquid.template import BoundTemplate
from liquid.token import Token
from markupsafe import escape

MAX_SOURCE = 256 * 1024
MAX_OUTPUT = 512 * 1024
# What goes into a filter and what comes out of it: characters of a text, items of a list, bits of a number.
MAX_VALUE = 4096
MAX_SECONDS = 0.25

# One value a field, so nothing to loop over: without loops the work grows with the text and no faster.
TAGS = {"assign", "capture", "case", "comment", "#", "echo", "if", "unless", "content", "output", "illegal"}
FILTERS = {
    *("abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times"),
    *("append", "capitalize", "downcase", "prepend", "remove", "remove_first", "remove_last", "upcase"),
    *("replace", "replace_first", "replace_last", "slice", "truncate", "truncatewords", "split", "first", "last"),
    *("lstrip", "rstrip", "strip", "strip_html", "strip_newlines", "squish", "newline_to_br"),
    *("escape", "escape_once", "url_encode", "url_decode", "date", "default", "size"),
}


class _Context(RenderContext):
    """Measures what a filter takes and makes, and the time of the whole."""

    __slots__ = ("_until",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Of this thread alone: a worker that was stopped for a while refuses no text for it.
        self._until = time.thread_time() + MAX_SECONDS

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        found = super().filter(name, token)

        def measured(*args: Any, **kwargs: Any) -> object:
            if time.thread_time() > self._until:
                raise ResourceLimitError("it takes too long", token=token)
            made = None
            if all(_size(value) <= MAX_VALUE for value in (*args, *kwargs.values())):
                made = found(*args, **kwargs)
                if _size(made) <= MAX_VALUE:
                    return made
            raise ResourceLimitError(f"“{name}” is for texts of at most {MAX_VALUE} characters", token=token)

        return measured


def _size(value: Any) -> int:
    # By its type: what is not defined raises when anything is asked of it.
    if issubclass(type(value), int):
        return int(value.bit_length())
    return len(value) if issubclass(type(value), str | list) else 0


class _Template(BoundTemplate):
    context_class = _Context

    def make_partial_namespace(self, partial: bool, render_args: Mapping[str, object]) -> Mapping[str, object]:
        # Liquid would put a variable of its own here, over a contact's column of that name.
        return render_args


class _Texts(Environment):
    """Liquid with hard limits: what a client writes can neither hang nor fill a worker."""

    template_class = _Template
    output_stream_limit = MAX_OUTPUT
    local_namespace_limit = MAX_OUTPUT
    context_depth_limit = 30

    def setup_tags_and_filters(self, *, extra: bool = False) -> None:
        super().setup_tags_and_filters(extra=extra)
        self.tags = {name: tag for name, tag in self.tags.items() if name in TAGS}
        self.filters = {name: function for name, function in self.filters.items() if name in FILTERS}


class _Field(OutputNode):
    """An output of one of the contact's fields: the common case, at a fraction of Liquid's general way."""

    __slots__ = ("name",)

    def __init__(self, token: Token, expression: Expression, name: str) -> None:
        super().__init__(token, expression)
        self.name = name

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        value = context.globals.get(self.name)
        if type(value) is str and value and self.name not in context.locals:
            return buffer.write(escape(value) if context.autoescape else value)
        return super().render_to_output(context, buffer)


_html = _Texts(autoescape=True, undefined=StrictDefaultUndefined)
_plain = _Texts(autoescape=False, undefined=StrictDefaultUndefined)
_spaces = re.compile(r"[\r\n\t ]+")
# What the lexer of Liquid needs more than linear time for.
_raw = re.compile(r"\{%-?\s*(raw|doc)\b")
_long_gap = re.compile(r"\s{200,}")
_liquid = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_stand_in = re.compile("\ue000(\\d+)\ue001")
_comment = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)

Part = str | Promise
# Put into words only where something is wrong with them.
SUBJECT, PLAIN_TEXT = gettext_lazy("subject"), gettext_lazy("plain text")

FIELDS = ("email", "first_name", "last_name", "company")
# What the engine puts in: the reader's way out, and slots for a mail's own addresses.
UNSUBSCRIBE = "unsubscribe_url"
OURS = re.compile(rf"{UNSUBSCRIBE}|polza_\w+")


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


@lru_cache(maxsize=64)
def parse(subject: str, html: str, text: str, limit: int = MAX_SOURCE) -> Texts:
    """Parse a step's texts; a missing plain text is made from the HTML, tags of Liquid and all, once and not per mail.

    Raises NotRenderedError that names the part and the line. `limit` is in characters.
    """
    for part, source in ((SUBJECT, subject), ("HTML", html), (PLAIN_TEXT, text)):
        if len(source) > limit:
            words = _("The %(part)s is longer than %(limit)d kB.")
            raise NotRenderedError(words % {"part": part, "limit": limit // 1024})
    # The HTML before what is made from it: a fault is named where it was written.
    parsed = _parse(_html, html, "HTML") if html else None
    return Texts(
        _parse(_plain, subject, SUBJECT),
        _parse(_plain, text or text_of(html), PLAIN_TEXT),
        parsed,
    )


def always_shows(source: str, name: str, *, html: bool) -> bool:
    """Whether every mail of this text shows this field: under no condition, changed by no filter, in no comment."""
    if name not in source:
        return False
    shown = _comment.sub("|", source) if html else source
    try:
        nodes = _parse(_html if html else _plain, shown, "HTML" if html else PLAIN_TEXT).nodes
    except NotRenderedError:
        return False
    return any(isinstance(node, _Field) and node.name == name for node in nodes)


def variables(texts: Texts) -> set[str]:
    """The names that the texts take from the contact."""
    found: set[str] = set()
    for template in filter(None, (texts.subject, texts.text, texts.html)):
        found |= set(template.analyze().globals)
    return found


def render(texts: Texts, contact: Mapping[str, Any]) -> Rendered:
    """Fill in a contact's fields. Raises NotRenderedError for a missing one or a text over its limits."""
    subject = _spaces.sub(" ", _fill(texts.subject, contact, SUBJECT)).strip()
    html = _fill(texts.html, contact, "HTML") if texts.html is not None else None
    text = _fill(texts.text, contact, PLAIN_TEXT)
    if not subject:
        raise NotRenderedError(_("The subject is empty for this contact."))
    return Rendered(subject, text, html)


def fields(email: str, first_name: str, last_name: str, company: str, attributes: Any) -> dict[str, Any]:
    """What templates may name: the contact's own fields over those of its file, which may be any JSON."""
    more = attributes if isinstance(attributes, Mapping) else {}
    return {**more, "email": email, "first_name": first_name, "last_name": last_name, "company": company}


def fill_in(source: str, contact: Mapping[str, Any]) -> str:
    """A short plain text with a contact's fields in it. Raises NotRenderedError."""
    return _fill(_parse(_plain, source, PLAIN_TEXT), contact, PLAIN_TEXT)


def text_of(html: str) -> str:
    """The HTML as plain text. Its Liquid is set aside meanwhile, so that nothing in it is taken for HTML."""
    set_aside, pieces = set_liquid_aside(html)
    text = get_text(set_aside, _flowing)
    text = _long_gap.sub(lambda gap: "\n\n" if "\n" in gap[0] else " ", text)
    return put_liquid_back(text, pieces).strip() + "\n"


def set_liquid_aside(source: str) -> tuple[str, list[str]]:
    """The text with a stand-in for each piece of Liquid, and the pieces."""
    pieces: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        pieces.append(match[0])
        return f"\ue000{len(pieces) - 1}\ue001"

    return _liquid.sub(set_aside, source.replace("\ue000", "\ufffd")), pieces


def set_aside_in(text: str) -> list[int]:
    """The numbers of the pieces whose stand-ins are in this text."""
    return [int(number) for number in _stand_in.findall(text)]


def put_liquid_back(text: str, pieces: list[str]) -> str:
    """The text with its pieces of Liquid in their places again."""
    return _stand_in.sub(lambda match: pieces[int(match[1])], text)


def _hidden_only(style: str, element: HtmlElement) -> None:
    if re.search(r"display\s*:\s*none", style, re.IGNORECASE):
        element.display = Display.none


def _flow() -> ParserConfig:
    """Tables are how mails are laid out, not columns to be padded; sizes of styles would only become blank lines."""
    block, inline = (
        HtmlElement(display=Display.block),
        HtmlElement(prefix=" ", suffix=" ", limit_whitespace_affixes=True),
    )
    css = {**CSS_PROFILES["strict"], "table": block, "tr": block, "td": inline, "th": inline}
    starts = {name: lambda state, attributes: None for name in ("table", "tr", "td", "th")}
    ends = {name: lambda state: None for name in ("table", "tr", "td", "th")}
    config = ParserConfig(
        css=css, display_links=True, custom_html_tag_handler_mapping=CustomHtmlTagHandlerMapping(starts, ends)
    )
    config.attribute_handler = copy(config.attribute_handler)
    config.attribute_handler.attribute_mapping = {"style": _hidden_only}
    return config


_flowing = _flow()


def _parse(environment: Environment, source: str, part: Part) -> BoundTemplate:
    if any(source.rfind(opened) > source.rfind(closed) for opened, closed in (("{{", "}}"), ("{%", "%}"))):
        raise NotRenderedError(_("The %(part)s has a {{ or {%% that is never closed.") % {"part": part})
    if found := _raw.search(source):
        raise NotRenderedError(
            _("The %(part)s uses “%(tag)s”, which is not offered.") % {"part": part, "tag": found[1]}
        )
    if _long_gap.search(source):
        raise NotRenderedError(_("The %(part)s has 200 spaces or empty lines in a row: shorten them.") % {"part": part})
    try:
        template = environment.from_string(source)
        analysis = template.analyze()
        unknown = sorted(set(analysis.filters) - environment.filters.keys())
        has_range = any(isinstance(piece, RangeLiteral) for piece in _pieces(template))
    except (LiquidError, RecursionError) as error:
        raise NotRenderedError(
            _("The %(part)s is not valid: %(why)s") % {"part": part, "why": _first_line(error)}
        ) from None
    if unknown:
        raise NotRenderedError(
            _("The %(part)s uses %(unknown)s, which is no filter. Known: %(known)s.")
            % {"part": part, "unknown": ", ".join(unknown), "known": ", ".join(sorted(environment.filters))}
        )
    if taken := next(filter(OURS.fullmatch, analysis.locals), None):
        raise NotRenderedError(
            _("The %(part)s gives “%(name)s” a value, but the engine does that.") % {"part": part, "name": taken}
        )
    if has_range:
        # To look something up in a long one takes for ever.
        raise NotRenderedError(_("The %(part)s uses a range, such as (1..3), which is not offered.") % {"part": part})
    template.nodes[:] = map(_quick, template.nodes)
    return template


def _quick(node: Node) -> Node:
    """The node, or its short cut: a field by itself, or with a default, which a field that is there does not need."""
    if type(node) is not OutputNode or type(node.expression) is not FilteredExpression:
        return node
    source, filters = node.expression.left, node.expression.filters or []
    if type(source) is not Path or len(source.path) != 1 or [each.name for each in filters] not in ([], ["default"]):
        return node
    return _Field(node.token, node.expression, str(source.path[0]))


def _pieces(template: BoundTemplate) -> Iterator[Node | Expression]:
    context = _Context(template)
    waiting: list[Node | Expression] = [*template.nodes]
    while waiting:
        piece = waiting.pop()
        yield piece
        if isinstance(piece, Node):
            waiting += [*piece.children(context), *piece.expressions()]
        else:
            waiting += piece.children()


def _fill(template: BoundTemplate, contact: Mapping[str, Any], part: Part) -> str:
    try:
        return template.render(contact)
    # A filter may raise anything for a value it was not made for; the text is to blame, and must not end a worker.
    except Exception as error:
        raise NotRenderedError(
            _("The %(part)s cannot be filled in: %(why)s") % {"part": part, "why": _first_line(error)}
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
