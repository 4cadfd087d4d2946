"""Pure: who looked at a mail or followed a link, a person or a program? What is known of programs, as a table.

As of November 2026. A proxy that fetches when its user opens the mail (Gmail, Yahoo) counts as a person; one that
fetches every mail it is handed (Apple's Mail Privacy Protection) as a machine. What time tells is judged when the
event is acted on: `feedback` knows when the mail left.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from providers.accounts.events import EventType, Reader


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern of user agents; the first that fits decides. `only` is the kind of event it is about, None any."""

    pattern: str
    reader: Reader
    why: str
    only: EventType | None = None


@dataclass(frozen=True, slots=True)
class Haste:
    """Sooner than this after the mail left, it was hardly a person."""

    type: EventType
    within: timedelta
    reader: Reader


RULES = (
    Rule(r"^$", Reader.MACHINE, "says nothing of itself"),
    Rule(r"^Mozilla/5\.0$", Reader.MACHINE, "Apple's privacy protection fetches every picture", EventType.OPENED),
    Rule(r"GoogleImageProxy", Reader.HUMAN, "Gmail's proxy fetches when the mail is opened"),
    Rule(r"YahooMailProxy", Reader.HUMAN, "Yahoo's proxy fetches when the mail is opened"),
    Rule(
        r"(Barracuda|Proofpoint|Mimecast|Symantec|MessageLabs|Trend ?Micro|Cloudmark|FireEye|Forcepoint|Zscaler|Sophos"
        r"|Fortinet|FortiGuard|Cisco|IronPort|Checkpoint|Bitdefender|Kaspersky|McAfee|Trustwave|Vade|Avanan|Egress"
        r"|SafeLinks|SkypeUriPreview|urlscan|VirusTotal|PhishTank|Netcraft|Google-Safety|Palo ?Alto|Cyren|ESET)",
        Reader.MACHINE,
        "a scanner of mails",
    ),
    Rule(
        r"(bot\b|bot/|crawl|spider|slurp|preview|prefetch|scanner|monitor|facebookexternalhit|WhatsApp|embedly"
        r"|Headless|PhantomJS|Puppeteer|Playwright|Selenium|archiver|validator|feedfetcher|Google-Read-Aloud)",
        Reader.MACHINE,
        "a crawler or a preview",
    ),
    Rule(
        r"^(python|curl|wget|java/|go-http|okhttp|libwww|lwp|ruby|faraday|php|guzzle|axios|node|undici|got/|perl|aiohttp"
        r"|httpx|apache-httpclient|http_request|powershell|dart|rest-client|urllib)",
        Reader.MACHINE,
        "a program's library",
    ),
    Rule(r"(MSIE [1-9]\.|Windows (95|98|NT [1-5]\.)|Chrome/[1-6]?\d\.|Firefox/[1-4]?\d\.)", Reader.UNCLEAR, "so old"),
    Rule(
        r"(Mozilla|Opera|Outlook|MSOffice|Microsoft Office|Thunderbird|AppleMail|Mail/|Spark|Airmail)",
        Reader.HUMAN,
        "a browser or a mail program",
    ),
)
OTHERWISE = Reader.UNCLEAR

HASTE = (
    Haste(EventType.OPENED, timedelta(seconds=2), Reader.MACHINE),
    Haste(EventType.OPENED, timedelta(seconds=8), Reader.UNCLEAR),
    Haste(EventType.CLICKED, timedelta(seconds=5), Reader.MACHINE),
    Haste(EventType.CLICKED, timedelta(seconds=15), Reader.UNCLEAR),
)
# Two different links of one mail so close together were followed by a program.
TOGETHER = timedelta(seconds=1.5)

_COMPILED = tuple((re.compile(rule.pattern, re.IGNORECASE), rule) for rule in RULES)
_LONGEST = 400


def judge(event: EventType, method: str, headers: Mapping[str, str]) -> Reader:
    """Who this request comes from. `headers` are named in small letters."""
    purpose = headers.get("sec-purpose", "") + headers.get("purpose", "") + headers.get("x-moz", "")
    if method != "GET" or "prefetch" in purpose or "preview" in purpose:
        return Reader.MACHINE
    return _of_agent(event, headers.get("user-agent", "").strip()[:_LONGEST])


@lru_cache(maxsize=4096)
def _of_agent(event: EventType, agent: str) -> Reader:
    for pattern, rule in _COMPILED:
        if rule.only in (None, event) and pattern.search(agent):
            return rule.reader
    return OTHERWISE
