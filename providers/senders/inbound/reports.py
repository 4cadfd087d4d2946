"""Aggregate reports of DMARC (RFC 7489, RFC 9990) and of SMTP TLS (RFC 8460), as mails or as files. Pure.

Whoever can send mail can send these, so unpacking stops at a size, and XML that declares entities is refused.
"""

import io
import re
import zipfile
import zlib
from dataclasses import dataclass
from xml.etree.ElementTree import Element, ParseError

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import fromstring

from providers.senders.inbound.mail import Mail

LARGEST_REPORT = 8 << 20
# Damaged XML is read again, up to this size.
LARGEST_REPAIRED = 1 << 20
# Start and end tags: some four thousand records.
MOST_ELEMENTS = 500_000

_ZIP, _GZIP = b"PK\x03\x04", b"\x1f\x8b"
# As RFC 7489 section 7.2.1.1 wants it.
_SUBJECT = re.compile(r"report[ -]?domain\s*:.{1,300}(?:submitter|report-id)\s*:", re.I | re.S)
_ROOT = re.compile(rb"<(?:\w+:)?feedback[\s>]", re.I)
_NAMES = re.compile(r"[^!]+![^!]+!\d+!\d+.*\.(?:xml|xml\.gz|gz|zip)$", re.I)


@dataclass(frozen=True, slots=True)
class Report:
    """What a report says of itself: who made it, on which domain, from when to when (seconds since 1970), mails seen.

    `problem` says why it could not be read; then the rest is empty.
    """

    kind: str
    source: str = ""
    domain: str = ""
    number: str = ""
    begin: int | None = None
    end: int | None = None
    mails: int = 0
    failed: int = 0
    problem: str = ""


def of_file(raw: bytes) -> Report | None:
    """A report that is not wrapped in a mail: XML, or a zip or gzip of it; None if the bytes are something else."""
    start = raw[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start.startswith((_ZIP, _GZIP)) and not (start.startswith(b"<") and _ROOT.search(raw[:20_000])):
        return None
    return read(raw)


def of_mail(mail: Mail) -> Report | None:
    """The report that a mail carries, or None."""
    problem = None
    for part in mail.parts:
        if part.enclosed:
            continue
        name = part.filename.lower()
        if part.kind.startswith("application/tlsrpt") or mail.parameters.get("report-type", "").lower() == "tlsrpt":
            return Report(
                "tls", source=mail.headers.get("tls-report-submitter"), domain=mail.headers.get("tls-report-domain")
            )
        packed = part.raw.startswith((_ZIP, _GZIP))
        if not (packed or name.endswith((".xml", ".gz", ".zip")) or part.kind in ("text/xml", "application/xml")):
            continue
        report = read(part.raw)
        if not report.problem:
            return report
        if _NAMES.match(name) or _ROOT.search(part.raw[:20_000]):
            problem = report
    if problem is None and _SUBJECT.search(mail.headers.get("subject")):
        problem = Report("dmarc", problem="there is no report in the mail")
    return problem


def read(raw: bytes) -> Report:
    """One aggregate report; what cannot be read says why in `problem`."""
    try:
        text = _unpacked(raw)
        root = _parsed(text)
    except _Refused as refused:
        return Report("dmarc", problem=str(refused))
    if root is None or _name(root) != "feedback":
        return Report("dmarc", problem="it is not a DMARC aggregate report")
    records = [record for record in root if _name(record) == "record"]
    mails = failed = 0
    for record in records:
        count = _number(_text(record, "row", "count")) or 0
        mails += count
        passed = "pass" in (
            _text(record, "row", "policy_evaluated", "dkim").lower(),
            _text(record, "row", "policy_evaluated", "spf").lower(),
        )
        failed += 0 if passed else count
    return Report(
        "dmarc",
        source=_text(root, "report_metadata", "org_name"),
        domain=_text(root, "policy_published", "domain"),
        number=_text(root, "report_metadata", "report_id"),
        begin=_number(_text(root, "report_metadata", "date_range", "begin")),
        end=_number(_text(root, "report_metadata", "date_range", "end")),
        mails=mails,
        failed=failed,
    )


class _Refused(Exception):
    pass


def _unpacked(raw: bytes) -> bytes:
    """The XML of a report, at most LARGEST_REPORT bytes of it, however often it is packed."""
    for _level in range(3):
        if raw.startswith(_GZIP):
            raw = _gunzipped(raw)
        elif raw.startswith(_ZIP):
            raw = _unzipped(raw)
        else:
            break
    if len(raw) > LARGEST_REPORT or raw.count(b"<") > MOST_ELEMENTS:
        raise _Refused("the report is larger than is read")
    return raw


def _gunzipped(raw: bytes) -> bytes:
    inflate = zlib.decompressobj(wbits=31)
    try:
        found = inflate.decompress(raw, LARGEST_REPORT)
    except zlib.error as error:
        raise _Refused("the gzip file is damaged") from error
    if inflate.unconsumed_tail:
        raise _Refused("the report is larger than is read")
    return found


def _unzipped(raw: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as packed:
            entries = [entry for entry in packed.infolist() if not entry.is_dir()]
            if not entries or len(entries) > 20:
                raise _Refused("the zip file holds no report, or too many files")
            with packed.open(entries[0]) as entry:
                found = entry.read(LARGEST_REPORT + 1)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError) as error:
        raise _Refused("the zip file is damaged or encrypted") from error
    if len(found) > LARGEST_REPORT:
        raise _Refused("the report is larger than is read")
    return found


def _parsed(raw: bytes) -> Element | None:
    raw = raw.lstrip(b"\xef\xbb\xbf \t\r\n\x00")
    # Some reporters open a schema that they never close.
    raw = re.sub(rb"<xs:schema\b[^<>]*>|</xs:schema>", b"", raw, count=2)
    readings = [raw] if len(raw) > LARGEST_REPAIRED else [raw, raw.decode("utf-8", "replace").encode()]
    for text in readings:
        try:
            root: Element | None = fromstring(text, forbid_dtd=True)
        except DefusedXmlException as error:
            raise _Refused("the report declares entities or a document type") from error
        except (ParseError, ValueError, LookupError):
            continue
        return root
    if len(raw) > LARGEST_REPAIRED:
        raise _Refused("the XML of the report is damaged")
    return _repaired(raw)


def _repaired(raw: bytes) -> Element | None:
    """A report whose free texts broke the XML, read without them."""
    for name in (b"email", b"org_name", b"extra_contact_info", b"comment"):
        start, stop = b"<" + name + b">", b"</" + name + b">"
        place = raw.find(start)
        end = raw.find(stop, place)
        if 0 <= place < end:
            inner = raw[place + len(start) : end].replace(b"<", b"").replace(b">", b"").replace(b"&", b"")
            raw = raw[: place + len(start)] + inner + raw[end:]
    try:
        root: Element | None = fromstring(raw.decode("utf-8", "replace").encode(), forbid_dtd=True)
    except (DefusedXmlException, ParseError, ValueError, LookupError) as error:
        raise _Refused("the XML of the report is damaged") from error
    return root


def _name(element: Element) -> str:
    return element.tag.rsplit("}", 1)[-1].lower()


def _text(element: Element, *names: str) -> str:
    for name in names:
        found = next((child for child in element if _name(child) == name), None)
        if found is None:
            return ""
        element = found
    return (element.text or "").strip()[:500]


def _number(text: str) -> int | None:
    return int(text) if re.fullmatch(r"\d{1,15}", text) else None
