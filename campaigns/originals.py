"""A reply as it came: its HTML made harmless, and its attachments, from the mail that is kept for two weeks.

Three locks, each of which would do: the HTML is written anew from an allowlist (nh3), it is shown in a sandboxed frame,
and its answer's policy lets nothing run, load or be sent. Pictures from elsewhere tell their server who reads when and
where: they are left out of the HTML until somebody asks for them.
"""

import base64
import re
from dataclasses import dataclass, field

import nh3

from campaigns.models import Reply
from providers.accounts import inbox
from providers.senders.inbound.mail import Mail, Part, parsed

# Of a mail's own pictures as much as a page may hold.
MOST_INLINE = 2 << 20
_PICTURES = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp"})
_TAGS = """
    a abbr address b bdi bdo big blockquote br caption center cite code col colgroup dd del div dl dt em
    figcaption figure font h1 h2 h3 h4 h5 h6 hr i img ins kbd li mark ol p pre q s samp small span strike strong
    sub sup table tbody td tfoot th thead time tr tt u ul wbr
"""
_ATTRIBUTES = {
    "*": {"style", "dir", "lang", "align", "title"},
    "a": {"href"},
    "img": {"src", "alt", "width", "height"},
    "font": {"color", "face", "size"},
    "table": {"width", "border", "cellpadding", "cellspacing", "bgcolor"},
    **{tag: {"width", "height", "colspan", "rowspan", "valign", "bgcolor"} for tag in ("td", "th")},
    **{tag: {"valign", "bgcolor"} for tag in ("tr", "tbody", "thead")},
    **{tag: {"span", "width"} for tag in ("col", "colgroup")},
    "ol": {"start", "type"},
}
# None that takes an address, none that puts a thing over another.
_STYLES = """
    color background-color font font-family font-size font-style font-weight line-height letter-spacing text-align
    text-decoration text-indent text-transform vertical-align white-space direction border border-top border-right
    border-bottom border-left border-color border-style border-width border-collapse border-spacing border-radius
    padding padding-top padding-right padding-bottom padding-left margin margin-top margin-right margin-bottom
    margin-left width height max-width min-width
"""
# Functions that load, in whatever way they are written.
_loads = re.compile(r"[\\@]|(?:url|image|image-set|src|element|cross-fade|expression|attr|paint)\s*\(", re.IGNORECASE)
_GONE = {"script", "style", "title", "head", "noscript", "template", "svg", "math", "iframe", "object", "textarea"}
_PAGE = (
    '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer"><style>'
    "body{{margin:16px;font:14px/1.5 system-ui,sans-serif;color:#111;background:#fff;overflow-wrap:anywhere}}"
    "img,table{{max-width:100%}}img{{height:auto}}"
    "blockquote{{margin:0 0 0 8px;padding-left:8px;border-left:2px solid #ccc}}"
    "</style>{}"
)


@dataclass(frozen=True, slots=True)
class Attachment:
    """One attachment: `number` counts the parts of the mail, `size` is in bytes."""

    number: int
    name: str
    kind: str
    size: int


@dataclass(frozen=True, slots=True)
class Original:
    """A mail as it came. `html` is made harmless, empty where it has none; `pictures` counts those from elsewhere;
    `cut` says that a rest of it was too long to be kept or read."""

    html: str = ""
    pictures: int = 0
    attachments: list[Attachment] = field(default_factory=list)
    cut: bool = False


def of(reply: Reply, *, pictures: bool = False) -> Original | None:
    """The reply as it came, or None where it is not kept any more. `pictures`: with those from elsewhere."""
    mail = _mail(reply)
    if mail is None:
        return None
    html, count = "", 0
    if body := next((part for part in _own(mail) if part.kind == "text/html" and not _is_attached(part)), None):
        html, count = harmless(body.text, _inline(mail), pictures=pictures)
    return Original(_PAGE.format(html) if html else "", count, list(_attachments(mail)), bool(mail.cut))


def attachment(reply: Reply, number: int) -> tuple[Attachment, bytes] | None:
    """An attachment and its bytes, or None where there is none of this number, or the mail is not kept any more."""
    mail = _mail(reply)
    found = next((one for one in _attachments(mail) if one.number == number), None) if mail else None
    return (found, mail.parts[number].raw) if mail and found else None


def harmless(html: str, inline: dict[str, str] | None = None, *, pictures: bool = False) -> tuple[str, int]:
    """HTML in which nothing runs, loads or leads away unasked, and how many pictures from elsewhere it names. `inline`
    are the mail's own, as data addresses by Content-ID; `pictures` leaves those from elsewhere in."""
    own, count = inline or {}, 0

    def allowed(tag: str, attribute: str, value: str) -> str | None:
        nonlocal count
        if tag == "a" and attribute == "href":
            return value if value.lower().startswith(("http:", "https:", "mailto:", "tel:")) else None
        if tag == "img" and attribute == "src":
            if value.lower().startswith("cid:"):
                return own.get(value[4:])
            if not value.lower().startswith(("http:", "https:")):
                return None
            count += 1
            return value if pictures else None
        return None if attribute == "style" and _loads.search(value) else value

    clean = nh3.clean(
        html,
        tags=set(_TAGS.split()),
        clean_content_tags=_GONE,
        attributes=_ATTRIBUTES,
        attribute_filter=allowed,
        url_schemes={"http", "https", "mailto", "tel", "cid"},
        url_relative="deny",
        filter_style_properties=set(_STYLES.split()),
        link_rel="noopener noreferrer nofollow",
        set_tag_attribute_values={"a": {"target": "_blank"}},
    )
    return clean, count


def _mail(reply: Reply) -> Mail | None:
    raw = inbox.raw(reply.digest)
    return parsed(raw) if raw is not None else None


def _own(mail: Mail) -> list[Part]:
    return [part for part in mail.parts if not part.enclosed]


def _is_attached(part: Part) -> bool:
    return part.headers.get("content-disposition").lower().startswith("attachment")


def _attachments(mail: Mail) -> list[Attachment]:
    """All that is no text of the mail itself; a text that names a file is one too."""
    found = []
    for number, part in enumerate(mail.parts):
        if part.enclosed or (part.kind in ("text/plain", "text/html") and not (_is_attached(part) or part.filename)):
            continue
        name = re.sub(r"[\x00-\x1f\x7f/\\\u202a-\u202e\u2066-\u2069]", "_", part.filename).strip()[-150:]
        found.append(Attachment(number, name or f"part-{number}", part.kind, len(part.raw)))
    return found


def _inline(mail: Mail) -> dict[str, str]:
    found, left = {}, MOST_INLINE
    for part in _own(mail):
        name = part.headers.get("content-id").strip(" <>")
        if name and part.kind in _PICTURES and len(part.raw) <= left:
            left -= len(part.raw)
            found[name] = f"data:{part.kind};base64,{base64.b64encode(part.raw).decode()}"
    return found
