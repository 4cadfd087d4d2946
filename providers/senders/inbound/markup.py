"""HTML of a mail as the lines a reader sees. Pure, in time that grows with its length."""

import html as entities
import re

# Of one mail; more is never looked at.
MOST_CHARACTERS = 300_000

_TAG = re.compile(r"<(/?)([a-zA-Z][a-zA-Z0-9:]{0,15})([^<>]*)>")
_SPACE = re.compile(r"\s+")
_BREAKS = {"br", "p", "div", "tr", "li", "table", "h1", "h2", "h3", "h4", "pre", "blockquote", "ul", "ol", "hr"}
_SILENT = {"style", "script", "head", "title"}
# Where a mail program puts the mail that is answered, without a blockquote around it.
_QUOTE_FOLLOWS = re.compile(
    r"""(?:id|class)\s*=\s*["']?(?:divRplyFwdMsg|appendonsend|OLK_SRC_BODY_SECTION|yahoo_quoted)""", re.I
)
_OPEN, _SHUT = "\x01", "\x02"


def as_text(html: str) -> str:
    """HTML as plain lines; what is quoted gets the `>` that plain text has."""
    html = _without_comments(html[:MOST_CHARACTERS])
    out: list[str] = []
    place, silent = 0, ""
    for match in _TAG.finditer(html):
        closing, tag = bool(match[1]), match[2].lower()
        if not silent:
            out.append(_SPACE.sub(" ", html[place : match.start()]))
        place = match.end()
        if tag in _SILENT:
            silent = "" if closing else tag
        elif tag in _BREAKS:
            out.append("\n")
        if tag == "blockquote":
            out.append(_SHUT if closing else _OPEN)
        elif _QUOTE_FOLLOWS.search(match[3]):
            out.append(_OPEN)
    if not silent:
        out.append(_SPACE.sub(" ", html[place:]))
    return _quoted(entities.unescape("".join(out)).replace("\xa0", " "))


def _quoted(text: str) -> str:
    lines, level = [], 0
    for line in text.split("\n"):
        level += line.count(_OPEN)
        plain = line.replace(_OPEN, "").replace(_SHUT, "").strip()
        lines.append(f"> {plain}" if level and plain else plain)
        level = max(0, level - line.count(_SHUT))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()


def _without_comments(html: str) -> str:
    kept, place = [], 0
    while (start := html.find("<!--", place)) >= 0:
        kept.append(html[place:start])
        end = html.find("-->", start)
        if end < 0:
            return "".join(kept)
        place = end + 3
    return "".join([*kept, html[place:]])
