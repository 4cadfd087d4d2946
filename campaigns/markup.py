"""Pure: what HTML of a mail may not hold, and its style sheets put into its tags. Its Liquid has been set aside.

Nothing is parsed and written anew: mails are full of what a parser would put right, and conditions of Liquid around
rows of a table are not HTML at all. So each tag stays where it is, and only gets a `style`.
"""

import html as entities
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import css_inline
from django.utils.translation import gettext as _

# What mail programs never run, and take as a sign of an attack.
FORBIDDEN_TAGS = frozenset(
    ["script", "iframe", "frame", "frameset", "object", "embed", "applet", "base", "form", "portal", "noscript"]
)
_ADDRESSES = frozenset(["action", "background", "cite", "data", "formaction", "href", "poster", "src", "xlink:href"])
_FORBIDDEN_SCHEMES = frozenset(["javascript", "vbscript", "data", "file", "blob", "about"])
# So many tests of a selector on an element are a second's work.
MOST_MATCHES = 1_000_000
# Tags are read from every place where one could begin, also inside another; so often over at most.
_MOST_WORK = 4

_opening = re.compile(r"<([a-z][^\s/>]*)", re.IGNORECASE)
_gap = re.compile(r"[\s/]*")
_name = re.compile(r"=?[^\s/>=]*")
_equals = re.compile(r"\s*=\s*")
_unquoted = re.compile(r"[^\s>]*")
_scheme = re.compile(r"([a-z][a-z0-9+.-]*):", re.IGNORECASE)
_invisible = re.compile(r"[\x00-\x20\x7f-\xa0\u200b-\u200f\ufeff]")
_stand_in = re.compile("\ue000\\d+\ue001")
_not_tags = re.compile(r"<!--.*?(?:--!?>|\Z)", re.DOTALL)
_sheet = re.compile(r"<style[\s>].*?(?:</style|\Z)", re.DOTALL | re.IGNORECASE)
_NUMBER = "data-polza"


class MarkupError(ValueError):
    """The HTML is not fit for a mail; says why."""


@dataclass(slots=True)
class _Tag:
    """One start tag: where its name ends, and its attributes, each with its value and where it is as a whole."""

    name: str
    after_name: int
    end: int = 0
    attributes: list[tuple[str, str, int, int]] = field(default_factory=list)


def check(aside: str) -> None:
    """Raises MarkupError for what runs, or leads where no mail leads."""
    # What stands in for Liquid may come to nothing or to a space.
    for text in {_stand_in.sub("", aside), _stand_in.sub(" ", aside)}:
        work = 0
        for opening in _opening.finditer(text):
            tag = _read(text, opening)
            work += tag.end - opening.start()
            if work > _MOST_WORK * (len(text) + 1000):
                raise MarkupError(_("its tags are never closed"))
            _check_tag(tag)


def inlined(aside: str) -> str:
    """The HTML with what its style sheets say in the tags that it is said of; the sheets stay for what cannot be said
    there. Raises MarkupError for sheets that are too much work.
    """
    sheets = [found[0] for found in _sheet.finditer(_not_tags.sub("", aside))]
    if not sheets:
        return aside
    tags = list(_tags(aside))
    rules = sum(sheet.count("{") + sheet.count(",") for sheet in sheets)
    if rules * len(tags) > MOST_MATCHES:
        raise MarkupError(_("its style sheets are too long to be put into its tags; leave out what is not used"))
    own = [next((one for one in tag.attributes if one[0] == "style"), None) for tag in tags]
    marked, position = [], 0
    for number, (tag, style) in enumerate(zip(tags, own, strict=True)):
        marked += [aside[position : tag.after_name], f' {_NUMBER}="{number}"']
        position = tag.after_name
        if style and "\ue000" in style[1]:
            marked.append(aside[position : style[2]])
            position = style[3]
    inliner = css_inline.CSSInliner(keep_style_tags=True, load_remote_stylesheets=False)
    try:
        made = inliner.inline("".join([*marked, aside[position:]]))
    except css_inline.InlineError as error:
        raise MarkupError(_("its style sheets are not valid: %(why)s") % {"why": error}) from None
    found: dict[int, str] = {}
    for tag in _tags(made):
        said = {name: value for name, value, _start, _end in tag.attributes}
        if said.get(_NUMBER, "").isdecimal() and said.get("style"):
            found.setdefault(int(said[_NUMBER]), said["style"])
    return _with_styles(aside, tags, own, found)


