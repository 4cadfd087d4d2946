"""A contact file, CSV or XLSX, as a header and rows of text, in bounded memory.

The encoding is the mark at the start (UTF-8, UTF-16), or else UTF-8. Where bytes are not UTF-8, the whole
file decides: with more good characters than bad bytes it is damaged UTF-8, and its bad rows are refused one
by one; otherwise it is a Windows code page: Cyrillic letters stand side by side (CP1251), accented Latin ones
stand among ASCII letters (CP1252).
"""

import codecs
import csv
import datetime as dt
import io
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO, Any, BinaryIO

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop
from python_calamine import CalamineError, CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum

from campaigns.contact_columns import Columns, HeaderProblem, columns_of, quoted
from campaigns.models import Verdict
from campaigns.validation import Refusal

LONGEST_LINE = 1_000_000
# A sheet is held in memory whole: about 100 bytes a cell.
MOST_CELLS = 1_500_000
LARGEST_SHEET = 150_000_000
LARGEST_WORKBOOK = 30_000_000

_CHUNK = 1 << 18
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f]")
_NOT_TEXT = re.compile("[\x00-\x08\x0e-\x1f\ud800-\udfff]")
_HIGH = bytes(range(0x80, 0x100))
# Signs that both code pages have in the same places: quotes, dashes, the euro, a hard space, №.
_SIGNS = b"\x80\x82\x84\x85\x88\x91\x92\x93\x94\x95\x96\x97\x99\xa0\xa7\xa9\xab\xae\xb0\xb5\xb7\xb9\xbb"
# The letters of CP1251; in CP1252 nearly the same bytes are the accented ones.
_LETTER_RUNS = re.compile(rb"[\xa8\xb8\xc0-\xff]+")
_CELL_PLACE = re.compile(rb"""\br=["']([A-Za-z]{1,3})?(\d{1,7})["']""")
_ZIP, _OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"

Row = tuple[int, list[str], Refusal | None]


class IntakeRefused(Exception):
    """The whole file is refused, nothing of it was taken. The message says what is wrong and what to do."""


@dataclass(frozen=True, slots=True)
class ContactFile:
    """The columns of a file and its rows: number in the file, cells, and what broke in reading them.

    `rows` is read once. A row whose cells are all empty is no row. Raises IntakeRefused while it is read.
    """

    columns: Columns
    rows: Iterator[Row]


def opened(file: BinaryIO, file_name: str) -> ContactFile:
    """Understand a file that can seek, by what is in it; the name only tells a damaged workbook from a text.

    Raises IntakeRefused. The file stays open.
    """
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    start = file.read(4)
    if not size:
        raise IntakeRefused(_("The file is empty. Choose a file with a header line and one contact a line."))
    if size > settings.CONTACT_FILE_MAX_BYTES:
        raise IntakeRefused(
            _("The file has %(size)d MB; at most %(most)d MB are taken. Split it.")
            % {"size": size >> 20, "most": settings.CONTACT_FILE_MAX_BYTES >> 20}
        )
    if start == _OLD_OFFICE:
        raise IntakeRefused(
            _("This is an old Excel workbook, or one with a password. Save it as .xlsx without a password, or as CSV.")
        )
    if start == _ZIP:
        return _workbook(file)
    if file_name.lower().endswith((".xlsx", ".xlsm", ".xls")):
        raise IntakeRefused(
            _(
                "The file is named like an Excel workbook but is none. Save it again as .xlsx, or as "
                "CSV with that ending."
            )
        )
    return _text_file(file)


def _text_file(file: BinaryIO) -> ContactFile:
    encoding, errors = _encoding(file)

    def records(delimiter: str) -> Iterator[Row]:
        return _records(file, encoding, errors, delimiter)

    delimiter = _delimiter(records)
    rows = records(delimiter)
    for number, cells, problem in rows:
        if _is_hint(cells):
            continue
        if problem is not None:
            raise IntakeRefused(_in_row(number, problem.said))
        return ContactFile(_columns(cells, number), rows)
    raise IntakeRefused(
        _("The file has no line with text. The first line must name the columns, such as “email,first_name”.")
    )


def _encoding(file: BinaryIO) -> tuple[str, str]:
    """The encoding and what to do with bytes that are not in it. Reads the whole file, once."""
    file.seek(0)
    start = file.read(64)
    if start.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise IntakeRefused(_("The file is in UTF-32. Save it as UTF-8."))
    wide = _wide_encoding(start)
    if wide:
        _survey(file, wide, "surrogatepass")
        return wide, "surrogatepass"
    found = _survey(file, "utf-8-sig", "surrogateescape")
    if found.bad <= found.good:
        return "utf-8-sig", "surrogateescape"
    return _code_page(found), "surrogateescape"


def _wide_encoding(start: bytes) -> str:
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    # A header is ASCII for the most part: without a mark, every second byte of UTF-16 is zero.
    pairs = len(start) // 2
    for offset, name in ((1, "utf-16-le"), (0, "utf-16-be")):
        if pairs >= 4 and start[offset::2].count(0) > pairs * 0.8 and start[1 - offset :: 2].count(0) == 0:
            return name
    return ""


