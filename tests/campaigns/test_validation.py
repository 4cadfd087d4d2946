"""What becomes of one row, without a database."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from campaigns.contact_columns import MOST_COLUMNS, HeaderProblem, columns_of, key_of
from campaigns.models import Verdict
from campaigns.validation import Person, Refusal, is_formula, judge, judge_address, shown

COLUMNS = columns_of(["E-mail", "Имя", "Last Name", "Company", "City"])


def row(email="ann@host.example", first="Ann", last="Lee", company="Acme", city="Oslo"):
    return judge([email, first, last, company, city], COLUMNS)


def test_a_good_row_becomes_a_person_without_the_space_around_its_values():
    assert row(" Ann.Lee@HOST.Example\u00a0", " Ann ", "O’Neil") == Person(
        "Ann.Lee@host.example", "host.example", "Ann", "O’Neil", "Acme", {"city": "Oslo"}
    )


@pytest.mark.parametrize(
    ("email", "verdict"),
    [
        ("", Verdict.NO_ADDRESS),
        (" \u200b", Verdict.NO_ADDRESS),
        ("ann", Verdict.BAD_SYNTAX),
        ("@host.example", Verdict.BAD_SYNTAX),
        ("ann@", Verdict.BAD_SYNTAX),
        ("ann@@host.example", Verdict.BAD_SYNTAX),
        ("an n@host.example", Verdict.BAD_SYNTAX),
        ("ann@ho st.example", Verdict.BAD_SYNTAX),
        ("ann@host..example", Verdict.BAD_SYNTAX),
        (".ann@host.example", Verdict.BAD_SYNTAX),
        ("ann.@host.example", Verdict.BAD_SYNTAX),
        ("ann,bob@host.example", Verdict.BAD_SYNTAX),
        ("ann@host.example, bob@host.example", Verdict.BAD_SYNTAX),
        ("Ann <ann@host.example>", Verdict.BAD_SYNTAX),
        ('"ann lee"@host.example', Verdict.BAD_SYNTAX),
        ("анна@host.example", Verdict.BAD_SYNTAX),
        ("ann@[127.0.0.1]", Verdict.BAD_SYNTAX),
        ("ann@localhost", Verdict.BAD_DOMAIN),
        ("ann@mail.localhost", Verdict.BAD_DOMAIN),
        ("ann@host.invalid", Verdict.BAD_DOMAIN),
        ("ann@office.local", Verdict.BAD_DOMAIN),
        ("ann@127.0.0.1", Verdict.BAD_DOMAIN),
        ("ann@-host.example", Verdict.BAD_DOMAIN),
        ("ann@ab--c.example", Verdict.BAD_DOMAIN),
        (f"ann@{'h' * 64}.example", Verdict.BAD_DOMAIN),
        ("ann@mailinator.com", Verdict.DISPOSABLE),
        ("ann@mx.mailinator.com", Verdict.DISPOSABLE),
        ("Info@host.example", Verdict.ROLE),
        ("sales+web@host.example", Verdict.ROLE),
        ("no-reply@host.example", Verdict.ROLE),
        ("zakaz@host.example", Verdict.ROLE),
        (f"{'a' * 65}@host.example", Verdict.TOO_LONG),
        (f"ann@{'host.' * 51}example", Verdict.TOO_LONG),
        ("=1+1@host.example", Verdict.FORMULA),
    ],
)
def test_it_refuses_an_address_and_says_why(email, verdict):
    refused = row(email)
    assert isinstance(refused, Refusal)
    assert refused.verdict == verdict
    assert refused.said


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("ann@host.test", "ann@host.test"),
        ("ann+tag@sub.host.example", "ann+tag@sub.host.example"),
        ("o'neil_1@host.co.uk", "o'neil_1@host.co.uk"),
        ("anna@почта.рф", "anna@xn--80a1acny.xn--p1ai"),
        ("ann@Bücher.example", "ann@xn--bcher-kva.example"),
        (f"{'a' * 64}@host.example", f"{'a' * 64}@host.example"),
    ],
)
def test_it_takes_every_address_that_mail_can_reach(written, address):
    assert judge_address(written) == (address, address.rpartition("@")[2])


def test_it_says_what_letters_before_the_at_sign_would_need():
    refused = judge_address("анна@host.example")
    assert isinstance(refused, Refusal)
    assert "SMTPUTF8" in refused.said


@pytest.mark.parametrize("text", ["Ann\nBcc: x@y.example", "Ann\r\nX: 1", "Ann\u2028", "Ann\x85", "Ann\x0b"])
def test_a_line_break_in_any_field_is_refused_and_named(text):
    for field in ("first", "last", "company", "city", "email"):
        refused = row(**{field: text})
        assert refused.verdict == Verdict.BAD_TEXT
        assert "line break" in refused.said


@pytest.mark.parametrize("text", ["A\x00nn", "A\x1bnn", "Ann\udce9", "\ud83d", "\u202eknA"])
def test_characters_that_do_no_good_are_refused(text):
    refused = row(first=text)
    assert refused.verdict == Verdict.BAD_TEXT
    assert "first_name" in refused.said


@pytest.mark.parametrize(
    "text", ["=1+1", "=cmd|' /C calc'!A0", "+1+cmd|x", "-2+3+A1", "@SUM(A1)", "＝1", "＋A1", "＠x(1)"]
)
def test_a_formula_is_refused_in_every_field(text):
    for field in ("first", "last", "company", "city"):
        assert row(**{field: text}).verdict == Verdict.FORMULA


@pytest.mark.parametrize(
    "text", ["+49 30 123-45", "+7 (495) 123-45-67", "-", "-5", "-0,5", "@ann_lee", "A=B", "", "Ann"]
)
def test_phone_numbers_and_handles_are_no_formulas(text):
    assert not is_formula(text)


def test_it_refuses_a_row_with_more_or_fewer_columns_than_the_header():
    assert judge(["ann@host.example", "Ann"], COLUMNS).verdict == Verdict.BAD_COLUMNS
    more = judge(["ann@host.example", "Ann", "Lee", "Acme", "Oslo", "x"], COLUMNS)
    assert (more.verdict, more.email) == (Verdict.BAD_COLUMNS, "ann@host.example")
    assert "6" in more.said
    assert "5" in more.said


def test_a_separator_too_many_at_the_end_is_nothing():
    assert isinstance(judge(["ann@host.example", "Ann", "Lee", "Acme", "Oslo", "", ""], COLUMNS), Person)


def test_it_refuses_the_header_line_again_in_any_case():
    assert judge(["E-MAIL", "имя", "last name", "Company", "City"], COLUMNS).verdict == Verdict.HEADER_AGAIN
    assert judge(["E-MAIL", "Ann", "last name", "Company", "City"], COLUMNS).verdict == Verdict.BAD_SYNTAX


@pytest.mark.parametrize(("field", "length"), [("first", 121), ("last", 121), ("company", 201), ("city", 2001)])
def test_a_field_has_a_longest_length(field, length):
    assert isinstance(row(**{field: "x" * (length - 1)}), Person)
    refused = row(**{field: "x" * length})
    assert refused.verdict == Verdict.TOO_LONG
    assert str(length) in refused.said


@pytest.mark.parametrize(
    "name", ["email", "E-Mail", "MAIL", "Почта", "Электронная почта", "\ufeffEmail", "Адрес", "Address"]
)
def test_it_finds_the_address_column_under_its_usual_names(name):
    assert columns_of(["Name", name]).email == 1


def test_a_street_beside_the_email_is_only_a_street():
    columns = columns_of(["address", "email"])
    assert (columns.email, columns.keys) == (1, ("address", "email"))


def test_other_columns_get_keys_that_a_template_can_name():
    header = ["email", "Job Title!", "Город", "2nd phone", "", "Job title", "email_2", "true", "first_name", "имя"]
    keys = columns_of(header).keys
    assert keys == (
        "email",
        *("job_title", "город", "n_2nd_phone", "column_5", "job_title_2", "email_2", "true_2"),
        *("first_name", "имя"),
    )


def test_a_template_can_name_every_key():
    from liquid import Environment

    for cell in ["Job Title!", "Город", "2nd phone", "true", "Straße №5", "a-b", "é"]:
        key = columns_of(["email", cell]).keys[1]
        assert Environment().from_string("{{ " + key + " }}").render(**{key: "seen"}) == "seen"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (["name", "phone"], "“name”, “phone”"),
        (["email", "e-mail"], "“email”, “e-mail”"),
        (["ann@host.example", "Ann"], "contact already"),
        (["email", *(f"c{n}" for n in range(MOST_COLUMNS))], str(MOST_COLUMNS + 1)),
    ],
)
def test_a_header_that_cannot_be_used_says_what_to_do(header, words):
    with pytest.raises(HeaderProblem, match=r"\.$") as problem:
        columns_of(header)
    assert words in str(problem.value)


anything = st.text(st.characters(exclude_categories=[]), max_size=40)
nearly_an_address = st.from_regex(r"\A[\w.+'\"<=-]{0,9}@?[\w.-]{0,9}(\.(com|рф|example|invalid))?\s?\Z")


@given(st.lists(anything | nearly_an_address, max_size=7))
def test_no_row_breaks_it_and_the_verdict_is_always_the_same(cells):
    found = judge(list(cells), COLUMNS)
    assert found == judge(list(cells), COLUMNS)
    refused = isinstance(found, Refusal)
    for text in [found.said, found.email] if refused else [*found[:5], *found.attributes.values()]:
        assert "\x00" not in text
        text.encode()


@given(anything | nearly_an_address)
def test_what_it_accepts_can_be_written_into_a_header(text):
    found = row(email=text)
    if isinstance(found, Person):
        assert found.email.isascii()
        assert found.email.count("@") == 1
        assert not set(found.email) & set('\r\n,;<> \t"\x00')
        assert len(found.email) <= 254
        assert judge_address(found.email) == (found.email, found.domain)


@given(anything)
def test_keys_are_words(text):
    key = key_of(text)
    assert key == "" or (key.isidentifier() or key.replace("_", "a").isalnum())
    assert key_of(key) == key


@given(anything)
def test_what_is_shown_can_be_stored(text):
    assert "\x00" not in shown(text)
    shown(text).encode()


@given(st.lists(anything, max_size=12))
def test_no_header_breaks_it(header):
    try:
        columns = columns_of(["email", *header])
    except HeaderProblem:
        return
    assert len(set(columns.keys)) == len(columns.keys) == len(header) + 1
