"""The Russian catalogue: whole, in step with the texts, and compiled as it is committed."""

import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import pytest
from babel.messages.catalog import Catalog, Message
from babel.messages.mofile import read_mo, write_mo
from babel.messages.pofile import read_po
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext, ngettext

from tenants import context
from tenants.models import Agency
from tenants.users.models import User
from tests.visitor import Visitor, at, body

RUSSIAN = Path(settings.LOCALE_PATHS[0]) / "ru" / "LC_MESSAGES"
SOURCES = ("analytics", "campaigns", "outreach", "providers", "tenants", "templates")
PLACEHOLDERS = re.compile(r"%\(\w+\)[-#0 +.\d]*[a-z]|%s|\{\w*\}|%%")
# Nothing to translate: names, and what the web itself calls so.
SAME = {"HTML", "Polza Outreach"}


def catalogue(path: Path) -> Catalog:
    with path.open("rb") as file:
        return read_po(file, locale="ru")


@pytest.fixture(scope="module")
def russian() -> Catalog:
    return catalogue(RUSSIAN / "django.po")


def texts(found: Catalog) -> Iterator[Message]:
    return (message for message in found if message.id)


def key(message: Message) -> tuple[str | None, str]:
    return message.context, message.id if isinstance(message.id, str) else message.id[0]


def forms(message: Message) -> list[str]:
    return [message.string] if isinstance(message.string, str) else list(message.string)


def compiled(file: BinaryIO) -> dict[tuple[str | None, str], list[str]]:
    return {key(one): forms(one) for one in texts(read_mo(file))}


def test_every_text_is_translated_and_none_is_a_guess(russian: Catalog) -> None:
    assert [key(one) for one in texts(russian) if one.fuzzy or not all(forms(one))] == []


def test_every_plural_has_all_its_russian_forms(russian: Catalog) -> None:
    plural = [one for one in texts(russian) if not isinstance(one.id, str)]

    assert russian.num_plurals == 4
    assert plural
    assert [key(one) for one in plural if len(forms(one)) != 4] == []


def test_a_translation_has_the_placeholders_of_its_text(russian: Catalog) -> None:
    wrong = [
        (key(one), form)
        for one in texts(russian)
        for form in forms(one)
        if sorted(PLACEHOLDERS.findall(key(one)[1])) != sorted(PLACEHOLDERS.findall(form))
    ]

    assert wrong == []


def test_a_translation_is_russian(russian: Catalog) -> None:
    """A text that has letters is written in Cyrillic ones, with Russian quotation marks."""
    words = [one for one in texts(russian) if key(one)[1] not in SAME]
    latin = [
        key(one)
        for one in words
        for form in forms(one)
        if re.search(r"[a-z]", PLACEHOLDERS.sub("", key(one)[1]))
        and not re.search(r"[а-яё]", PLACEHOLDERS.sub("", form), re.I)
    ]

    assert [one for one in latin if one[1] != "%(first)s–%(last)s of %(total)s"] == []
    assert [key(one) for one in words for form in forms(one) if set("“”„") & set(form)] == []


def test_what_is_compiled_is_what_is_written(russian: Catalog) -> None:
    written = io.BytesIO()
    write_mo(written, russian)
    written.seek(0)

    with (RUSSIAN / "django.mo").open("rb") as committed:
        assert compiled(committed) == compiled(written), "run `make messages`"


@pytest.mark.skipif(shutil.which("xgettext") is None, reason="gathering texts needs gettext")
def test_the_catalogue_has_exactly_the_texts_of_the_pages_and_the_code(russian: Catalog, tmp_path: Path) -> None:
    # In a copy, because makemessages writes beside the files that it reads.
    for name in SOURCES:
        shutil.copytree(
            settings.BASE_DIR / name, tmp_path / name, ignore=shutil.ignore_patterns("locale", "__pycache__")
        )
    (tmp_path / "locale").mkdir()
    environment = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-m", "django", "makemessages", "-l", "ru", "--no-location"]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True, timeout=60)

    found = {key(one) for one in texts(catalogue(tmp_path / "locale" / "ru" / "LC_MESSAGES" / "django.po"))}
    known = {key(one) for one in texts(russian)}
    assert (found - known, known - found) == (set(), set()), "run `make messages` and translate what is new"


@pytest.mark.parametrize(("count", "expected"), [(1, "1 письмо"), (3, "3 письма"), (11, "11 писем"), (21, "21 письмо")])
def test_russian_counts_as_it_is_spoken(count: int, expected: str) -> None:
    one, many = (f"“%(name)s” is running: %(count)d {word} queued." for word in ("mail is", "mails are"))

    with translation.override("ru"):
        said = ngettext(one, many, count) % {"name": "Весна", "count": count}

    assert said == f"Кампания «Весна» запущена: в очереди {expected}."


@pytest.mark.parametrize("word", ["Log in", "Type to search", "Sign Out", "Add another %(verbose_name)s"])
def test_the_words_of_the_packages_that_make_our_pages_are_russian_too(word: str) -> None:
    with translation.override("ru"):
        assert gettext(word) != word


class TestTheLanguageOfAPage:
    """Chosen, else the agency's, else what the browser asks for."""

    @pytest.fixture
    def in_russian(self, alpha: Agency, beta: Agency) -> Agency:
        with context.public():
            Agency.objects.filter(pk=alpha.pk).update(language="ru")
        return alpha

    def test_an_agency_speaks_its_language_to_whoever_has_chosen_none(
        self, in_russian: Agency, beta: Agency, carol: User
    ) -> None:
        asking = {"accept-language": "en"}

        assert '<html lang="ru"' in body(at(in_russian, carol).get("/", headers=asking))
        assert '<html lang="en"' in body(at(beta).get("/accounts/login/", headers={"accept-language": "ru"}))

    def test_a_visitors_choice_comes_first(self, in_russian: Agency, carol: User) -> None:
        visitor = at(in_russian, carol)
        visitor.post("/i18n/setlang/", {"language": "en", "next": "/"})

        assert '<html lang="en"' in body(visitor.get("/"))

    def test_a_choice_that_does_not_exist_is_none(self, in_russian: Agency) -> None:
        visitor = at(in_russian)
        visitor.cookies["django_language"] = "xx"

        assert '<html lang="ru"' in body(visitor.get("/accounts/login/"))

    @pytest.mark.parametrize(("asked", "title"), [("ru", "Войти"), ("en", "Log in")])
    def test_the_operators_site_follows_the_browser(self, beta: Agency, asked: str, title: str) -> None:
        assert title in body(Visitor("localhost").get("/admin/login/", headers={"accept-language": asked}))
