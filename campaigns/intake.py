"""Contacts come in from a file: each row gets a verdict; all that are good are taken at once, or nothing is.

A small file is taken at once. A larger one is looked at, kept, and taken by a job (`take`), which tells how far it is.

Rows stream through `validation` into a temporary table by COPY; what needs the other rows or the database is
then settled for all rows together. Memory does not grow with the file.

A contact that is here already keeps what the file leaves empty and takes the rest from the file. A
subscription that is here already stays as it is, so nobody who left a list is put back on it by a file.
"""

import csv
import io
import json
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO

import dns.asyncresolver
from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper
from django.db.models import Count, F
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from campaigns import erased, held, mail_hosts, suppressions
from campaigns.contact_files import ContactFile, IntakeRefused, opened
from campaigns.models import Basis, ConsentEntry, ContactList, Intake, IntakePart, RejectedRow, Verdict
from campaigns.permission import GIVEN
from campaigns.validation import FORMULA_STARTS, Person, judge
from tenants import context, visits
from tenants.models import Agency

__all__ = [
    "Grounds",
    "IntakeRefused",
    "import_file",
    "receive",
    "rejected_counts",
    "rejected_csv",
    "take",
    "waiting",
]

# Some three thousand rows: they are taken within a second.
AT_ONCE_BYTES = 200_000
# Of a larger file so many rows are judged before it is kept.
JUDGED_AT_ONCE = 100
_PART_BYTES = 1 << 20
# A file that ended its worker so often would end others too.
_MOST_TRIES = 3
_TELL_SECONDS = 1.0
_GOING = (Intake.Status.WAITING, Intake.Status.RUNNING)

_REPORT_EVERY = 5_000
_PAGE = 2_000


@dataclass(frozen=True, slots=True)
class Grounds:
    """On what the contacts of a file may be written to: a Basis, "column" where each row says so in a column "basis",
    or nothing; where and when that was given, what they were shown, and who says so."""

    basis: str = ""
    source: str = ""
    at: datetime | None = None
    text: str = ""
    by: str = ""


def receive(
    file: BinaryIO, *, file_name: str, into: ContactList, now: datetime, grounds: Grounds | None = None
) -> Intake:
    """Take a file from the web: a small one whole, as `import_file`; of a larger one the first rows are judged, and the
    file is kept for `take`. Raises IntakeRefused, also where none of those rows is a contact.
    """
    if file.seek(0, io.SEEK_END) <= AT_ONCE_BYTES:
        return import_file(file, file_name=file_name, into=into, now=now, grounds=grounds)
    grounds = grounds or Grounds()
    try:
        _look(opened(file, file_name))
    except IntakeRefused as refused:
        _begin(into, file_name, grounds, status=Intake.Status.FAILED, problem=str(refused))
        raise
    file.seek(0)
    with transaction.atomic():
        intake = _begin(into, file_name, grounds, status=Intake.Status.WAITING)
        for number, content in enumerate(iter(lambda: file.read(_PART_BYTES), b"")):
            IntakePart.objects.create(intake=intake, number=number, content=content)
        visits.ask(now)
    return intake


def waiting() -> list[int]:
    """The imports of the agency entered now that a worker is to take, or has begun to."""
    found = Intake.objects.filter(status__in=_GOING, parts__number=0).order_by("pk")
    return list(found.values_list("pk", flat=True))


def take(pk: int, *, now: datetime) -> None:
    """Take a file that was kept. Harmless when repeated, at the same time too; what a dead worker began begins anew."""
    with _alone(pk) as mine:
        intake = Intake.objects.filter(pk=pk, status__in=_GOING, parts__number=0).select_related("list").first()
        if not mine or intake is None:
            return
        if intake.tries >= _MOST_TRIES:
            problem = _("Three workers ended while taking it. Split the file and import its parts.")
            Intake.objects.filter(pk=pk).update(status=Intake.Status.FAILED, problem=problem)
        else:
            Intake.objects.filter(pk=pk).update(status=Intake.Status.RUNNING, tries=F("tries") + 1)
            _take_kept(intake, now)
        IntakePart.objects.filter(intake=pk).delete()


