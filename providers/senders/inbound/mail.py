"""A mail as its headers and parts, from any bytes, bounded in time and memory. Pure; never raises.

Own, because the standard library's parser reads a message/delivery-status that is encoded or badly laid out as empty,
and takes memory and time by the number of parts, lines and levels that the sender chose.
"""

import base64
import binascii
import codecs
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

# Of a longer mail only the start is read: reports come first, what they enclose comes last.
READ_BYTES = 4 << 20
MOST_PARTS = 200
DEEPEST = 20
MOST_HEADERS = 1000
MOST_HEADER_BYTES = 512_000
LONGEST_HEADER = 64_000
# Of one text; more is never looked at.
LONGEST_TEXT = 400_000

_HEADER_LINE = re.compile(rb"([!-9;-~]{1,200})[ \t]*:[ \t]*")
_PARAMETER = re.compile(r""";\s*([\w.-]{1,60})\*?(?:\d\*?)?\s*=\s*(?:"([^"]{0,500})"|([^\s;"]{0,500}))""")
_ENCODED_WORD = re.compile(r"=\?([^?\s]{1,60})\?([bBqQ])\?([^?]{0,2000})\?=(?:\s+(?==\?))?")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/]")
_BOUNDARY_GUESS = re.compile(rb"^--(\S[^\r\n]{3,200}?)[ \t]*\r?\n(?=[A-Za-z-]+:)", re.M)
# Codecs of Python that are no charset of a mail, or not linear in time.
_NO_CHARSETS = {"idna", "punycode", "unicode_escape", "raw_unicode_escape", "undefined", "utf_7"}


@dataclass(slots=True)
class Headers:
    """Header fields by lower-case name, values unfolded and decoded, in their order."""

    fields: list[tuple[str, str]] = field(default_factory=list)

    def get(self, name: str) -> str:
        """The first value, or an empty text."""
        return next((value for known, value in self.fields if known == name), "")

    def all(self, name: str) -> list[str]:
        """Every value of the name."""
        return [value for known, value in self.fields if known == name]

    def __contains__(self, name: str) -> bool:
        return any(known == name for known, _value in self.fields)


@dataclass(slots=True)
class Part:
    """One part that is no container. `raw` is decoded from its transfer encoding, not from its charset.

    `enclosed` says that it belongs to a mail within this mail.
    """

    headers: Headers
    kind: str
    parameters: dict[str, str]
    raw: bytes
    enclosed: bool = False

    @property
    def text(self) -> str:
        """Its text, at most LONGEST_TEXT characters."""
        return decoded(self.raw[: LONGEST_TEXT * 4], self.parameters.get("charset", ""))[:LONGEST_TEXT]

    @property
    def filename(self) -> str:
        """The name it was attached by, or an empty text."""
        return parameters(self.headers.get("content-disposition")).get("filename", "") or self.parameters.get(
            "name", ""
        )


@dataclass(slots=True)
class Mail:
    """A mail taken apart. `originals` are the headers of the mails it encloses; `cut` says why a rest was not read."""

    headers: Headers
    kind: str = "text/plain"
    parameters: dict[str, str] = field(default_factory=dict)
    parts: list[Part] = field(default_factory=list)
    originals: list[Headers] = field(default_factory=list)
    cut: str = ""
    bare: bool = False


def parsed(raw: bytes) -> Mail:
    """Take a mail apart; bytes without any header of a mail are the text of one."""
    cut = "longer than is read" if len(raw) > READ_BYTES else ""
    raw = raw[:READ_BYTES].lstrip(b"\r\n\t \x00").removeprefix(b"\xef\xbb\xbf")
    headers, body = headers_and_body(raw)
    if not _is_mail(headers):
        return Mail(Headers(), parts=[Part(Headers(), "text/plain", {}, raw)], cut=cut, bare=True)
    mail = Mail(headers, cut=cut)
    mail.kind, mail.parameters = _content_type(headers)
    _take_apart(mail, headers, body, depth=0, enclosed=False, default="text/plain")
    return mail


