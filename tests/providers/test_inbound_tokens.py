"""The signed envelope sender: a bounce names its message even when it quotes nothing."""

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.senders.inbound import tokens

OLD, NEW = b"old key" * 5, b"new key" * 5
MESSAGE = uuid.UUID("7c3e1f00-1111-4222-8333-444455556666")


@given(agency=st.integers(1, 2**32 - 1), message=st.uuids())
def test_a_token_names_its_agency_and_message(agency: int, message: uuid.UUID) -> None:
    local = tokens.make(agency, message, keys=[NEW])
    assert len(local) <= 64
    assert tokens.read(f"{local}@sender.test", keys=[NEW]) == tokens.Named(agency, message)


def test_servers_that_change_the_case_do_no_harm() -> None:
    local = tokens.make(7, MESSAGE, keys=[NEW])
    assert tokens.read(f"<{local.upper()}@SENDER.TEST>", keys=[NEW]) == tokens.Named(7, MESSAGE)


def test_a_key_is_rotated_without_losing_what_is_under_way() -> None:
    local = tokens.make(7, MESSAGE, keys=[OLD])
    assert tokens.read(f"{local}@sender.test", keys=[NEW, OLD]) == tokens.Named(7, MESSAGE)
    assert tokens.read(f"{local}@sender.test", keys=[NEW]) is None
    assert tokens.make(7, MESSAGE, keys=[NEW, OLD]) != local


@given(place=st.integers(2, 49), letter=st.sampled_from("abcdefghijklmnopqrstuvwxyz234567"))
def test_a_changed_token_names_nothing(place: int, letter: str) -> None:
    local = tokens.make(7, MESSAGE, keys=[NEW])
    changed = local[:place] + letter + local[place + 1 :]
    assert (tokens.read(f"{changed}@sender.test", keys=[NEW]) is None) == (changed != local)


def test_a_token_for_one_purpose_is_none_for_another() -> None:
    local = tokens.make(7, MESSAGE, keys=[NEW], prefix="b")
    assert tokens.read(f"r{local[1:]}@sender.test", keys=[NEW], prefix="r") is None


@given(st.text())
def test_any_other_address_names_nothing(text: str) -> None:
    assert tokens.read(text, keys=[NEW]) is None


def test_a_token_without_key_or_agency_is_refused() -> None:
    with pytest.raises(ValueError, match="key"):
        tokens.make(7, MESSAGE, keys=[])
    with pytest.raises(ValueError, match="agency"):
        tokens.make(0, MESSAGE, keys=[NEW])
