"""What a client writes can neither hang nor fill a worker, nor put a contact's words where they do harm."""

import gc
import resource
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import rendering
from campaigns.rendering import MissingValueError, NotRenderedError, Rendered
from providers.accounts.envelope import Envelope

# Of CPU, of which a busy machine takes twice as many for the same; without their guards the bombs take minutes.
SECONDS = 2.0
MEGABYTES = 64

LONG = "{% capture a %}" + "x" * 4000 + "{% endcapture %}"
BOMBS = {
    "a loop": "{% for i in (1..1000000000) %}x{% endfor %}",
    "nested loops": "{% for i in (1..9000) %}{% for j in (1..9000) %}x{% endfor %}{% endfor %}",
    "a loop backwards": "{% for i in (1..1000000000) reversed %}x{% endfor %}",
    "a table row for each": "{% tablerow i in (1..100000000) %}x{% endtablerow %}",
    "a text times n": "{{ first_name | replace: '', 'aaaaaaaaaaaaaaaaaaaa'"
    + " | replace: 'a', 'aaaaaaaaaaaaaaa'" * 8
    + " }}",
    "a text joined by itself": "{% assign a = first_name | split: '' | join: first_name %}",
    "a text doubled": "{% assign a = first_name %}" + "{% assign a = a | append: a %}" * 200 + "{{ a }}",
    "a capture doubled": "{% capture a %}xxxxxxxx{% endcapture %}"
    + "{% capture a %}{{ a }}{{ a }}{% endcapture %}" * 99,
    "a number squared": "{% assign n = 9 %}" + "{% assign n = n | times: n %}" * 60 + "{{ n }}",
    "an endless number": "{{ 'inf' | plus: 1 | ceil }}",
    "a range": "{{ (1..1000000000) | size }}",
    "a range put into words": "{{ (1..1000000000) | join: ',' }}",
    "a range looked through": "{% if (1..1000000000) contains 'a' %}x{% endif %}",
    "a range past the end": "{% assign r = (1..99999999999999999999) %}{{ r.size }}",
    "a date of a thousand numbers": LONG + "{{ a | date: a }}" * 4000,
    "a tag that is all angles": "{% capture a %}" + "<" * 4000 + "{% endcapture %}" + "{{ a | strip_html }}" * 5000,
    "deep conditions": "{% if true %}" * 5000 + "x" + "{% endif %}" * 5000,
    "a deep expression": "{% if " + "true and " * 5000 + "true %}x{% endif %}",
    "deep brackets": "{{ a" + "[a" * 5000 + "]" * 5000 + " }}",
    "deep parentheses": "{% if " + "(" * 5000 + "a" + ")" * 5000 + " %}{% endif %}",
    "openings without an end": "{{ " * 60_000,
    "tags without an end": "{% if " * 40_000,
    "a name without an end": "{%" + "a" * 200_000,
    "raw without an end": "{% raw %}" * 20_000,
    "spaces in a tag": "{{-" + " " * 200_000 + "}}",
    "a quote without an end": "{{ '" + "a" * 200_000 + " }}",
    "too long a text": "x" * (rendering.MAX_SOURCE + 1),
    "too long an output": "{% capture a %}" + "x" * 60_000 + "{% endcapture %}" + "{{ a }}" * 10,
    "an include": "{% include 'other' %}",
    "a render": "{% render 'other' %}",
    "a date that is none": "{{ '99999999999999999999' | date: '%Y' }}",
    "half a surrogate pair": "a\ud800b",
}


class Spent:
    """Seconds of this thread and megabytes more at the peak."""

    def __enter__(self) -> "Spent":
        self._memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        self._time = time.thread_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.seconds = time.thread_time() - self._time
        self.megabytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - self._memory) / 1024


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    rendering.parse.cache_clear()


def made(subject: str = "Hello", html: str = "", text: str = "", **contact: Any) -> Rendered:
    """Parse and fill in for a contact who has a first name."""
    who = rendering.fields("anna@people.example", contact.pop("first_name", "Anna"), "", "", contact)
    return rendering.render(rendering.parse(subject, html, text), who)


@pytest.mark.parametrize("where", ["text", "html"])
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_no_time_and_little_memory(name: str, where: str) -> None:
    with Spent() as spent, pytest.raises(NotRenderedError):
        made(**{where: BOMBS[name]})
    assert spent.seconds < SECONDS
    assert spent.megabytes < MEGABYTES