@dataclass(slots=True)
class _Survey:
    good: int = 0
    bad: int = 0
    control: int = 0
    sample: bytes = b""


def _survey(file: BinaryIO, encoding: str, errors: str) -> _Survey:
    """Count what does and does not decode; refuse a line that nobody could have meant as one."""
    found, line, length = _Survey(), 1, 0
    decoder = codecs.getincrementaldecoder(encoding)(errors)
    file.seek(0)
    try:
        for chunk in iter(lambda: file.read(_CHUNK), b""):
            text = decoder.decode(chunk)
            first, last = _line_ends(text)
            if length + (len(text) if first is None else first) > LONGEST_LINE:
                raise IntakeRefused(_too_long(line))
            length = length + len(text) if last is None else len(text) - last - 1
            line += text.count("\n")
            if not chunk.isascii():
                _count(found, chunk, text)
            found.control += len(_CONTROL.findall(text)) if line < 1_000 else 0
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise IntakeRefused(
            _in_row(
                line,
                _("The text ends in the middle of a character or is not what its first bytes say. Save it as UTF-8."),
            )
        ) from error
    return found


def _line_ends(text: str) -> tuple[int | None, int | None]:
    """Where the first line of this piece ends and where the last one begins."""
    ends = [place for mark in "\n\r" if (place := text.find(mark)) >= 0]
    return min(ends, default=None), max(text.rfind("\n"), text.rfind("\r")) if ends else None


def _too_long(line: int) -> str:
    return _in_row(
        line,
        _("The line has more than %(most)d characters. Is it a contact file, with one contact a line?")
        % {"most": LONGEST_LINE},
    )


def _count(found: _Survey, chunk: bytes, text: str) -> None:
    high = len(chunk) - len(chunk.translate(None, _HIGH))
    try:
        text.encode()
    except UnicodeEncodeError:
        bad = len(text) - len(text.encode(errors="ignore").decode())
        found.bad += bad
        found.good += (high - bad) // 3
    else:
        found.good += high // 3
    if len(found.sample) < 1 << 20:
        found.sample += chunk


def _code_page(found: _Survey) -> str:
    sample = found.sample
    runs = _LETTER_RUNS.findall(sample)
    letters = sum(map(len, runs))
    high = len(sample) - len(sample.translate(None, _HIGH)) - (len(sample) - len(sample.translate(None, _SIGNS)))
    # KOI8-R has small and capital letters the other way round: names would start small and go on in capitals.
    capitalised = sum(1 for run in runs if len(run) > 2 and run[0] < 0xE0 and min(run[1:]) >= 0xE0)
    upside_down = sum(
        1 for run in runs if len(run) > 2 and run[0] >= 0xE0 and min(run[1:]) >= 0xC0 and max(run[1:]) < 0xE0
    )
    if found.control > len(sample) // 200:
        raise IntakeRefused(_("The file is not text. Save the contacts as CSV or .xlsx and choose that file."))
    if letters < high * 0.7 or upside_down > capitalised:
        raise IntakeRefused(
            _("The encoding of the file is not known: it is neither UTF-8 nor UTF-16 nor Windows. Save it as UTF-8.")
        )
    side_by_side = sum(len(run) for run in runs if len(run) > 1)
    return "cp1251" if side_by_side * 2 > letters else "cp1252"


def _delimiter(records: Callable[[str], Iterator[Row]]) -> str:
    """The separator under which the header makes most sense."""
    best, most = ",", (False, 0)
    for delimiter in ",;\t":
        try:
            cells = next(cells for _number, cells, _problem in records(delimiter) if not _is_hint(cells))
        except (StopIteration, IntakeRefused):
            continue
        if len(cells) == 1 and (hint := re.fullmatch(r"sep=([,;\t])", cells[0].strip().lower())):
            return hint[1]
        sense = (_has_address(cells), len(cells))
        if sense > most:
            best, most = delimiter, sense
    return best


def _is_hint(cells: list[str]) -> bool:
    """Excel's own first line, `sep=;`, is not the header."""
    return bool(cells) and re.fullmatch(r"sep=.?", "".join(cells).strip().lower()) is not None


def _has_address(cells: list[str]) -> bool:
    try:
        columns_of(cells)
    except HeaderProblem:
        return False
    return True


def _records(file: BinaryIO, encoding: str, errors: str, delimiter: str) -> Iterator[Row]:
    file.seek(0)
    text = io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")
    # Strict, because a forgiving reader makes one contact of all that stands between two forgotten quotes.
    reader = csv.reader(text, delimiter=delimiter, strict=True)
    try:
        while True:
            number = reader.line_num + 1
            try:
                cells = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield number, [], _broken(number, reader.line_num, str(error))
                continue
            if any(cells):
                yield number, cells, None
    finally:
        # Without this the wrapper closes the caller's file.
        if not file.closed:
            text.detach()


