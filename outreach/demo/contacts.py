"""The demo's contact file: plausible people, and bad rows of ten kinds spread among them."""

import csv
import random
from collections.abc import Iterator
from itertools import count
from pathlib import Path

HEADER = ["email", "first_name", "last_name", "company", "city"]

_FIRST = """
    Alice Amelia Arthur Ben Clara Daniel Edith Emma Felix Grace Hannah Henry Ivy Jack James Julia Laura Leo
    Lucy Maria Martin Nora Oliver Oscar Paula Peter Rose Ruth Samuel Sophie Thomas Victor
    """.split()  # noqa: SIM905 - a list of quoted words would take a page
_LAST = """
    Adler Baker Bishop Brooks Carter Clarke Cooper Doyle Ellis Fisher Foster Grant Hayes Hughes Irving Keller
    Lambert Mason Meyer Morgan Palmer Porter Quinn Reed Sawyer Shaw Turner Wagner Walsh Webb
    """.split()  # noqa: SIM905 - as above
_CITIES = ["Berlin", "London", "Dublin", "Vienna", "Zürich", "Prague", "Riga", "New York", "Toronto", "Lisbon"]
# Written in both alphabets, because an address is ASCII: (name, in the address).
_FIRST_RU = [("Анна", "anna"), ("Борис", "boris"), ("Вера", "vera"), ("Глеб", "gleb"), ("Елена", "elena")]
_FIRST_RU += [("Иван", "ivan"), ("Мария", "maria"), ("Олег", "oleg"), ("Пётр", "petr"), ("Юлия", "yulia")]
_LAST_RU = [("Беляк", "belyak"), ("Зима", "zima"), ("Коваль", "koval"), ("Лебедь", "lebed"), ("Мороз", "moroz")]
_LAST_RU += [("Гончар", "gonchar"), ("Соловей", "solovey"), ("Шевчук", "shevchuk"), ("Ткач", "tkach")]
_CITIES_RU = ["Москва", "Казань", "Самара", "Тула", "Пермь", "Томск"]
_TRADES = ["Logistics", "Foods", "Textiles", "Software", "Optics", "Timber", "Press", "Motors", "Travel", "Energy"]
_PLACES = ["North", "Harbor", "Green", "Silver", "Alpine", "River", "Summit", "Amber", "Baltic", "Prime", "Urban"]

# Every way in which the demo's bad rows are bad, as verdicts of `campaigns.validation` and `campaigns.intake`.
KINDS = (
    "no_address",
    "bad_syntax",
    "bad_domain",
    "disposable",
    "role",
    "duplicate",
    "bad_text",
    "too_long",
    "formula",
    "bad_columns",
)


def write_contacts(path: Path, *, rows: int = 1200, bad: int = 60, seed: int = 0) -> None:
    """Write a CSV of so many rows, of which so many are bad, evenly in ten ways. Same seed, same file.

    Good rows have addresses of their own, under `.example`. Raises ValueError when the ways come out uneven.
    """
    if bad % len(KINDS) or rows < 2 * bad + 2:
        raise ValueError(f"bad must be a multiple of {len(KINDS)} and less than half of rows")
    chance = random.Random(seed)  # noqa: S311 - plausible, not secret
    people = _people(chance)
    # The first two rows are good, so that a duplicate always has something to repeat.
    places = dict(zip(sorted(chance.sample(range(2, rows), bad)), list(KINDS) * (bad // len(KINDS)), strict=True))
    with path.open("w", encoding="utf-8", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(HEADER)
        good: list[str] = []
        for place in range(rows):
            person = next(people)
            if place in places:
                person = _spoilt(person, places[place], good, chance)
            else:
                good = person
            writer.writerow(person)


def _people(chance: random.Random) -> Iterator[list[str]]:
    seen: set[str] = set()
    for number in count(1):
        place, trade = chance.choice(_PLACES), chance.choice(_TRADES)
        if chance.random() < 0.2:
            (first, first_ascii), (last, last_ascii) = chance.choice(_FIRST_RU), chance.choice(_LAST_RU)
            city = chance.choice(_CITIES_RU)
        else:
            first, last, city = chance.choice(_FIRST), chance.choice(_LAST), chance.choice(_CITIES)
            first_ascii, last_ascii = first.lower(), last.lower()
        local = f"{first_ascii}.{last_ascii}"
        domain = f"{place}-{trade}.example".lower()
        email = f"{local}@{domain}" if f"{local}@{domain}" not in seen else f"{local}{number}@{domain}"
        seen.add(email)
        yield [email, first, last, f"{place} {trade}", city]


def _spoilt(person: list[str], kind: str, good: list[str], chance: random.Random) -> list[str]:
    """The person's row, bad in one way and good in every other."""
    email, first, last, company, city = person
    local, _at, domain = email.partition("@")
    match kind:
        case "no_address":
            email = ""
        case "bad_syntax":
            email = chance.choice([f"{local} at {domain}", f"{local}@@{domain}", local])
        case "bad_domain":
            email = f"{local}@{chance.choice(['localhost', 'company', 'nowhere.invalid'])}"
        case "disposable":
            email = f"{local}@mailinator.com"
        case "role":
            email = f"{chance.choice(['info', 'sales', 'support', 'zakaz'])}@{domain}"
        case "duplicate":
            return [good[0].upper(), *good[1:]]
        case "bad_text":
            first = f"{first}\nBcc: everybody@{domain}"
        case "too_long":
            company = f"{company} " * 20
        case "formula":
            first = f'=HYPERLINK("https://{domain}","{first}")'
        case "bad_columns":
            return [*person, "left over"]
    return [email, first, last, company, city]