def _with_styles(
    aside: str, tags: list[_Tag], own: list[tuple[str, str, int, int] | None], found: dict[int, str]
) -> str:
    parts, position = [], 0
    for number, (tag, style) in enumerate(zip(tags, own, strict=True)):
        new = found.get(number)
        if new is None:
            continue
        if style and "\ue000" in style[1]:
            new = f"{new.rstrip('; ')}; {style[1]}"
        elif style and _bare(new) == _bare(style[1]):
            continue
        start, end = (style[2], style[3]) if style else (tag.after_name, tag.after_name)
        parts += [aside[position:start], "" if style else " ", 'style="', new.replace('"', "&quot;"), '"']
        position = end
    return "".join([*parts, aside[position:]])


def _bare(style: str) -> str:
    return re.sub(r"\s+|;\s*$", "", entities.unescape(style)).lower()


def _tags(text: str) -> Iterator[_Tag]:
    """The start tags one after the other, but for those in comments and style sheets."""
    position = 0
    hidden = [*_not_tags.finditer(text), *_sheet.finditer(text)]
    spans = sorted((one.start() + 6, one.end()) for one in hidden)
    while opening := _opening.search(text, position):
        while spans and spans[0][1] <= opening.start():
            spans.pop(0)
        if spans and spans[0][0] <= opening.start():
            position = spans[0][1]
            continue
        tag = _read(text, opening)
        position = tag.end
        yield tag


def _read(text: str, opening: re.Match[str]) -> _Tag:
    """A start tag as the HTML standard reads it (section 13.2.5.6 and following)."""
    tag = _Tag(opening[1].lower(), opening.end())
    position = opening.end()
    while True:
        position = _gap.match(text, position).end()  # type: ignore[union-attr]
        if position >= len(text) or text[position] == ">":
            tag.end = position + 1
            return tag
        start = position
        name = _name.match(text, position)
        assert name is not None
        position, value = name.end(), ""
        if equals := _equals.match(text, position):
            position = equals.end()
            quote = text[position : position + 1]
            if quote in ('"', "'"):
                closed = text.find(quote, position + 1)
                closed = len(text) if closed < 0 else closed
                value, position = text[position + 1 : closed], closed + 1
            else:
                unquoted = _unquoted.match(text, position)
                assert unquoted is not None
                value, position = unquoted[0], unquoted.end()
        tag.attributes.append((name[0].lower(), value, start, min(position, len(text))))


def _check_tag(tag: _Tag) -> None:
    if tag.name.rpartition(":")[2] in FORBIDDEN_TAGS:
        raise MarkupError(_("it has a <%(tag)s>, which mail programs refuse: take it out") % {"tag": tag.name[:20]})
    for name, value, _start, _end in tag.attributes:
        if re.match(r"on[a-z]", name):
            raise MarkupError(
                _("its <%(tag)s> has “%(name)s”, a program that mail programs refuse: take it out")
                % {"tag": tag.name[:20], "name": name[:20]}
            )
        if name in _ADDRESSES:
            _check_address(tag.name, value)
        if tag.name == "meta" and name == "http-equiv" and value.strip().lower() == "refresh":
            raise MarkupError(_("it leads its reader away with <meta http-equiv>: take it out"))


def _check_address(tag: str, value: str) -> None:
    address = _invisible.sub("", entities.unescape(value))
    scheme = _scheme.match(address)
    if scheme is None or scheme[1].lower() not in _FORBIDDEN_SCHEMES:
        return
    if tag == "img" and re.match(r"data:image/(png|gif|jpeg|webp)[;,]", address, re.IGNORECASE):
        return
    raise MarkupError(
        _("its <%(tag)s> has an address that begins with “%(scheme)s:”, which mail programs refuse")
        % {"tag": tag[:20], "scheme": scheme[1][:20]}
    )
