"""A contact and a step become an envelope. Texts are Liquid, made by clients, so every render is bounded."""

import gc
import re
import threading
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
from liquid import Environment, RenderContext
from liquid.ast import BlockNode, Node
from liquid.builtin.expressions.filtered import FilteredExpression
from liquid.builtin.expressions.path import Path
from liquid.builtin.expressions.primitive import RangeLiteral
from liquid.builtin.output import OutputNode
from liquid.exceptions import LiquidError, ResourceLimitError
from liquid.expression import Expression
from liquid.parser import get_parser
from liquid.stream import TokenStream
from liquid.tag import Tag
from liquid.template import BoundTemplate
from liquid.token import TOKEN_EXPRESSION, TOKEN_TAG, Token
from liquid.undefined import UNDEFINED, FalsyStrictUndefined, Undefined, is_undefined
from markupsafe import escape

from campaigns import markup, spintax

MAX_SOURCE = 256 * 1024
MAX_OUTPUT = 512 * 1024
# What goes into a filter and what comes out of it: characters of a text, items of a list, bits of a number.
MAX_VALUE = 4096
MAX_SECONDS = 0.25

# One value a field, so nothing to loop over: without loops the work grows with the text and no faster.
TAGS = {
    *("assign", "capture", "case", "comment", "#", "echo", "if", "unless", "content", "output", "illegal"),
    spintax.TAG,
}
FILTERS = {
    *("abs", "at_least", "at_most", "ceil", "divided_by", "floor", "minus", "modulo", "plus", "round", "times"),
    *("append", "capitalize", "downcase", "prepend", "remove", "remove_first", "remove_last", "upcase"),
    *("replace", "replace_first", "replace_last", "slice", "truncate", "truncatewords", "split", "first", "last"),
    *("lstrip", "rstrip", "strip", "strip_html", "strip_newlines", "squish", "newline_to_br"),
    *("escape", "escape_once", "url_encode", "url_decode", "date", "default", "size"),
}


class NotRenderedError(ValueError):
    """The text cannot be made; the message names the part and says what is wrong with it."""


class MissingValueError(NotRenderedError):
    """The text shows a field that the contact has no value for, and gives none in its place. `name` is the field's."""

    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(_("missing %(name)s") % {"name": name})


class _Nothing(str):
    """What a missing value is compared as: untrue like what is not defined, and equal to an empty text and to nil."""

    __slots__ = ()
    __class__ = property(lambda self: Undefined)

    def __eq__(self, other: object) -> bool:
        return other is None or other == ""

    __hash__ = str.__hash__


class _Missing:
    """A field without a value: it may be asked about and have a default, but not be shown."""

    __slots__ = ("name",)
    force_liquid_default = True

    def __init__(self, name: str) -> None:
        self.name = name

    def __liquid__(self) -> object:
        return _NOTHING

    def __str__(self) -> str:
        raise MissingValueError(self.name)

    __html__ = __len__ = __iter__ = __int__ = __float__ = __str__


class Lines(str):
    """A text of the engine that may be empty and may have several lines, which HTML shows as such."""

    __slots__ = ()

    def __html__(self) -> str:
        return str(escape(str(self))).replace("\r\n", "\n").replace("\n", "<br>")


class _Undefined(FalsyStrictUndefined):
    """Something of a field that it has not, such as `city.mayor`."""

    __slots__ = ()
    force_liquid_default = True


_NOTHING = _Nothing()


_collected = threading.local()


def _note_collection(phase: str, info: dict[str, int]) -> None:
    if info["generation"] < 2:
        return
    if phase == "start":
        _collected.began = time.thread_time()
    else:
        _collected.seconds = getattr(_collected, "seconds", 0.0) + time.thread_time() - _collected.began


gc.callbacks.append(_note_collection)


def _own_time() -> float:
    """Seconds of this thread alone: a worker that was stopped for a while refuses no text for it. Nor for a collection
    of garbage, which looks through all that the process holds and may come while any text is filled in."""
    return time.thread_time() - getattr(_collected, "seconds", 0.0)