def _broken(number: int, line: int, error: str) -> Refusal:
    """A line that breaks alone is refused alone; quotes that swallow other lines make the file unreadable."""
    if line > number or "unexpected end" in error:
        raise IntakeRefused(
            _in_row(
                number,
                _(
                    "A quote that opens here is not closed properly, so the rows after it cannot be "
                    "told apart. Close it or take it out."
                ),
            )
        )
    if "field limit" in error:
        return Refusal(
            Verdict.TOO_LONG,
            gettext_noop("A field has more than %(most)d characters."),
            {"most": csv.field_size_limit()},
        )
    return Refusal(
        Verdict.BAD_COLUMNS, gettext_noop("A quote is out of place. Write a quote inside a quoted text twice.")
    )


def _columns(cells: list[str], number: int) -> Columns:
    if any(_NOT_TEXT.search(cell) for cell in cells):
        raise IntakeRefused(
            _in_row(number, _("The header has bytes that are not text. Save the contacts as CSV in UTF-8."))
        )
    try:
        return columns_of(cells)
    except HeaderProblem as problem:
        raise IntakeRefused(_in_row(number, str(problem))) from problem


def _in_row(number: int, problem: str) -> str:
    return _("Row %(number)d: %(problem)s") % {"number": number, "problem": problem}


def _workbook(file: BinaryIO) -> ContactFile:
    """The one sheet of a workbook that has an address column."""
    try:
        _weigh(file)
        file.seek(0)
        book = CalamineWorkbook.from_filelike(file)
    except (zipfile.BadZipFile, CalamineError, NotImplementedError, RuntimeError, OSError, KeyError) as error:
        raise IntakeRefused(_("The Excel workbook cannot be read. Save it again as .xlsx, or as CSV.")) from error
    problems: list[str] = []
    found: list[tuple[str, ContactFile]] = []
    for sheet in book.sheets_metadata:
        if sheet.typ != SheetTypeEnum.WorkSheet or sheet.visible != SheetVisibleEnum.Visible:
            continue
        try:
            found.append((sheet.name, _sheet(book, sheet.name)))
        except IntakeRefused as problem:
            problems.append(_("Sheet “%(name)s”: %(problem)s") % {"name": sheet.name, "problem": problem})
        if len(found) > 1:
            break
    if len(found) > 1:
        names = quoted(name for name, _file in found)
        raise IntakeRefused(
            _("Several sheets have an address column: %(names)s. Save the one to import as its own file.")
            % {"names": names}
        )
    if not found:
        raise IntakeRefused(problems[0] if problems else _("The workbook has no visible sheet."))
    return found[0][1]


def _weigh(file: BinaryIO) -> None:
    """Refuse a workbook that would not fit in memory before it is loaded: one far cell makes a huge sheet."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    with zipfile.ZipFile(file) as archive:
        if "xl/workbook.xml" not in archive.namelist():
            raise IntakeRefused(_("This is a zip archive but no Excel workbook. Save the contacts as .xlsx or as CSV."))
        unpacked = sum(part.file_size for part in archive.infolist())
        cells = 0
        if size <= LARGEST_WORKBOOK and unpacked <= LARGEST_SHEET:
            for part in archive.infolist():
                with archive.open(part) as stream:
                    cells = max(cells, _cells(stream))
        if size > LARGEST_WORKBOOK or unpacked > LARGEST_SHEET or cells > MOST_CELLS:
            raise IntakeRefused(
                _(
                    "The workbook is too large: at most %(cells)d cells and %(size)d MB are taken. "
                    "Save the sheet as CSV, which has no such limit."
                )
                % {"cells": MOST_CELLS, "size": LARGEST_WORKBOOK // 1_000_000}
            )


def _cells(stream: IO[bytes]) -> int:
    rows, columns, rest = 1, 1, b""
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        piece = rest + chunk
        for letters, digits in set(_CELL_PLACE.findall(piece)):
            rows = max(rows, int(digits))
            column = 0
            for letter in letters.upper():
                column = column * 26 + letter - 64
            columns = max(columns, column)
        rest = piece[-24:]
    return rows * columns


def _sheet(book: CalamineWorkbook, name: str) -> ContactFile:
    rows: Iterator[Row] = (
        (number, [_cell(value) for value in values], None)
        for number, values in enumerate(book.get_sheet_by_name(name).iter_rows(), 1)
        if any(value != "" for value in values)
    )
    for number, cells, _problem in rows:
        return ContactFile(_columns(cells, number), rows)
    raise IntakeRefused(_("The sheet is empty."))


def _cell(value: Any) -> str:
    """What a person sees in the cell, near enough: whole numbers without a point, days without a midnight."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    if isinstance(value, dt.datetime):
        return value.isoformat(" ", "seconds")
    if isinstance(value, dt.date | dt.time):
        return value.isoformat()
    return str(value)
