"""What HTML of a mail may not hold, and style sheets that go into its tags."""

import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns import markup, rendering
from campaigns.rendering import NotRenderedError


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    rendering.parse.cache_clear()


def made(html: str) -> str:
    who = rendering.fields("anna@people.example", "Anna", "", "", {"colour": "red"})
    return rendering.render(rendering.parse("s", html, "x"), who).html or ""


@pytest.mark.parametrize(
    "html",
    [
        "<script>alert(1)</script>",
        "<SCRIPT src=//x.example/a.js></SCRIPT>",
        "<scr{% if first_name %}{% endif %}ipt>alert(1)</script>",
        "<svg/onload=alert(1)>",
        '<img src=x alt=">" onerror=alert(1)>',
        "<img src=x onerror\n=\nalert(1)>",
        "<p{{ first_name }}onclick=x>",
        "<p {% if a %}x{% endif %}onclick=x>",
        '<!-- <a title=" --><img src=x onerror=alert(1)><!-- " -->',
        '<style><a title="</style><img src=x onerror=alert(1)>',
        '<a href="javascript:alert(1)">x</a>',
        '<a href=" jAva&#9;script:alert(1)">x</a>',
        '<a href="java{{ first_name }}script:alert(1)">x</a>',
        '<a href="&#106;avascript&colon;alert(1)">x</a>',
        '<a href="data:text/html,<script>">x</a>',
        '<img src="data:image/svg+xml,<svg/>">',
        "<iframe src='https://x.example'></iframe>",
        "<form action='https://x.example'><p>x</p></form>",
        "<object data='x'></object>",
        "<base href='https://x.example/'>",
        '<meta http-equiv="Refresh" content="0;url=https://x.example">',
    ],
)
def test_what_runs_or_leads_away_is_refused_with_a_plain_message(html: str) -> None:
    with pytest.raises(NotRenderedError, match=r"^The HTML is not valid: "):
        made(f"<p>a</p>{html}<p>b</p>")


@pytest.mark.parametrize(
    "html",
    [
        '<p title="1 > 0">on = off, javascript: is a word</p>',
        '<img src="data:image/png;base64,AAAA" alt="x">',
        '<a href="mailto:x@y.example">x</a><a href="tel:+1">y</a><a href="{{ colour }}">z</a>',
        "<p>unclosed <b>tags & broken <i>html</p></b>",
        "<!--[if mso]><v:rect href='https://x.example'>x</v:rect><![endif]-->",
    ],
)
def test_all_else_stays_as_it_was_written(html: str) -> None:
    assert made(html) == html.replace("{{ colour }}", "red")


def test_style_sheets_go_into_the_tags_and_everything_else_stays() -> None:
    html = (
        "<html><head><style>p.a { color: {{ colour }}; margin: 0 } td{padding:4px} @media print{p{color:#000}}</style>"
        '</head><body><table>{% if colour %}<tr><td class="x">1</td></tr>{% endif %}</table>'
        '<p class="a" style="margin:1px">y</p><p class=a style="color:{{ colour }}">z</p><p>w</p></body></html>'
    )
    found = made(html)
    assert '<tr><td style="padding: 4px" class="x">1</td></tr></table>' in found.replace("4px;", "4px")
    assert "tbody" not in found
    assert "@media print{p{color:#000}}" in found
    assert "<p>w</p>" in found
    first, second = found.partition("y</p>")[0].rpartition("<p")[2], found.partition("z</p>")[0].rpartition("<p")[2]
    assert "margin:1px" in first.replace(" ", "")
    assert "color" in first
    assert second.endswith('color:red">')


def test_sheets_that_are_too_much_work_are_refused_in_no_time() -> None:
    started = time.thread_time()
    with pytest.raises(NotRenderedError, match="too long"):
        made("<style>" + "p p p{a:b}" * 9000 + "</style>" + "<p>" * 9000)
    assert time.thread_time() - started < 2


@pytest.mark.parametrize("piece", ["<a ", '<a x="', "<a x='<a x=\"", "<", "<a<", "<!--", "<style>", "<a =", "\ue000"])
def test_broken_html_costs_no_time(piece: str) -> None:
    text = (piece * 250_000)[:250_000]
    started = time.thread_time()
    try:
        markup.check(text)
        markup.inlined(text)
    except markup.MarkupError:
        pass
    assert time.thread_time() - started < 4


@given(st.text(alphabet="<>/='\" apstyle{}:;!-\n\ue000\ue0010", max_size=80))
def test_any_text_is_taken_or_refused_and_text_without_sheets_is_not_touched(text: str) -> None:
    try:
        markup.check(text)
    except markup.MarkupError:
        return
    if "<style" not in text:
        assert markup.inlined(text) == text
    else:
        markup.inlined(text)