class _Context(RenderContext):
    """Measures what a filter takes and makes, and the time of the whole. A field that is blank is a missing one."""

    __slots__ = ("_until",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._until = _own_time() + MAX_SECONDS

    def get(self, path: list[object], *, token: Token | None, default: object = UNDEFINED) -> object:
        found = super().get(path, token=token, default=default)
        if len(path) == 1 and (found is None or is_undefined(found) or _is_blank(found)):
            name = path[0]
            if isinstance(name, str) and name not in self.locals:
                return _Missing(name)
        return found

    def filter(self, name: str, token: Token | None) -> Callable[..., object]:
        found = super().filter(name, token)

        def measured(*args: Any, **kwargs: Any) -> object:
            if _own_time() > self._until:
                raise ResourceLimitError("it takes too long", token=token)
            made = None
            if all(_size(value) <= MAX_VALUE for value in (*args, *kwargs.values())):
                made = found(*args, **kwargs)
                if _size(made) <= MAX_VALUE:
                    return made
            raise ResourceLimitError(f"“{name}” is for texts of at most {MAX_VALUE} characters", token=token)

        return measured


def _is_blank(value: object) -> bool:
    # Of this very type: what the engine puts in may be empty.
    return type(value) is str and (not value or value.isspace())


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
        self.add_tag(_SpinTag)
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
        if type(value) is str and value and not value.isspace() and self.name not in context.locals:
            return buffer.write(escape(value) if context.autoescape else value)
        return super().render_to_output(context, buffer)


class _Spin(Node):
    """A group of spintax: shows the one of its options that the mail's seed chooses, or all where there is no seed."""

    __slots__ = ("number", "options")

    def __init__(self, token: Token, number: int, options: list[BlockNode]) -> None:
        super().__init__(token)
        self.number, self.options = number, options
        self.blank = False

    def render_to_output(self, context: RenderContext, buffer: TextIO) -> int:
        seed = context.globals.get(spintax.SEED)
        if seed is None:
            return sum(option.render(context, buffer) for option in self.options)
        chosen = spintax.chosen(seed, self.number, len(self.options))  # type: ignore[arg-type]
        return self.options[chosen].render(context, buffer)

    def children(self, static_context: RenderContext, *, include_partials: bool = True) -> list[Node]:
        return list(self.options)


class _SpinTag(Tag):
    """What `spintax.to_liquid` writes."""

    name = spintax.TAG
    end = spintax.END

    def parse(self, stream: TokenStream) -> Node:
        token = stream.eat(TOKEN_TAG)
        number = int(stream.eat(TOKEN_EXPRESSION).value)
        options = []
        while True:
            block = get_parser(self.env).parse_block(stream, frozenset((spintax.OR, spintax.END)))
            block.nodes[:] = map(_quick, block.nodes)
            # An option of spaces is one, not the white space inside a condition.
            block.blank = False
            options.append(block)
            if stream.current.is_tag(spintax.END):
                return _Spin(token, number, options)
            stream.expect(TOKEN_TAG, value=spintax.OR)
            next(stream)


_html = _Texts(autoescape=True, undefined=_Undefined)
_plain = _Texts(autoescape=False, undefined=_Undefined)
_spaces = re.compile(r"[\r\n\t ]+")
# What the lexer of Liquid needs more than linear time for.
_raw = re.compile(r"\{%-?\s*(raw|doc|(?:end)?polza_\w+)\b")
_long_gap = re.compile(r"\s{200,}")
_liquid = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)
_stand_in = re.compile("\ue000(\\d+)\ue001")
_comment = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)
# Where braces are never groups of spintax.
_no_spintax = re.compile(r"<!--.*?(?:-->|\Z)|<style[\s>].*?(?:</style|\Z)", re.DOTALL | re.IGNORECASE)

Part = str | Promise
# Put into words only where something is wrong with them.
SUBJECT, PLAIN_TEXT = gettext_lazy("subject"), gettext_lazy("plain text")
_FIRST_OF_SUBJECT = 1_000_000

