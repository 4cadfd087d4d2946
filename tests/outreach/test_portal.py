import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import pytest
from django import forms
from django.conf import settings
from django.template import Context, Template
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.utils import translation

TEMPLATES = Path(settings.BASE_DIR, "templates")
FOUNDATION = Path(settings.BASE_DIR, "static/portal/foundation.css").read_text()
COLOURS = dict(re.findall(r"--([\w-]+): (light-dark\(#\w{6}, #\w{6}\)|#\w{6});", FOUNDATION))
TONES = ["accent", "success", "warning", "danger", "info", "doubt"]


def render(source: str, **context: object) -> str:
    return Template("{% load portal %}" + source).render(Context(context))


@pytest.fixture
def russian() -> Iterator[None]:
    with translation.override("ru"):
        yield


def test_a_bar_keeps_values_that_a_browser_reads_on_a_russian_page(russian: None) -> None:
    bar = render("{% progress value label max=most %}", value=1234.5, most=4000, label="x")

    assert 'value="1234.5"' in bar
    assert 'max="4000"' in bar


def test_the_segments_of_a_delivery_cover_the_whole_bar_and_lie_side_by_side(russian: None) -> None:
    report = {
        "total": 1140,
        "sent": 700,
        "in_progress": 30,
        "waiting": 400,
        "in_doubt": 2,
        "failed": 8,
        "cancelled": 0,
    }

    html = render("{% delivery_bar report %}", report=report)

    rects = [
        (float(rect.attrib["x"]), float(rect.attrib["width"]))
        for rect in ElementTree.fromstring(html.strip()).iter("rect")
    ]
    assert sum(width for _x, width in rects) == pytest.approx(100, abs=0.05)
    assert [x for x, _width in rects][1:] == pytest.approx([x + width for x, width in rects][:-1], abs=0.02)
    assert "1 140" not in html


def test_a_campaign_without_messages_has_an_empty_bar() -> None:
    assert render("{% delivery_bar report %}", report={"total": 0}).count('width="0"') == 6


def test_a_sparkline_of_equal_points_is_a_line_and_one_of_a_single_point_is_nothing() -> None:
    assert "polyline" in render("{% sparkline points %}", points=[3, 3, 3])
    assert render("{% sparkline points %}", points=[3]).strip() == ""


def test_a_label_cannot_bring_markup_into_a_component() -> None:
    html = render("{% status_pill 'running' label %}{% progress 1 label %}{% badge label %}", label='"><script>')

    assert "<script>" not in html


def test_a_field_names_its_error_and_its_help_to_a_screen_reader() -> None:
    class Form(forms.Form):
        name = forms.CharField(help_text="As they see it.")

    html = render("{% fields form %}", form=Form({"name": ""}))

    described = re.search(r'aria-describedby="([^"]+)"', html)
    assert described
    assert all(f'id="{target}"' in html for target in described[1].split())
    assert 'aria-invalid="true"' in html


def test_fields_outside_the_groups_of_a_form_are_not_lost() -> None:
    class Form(forms.Form):
        groups = [("Who", "", ["name"])]
        name = forms.CharField()
        subject = forms.CharField()
        token = forms.CharField(widget=forms.HiddenInput)

    html = render("{% fields form %}", form=Form())

    assert [html.count(f'name="{name}"') for name in ("name", "subject", "token")] == [1, 1, 1]


def test_a_theme_that_is_not_ours_is_not_written_into_the_page() -> None:
    request = RequestFactory().get("/")
    request.COOKIES["theme"] = '"><script>'

    assert render("{% theme %}", request=request) == "system"


@pytest.mark.parametrize("name", ["404.html", "403.html", "500.html"])
def test_an_error_page_needs_no_request_and_no_agency(name: str) -> None:
    assert f'<p class="code">{name[:3]}</p>' in render_to_string(name)


def test_no_template_has_what_the_content_security_policy_refuses() -> None:
    refused = re.compile(r"""\sstyle=|\son\w+=["']|<style|javascript:|<script(?![^>]*\ssrc=)|https?://""")

    assert {
        str(path): refused.findall(path.read_text())
        for path in TEMPLATES.rglob("*.html")
        if refused.search(path.read_text())
    } == {}


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        *product(["text", "text-soft", "text-faint", *TONES], ["surface", "canvas"]),
        *product(["text", "text-soft", "text-faint"], ["sunken", "raised"]),
        *((tone, f"{tone}-soft") for tone in TONES),
        *product(["on-fill"], ["accent-fill", "accent-fill-hover", "danger-fill", "danger-fill-hover"]),
    ],
)
def test_text_stands_out_from_its_ground_as_wcag_aa_asks(text: str, ground: str, theme: int) -> None:
    assert contrast(colour(text, theme), colour(ground, theme)) >= 4.5


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_the_edge_of_a_field_stands_out_from_its_ground(theme: int) -> None:
    assert contrast(colour("line-control", theme), colour("surface", theme)) >= 3


def colour(token: str, theme: int) -> str:
    return re.findall(r"#(\w{6})", COLOURS[token])[theme if "light-dark" in COLOURS[token] else 0]


def contrast(one: str, other: str) -> float:
    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
