"""Bytes that mean harm or nothing: each ends with a verdict, within bounds, and nothing is raised."""

import base64
import gzip
import io
import json
import subprocess
import sys
import zipfile
from datetime import date
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from providers.senders.inbound.mail import DEEPEST, READ_BYTES, parsed
from providers.senders.inbound.verdict import Kind, classify
from tests.providers.inbound_mails import ORIGINAL, mail, reply, report, status
from tests.providers.test_inbound_bounces import ARF, DIALECTS, PEOPLE

ROOT = Path(__file__).resolve().parents[2]
HEAD = b"From: MAILER-DAEMON@mx.test\r\nSubject: Undelivered Mail Returned to Sender\r\nMIME-Version: 1.0\r\n"
PERSON = b"From: max@client.test\r\nSubject: Re: x\r\n\r\n"

DMARC = """<?xml version="1.0" encoding="UTF-8"?>
<feedback xmlns="urn:ietf:params:xml:ns:dmarc-2.0"><report_metadata><org_name>Reporter</org_name>
<report_id>r1</report_id><date_range><begin>1700000000</begin><end>1700086399</end></date_range></report_metadata>
<policy_published><domain>sender.test</domain></policy_published>
<record><row><count>3</count><policy_evaluated><dkim>pass</dkim><spf>fail</spf></policy_evaluated></row></record>
<record><row><count>2</count><policy_evaluated><dkim>fail</dkim><spf>fail</spf></policy_evaluated></row></record>
</feedback>"""


def _nested(levels: int) -> bytes:
    part = b"Content-Type: text/plain\r\n\r\nhello"
    for level in range(levels):
        mark = b"b%d" % level
        part = (
            b"Content-Type: multipart/mixed; boundary="
            + mark
            + b"\r\n\r\n--"
            + mark
            + b"\r\n"
            + part
            + b"\r\n--"
            + mark
            + b"--\r\n"
        )
    return HEAD + part