FIELDS = ("email", "first_name", "last_name", "company")
# What the engine puts in: the reader's way out, and slots for a mail's own addresses.
UNSUBSCRIBE = "unsubscribe_url"
# What it says of who writes.
OF_SENDER = ("sender_name", "sender_email", "signature")
OURS = re.compile(rf"{UNSUBSCRIBE}|{'|'.join(OF_SENDER)}|polza_\w+")


@dataclass(frozen=True, slots=True)
class Texts:
    """A step's three templates, parsed. `html` is None for a plain mail; `spins` is whether a mail chooses anything."""

    subject: BoundTemplate
    text: BoundTemplate
    html: BoundTemplate | None
    spins: bool


@dataclass(frozen=True, slots=True)
class Rendered:
    """What the reader gets: one line, plain text, and HTML where there is some."""

    subject: str
    text: str
    html: str | None


@dataclass(frozen=True, slots=True)
class Sources:
    """A step's texts as Liquid alone: their spintax has become tags that only the engine writes."""

    subject: str
    html: str
    text: str


@lru_cache(maxsize=64)
def parse(subject: str, html: str, text: str) -> Texts:
    """Parse a step's texts as they were written. Raises NotRenderedError that names the part and the line."""
    return parse_sources(sources(subject, html, text))


def sources(subject: str, html: str, text: str) -> Sources:
    """A step's texts made ready to be parsed. Raises NotRenderedError that names the part."""
    for part, source in ((SUBJECT, subject), ("HTML", html), (PLAIN_TEXT, text)):
        if len(source) > MAX_SOURCE:
            raise _too_long(part, MAX_SOURCE)
    return Sources(
        _spun(subject, SUBJECT, first=_FIRST_OF_SUBJECT),
        _spun(html, "HTML"),
        # Where both are written, groups of the same place have the same option.
        _spun(text, PLAIN_TEXT),
    )