def test_a_text_is_not_blamed_for_the_collection_of_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    def collect(text: str) -> str:
        began = time.thread_time()
        while time.thread_time() - began < 2 * rendering.MAX_SECONDS:
            gc.collect()
        return text

    template = rendering.parse("Hello", "", "{{ first_name | upcase | downcase }}")
    monkeypatch.setitem(template.text.env.filters, "upcase", collect)
    assert rendering.render(template, rendering.fields("anna@people.example", "Anna", "", "", {})).text == "anna"


@pytest.mark.parametrize(
    "html",
    [
        '<p style="margin-top: 99999999em">x</p>' * 5000,
        '<div style="padding-left: 9999em">' * 25 + "<p>x</p>" * 10_000,
        "<table><tr><td>" + "x" * 100_000 + "</td></tr>" + "<tr><td>y</td></tr>" * 5000 + "</table>",
        "<div>" * 30_000 + "x",
        "<ul><li>" * 6000 + "x",
        "<table><tr><td>" * 3000 + "x",
        '<table><tr><td colspan="99999999">x</td></tr></table>',
        "<!-- nothing -->",
        "<p>&nbsp;" + "&nbsp;" * 3000 + "x</p>",
    ],
    ids=["margins", "paddings", "a wide table", "deep", "lists", "tables", "columns", "empty", "hard spaces"],
)
def test_plain_text_is_made_of_any_html_in_no_time_and_little_memory(html: str) -> None:
    with Spent() as spent:
        rendered = made(html=html)
    assert spent.seconds < SECONDS
    assert spent.megabytes < MEGABYTES
    assert rendered.html == html


def test_a_filter_of_a_fault_is_named_before_anything_is_sent() -> None:
    with pytest.raises(NotRenderedError, match=r"plain text uses shout, which is no filter\. Known: abs, append"):
        rendering.parse("Hello", "", "{% if company == 'X' %}{{ first_name | shout }}{% endif %}")


@pytest.mark.parametrize("contact", [{}, {"city": ""}, {"city": " \n"}, {"city": None}])
@pytest.mark.parametrize(
    "wanted", ["{{ city }}", "{{ city | upcase }}", "{{ city | append: '!' }}", "{{ city | strip }}"]
)
def test_a_variable_that_the_contact_lacks_is_named(contact: dict[str, Any], wanted: str) -> None:
    for part in ("html", "text", "subject"):
        with pytest.raises(MissingValueError, match=r"^missing city$") as caught:
            made(**{"html": "<p>x</p>", "text": "x", "subject": "s", part: f"<p>{wanted}</p>"}, **contact)
        assert caught.value.name == "city"
    assert made(text="{{ city | default: 'there' }}", **contact).text == "there"


@pytest.mark.parametrize("contact", [{}, {"city": ""}, {"city": " \n"}, {"city": None}])
@pytest.mark.parametrize(
    "condition", ["city", "city == 'Riga'", "city != blank", "city != ''", "city != nil", "city and true"]
)
def test_a_blank_value_is_none_in_a_condition(contact: dict[str, Any], condition: str) -> None:
    text = "{% if " + condition + " %}in {{ city }}{% else %}nowhere{% endif %}"
    assert made(text=text, **contact).text == "nowhere"
    assert made(text=text, city="Riga").text == "in Riga"


def test_what_a_text_computes_for_itself_may_be_empty() -> None:
    assert made(text="{% assign x = '' %}{% capture y %}{% endcapture %}[{{ x }}{{ y }}]").text == "[]"


def test_the_names_of_all_variables_are_found() -> None:
    texts = rendering.parse("{{ first_name }}", "<p>{% if city %}{{ street }}{% endif %}</p>", "{{ company }}")
    assert rendering.variables(texts) == {"first_name", "city", "street", "company"}


@pytest.mark.parametrize("name", ["self", "args", "kwargs", "partial", "template", "context", "globals"])
def test_a_column_may_have_any_name(name: str) -> None:
    who = rendering.fields("anna@people.example", "Anna", "", "", {name: "mine", "email": "theirs"})
    rendered = rendering.render(rendering.parse("Hello", "", f"{{{{ {name} }}}} {{{{ email }}}}"), who)
    assert rendered.text == "mine anna@people.example"


