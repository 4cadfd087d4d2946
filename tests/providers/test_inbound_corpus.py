"""Real mails of servers, where the corpus is at hand: the bars that the rules must keep."""

import json
from pathlib import Path

import pytest

from providers.senders.inbound.replies import stripped
from providers.senders.inbound.verdict import Kind, classify

CORPUS = Path(__file__).resolve().parents[3] / "shared" / "corpus"

pytestmark = pytest.mark.skipif(not CORPUS.is_dir(), reason="the corpus of real mails is not here")


def test_real_notices_are_told_apart() -> None:
    expected = json.loads((CORPUS / "bounces" / "expected.json").read_text())
    kinds, hardness, reasons = [], [], []
    for name, wanted in expected.items():
        verdict = classify((CORPUS / "bounces" / name).read_bytes())
        kinds.append(verdict.kind == wanted["kind"])
        for key, found in (("hard", hardness), ("reason", reasons)):
            found.append(
                sorted(getattr(one, key) for one in verdict.recipients)
                == sorted(one[key] for one in wanted["recipients"])
            )
        if wanted["kind"] == "human":
            assert verdict.kind is Kind.HUMAN, name
    assert sum(kinds) / len(kinds) >= 0.98
    assert sum(hardness) / len(hardness) >= 0.95
    assert sum(reasons) / len(reasons) >= 0.90


def test_real_reports_are_reports() -> None:
    names = [path for path in (CORPUS / "dmarc").iterdir() if path.name != "LICENSE"]
    verdicts = {path.name: classify(path.read_bytes()) for path in names}
    assert {verdict.kind for verdict in verdicts.values()} == {Kind.REPORT}
    unread = [name for name, verdict in verdicts.items() if verdict.report and verdict.report.problem]
    assert unread == ["invalid_xml.xml"]


def test_real_replies_are_mails_of_people_and_lose_their_quotes() -> None:
    for path in sorted((CORPUS / "replies").glob("*.txt")):
        raw = path.read_bytes()
        assert classify(raw).kind is Kind.HUMAN, path.name
        text = stripped(raw.decode("utf-8", "replace"))
        assert text, path.name
        assert not any(line.startswith(">") for line in text.splitlines()), path.name
        assert not any(word in text for word in ("wrote:", "schrieb", "scritto:", "écrit :", "schreef", "skrev")) or (
            "tricky_2_" in path.name
        ), path.name