def _take_kept(intake: Intake, now: datetime) -> None:
    with tempfile.TemporaryFile() as file:
        parts = IntakePart.objects.filter(intake=intake).order_by("number")
        for content in parts.values_list("content", flat=True).iterator(chunk_size=1):
            file.write(content)
        try:
            _import(intake, file, intake.file_name, now=now, progress=_telling(intake.pk))
        except IntakeRefused:
            # It says so itself.
            return


@contextmanager
def _alone(pk: int) -> Iterator[bool]:
    """Whether no other worker takes this import; none does until this ends, or its worker does."""
    key = f"intake {context.current_schema()} {pk}"
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [key])
        (mine,) = cursor.fetchone() or (False,)
        try:
            yield mine
        finally:
            if mine:
                cursor.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [key])


def _telling(pk: int) -> Callable[[int], None]:
    """Write down how far an import is, where others see it before it is over: by another connection."""
    agency, told_at = context.current_agency(), 0.0

    def write(rows: int) -> None:
        try:
            with context.entered(agency):
                Intake.objects.filter(pk=pk).update(looked_at=rows)
        finally:
            connection.close()

    def tell(rows: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _TELL_SECONDS:
            told_at = time.monotonic()
            writing = threading.Thread(target=write, args=[rows])
            writing.start()
            writing.join()

    return tell


def _look(source: ContactFile) -> None:
    """Refuse a file none of whose first rows is a contact, with what is wrong with the first."""
    judged = [broken or judge(cells, source.columns) for _number, cells, broken in islice(source.rows, JUDGED_AT_ONCE)]
    if judged and not any(isinstance(one, Person) for one in judged):
        (first, *_rest) = judged
        assert not isinstance(first, Person)
        raise IntakeRefused(
            _("None of the first %(count)d rows is a contact. Of the first: %(why)s")
            % {"count": len(judged), "why": first.said}
        )


def import_file(
    file: BinaryIO,
    *,
    file_name: str,
    into: ContactList,
    now: datetime,
    progress: Callable[[int], None] | None = None,
    grounds: Grounds | None = None,
    check_mx: bool = False,
    resolver: dns.asyncresolver.Resolver | None = None,
) -> Intake:
    """Take the good rows of a CSV or XLSX file into a list, inside the agency entered.

    `grounds` is on what its contacts may be written to; without it, that is not known of those who are new.
    `progress` hears how many rows have been read.
    Raises IntakeRefused when the file as a whole cannot be taken: nothing of it is, and the intake that says
    why is kept as failed. `check_mx` asks the DNS about every domain; a DNS that fails refuses nobody.
    """
    intake = _begin(into, file_name, grounds or Grounds(), status=Intake.Status.RUNNING)
    _import(intake, file, file_name, now=now, progress=progress, check_mx=check_mx, resolver=resolver)
    return intake


def _begin(into: ContactList, file_name: str, grounds: Grounds, *, status: Intake.Status, problem: str = "") -> Intake:
    return Intake.objects.create(
        list=into,
        file_name=file_name[-255:],
        status=status,
        problem=problem,
        basis=grounds.basis,
        consent_source=grounds.source[:300],
        consent_at=grounds.at,
        consent_text=grounds.text,
        imported_by=grounds.by[:254],
    )


def _import(
    intake: Intake,
    file: BinaryIO,
    file_name: str,
    *,
    now: datetime,
    progress: Callable[[int], None] | None,
    check_mx: bool = False,
    resolver: dns.asyncresolver.Resolver | None = None,
) -> None:
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            _make_table(cursor)
            _read(cursor, opened(file, file_name), progress)
            _refuse_suppressed(cursor, intake.list_id)
            _refuse_erased(cursor)
            _refuse_repeated(cursor)
            if check_mx:
                _refuse_without_mail(cursor, resolver)
            _take(cursor, intake, now)
            held.release_taken(now=now)
            if intake.basis:
                _record_basis(cursor, intake, now)
            _finish(cursor, intake)
    except BaseException as error:
        interrupted = _("The import was interrupted. Nothing was taken; start it again.")
        problem = str(error) if isinstance(error, IntakeRefused) else interrupted
        Intake.objects.filter(pk=intake.pk).update(status=Intake.Status.FAILED, problem=problem)
        raise


def _record_basis(cursor: CursorWrapper, intake: Intake, now: datetime) -> None:
    """Give the contacts of the file their basis in its list, with the evidence.

    A file neither weakens a consent nor brings back one that was withdrawn.
    """
    values: dict[str, Any] = {
        "intake": intake.pk,
        "list": intake.list_id,
        "basis": intake.basis,
        "by_column": intake.basis == Intake.BY_COLUMN,
        "known": [*Basis.values],
        "source": ConsentEntry.Source.IMPORT,
        "at": intake.consent_at or now,
        "now": now,
        "detail": intake.consent_source,
        "by": intake.imported_by,
    }
    cursor.execute(_GROUND, values)
    cursor.execute(_FOLLOW_LIST, values)
    visits.ask(now)


def rejected_counts(intake: Intake) -> dict[str, int]:
    """How many rows were rejected for each reason, the commonest first."""
    rows = RejectedRow.objects.filter(intake=intake).values_list("verdict").annotate(count=Count("pk"))
    return dict(rows.order_by("-count", "verdict"))


def rejected_csv(intake: Intake) -> Iterator[str]:
    """The rejected rows as lines of a CSV that a spreadsheet opens in the right letters and never calculates.

    Belongs to the agency entered at the call; it may be read after that agency is left, as a stream is.
    """
    return _rejected_lines(intake.pk, context.current_agency())


def _rejected_lines(intake: int, agency: Agency) -> Iterator[str]:
    yield "\ufeff" + _line(_("Row"), _("Address"), _("Reason"), _("Detail"))
    last = 0
    while True:
        with context.entered(agency):
            page = list(RejectedRow.objects.filter(intake=intake, number__gt=last).order_by("number")[:_PAGE])
        if not page:
            return
        for row in page:
            yield _line(str(row.number), row.email, str(Verdict(row.verdict).label), row.said)
        last = page[-1].number


def _line(*cells: str) -> str:
    target = io.StringIO()
    csv.writer(target).writerow(map(_uncalculated, cells))
    return target.getvalue()


def _uncalculated(cell: str) -> str:
    # A leading apostrophe is how a spreadsheet is told that what follows is text.
    return f"'{cell}" if cell[:1] in {*FORMULA_STARTS, "\t", "\r"} else cell


def _make_table(cursor: CursorWrapper) -> None:
    cursor.execute(
        """
        CREATE TEMPORARY TABLE intake_row (
            number integer NOT NULL, verdict text NOT NULL, email text NOT NULL, key text NOT NULL,
            domain text NOT NULL, first_name text NOT NULL, last_name text NOT NULL, company text NOT NULL,
            attributes jsonb NOT NULL, detail text NOT NULL, params jsonb NOT NULL
        ) ON COMMIT DROP
        """
    )


def _read(cursor: CursorWrapper, source: ContactFile, progress: Callable[[int], None] | None) -> None:
    columns, total = source.columns, 0
    with cursor.copy("COPY pg_temp.intake_row FROM STDIN") as copy:
        for total, (number, cells, broken) in enumerate(source.rows, 1):
            found = broken or judge(cells, columns)
            if isinstance(found, Person):
                attributes = json.dumps(found.attributes, ensure_ascii=False) if found.attributes else "{}"
                key = found.email.lower()
                copy.write_row((number, "accepted", found.email, key, *found[1:5], attributes, "", "{}"))
            else:
                params = json.dumps(found.params, ensure_ascii=False)
                refused = (found.email, "", "", "", "", "", "{}", found.detail, params)
                copy.write_row((number, found.verdict.value, *refused))
            if progress is not None and total % _REPORT_EVERY == 0:
                progress(total)
    if not total:
        raise IntakeRefused(_("The file has a header but no contacts. Add one line for each."))
    if progress is not None and total % _REPORT_EVERY:
        progress(total)
    cursor.execute("ANALYZE pg_temp.intake_row")


def _refuse_suppressed(cursor: CursorWrapper, list_id: int) -> None:
    """By address, by a domain it is in, by a wildcard; the narrowest is named."""
    cursor.execute(
        _REFUSE_SUPPRESSED,
        {
            "list": list_id,
            "verdict": Verdict.SUPPRESSED,
            "address": gettext_noop("The address is suppressed."),
            "domain": gettext_noop("The domain %(domain)s is suppressed."),
            "wildcard": gettext_noop("%(domain)s is suppressed."),
        },
    )


def _refuse_erased(cursor: CursorWrapper) -> None:
    """Whose data was erased is not to be known again, not even as a row that was refused."""
    erased.hold()
    cursor.execute("SELECT key FROM pg_temp.intake_row WHERE verdict = 'accepted'")
    hits = erased.among(key for (key,) in iter(cursor.fetchone, None))
    cursor.execute(
        "UPDATE pg_temp.intake_row SET verdict = %s, detail = %s, email = '', key = '', domain = '' "
        "WHERE verdict = 'accepted' AND key = ANY(%s)",
        [Verdict.SUPPRESSED, gettext_noop("This person's data was erased, and they must not be mailed."), list(hits)],
    )


def _refuse_repeated(cursor: CursorWrapper) -> None:
    cursor.execute(
        """
        UPDATE pg_temp.intake_row AS r SET verdict = %s, detail = %s, params = jsonb_build_object('row', same.first)
        FROM (
            SELECT number, first_value(number) OVER (PARTITION BY key ORDER BY number) AS first
            FROM pg_temp.intake_row WHERE verdict = 'accepted'
        ) AS same
        WHERE r.number = same.number AND same.number <> same.first
        """,
        [Verdict.DUPLICATE, gettext_noop("The same address is in row %(row)d.")],
    )


def _refuse_without_mail(cursor: CursorWrapper, resolver: dns.asyncresolver.Resolver | None) -> None:
    cursor.execute("SELECT DISTINCT domain FROM pg_temp.intake_row WHERE verdict = 'accepted' ORDER BY domain")
    gone = mail_hosts.without_mail((domain for (domain,) in cursor.fetchall()), resolver)
    cursor.execute(
        "UPDATE pg_temp.intake_row SET verdict = %s, detail = %s, params = jsonb_build_object('domain', domain) "
        "WHERE verdict = 'accepted' AND domain = ANY(%s)",
        [Verdict.NO_MX, gettext_noop("%(domain)s has no mail server."), gone],
    )


def _take(cursor: CursorWrapper, intake: Intake, now: datetime) -> None:
    # Ordered, so two imports at once lock the contacts they share in one order.
    cursor.execute(
        """
        INSERT INTO campaigns_contact AS here (email, first_name, last_name, company, attributes, created_at)
        SELECT email, first_name, last_name, company, attributes, %s
        FROM pg_temp.intake_row WHERE verdict = 'accepted' ORDER BY key
        ON CONFLICT (lower(email)) DO UPDATE SET
            first_name = COALESCE(NULLIF(EXCLUDED.first_name, ''), here.first_name),
            last_name = COALESCE(NULLIF(EXCLUDED.last_name, ''), here.last_name),
            company = COALESCE(NULLIF(EXCLUDED.company, ''), here.company),
            attributes = EXCLUDED.attributes || here.attributes || (
                SELECT COALESCE(jsonb_object_agg(key, value), '{}')
                FROM jsonb_each(EXCLUDED.attributes) WHERE value <> '""'
            )
        """,
        [now],
    )
    cursor.execute(
        """
        INSERT INTO campaigns_subscription (list_id, contact_id, intake_id, active, created_at)
        SELECT %s, c.id, %s, true, %s
        FROM pg_temp.intake_row AS r JOIN campaigns_contact AS c ON lower(c.email) = r.key
        WHERE r.verdict = 'accepted' ORDER BY c.id
        ON CONFLICT (list_id, contact_id) DO NOTHING
        """,
        [intake.list_id, intake.pk, now],
    )
    cursor.execute(
        """
        INSERT INTO campaigns_rejectedrow (intake_id, number, email, verdict, detail, params)
        SELECT %s, number, email, verdict, detail, params FROM pg_temp.intake_row
        WHERE verdict <> 'accepted' ORDER BY number
        """,
        [intake.pk],
    )


def _finish(cursor: CursorWrapper, intake: Intake) -> None:
    cursor.execute("SELECT count(*), count(*) FILTER (WHERE verdict = 'accepted') FROM pg_temp.intake_row")
    intake.rows, intake.accepted = cursor.fetchone() or (0, 0)
    intake.rejected = intake.rows - intake.accepted
    intake.status = Intake.Status.DONE
    intake.save(update_fields=["rows", "accepted", "rejected", "status"])
    cursor.execute("DROP TABLE pg_temp.intake_row")


# What is said in a row is of that row, in columns of the names that forms commonly give them.
_GROUND = """
WITH given AS (
    SELECT c.id AS contact_id, c.email, c.attributes AS a,
           CASE WHEN %(by_column)s THEN lower(trim(r.attributes->>'basis')) ELSE %(basis)s END AS basis
    FROM pg_temp.intake_row r JOIN campaigns_contact c ON lower(c.email) = r.key WHERE r.verdict = 'accepted'
), changed AS (
    UPDATE campaigns_subscription s SET basis = given.basis
    FROM given
    WHERE s.list_id = %(list)s AND s.contact_id = given.contact_id AND given.basis = ANY(%(known)s)
      AND s.active AND s.basis NOT IN ('withdrawn', 'consent') AND s.basis <> given.basis
    RETURNING s.contact_id, given.email, given.basis, given.a
)
INSERT INTO campaigns_consententry (contact_id, list_id, basis, source, at, recorded_at, email, detail, by, intake_id)
SELECT contact_id, %(list)s, basis, %(source)s, %(at)s, %(now)s, email,
       left(COALESCE(NULLIF(trim(a->>'consent_source'), ''), %(detail)s), 300), %(by)s, %(intake)s
FROM changed ORDER BY contact_id
"""
_FOLLOW_LIST = f"""
WITH found AS (
    SELECT e.id, {GIVEN} AS given
    FROM campaigns_enrollment e
    JOIN campaigns_campaign c ON c.id = e.campaign_id AND c.list_id = %(list)s
    JOIN campaigns_contact p ON p.id = e.contact_id
    JOIN campaigns_subscription u ON u.list_id = c.list_id AND u.contact_id = p.id
    WHERE e.consented <> {GIVEN}
    ORDER BY e.id FOR UPDATE OF e
)
UPDATE campaigns_enrollment e SET consented = found.given FROM found WHERE e.id = found.id
"""  # noqa: S608 - of constants
_REFUSE_SUPPRESSED = f"""
UPDATE pg_temp.intake_row AS r
SET verdict = %(verdict)s,
    detail = CASE WHEN hit.value = r.key THEN %(address)s WHEN strpos(hit.value, '*') > 0 THEN %(wildcard)s
             ELSE %(domain)s END,
    params = CASE WHEN hit.value = r.key THEN '{{}}'::jsonb ELSE jsonb_build_object('domain', hit.value) END
FROM (
    SELECT o.number, (
        {suppressions.matching("o.key", "%(list)s", "s.value", lasting=True)} ORDER BY length(s.value) DESC LIMIT 1
    ) AS value
    FROM pg_temp.intake_row o WHERE o.verdict = 'accepted'
) hit
WHERE hit.number = r.number AND hit.value IS NOT NULL
"""  # noqa: S608 - see suppressions
