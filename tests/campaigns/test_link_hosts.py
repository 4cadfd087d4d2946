"""Hosts of links are looked up, and what cannot be asked is said to be unchecked, not wrong."""

import asyncio
from typing import Any

import dns.asyncresolver
import dns.exception
import dns.message
import dns.resolver
import pytest

from campaigns import inspection, link_hosts
from campaigns.link_hosts import Found
from campaigns.models import Step
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.stage import NOON

real_look_up = link_hosts.look_up


class Record:
    def __init__(self, address: str) -> None:
        self.address = address


class Scripted(dns.asyncresolver.Resolver):
    """Answers from a table: addresses, or an error; with None it never answers."""

    def __init__(self, table: dict[str, Any]) -> None:
        super().__init__(configure=False)
        self.table = table

    async def resolve(self, qname: Any, rdtype: Any = "A", *_: Any, **__: Any) -> Any:
        answer = self.table[str(qname).rstrip(".")]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        found = [Record(one) for one in answer if (":" in one) == (rdtype.name == "AAAA")]
        if not found:
            raise dns.resolver.NoAnswer(response=dns.message.make_response(dns.message.make_query(qname, rdtype)))
        return found


def test_each_answer_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_hosts, "SECONDS", 0.05)
    table: dict[str, Any] = {
        "here.example": ["93.184.216.34"],
        "six.example": ["2606:2800:220:1::1"],
        "gone.example": dns.resolver.NXDOMAIN(),
        "bare.example": [],
        "inside.example": ["10.0.0.7", "fd00::1"],
        "loop.example": ["127.0.0.1"],
        "down.example": dns.resolver.NoNameservers(),
        "no-net.example": OSError("unreachable"),
        "late.example": None,
    }
    assert real_look_up([*table, "here.example"], Scripted(table)) == {
        "here.example": Found.KNOWN,
        "six.example": Found.KNOWN,
        "gone.example": Found.UNKNOWN,
        "bare.example": Found.UNKNOWN,
        "inside.example": Found.INSIDE,
        "loop.example": Found.INSIDE,
        "down.example": Found.NOT_ASKED,
        "no-net.example": Found.NOT_ASKED,
        "late.example": Found.NOT_ASKED,
    }
    many = [f"h{number}.example" for number in range(link_hosts.MOST + 1)]
    answers = real_look_up(many, Scripted({host: ["93.184.216.34"] for host in many}))
    assert [host for host, found in answers.items() if found is Found.NOT_ASKED] == many[-1:]
    assert real_look_up(["x" * 300], Scripted({"x" * 300: ValueError()})) == {"x" * 300: Found.NOT_ASKED}
    assert real_look_up([]) == {}


def test_the_check_before_launch_tells_it(alpha: Agency, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def look_up(hosts: list[str]) -> dict[str, Found]:
        asked.extend(hosts)
        return {"gone.example": Found.UNKNOWN, "late.example": Found.NOT_ASKED, "here.example": Found.KNOWN}

    monkeypatch.setattr(link_hosts, "look_up", look_up)
    html = "".join(
        f'<a href="{href}">x</a>'
        for href in (
            *("https://gone.example/a", "http://late.example", "https://Here.example/{{ city }}", "mailto:a@b.example"),
            *("https://{{ city }}.example/", "{{ unsubscribe_url }}", "#", "https://[::1"),
        )
    )
    with context.entered(alpha):
        draft = stage.campaign(stage.contact_list("p", 1))
        Step.objects.update(html=html)
        told = {one.code: one for one in inspection.inspect(draft, now=NOON) if "host" in one.code}
    assert asked == ["gone.example", "late.example", "here.example"]
    assert "gone.example" in told["lost_host"].text
    assert told["lost_host"].severity == inspection.Severity.WARNING
    assert "late.example" in told["unchecked_hosts"].text
    assert told["unchecked_hosts"].severity == inspection.Severity.NOTE