def parse_sources(made: Sources, limit: int = MAX_SOURCE) -> Texts:
    """Parse texts that were made ready; a missing plain text is made from the HTML, tags of Liquid and all, once and
    not per mail. Raises NotRenderedError. `limit` is in characters, and twice that for what was made of them.
    """
    for part, source in ((SUBJECT, made.subject), ("HTML", made.html), (PLAIN_TEXT, made.text)):
        if len(source) > 2 * limit:
            raise _too_long(part, limit)
    # The HTML before what is made from it: a fault is named where it was written.
    parsed = _parse(_html, made.html, "HTML") if made.html else None
    return Texts(
        _parse(_plain, made.subject, SUBJECT),
        _parse(_plain, made.text or text_of(made.html), PLAIN_TEXT),
        parsed,
        any(spintax.TAG in source for source in (made.subject, made.html, made.text)),
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


def subject(texts: Texts, contact: Mapping[str, Any]) -> str:
    """The subject filled in. Raises MissingValueError and NotRenderedError."""
    found = _spaces.sub(" ", _fill(texts.subject, contact, SUBJECT)).strip()
    if not found:
        raise NotRenderedError(_("The subject is empty for this contact."))
    return found


def render(texts: Texts, contact: Mapping[str, Any], of_thread: str = "") -> Rendered:
    """Fill in a contact's fields, and choose by the seed in their midst; `of_thread` is the subject where it is not the
    texts' own. Raises MissingValueError for a missing field, NotRenderedError for a text over its limits.
    """
    line = of_thread or subject(texts, contact)
    html = _fill(texts.html, contact, "HTML") if texts.html is not None else None
    text = _fill(texts.text, contact, PLAIN_TEXT)
    return Rendered(line, text, html)


def fields(email: str, first_name: str, last_name: str, company: str, attributes: Any) -> dict[str, Any]:
    """What templates may name: the contact's own fields over those of its file, which may be any JSON."""
    more = attributes if isinstance(attributes, Mapping) else {}
    return {**more, "email": email, "first_name": first_name, "last_name": last_name, "company": company}


def fill_in(source: str, contact: Mapping[str, Any]) -> str:
    """A short plain text with a contact's fields in it. Raises NotRenderedError."""
    _check_tags(source, PLAIN_TEXT)
    return _fill(_parse(_plain, source, PLAIN_TEXT), contact, PLAIN_TEXT)


def text_of(html: str) -> str:
    """The HTML as plain text. Its Liquid is set aside meanwhile, so that nothing in it is taken for HTML."""
    set_aside, pieces = set_liquid_aside(html)
    text = get_text(set_aside, _flowing)
    text = _long_gap.sub(lambda gap: "\n\n" if "\n" in gap[0] else " ", text)
    return put_liquid_back(text, pieces).strip() + "\n"


def set_liquid_aside(source: str) -> tuple[str, list[str]]:
    """The text with a stand-in for each piece of Liquid, and the pieces."""
    return _set_aside(source.replace("\ue000", "\ufffd"), _liquid)


def set_aside_in(text: str) -> list[int]:
    """The numbers of the pieces whose stand-ins are in this text."""
    return [int(number) for number in _stand_in.findall(text)]


def put_liquid_back(text: str, pieces: list[str]) -> str:
    """The text with its pieces of Liquid in their places again."""
    return _stand_in.sub(lambda match: pieces[int(match[1])], text)


def _set_aside(source: str, what: re.Pattern[str], first: int = 0) -> tuple[str, list[str]]:
    pieces: list[str] = []

    def set_aside(match: re.Match[str]) -> str:
        pieces.append(match[0])
        return f"\ue000{first + len(pieces) - 1}\ue001"

    return what.sub(set_aside, source), pieces


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


def _too_long(part: Part, limit: int) -> NotRenderedError:
    words = _("The %(part)s is longer than %(limit)d kB.")
    return NotRenderedError(words % {"part": part, "limit": limit // 1024})


def _styled(source: str) -> str:
    """The HTML, looked through, with its style sheets in its tags."""
    aside, pieces = set_liquid_aside(source)
    try:
        markup.check(aside)
        aside = markup.inlined(aside)
    except markup.MarkupError as error:
        raise NotRenderedError(_("The %(part)s is not valid: %(why)s") % {"part": "HTML", "why": error}) from None
    return put_liquid_back(aside, pieces)


def _check_closed(source: str, part: Part) -> None:
    if any(source.rfind(opened) > source.rfind(closed) for opened, closed in (("{{", "}}"), ("{%", "%}"))):
        raise NotRenderedError(_("The %(part)s has a {{ or {%% that is never closed.") % {"part": part})


def _check_tags(source: str, part: Part) -> None:
    if found := _raw.search(source):
        raise NotRenderedError(
            _("The %(part)s uses “%(tag)s”, which is not offered.") % {"part": part, "tag": found[1]}
        )


def _spun(source: str, part: Part, first: int = 0) -> str:
    """The text with tags in the place of its spintax."""
    _check_closed(source, part)
    _check_tags(source, part)
    if part == "HTML":
        source = _styled(source)
    if "|" not in source and "\\" not in source:
        return source
    aside, pieces = set_liquid_aside(source)
    if part == "HTML":
        # After the Liquid, which styles and comments may hold.
        aside, whole = _set_aside(aside, _no_spintax, len(pieces))
        pieces += whole
    try:
        spun = spintax.to_liquid(aside, first)
    except spintax.SpintaxError as error:
        raise NotRenderedError(_("The %(part)s is not valid: %(why)s") % {"part": part, "why": error}) from None
    return put_liquid_back(put_liquid_back(spun, pieces), pieces)


def _parse(environment: Environment, source: str, part: Part) -> BoundTemplate:
    _check_closed(source, part)
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
    except MissingValueError:
        raise
    # A filter may raise anything for a value it was not made for; the text is to blame, and must not end a worker.
    except Exception as error:
        raise NotRenderedError(
            _("The %(part)s cannot be filled in: %(why)s") % {"part": part, "why": _first_line(error)}
        ) from None


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
