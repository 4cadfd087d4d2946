"""`{a|b|c}`: the same choice for the same mail, whenever it is made, and nothing lost on the way."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from campaigns import rendering, spintax
from campaigns.rendering import NotRenderedError, Rendered


@pytest.fixture(autouse=True)
def nothing_remembered() -> Iterator[None]:
    yield
    rendering.parse.cache_clear()


def made(
    text: str = "x", seed: bytes | None = b"1", subject: str = "Hello", html: str = "", **contact: Any
) -> Rendered:
    who = rendering.fields("anna@people.example", "Anna", "", "", contact)
    filled = {**who, spintax.SEED: seed} if seed is not None else who
    return rendering.render(rendering.parse(subject, html, text), filled)


def all_of(text: str, **contact: Any) -> set[str]:
    return {made(text, bytes([number]), **contact).text for number in range(200)}


def test_each_option_comes_and_is_kept_by_its_seed() -> None:
    assert all_of("{a|b|c}!") == {"a!", "b!", "c!"}
    assert {made("{a|b|c}" * 20, b"7").text for _ in range(5)} == {made("{a|b|c}" * 20, b"7").text}


def test_groups_may_be_in_each_other_and_empty() -> None:
    assert all_of("{a|{b|c} d|}.") == {"a.", "b d.", "c d.", "."}


def test_liquid_lives_in_the_options_and_around_them() -> None:
    assert all_of("{Hi|Dear} {{ first_name }}{, in {{ city }}|}{% if city %}{!|.}{% endif %}", city="Riga") == {
        f"{hi} Anna{where}{mark}" for hi in ("Hi", "Dear") for where in (", in Riga", "") for mark in "!."
    }


def test_a_bar_in_liquid_is_a_filter() -> None:
    assert made("{{ city | default: 'x' | upcase }}{% assign a = 'b|c' | upcase %}{{ a }}").text == "XB|C"


def test_an_option_that_is_not_chosen_may_lack_its_value() -> None:
    found = set()
    for number in range(50):
        try:
            found.add(made("{Hello|Hello {{ city }}}", bytes([number])).text)
        except rendering.MissingValueError:
            found.add("missing")
    assert found == {"Hello", "missing"}


def test_braces_without_a_bar_and_escaped_ones_are_letters() -> None:
    assert made("a { b } c | d").text == "a { b } c | d"
    assert made(r"\{a\|b\} {c\|d|c\|d} \n").text == r"{a|b} c|d \n"
    style = "<style>@media print{p{color:red}} a[x|=y]{z|w}</style><!--[if {mso|IE}]>{a|b}<![endif]--><p>{x|x}</p>"
    assert made(html=style).html == style.replace("{x|x}", "x")


def test_the_plain_text_chooses_what_the_html_chose() -> None:
    for number in range(20):
        rendered = made("", bytes([number]), html="<p>{red|green|blue} {a|b} <b>{x|y}</b></p>")
        assert rendered.html is not None
        assert rendered.text.strip() == rendered.html.replace("<p>", "").replace("</p>", "").replace("<b>", "").replace(
            "</b>", ""
        )


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{a|b", "never closed"),
        ("{ " * 6 + "a|b" + "|c}" * 6, "deep in each other"),
        ("{a|b}" * 301, "more than 300 groups"),
        ("{" + "a|" * 50 + "b}", "more than 50 options"),
        ("{a{% if first_name %}|b}{% endif %}", "not valid"),
        ("{% polza_spin 1 %}a{% endpolza_spin %}", "not offered"),
        ("{a{% polza_or %}b|c}", "not offered"),
    ],
)
def test_what_is_no_group_or_too_much_is_refused(text: str, why: str) -> None:
    with pytest.raises(NotRenderedError, match=why):
        made(text)


def test_a_contact_cannot_choose_or_write_groups() -> None:
    assert made("{{ city }}", city="{a|b}").text == "{a|b}"
    assert made("{{ city }}", city="{% polza_or %}").text == "{% polza_or %}"


TREES = st.recursive(
    st.text(alphabet="ab{}|\\ é\n", max_size=8),
    lambda inner: st.lists(st.lists(inner, max_size=3), min_size=2, max_size=4),
    max_leaves=12,
)


def written(tree: Any) -> str:
    if isinstance(tree, str):
        # With a space, for two braces are Liquid's.
        text = tree.replace("\\", "").replace("{", "{ ")
        return "".join(f"\\{letter}" if letter in "{|}" else letter for letter in text)
    return "{" + "|".join(" " + "".join(map(written, option)) for option in tree) + "}"


def possible(tree: Any) -> set[str]:
    if isinstance(tree, str):
        return {tree.replace("\\", "").replace("{", "{ ")}
    found = set()
    for option in tree:
        texts = {" "}
        for part in option:
            texts = {before + after for before in texts for after in possible(part)}
        found |= texts
    return found


def depth(tree: Any) -> int:
    return 0 if isinstance(tree, str) else 1 + max((depth(part) for option in tree for part in option), default=0)


@settings(max_examples=150, deadline=None)
@given(TREES, st.binary(min_size=1, max_size=16))
def test_a_mail_shows_one_of_what_is_written_and_always_the_same(tree: Any, seed: bytes) -> None:
    if depth(tree) > spintax.DEEPEST:
        with pytest.raises(NotRenderedError, match="deep"):
            made(f"[{written(tree)}]", seed)
        return
    shown = made(f"[{written(tree)}]", seed).text
    assert shown[1:-1] in possible(tree)
    rendering.parse.cache_clear()
    assert made(f"[{written(tree)}]", seed).text == shown


@given(st.binary(min_size=1, max_size=64), st.integers(0, 2_000_000), st.integers(1, 50))
def test_a_choice_is_one_of_the_options(seed: bytes, group: int, options: int) -> None:
    assert 0 <= spintax.chosen(seed, group, options) < options
