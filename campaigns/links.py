"""The links of an HTML text: found once, kept with their step, and replaced by slots for each mail's own addresses.

A link that is to be followed through us is a row with its address. What a mail carries names the row and is signed,
so nobody can make us lead anywhere else.
"""

import html as markup
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from django.db import connection

from campaigns import rendering
from campaigns.models import Link

SLOT = "polza_link_"

_tag = re.compile(r"<(?:a|area|v:roundrect|v:rect)(?=[\s/])", re.IGNORECASE)
# Bounded, so that a quote without an end costs no more than that.
_attribute = re.compile(r"""[\s/]*([^\s=>"'/<]+)(?:\s*=\s*("[^"]{0,4000}"|'[^']{0,4000}'|[^\s>"'<]{1,4000}))?""")
_OURS = re.compile(rf"{rendering.UNSUBSCRIBE}|polza_|\b(?:{'|'.join(rendering.OF_SENDER)})\b")
_web = re.compile(r"https?://[^\s]", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Href:
    """One link's place in the text and where it leads; Liquid in it is filled in when it is followed."""

    start: int
    end: int
    url: str


def find(html: str) -> list[Href]:
    """The links that can be followed through us: to the web, and known but for the contact's own fields."""
    set_aside, pieces = rendering.set_liquid_aside(html)
    # What the text computes for itself is not known any more when a link is followed.
    computes = any(piece.startswith("{%") and re.search(r"\b(assign|capture)\b", piece) for piece in pieces)
    found: list[Href] = []
    position = 0
    while tag := _tag.search(set_aside, position):
        position = tag.end()
        while attribute := _attribute.match(set_aside, position):
            position = attribute.end()
            if attribute[1].lower() == "href" and attribute[2]:
                url = markup.unescape(attribute[2].strip("\"'")).strip()
                inside = [pieces[number] for number in rendering.set_aside_in(url)]
                known = not computes and all(piece.startswith("{{") for piece in inside)
                if _web.match(url) and (known or not inside) and not _OURS.search("".join(inside)):
                    found.append(Href(*attribute.span(2), rendering.put_liquid_back(url, pieces)))
    return _at_home(found, set_aside, pieces)


def replace(html: str, hrefs: list[Href], numbers: Mapping[str, int]) -> str:
    """The text with a slot in the place of each link, named after its number."""
    parts, position = [], 0
    for href in hrefs:
        parts += [html[position : href.start], f'"{{{{ {SLOT}{numbers[href.url]} }}}}"']
        position = href.end
    return "".join([*parts, html[position:]])


def numbers_of(step_id: int, urls: list[str]) -> dict[str, int]:
    """The number of each of these links of a step; what has none yet gets one."""
    wanted = list(dict.fromkeys(urls))
    if not wanted:
        return {}
    known = dict(Link.objects.filter(step_id=step_id).values_list("url", "pk"))
    missing = [url for url in wanted if url not in known]
    if missing:
        with connection.cursor() as cursor:
            cursor.execute(_ADD, [step_id, missing])
        known = dict(Link.objects.filter(step_id=step_id).values_list("url", "pk"))
    return {url: known[url] for url in wanted}


def target(url: str, contact: Mapping[str, object]) -> str | None:
    """Where a link leads for this contact, None if it does not lead to the web."""
    try:
        filled = rendering.fill_in(url, contact) if "{{" in url else url
        parts = urlsplit(filled)
    except ValueError:
        return None
    printable = filled.isprintable() and not any(character.isspace() for character in filled)
    return filled if parts.scheme in ("http", "https") and parts.hostname and printable else None


def _at_home(hrefs: list[Href], set_aside: str, pieces: list[str]) -> list[Href]:
    """The same places in the text before its Liquid was set aside."""
    found, before, position = [], 0, 0
    for href in hrefs:
        start = before + len(rendering.put_liquid_back(set_aside[position : href.start], pieces))
        end = start + len(rendering.put_liquid_back(set_aside[href.start : href.end], pieces))
        found.append(Href(start, end, href.url))
        before, position = end, href.end
    return found


_ADD = """
INSERT INTO campaigns_link (step_id, url) SELECT %s, unnest(%s::text[]) ON CONFLICT DO NOTHING
"""