def _zipped(name: str, raw: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(name, raw)
    return out.getvalue()


HOSTILE = {
    "50 MB": HEAD + b"\r\n" + b"user unknown <a@b.test>\r\n" * (2 << 20),
    "50 MB in one line": PERSON + b"not " * (13 << 20),
    "50 MB of headers": b"From: a@b.test\r\n" + b"X-A: b\r\n" * (6 << 20),
    "nested 100 deep": _nested(100),
    "nested 2,000 deep": _nested(2000),
    "mails in mails": b"From: a@b.test\r\nContent-Type: message/rfc822\r\n\r\n" * 500,
    "half a million parts": HEAD + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 500_000,
    "without a boundary": HEAD + b"Content-Type: multipart/report; report-type=delivery-status\r\n\r\n--x\r\n\r\nhi\r\n",
    "an empty boundary": HEAD + b'Content-Type: multipart/mixed; boundary=""\r\n\r\n--\r\n\r\nhi\r\n',
    "NUL bytes": HEAD + b"\r\n" + b"\0" * 10_000 + b"us\0er unknown <a@b.test>",
    "a charset that is none": HEAD + b"Content-Type: text/plain; charset=idna\r\n\r\n\xff\xfe",
    "a codec for a charset": HEAD + b"Content-Type: text/plain; charset=zlib\r\n\r\n\xff\xfe",
    "UTF-16 that is none": HEAD + b"Content-Type: text/plain; charset=utf-16\r\n\r\n\xff\xfea",
    "HTML of brackets": b"From: a@b.test\r\nContent-Type: text/html\r\n\r\n" + b"<" * (3 << 20),
    "HTML of comments": b"From: a@b.test\r\nContent-Type: text/html\r\n\r\n" + b"<!--" * (1 << 20),
    "JSON that is deep": PERSON + b'{"a":' * 30_000,
    "encoded words": b"From: a@b.test\r\nSubject: " + b"=?utf-8?b?" * 50_000 + b"\r\n\r\nx",
    "recipients without end": HEAD + b"Content-Type: message/delivery-status\r\n\r\n"
    + b"".join(b"Final-Recipient: rfc822; a%d@b.test\r\nAction: failed\r\n\r\n" % n for n in range(20_000)),
    "white space": PERSON + b"not" + b" \n" * 1_000_000 + b"x",
    "words of rules": PERSON + b"please remove me not send contact the next no from 1 to until back on " * 5000,
    "words of notices": HEAD + b"\r\n" + b"message mail following recipient address delivery user not " * 5000,
    "lines of dashes": HEAD + b"\r\n" + (b"-- " + b"original message " * 3 + b"\n") * 20_000,
    "one dash": HEAD + b"\r\n" + b"-" * 1_000_000,
    "announcements": PERSON + b"On 1 wrote\n" * 100_000,
    "addresses": HEAD + b"\r\n" + b"a@" * 500_000,
    "a gzip bomb": gzip.compress(b"<feedback>" + b"\0" * (100 << 20)),
    "a zip bomb": _zipped("a!b!1!2.xml", b"<feedback>" + b" " * (50 << 20)),
    "a damaged zip": _zipped("a.xml", DMARC.encode())[:100],
    "XML with entities": b'<?xml version="1.0"?><!DOCTYPE f [<!ENTITY a "aa"><!ENTITY b "&a;&a;">]><feedback>&b;</feedback>',
    "XML with an outside entity": b'<!DOCTYPE f [<!ENTITY a SYSTEM "file:///etc/passwd">]><feedback>&a;</feedback>',
    "XML that is deep": b"<feedback>" + b"<a>" * 400_000,
}  # fmt: skip


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_end_with_a_verdict(name: str) -> None:
    verdict = classify(HOSTILE[name], today=date(2026, 11, 24))
    assert verdict.kind is not None
    assert len(verdict.recipients) <= 100
    assert len(verdict.text) <= 60_000


@pytest.mark.parametrize("raw", [b"", b"\r\n\r\n", b"\0" * 100])
def test_nothing_is_refused_with_a_reason(raw: bytes) -> None:
    verdict = classify(raw)
    assert verdict.kind is None
    assert verdict.refused


def test_what_is_not_read_is_said() -> None:
    assert classify(HOSTILE["50 MB"]).cut
    assert classify(HOSTILE["nested 100 deep"]).cut
    assert not classify(report(status())).cut


def test_parsing_is_bounded() -> None:
    assert sum(len(part.raw) for part in parsed(HOSTILE["50 MB"]).parts) <= READ_BYTES
    assert len(parsed(HOSTILE["half a million parts"]).parts) <= 200
    assert parsed(_nested(DEEPEST - 1)).parts[0].text == "hello"


def test_memory_is_bounded() -> None:
    """50 MB are classified in a process that may have 400 MB."""
    code = (
        "import resource, sys\n"
        "resource.setrlimit(resource.RLIMIT_AS, (400 << 20, 400 << 20))\n"
        "from providers.senders.inbound.verdict import classify\n"
        f"raw = {HEAD!r} + b'\\r\\n' + b'user unknown <a@b.test>\\r\\n' * (2 << 20)\n"
        "print(classify(raw).kind)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "bounce", done.stderr[-2000:]


SEEDS = [
    report(status(diagnostic="550 5.1.1 user unknown")),
    report(ARF.format("abuse"), report_type="feedback-report", part="message/feedback-report"),
    *(mail(body, subject=subject) for body, subject, _reason, _hard in DIALECTS.values()),
    *PEOPLE.values(),
    reply("I am on vacation until 5 December.", headers="Auto-Submitted: auto-replied\r\n"),
    reply("<p>Yes</p><blockquote>no</blockquote>", kind="text/html"),
    ORIGINAL.encode(),
    DMARC.encode(),
    gzip.compress(DMARC.encode()),
]
SNIPPETS = [
    b"\0",
    b"\xff",
    b"\r\n",
    b"\r\n\r\n",
    b"--=_b",
    b"--=_b--",
    b":",
    b"<",
    b">",
    b"@",
    b"=",
    b"Content-Type: multipart/mixed\r\n",
    b"charset=utf-7",
    b"\xe2\x80\x8b",
    b"5.1.1",
    b"; boundary=x",
    b"\x1f\x8b",
    b"PK\x03\x04",
    b"=?utf-8?q?",
]


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    raw = bytearray(draw(st.sampled_from(SEEDS)))
    for _change in range(draw(st.integers(1, 8))):
        place = draw(st.integers(0, len(raw)))
        end = min(len(raw), place + draw(st.integers(0, 200)))
        what = draw(st.integers(0, 3))
        if what == 0:
            del raw[place:end]
        elif what == 1:
            raw[place:place] = draw(st.sampled_from(SNIPPETS))
        elif what == 2:
            raw[place:end] = draw(st.binary(max_size=20))
        else:
            raw[place:place] = raw[place:end] * draw(st.integers(1, 3))
    return bytes(raw)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(_mutated())
def test_mutated_mails_end_with_a_verdict(raw: bytes) -> None:
    verdict = classify(raw, today=date(2026, 11, 24))
    assert (verdict.kind is None) == bool(verdict.refused)
    if verdict.kind is Kind.BOUNCE:
        assert verdict.recipients
        assert all(one.reason and one.rule for one in verdict.recipients)
    json.dumps([one.said + one.span + one.address for one in verdict.recipients] + [verdict.text])


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=2000))
def test_any_bytes_end_with_a_verdict(raw: bytes) -> None:
    verdict = classify(raw)
    assert (verdict.kind is None) == bool(verdict.refused)