def headers_and_body(raw: bytes) -> tuple[Headers, bytes]:
    """The header fields at the start of the bytes, and what follows them."""
    found: list[tuple[str, str]] = []
    place, end, name, value = 0, len(raw), "", bytearray()
    while place < end:
        stop = raw.find(b"\n", place)
        stop = end if stop < 0 else stop
        line = raw[place:stop].rstrip(b"\r")
        if not line.strip():
            place = stop + 1
            break
        if line[:1] in b" \t" and name:
            if len(value) < LONGEST_HEADER:
                value += b" " + line.strip()[:LONGEST_HEADER]
        elif match := _HEADER_LINE.match(line):
            _keep(found, name, value)
            name, value = match[1].decode("ascii").lower(), bytearray(line[match.end() : match.end() + LONGEST_HEADER])
        elif not (place == 0 and line.startswith((b"From ", b">From "))):
            # Not a header: a mail whose empty line was lost.
            break
        if len(found) > MOST_HEADERS or place > MOST_HEADER_BYTES:
            ends = [end for mark in (b"\n\n", b"\n\r\n") if (end := raw.find(mark, place)) >= 0]
            place = min(ends) if ends else len(raw)
            break
        place = stop + 1
    _keep(found, name, value)
    return Headers(found), raw[place:]


def parameters(value: str) -> dict[str, str]:
    """The parameters of a Content-Type or Content-Disposition by lower-case name; the first of each counts."""
    found: dict[str, str] = {}
    for match in _PARAMETER.finditer(value[:4000]):
        found.setdefault(match[1].lower().rstrip("*0123456789"), match[2] if match[2] is not None else match[3])
    return found


def decoded(raw: bytes, charset: str) -> str:
    """Text in the charset it claims, or in UTF-8 or CP1252 where it is not; without NULs."""
    text = None
    names = [charset.strip().lower()]
    if _is_utf8(raw):
        # Mails of every other claimed charset hardly ever are valid UTF-8 by chance.
        names.insert(0, "utf-8")
    for name in [*names, "utf-8"]:
        try:
            codec = codecs.lookup(name)
            if codec.name.replace("-", "_") in _NO_CHARSETS:
                continue
            text = raw.decode(name)
            break
        except (LookupError, ValueError, UnicodeError):
            continue
    if text is None:
        text = raw.decode("cp1252", errors="replace")
    return text.replace("\x00", "").replace("\r\n", "\n").replace("\r", "\n")


def _is_utf8(raw: bytes) -> bool:
    if raw.isascii():
        return False
    # The cut may have gone through a character.
    for end in (len(raw), len(raw) - 1, len(raw) - 2, len(raw) - 3):
        try:
            raw[:end].decode("utf-8")
            return True
        except UnicodeDecodeError as error:
            if error.start < len(raw) - 4:
                return False
    return False


def header_text(value: str) -> str:
    """A header value with its RFC 2047 words decoded."""

    def word(match: re.Match[str]) -> str:
        charset, how, text = match[1].split("*")[0], match[2].lower(), match[3]
        if how == "b":
            raw = unbase64(text.encode("ascii", "ignore"))
        else:
            raw = binascii.a2b_qp(text.encode("ascii", "ignore"), header=True)
        return decoded(raw, charset)

    return _ENCODED_WORD.sub(word, value) if "=?" in value else value


def unbase64(raw: bytes) -> bytes:
    """What base64 holds, however damaged."""
    kept = _NOT_BASE64.sub(b"", raw)
    kept = kept[: len(kept) - (len(kept) % 4 == 1)]
    return base64.b64decode(kept + b"=" * (-len(kept) % 4))


def _keep(found: list[tuple[str, str]], name: str, value: bytearray) -> None:
    if name:
        text = bytes(value[:LONGEST_HEADER])
        found.append((name, header_text(decoded(text, "utf-8").strip())))


def _is_mail(headers: Headers) -> bool:
    known = {"from", "to", "date", "subject", "received", "return-path", "message-id", "mime-version", "content-type"}
    return bool(known & {name for name, _value in headers.fields})