def test_a_name_is_escaped_in_html_and_nowhere_else() -> None:
    name = '<script>alert("&")</script>'
    rendered = made("Hello {{ first_name }}", '<p title="{{ first_name }}">{{ first_name }}</p>', first_name=name)
    assert rendered.html is not None
    assert "<script" not in rendered.html
    assert rendered.html.count("&lt;script&gt;alert(&#34;&amp;&#34;)") == 2
    assert rendered.subject == f"Hello {name}"
    assert name in rendered.text


@pytest.mark.parametrize("filters", ["safe", "escape_once | safe", "escapejs"])
def test_nothing_takes_the_escaping_away(filters: str) -> None:
    with pytest.raises(NotRenderedError, match="no filter"):
        made(html=f"<p>{{{{ first_name | {filters} }}}}</p>")


@pytest.mark.parametrize(
    "filters", ["url_decode", "escape_once", "newline_to_br", "strip_newlines", "replace: 'x', '<b>'"]
)
def test_filters_give_escaped_html(filters: str) -> None:
    rendered = made(html=f"<p>{{{{ first_name | {filters} }}}}</p>", first_name="<script>%3Cscript%3E&lt;x")
    assert "<script" not in (rendered.html or "")


@pytest.mark.parametrize("break_", ["\r\n", "\n", "\r", "\n\n \t"])
def test_a_line_break_in_a_name_makes_no_header(break_: str) -> None:
    rendered = made("Hello {{ first_name }}", "<p>x</p>", first_name=f"Anna{break_}Bcc: oscar@beta.test")
    assert rendered.subject == "Hello Anna Bcc: oscar@beta.test"
    envelope = Envelope(
        key="k",
        sender="s@alpha.example",
        recipient="anna@people.example",
        subject=rendered.subject,
        text=rendered.text,
        message_id="<1@alpha.example>",
    )
    assert "\n" not in envelope.subject


def test_emoji_and_right_to_left_names_stay_what_they_are() -> None:
    for name in ("👩‍👩‍👧 Ünï", "שרה", "سارة", "李小龍"):
        rendered = made("{{ first_name }}!", "<p>{{ first_name }}</p>", first_name=name)
        assert rendered.subject == f"{name}!"
        assert name in (rendered.html or "")
        assert name in rendered.text


def test_a_subject_that_comes_out_empty_is_refused() -> None:
    with pytest.raises(NotRenderedError, match="subject is empty"):
        made("{% if first_name == 'Bob' %}Hello{% endif %} ", text="x")


def test_plain_text_keeps_the_liquid_of_the_html() -> None:
    html = """<html><head><style>p { color: red }</style></head><body>
      <div style="display:none">preheader</div>
      <table>{% if city == "Riga" %}<tr><td>In</td><td>{{ city | upcase }}</td></tr>
      {% else %}<tr><td>Out</td></tr>{% endif %}</table>
      <p>Dear {{ first_name | default: "<friend>" }},
      <a href="https://x.example/?e={{ email | url_encode }}">look</a></p>
      {% if 1 < 2 %}<p>yes</p>{% endif %}
    </body></html>"""
    riga = made(html=html, city="Riga").text
    assert "In RIGA" in riga
    assert "Out" not in riga
    assert "Dear Anna, [look](https://x.example/?e=anna%40people.example)" in riga
    assert "yes" in riga
    assert "preheader" not in riga
    assert "color" not in riga
    other = made(html=html, city="Oslo", first_name="").text
    assert "Out" in other
    assert "In " not in other
    assert "Dear <friend>," in other


def test_a_text_of_its_own_is_taken_as_it_is() -> None:
    rendered = made(html="<p>x</p>", text="  Hi {{ first_name }}\n\n-- \nus")
    assert rendered.text == "  Hi Anna\n\n-- \nus"
    assert rendered.html == "<p>x</p>"


@pytest.mark.parametrize("attributes", [None, [], ["a"], "text", 3])
def test_attributes_that_are_no_table_of_names_count_as_none(attributes: Any) -> None:
    assert rendering.fields("a@b.example", "A", "", "", attributes)["first_name"] == "A"


@settings(max_examples=150, deadline=None)
@given(
    st.text(alphabet="{}%-| '\"<>abc.()[]:=,0\n", max_size=120),
    st.text(max_size=40),
)
def test_any_text_is_rendered_or_refused_and_nothing_else(source: str, name: str) -> None:
    try:
        rendered = made(text=source or "x", html=f"<p>{source}</p>", first_name=name)
    except NotRenderedError:
        return
    assert "\n" not in rendered.subject