@pytest.mark.parametrize("charset", ["koi8-r", "windows-1251", "utf-8", "utf-16", "iso-8859-5"])
def test_charsets_are_read(charset: str) -> None:
    body = base64.encodebytes("Да, интересно".encode(charset)).decode()
    raw = (
        reply(body, kind="text/plain")
        .replace(b"charset=utf-8", f"charset={charset}".encode())
        .replace(b"8bit", b"base64")
    )
    assert classify(raw).text == "Да, интересно"


def test_a_wrong_charset_does_not_hide_utf_8() -> None:
    raw = reply("Да, интересно").replace(b"charset=utf-8", b"charset=windows-1251")
    assert classify(raw).text == "Да, интересно"


@pytest.mark.parametrize(
    "raw",
    [DMARC.encode(), gzip.compress(DMARC.encode()), _zipped("a!b!1!2.xml", DMARC.encode())],
    ids=["xml", "gz", "zip"],
)
def test_aggregate_reports_are_read_as_files_and_as_mails(raw: bytes) -> None:
    attached = mail(
        "--=_r\r\nContent-Type: text/plain\r\n\r\nSee attached.\r\n--=_r\r\nContent-Type: application/octet-stream\r\n"
        'Content-Disposition: attachment; filename="reporter!sender.test!1!2.xml.gz"\r\nContent-Transfer-Encoding: base64\r\n\r\n'
        + base64.encodebytes(raw).decode()
        + "\r\n--=_r--\r\n",
        sender="noreply@reporter.test",
        subject="Report Domain: sender.test Submitter: reporter.test Report-ID: r1",
        headers="",
        kind='multipart/mixed; boundary="=_r"',
    )
    for one in (raw, attached):
        verdict = classify(one)
        assert verdict.kind is Kind.REPORT
        assert verdict.report is not None
        assert (verdict.report.source, verdict.report.domain, verdict.report.number) == (
            "Reporter",
            "sender.test",
            "r1",
        )
        assert (verdict.report.mails, verdict.report.failed, verdict.report.problem) == (5, 2, "")


@pytest.mark.parametrize(
    "name", ["a gzip bomb", "a zip bomb", "a damaged zip", "XML with entities", "XML with an outside entity"]
)
def test_reports_that_mean_harm_say_why_they_are_not_read(name: str) -> None:
    verdict = classify(HOSTILE[name])
    assert verdict.kind is Kind.REPORT
    assert verdict.report is not None
    assert verdict.report.problem


def test_the_command_answers_a_line_for_each_file_without_a_database(tmp_path: Path) -> None:
    (tmp_path / "bounce.eml").write_bytes(report(status()))
    (tmp_path / "reply.eml").write_bytes(reply("Yes, tell me more.\n\n-- \nMax"))
    command = [sys.executable, str(ROOT / "manage.py"), "classify_mail", "bounce.eml", "reply.eml"]
    done = subprocess.run([*command, "--json"], cwd=tmp_path, capture_output=True, text=True, check=True)
    bounce, answer = (json.loads(line) for line in done.stdout.splitlines())
    assert (bounce["file"], bounce["kind"]) == ("bounce.eml", "bounce")
    first = bounce["recipients"][0]
    assert (first["address"], first["status"], first["reason"], first["hard"]) == (
        "max@client.test",
        "5.1.1",
        "userunknown",
        True,
    )
    assert (answer["kind"], answer["text"], answer["label"]) == ("human", "Yes, tell me more.", "interested")
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert "userunknown" in shown
    missing = subprocess.run([*command, "nowhere.eml"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert missing.returncode == 1
    assert "nowhere.eml" in missing.stderr
