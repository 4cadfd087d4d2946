"""Pure: which column of a contact file is which field of a contact."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

MOST_COLUMNS = 200
LONGEST_ATTRIBUTE = 2_000
LONGEST_KEY = 60
# What spreadsheets and web pages leave around a value; it is dropped, not refused.
AROUND = " \t\u00a0\u200b\u200c\u200d\u2060\ufeff"
# The fields of Contact and what people call them. The widths are the model's.
NAMES = {"first_name": 120, "last_name": 120, "company": 200}
_WORDS = {
    "email": "email|email_address|e_mail|e_mail_address|mail|почта|эл_почта|электронная_почта|емейл|имейл"
    "|адрес_электронной_почты|email_адрес|e_mail_адрес|адрес_email",
    "first_name": "first_name|firstname|given_name|forename|имя",
    "last_name": "last_name|lastname|surname|family_name|фамилия",
    "company": "company|company_name|organization|organisation|компания|организация|название_компании",
}
_FIELDS = {word: field for field, words in _WORDS.items() for word in words.split("|")}
# Taken for the address only where no better column is: they may be a street.
_PERHAPS_EMAIL = {"address", "адрес"}
# Words that a template would read as its own.
_TAKEN = {
    "and",
    "or",
    "not",
    "in",
    "is",
    "contains",
    "true",
    "false",
    "nil",
    "null",
    "none",
    "blank",
    "empty",
    *NAMES,
    "email",
}


class HeaderProblem(ValueError):
    """No contact can be read with this header; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Columns:
    """The header, understood. `keys` names every column; `names` and `attributes` say where to look."""

    header: tuple[str, ...]
    keys: tuple[str, ...]
    limits: tuple[int, ...]
    email: int
    names: tuple[int | None, ...]
    attributes: tuple[tuple[str, int], ...]

    def repeats(self, cells: list[str]) -> bool:
        """Whether a row is the header line again, in any case of letters."""
        return all(cell.casefold() == name for cell, name in zip(cells, self.header, strict=True))


def columns_of(header: list[str]) -> Columns:
    """Understand a header. Columns that are no field become attributes under keys that a template can name.

    Raises HeaderProblem where there is no address column, or two, or too many columns.
    """
    if len(header) > MOST_COLUMNS:
        raise HeaderProblem(
            _("The header has %(count)d columns; at most %(most)d are taken. Delete those that no mail uses.")
            % {"count": len(header), "most": MOST_COLUMNS}
        )
    words = [key_of(cell) for cell in header]
    email = _email_column(header, words)
    keys = _keys(words, email)
    return Columns(
        header=tuple(cell.strip(AROUND).casefold() for cell in header),
        keys=tuple(keys),
        limits=tuple(NAMES.get(key, LONGEST_ATTRIBUTE) for key in keys),
        email=email,
        names=tuple(keys.index(name) if name in keys else None for name in NAMES),
        attributes=tuple((key, place) for place, key in enumerate(keys) if key != "email" and key not in NAMES),
    )


def excess(attributes: Mapping[str, Any]) -> str:
    """Why these are more than one contact may have beside its fields; empty where they are not."""
    if len(attributes) > MOST_COLUMNS:
        return too_many()
    for name, value in attributes.items():
        if len(name) > LONGEST_ATTRIBUTE or len(str(value)) > LONGEST_ATTRIBUTE:
            return _("“%(name)s…” is longer than %(most)d characters.") % {"name": name[:20], "most": LONGEST_ATTRIBUTE}
    return ""


def too_many() -> str:
    """That a contact would have more fields than a file may have columns."""
    return _("A contact has at most %(most)d fields of its own.") % {"most": MOST_COLUMNS}


def key_of(cell: str) -> str:
    """The name of a column as a key: small letters, digits and underscores; empty when nothing is left."""
    plain = unicodedata.normalize("NFKC", cell).casefold()
    key = re.sub(r"[\W_]+", "_", plain).strip("_")[:LONGEST_KEY].strip("_")
    return f"n_{key}" if key[:1].isdigit() else key


def quoted(names: Iterable[str]) -> str:
    """Names in a sentence, in the quotation marks of its language."""
    return ", ".join(_("“%(name)s”") % {"name": name} for name in names)


def _email_column(header: list[str], words: list[str]) -> int:
    found = [place for place, word in enumerate(words) if _FIELDS.get(word) == "email"]
    found = found or [place for place, word in enumerate(words) if word in _PERHAPS_EMAIL]
    if len(found) == 1:
        return found[0]
    if found:
        named = quoted(header[place].strip() for place in found)
        raise HeaderProblem(
            _("Several columns could be the address: %(columns)s. Name only one of them “email”.") % {"columns": named}
        )
    if any("@" in cell for cell in header):
        raise HeaderProblem(
            _(
                "The first line must name the columns, but it is a contact already. Put a line such as"
                " “email,first_name” above it."
            )
        )
    seen = quoted(cell.strip()[:40] for cell in header[:10])
    raise HeaderProblem(
        _("No column is named “email”; the header has %(columns)s. Rename the address column.") % {"columns": seen}
    )


def _keys(words: list[str], email: int) -> list[str]:
    keys: list[str] = []
    for place, word in enumerate(words):
        field = _FIELDS.get(word)
        if place == email:
            keys.append("email")
        elif field in NAMES and field not in keys:
            keys.append(field)
        else:
            keys.append(_free(word or f"column_{place + 1}", {*keys, *_TAKEN}))
    return keys


def _free(word: str, taken: set[str]) -> str:
    if word not in taken:
        return word
    number = 2
    while f"{word}_{number}" in taken:
        number += 1
    return f"{word}_{number}"