def _content_type(headers: Headers, default: str = "text/plain") -> tuple[str, dict[str, str]]:
    value = headers.get("content-type")
    kind = value.split(";", 1)[0].strip().lower()
    if not re.fullmatch(r"[\w.+-]{1,60}/[\w.+-]{1,80}", kind):
        # RFC 2045 section 5.2: what is not understood is plain text; a lone "text" is found in old bounces.
        kind = default
    return kind, parameters(value)


def _take_apart(mail: Mail, headers: Headers, body: bytes, *, depth: int, enclosed: bool, default: str) -> None:
    kind, known = _content_type(headers, default)
    if depth >= DEEPEST or len(mail.parts) >= MOST_PARTS:
        mail.cut = mail.cut or "more parts or levels than are read"
        return
    if kind.startswith("multipart/"):
        boundary = known.get("boundary", "").encode("utf-8", "replace")
        pieces = list(_pieces(body, boundary))
        if not pieces and (guess := _BOUNDARY_GUESS.search(body[:100_000])):
            pieces = list(_pieces(body, guess[1]))
        if pieces:
            inner = "message/rfc822" if kind == "multipart/digest" else "text/plain"
            if not enclosed and pieces[0][0] and depth == 0:
                _keep_preamble(mail, body[: pieces[0][0]])
            for start, end in pieces:
                piece_headers, piece_body = headers_and_body(body[start:end])
                if body[start : start + 1] in (b"\n", b"\r"):
                    piece_headers, piece_body = Headers(), body[start:end].lstrip(b"\r\n")
                _take_apart(mail, piece_headers, piece_body, depth=depth + 1, enclosed=enclosed, default=inner)
            return
        kind = "text/plain"
    raw = _unpacked(headers.get("content-transfer-encoding"), body)
    if kind in ("message/rfc822", "message/global", "message/news"):
        inner_headers, inner_body = headers_and_body(raw.lstrip(b"\r\n"))
        mail.originals.append(inner_headers)
        _take_apart(mail, inner_headers, inner_body, depth=depth + 1, enclosed=True, default="text/plain")
        return
    if kind in ("text/rfc822-headers", "message/global-headers", "message/partial", "text/rfc822"):
        mail.originals.append(headers_and_body(raw.lstrip(b"\r\n"))[0])
        enclosed = True
    mail.parts.append(Part(headers, kind, known, raw, enclosed))


def _keep_preamble(mail: Mail, raw: bytes) -> None:
    # Some servers write their notice where only readers without MIME would see it.
    text = raw.rsplit(b"\n--", 1)[0].strip()
    if 0 < len(text) < 20_000 and not text.startswith(b"--"):
        mail.parts.append(Part(Headers([("x-preamble", "yes")]), "text/plain", {}, text))


def _pieces(body: bytes, boundary: bytes) -> Iterator[tuple[int, int]]:
    """Start and end of each part between the lines of the boundary."""
    if not boundary:
        return
    start, place, mark = -1, 0, b"--" + boundary
    for _count in range(MOST_PARTS + 1):
        place = _line_of(body, mark, place)
        if place < 0:
            break
        if start >= 0:
            # The end of the line before belongs to the boundary (RFC 2046 section 5.1.1).
            end = place - (2 if body[place - 2 : place] == b"\r\n" else 1)
            yield start, max(start, end)
        line_end = body.find(b"\n", place)
        if line_end < 0 or body[place + len(mark) : place + len(mark) + 2] == b"--":
            return
        start = place = line_end + 1
    if start >= 0:
        yield start, len(body)


def _line_of(body: bytes, mark: bytes, place: int) -> int:
    while True:
        place = body.find(mark, place)
        if place < 0:
            return -1
        end = place + len(mark)
        after = body[end : end + 80].split(b"\n", 1)[0].strip()
        if (place == 0 or body[place - 1] == 10) and after in (b"", b"--"):
            return place
        place += len(mark)


def _unpacked(encoding: str, body: bytes) -> bytes:
    encoding = encoding.strip().lower()
    if encoding == "base64":
        return unbase64(body)
    if encoding == "quoted-printable":
        return binascii.a2b_qp(body)
    return body
