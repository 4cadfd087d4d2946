"""Contact files through the real intake into a real database."""

import contextlib
import csv
import datetime as dt
import io
import json
import resource
import zipfile

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile, TemporaryUploadedFile
from django.core.management import CommandError, call_command
from django.utils import translation
from dnslib import AAAA, MX, QTYPE, RCODE, RR, A
from dnslib.server import BaseResolver, DNSServer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from campaigns import intake
from campaigns.models import Contact, ContactList, Intake, RejectedRow, Subscription, Suppression, Verdict
from outreach.demo.contacts import HEADER, KINDS, write_contacts
from tenants import context
from tests.campaigns.workbook import workbook

NOW = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
PEOPLE = "email,first_name,company,city\nann@a.example,Ann,Acme,Oslo\nbob@b.example,Bob,Bolt,Rome\n"


@pytest.fixture
def inside(alpha):
    with context.entered(alpha):
        yield ContactList.objects.create(name="Leads")


def take(data, into, name="contacts.csv", **options):
    file = io.BytesIO(data if isinstance(data, bytes) else data.encode())
    done = intake.import_file(file, file_name=name, into=into, now=NOW, **options)
    done.refresh_from_db()
    assert not file.closed
    assert done.rows == done.accepted + done.rejected
    assert done.status == Intake.Status.DONE
    return done


def refusal(data, into, name="contacts.csv"):
    with pytest.raises(intake.IntakeRefused) as refused:
        take(data, into, name)
    failed = Intake.objects.get()
    assert failed.status == Intake.Status.FAILED
    assert failed.problem == str(refused.value)
    assert (failed.rows, failed.accepted, failed.rejected) == (0, 0, 0)
    assert not Contact.objects.exists()
    assert not Subscription.objects.exists()
    assert not RejectedRow.objects.exists()
    return str(refused.value)


def verdicts(done):
    return {row.number: row.verdict for row in done.rejected_rows.all()}


def names():
    return dict(Contact.objects.values_list("email", "first_name"))


class TestGoodFiles:
    def test_it_takes_people_and_subscribes_them(self, inside):
        done = take(PEOPLE, inside)
        assert (done.rows, done.accepted, done.rejected) == (2, 2, 0)
        ann = Contact.objects.get(email="ann@a.example")
        assert (ann.first_name, ann.company, ann.attributes, ann.created_at) == ("Ann", "Acme", {"city": "Oslo"}, NOW)
        assert ann.subscriptions.get().list == inside
        assert ann.subscriptions.get().intake == done

    def test_the_other_agency_sees_nothing_of_it(self, inside, beta):
        take(PEOPLE, inside)
        with context.entered(beta):
            assert not Contact.objects.exists()
            assert not Intake.objects.exists()

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1251"])
    def test_russian_names_arrive_in_every_usual_encoding(self, inside, encoding):
        take("Почта;Имя\nanna@a.example;Анна\nyura@a.example;Юрий\n".encode(encoding), inside)
        assert names() == {"anna@a.example": "Анна", "yura@a.example": "Юрий"}

    @pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
    def test_wide_text_without_a_mark_is_recognised(self, inside, encoding):
        take("email,first_name\nanna@a.example,Анна\n".encode(encoding), inside)
        assert names() == {"anna@a.example": "Анна"}

    def test_western_names_arrive_from_a_windows_file(self, inside):
        take("email,first_name\na@a.example,André\nb@a.example,Jürgen\nc@a.example,O’Neil\n".encode("cp1252"), inside)
        assert names() == {"a@a.example": "André", "b@a.example": "Jürgen", "c@a.example": "O’Neil"}

    def test_a_windows_file_with_nothing_but_curly_quotes_is_text_too(self, inside):
        take("email,first_name\nc@a.example,O’Neil\n".encode("cp1252"), inside)
        assert names() == {"c@a.example": "O’Neil"}

    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    def test_the_separator_is_seen_in_the_header(self, inside, delimiter):
        lines = [["email", "first_name", "Employees, all; of them"], ["ann@a.example", "Ann, B.", "1;2\t3,4"]]
        target = io.StringIO()
        csv.writer(target, delimiter=delimiter).writerows(lines)
        take(target.getvalue(), inside)
        assert Contact.objects.get().first_name == "Ann, B."
        assert Contact.objects.get().attributes == {"employees_all_of_them": "1;2\t3,4"}

    def test_the_hint_of_a_spreadsheet_is_no_header(self, inside):
        take("sep=;\r\nemail;first_name\r\nann@a.example;Ann\r\n", inside)
        assert names() == {"ann@a.example": "Ann"}

    def test_a_file_of_addresses_alone_is_enough(self, inside):
        assert take("email\rann@a.example\rbob@a.example", inside).accepted == 2

    def test_a_hundred_columns_are_taken(self, inside):
        header = ["email", *(f"column {n}" for n in range(99))]
        take(",".join(header) + "\nann@a.example" + ",x" * 99 + "\n", inside)
        assert len(Contact.objects.get().attributes) == 99

    def test_a_column_without_a_name_is_kept_where_it_says_something(self, inside):
        take("email,,\nann@a.example,,\nbob@b.example,x,\n", inside)
        assert dict(Contact.objects.values_list("email", "attributes")) == {
            "ann@a.example": {},
            "bob@b.example": {"column_2": "x"},
        }

    def test_empty_lines_are_no_rows_and_numbers_are_those_of_the_file(self, inside):
        done = take('\nemail,note\n\nann@a.example,"two\nlines"\n,\n   ,x\nbob,\n', inside)
        assert done.rows == 3
        assert verdicts(done) == {4: "bad_text", 7: "no_address", 8: "bad_syntax"}

    @pytest.mark.parametrize(
        "data", [PEOPLE.encode(), workbook({"A": [["email"], ["ann@a.example"], ["bob@b.example"]]})]
    )
    def test_a_file_as_the_web_hands_it_over_is_taken(self, inside, data):
        with TemporaryUploadedFile("people", "text/csv", len(data), None) as upload:
            upload.write(data)
            assert intake.import_file(upload, file_name="people", into=inside, now=NOW).accepted == 2
            assert not upload.closed
        small = SimpleUploadedFile("people", data)
        assert intake.import_file(small, file_name="people", into=inside, now=NOW).accepted == 2

    def test_progress_is_told_and_ends_with_the_number_of_rows(self, inside):
        heard = []
        take("email\n" + "".join(f"p{n}@a.example\n" for n in range(12_001)), inside, progress=heard.append)
        assert heard == [5_000, 10_000, 12_001]


class TestRowsAmongOthers:
    def test_an_address_is_taken_once_in_any_case_of_letters(self, inside):
        done = take("email\nAnn@a.example\nbob@b.example\nann@A.EXAMPLE\nANN@a.example\n", inside)
        assert verdicts(done) == {4: Verdict.DUPLICATE, 5: Verdict.DUPLICATE}
        assert "row 2" in done.rejected_rows.get(number=4).said

    def test_a_row_that_was_refused_is_nobodys_double(self, inside):
        done = take("email,first_name\nann@a.example,=1\nann@a.example,Ann\n", inside)
        assert verdicts(done) == {2: Verdict.FORMULA}
        assert names() == {"ann@a.example": "Ann"}

    def test_a_contact_who_is_here_keeps_what_the_file_leaves_empty(self, inside):
        take("email,first_name,company,city,phone\nann@a.example,Ann,Acme,Oslo,1\n", inside)
        other = ContactList.objects.create(name="Others")
        done = take("email,first_name,company,city,new\nANN@a.example,Anna,,,\n", other)
        assert (done.accepted, done.rejected) == (1, 0)
        ann = Contact.objects.get()
        assert (ann.email, ann.first_name, ann.company) == ("ann@a.example", "Anna", "Acme")
        assert ann.attributes == {"city": "Oslo", "phone": "1", "new": ""}
        assert ann.subscriptions.count() == 2

    def test_who_left_the_list_stays_off_it(self, inside):
        take("email\nann@a.example\n", inside)
        Subscription.objects.update(active=False)
        assert take("email\nann@a.example\n", inside).accepted == 1
        assert not Subscription.objects.get().active

    def test_suppressed_addresses_domains_and_all_below_them_are_refused(self, inside):
        for value in ("ann@a.example", "b.example", "com"):
            Suppression.objects.create(value=value, source=Suppression.Source.OPT_OUT)
        done = take(
            "email\nANN@a.example\nbob@a.example\nx@b.example\nx@sub.b.example\nx@notb.example\nx@c.com\n", inside
        )
        assert verdicts(done) == dict.fromkeys([2, 4, 5, 7], Verdict.SUPPRESSED)
        assert "b.example" in done.rejected_rows.get(number=5).said

    def test_the_header_again_formulas_and_missing_columns_are_refused_one_by_one(self, inside):
        done = take(PEOPLE + PEOPLE + "cy@c.example,Cy\nd@d.example,=1+1,x,y\n", inside)
        assert verdicts(done) == {
            4: Verdict.HEADER_AGAIN,
            5: Verdict.DUPLICATE,
            6: Verdict.DUPLICATE,
            7: Verdict.BAD_COLUMNS,
            8: Verdict.FORMULA,
        }

    def test_the_query_count_does_not_grow_with_the_file(self, inside, django_assert_num_queries):
        from django.db import connection
        from django.test.utils import CaptureQueriesContext

        counts = []
        for size in (10, 400):
            with CaptureQueriesContext(connection) as seen:
                take("email\n" + "".join(f"p{size}.{n}@a.example\nbad\n" for n in range(size)), inside)
            counts.append(len(seen))
        assert counts[0] == counts[1]


class TestBadBytes:
    def test_a_nul_refuses_its_row_alone(self, inside):
        done = take(b"email,first_name\nann@a.example,A\x00nn\nb\x00@b.example,Bob\ncy@c.example,Cy\n", inside)
        assert verdicts(done) == {2: Verdict.BAD_TEXT, 3: Verdict.BAD_TEXT}
        assert done.rejected_rows.get(number=3).email == "b\ufffd@b.example"

    @pytest.mark.parametrize("bad", [b"\xff", b"\xed\xa0\xbd", b"\xd0"])
    def test_bytes_that_are_no_text_refuse_their_row_alone(self, inside, bad):
        good = "".join(f"p{n}@a.example,Анна\n" for n in range(9)).encode()
        done = take(b"email,first_name\n" + good + b"ann@a.example,A" + bad + b"nn\n", inside)
        assert verdicts(done) == {11: Verdict.BAD_TEXT}
        assert names()["p0@a.example"] == "Анна"

    def test_lone_surrogates_refuse_their_row_alone(self, inside):
        text = "email,first_name\nann@a.example,A\ud83dnn\nbob@b.example,Bob\n"
        done = take(text.encode("utf-16", "surrogatepass"), inside)
        assert verdicts(done) == {2: Verdict.BAD_TEXT}

    def test_line_breaks_in_names_and_subjects_are_refused(self, inside):
        rows = '"A\nBcc: x@y.example",Hi\n', 'Bob,"Hi\r\nBcc: x@y.example"\n', 'Cy,"a\u2028b"\n'
        text = "email,first_name,subject\n" + "".join(f"p{n}@a.example,{row}" for n, row in enumerate(rows))
        assert verdicts(take(text, inside)) == dict.fromkeys([2, 4, 6], Verdict.BAD_TEXT)

    def test_a_quote_out_of_place_refuses_its_row_alone(self, inside):
        done = take('email,first_name\nann@a.example,"Ann"x\nbob@b.example,B"ob\n', inside)
        assert verdicts(done) == {2: Verdict.BAD_COLUMNS}
        assert names() == {"bob@b.example": 'B"ob'}

    def test_a_field_too_long_to_hold_refuses_its_row_alone(self, inside):
        done = take("email,note\nann@a.example," + "x" * 200_000 + "\nbob@b.example,\n", inside)
        assert verdicts(done) == {2: Verdict.TOO_LONG}


class TestWholeFilesRefused:
    @pytest.mark.parametrize(
        ("data", "words"),
        [
            (b"", ["empty"]),
            (b"\xef\xbb\xbf", ["no line with text"]),
            (b"\n\r\n  \n", ["Row 3", "Rename"]),
            (b"email,name\n\n,\n", ["no contacts"]),
            (b"name;phone\nAnn;1\n", ["Row 1", "“name”, “phone”", "Rename"]),
            (b"\n\nname\nAnn\n", ["Row 3"]),
            (b"ann@a.example,Ann\n", ["Row 1", "must name the columns"]),
            (b"email,e-mail\n", ["Row 1", "Several columns"]),
            (("email," * 201).encode() + b"\n", ["Row 1", "202 columns", "200"]),
            (b"email,b\x00\nann@a.example,\n", ["Row 1", "not text"]),
            (b'email,name\nann@a.example,Ann\nbob@b.example,"Bob\ncy@c.example,Cy\n', ["Row 3", "quote", "Close it"]),
            (b'email,name\nann@a.example,"Ann\nbob@b.example,Bob\ncy@c.example,"Cy"\n', ["Row 2", "quote"]),
            (b'email,name\nann@a.example,Ann\nbob@b.example,"Bob', ["Row 3", "quote"]),
            (b'email,name\nann@a.example,"Ann' + b"\nbob@b.example,Bob" * 20_000, ["Row 2", "quote"]),
            (b'"email,name\nann@a.example,Ann\n', ["Row 1", "quote"]),
            ("email,name\nann@a.example,Анна\n".encode("utf-32"), ["UTF-32", "Save it as UTF-8"]),
            ("email,имя\nivan@a.example,Иван Петров\n".encode("koi8-r"), ["encoding", "Save it as UTF-8"]),
            ("email,имя\nivan@a.example,Иван Петров\n".encode("cp866"), ["encoding", "Save it as UTF-8"]),
            ("email,name\nann@a.example,Ann\n".encode("utf-16")[:-1], ["middle of a character"]),
            (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + bytes(range(256)) * 40, ["not text"]),
            (b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n" + bytes(range(256)) * 40, ["not text"]),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, ["old Excel", ".xlsx"]),
        ],
    )  # fmt: skip
    def test_it_says_where_and_what_to_do_and_keeps_nothing(self, inside, data, words):
        said = refusal(data, inside)
        assert said.endswith(".")
        for word in words:
            assert word in said

    def test_a_line_of_two_hundred_megabytes_is_refused_before_it_is_read(self, inside):
        class Endless(io.RawIOBase):
            size, place, served = 200 << 20, 0, 0

            def readable(self):
                return True

            def seekable(self):
                return True

            def seek(self, offset, whence=io.SEEK_SET):
                self.place = self.size + offset if whence == io.SEEK_END else offset
                return self.place

            def tell(self):
                return self.place

            def readinto(self, target):
                wanted = min(len(target), self.size - self.place)
                data = (b"email\n" if self.place == 0 else b"").ljust(wanted, b"x")[:wanted]
                target[:wanted] = data
                self.place += wanted
                self.served += wanted
                return wanted

        file = Endless()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        with pytest.raises(intake.IntakeRefused, match=r"Row 2: The line has more than 1000000 characters"):
            intake.import_file(file, file_name="long.csv", into=inside, now=NOW)
        assert file.served < 4 << 20
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 30 << 10

    def test_a_file_over_the_limit_is_refused_unread(self, inside, settings):
        settings.CONTACT_FILE_MAX_BYTES = 1 << 20
        assert "at most 1 MB" in refusal(PEOPLE + "x" * (2 << 20), inside)

    def test_an_error_in_the_middle_keeps_nothing_and_says_so(self, inside):
        def stop(_rows):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            take(PEOPLE, inside, progress=stop)
        assert not Contact.objects.exists()
        assert Intake.objects.get().status == Intake.Status.FAILED
        assert "interrupted" in Intake.objects.get().problem
        assert take(PEOPLE, inside).accepted == 2


class TestWorkbooks:
    def test_numbers_days_and_truths_arrive_as_a_person_sees_them(self, inside):
        row = ["ann@a.example", "Ann", 79161234567, 1.5, dt.date(2026, 3, 1), True, None]
        header = ["email", "Имя", "phone", "rate", "since", "vip", "note"]
        done = take(workbook({"People": [[], header, row, [], ["bad", *row[1:]]]}), inside, "people.xlsx")
        assert Contact.objects.get().attributes == {
            "phone": "79161234567", "rate": "1.5", "since": "2026-03-01", "vip": "TRUE", "note": ""
        }  # fmt: skip
        assert verdicts(done) == {5: Verdict.BAD_SYNTAX}

    def test_a_workbook_is_known_by_its_content(self, inside):
        assert take(workbook({"A": [["email"], ["ann@a.example"]]}), inside, "people.csv").accepted == 1

    def test_the_one_sheet_with_addresses_is_taken(self, inside):
        sheets = {
            "Notes": [["hello"]],
            "Empty": [],
            "People": [["email"], ["ann@a.example"]],
            "Old": [["email"], ["x@x.example"]],
        }
        take(workbook(sheets, hidden=("Old",)), inside, "people.xlsx")
        assert list(names()) == ["ann@a.example"]

    def test_several_sheets_with_addresses_are_refused_by_name(self, inside):
        sheets = {"One": [["email"], ["a@a.example"]], "Two": [["email"], ["b@b.example"]]}
        said = refusal(workbook(sheets), inside, "people.xlsx")
        assert "“One”, “Two”" in said

    @pytest.mark.parametrize(
        ("sheets", "words"),
        [
            ({"People": [["name"], ["Ann"]]}, "Sheet “People”: Row 1: No column"),
            ({"People": []}, "Sheet “People”: The sheet is empty."),
            ({"People": [["email"]]}, "no contacts"),
        ],
    )
    def test_a_workbook_without_contacts_says_what_is_missing(self, inside, sheets, words):
        assert words in refusal(workbook(sheets), inside, "people.xlsx")

    def test_a_text_named_like_a_workbook_is_refused(self, inside):
        assert "named like an Excel workbook" in refusal(PEOPLE, inside, "people.XLSX")

    def test_a_damaged_workbook_and_another_archive_are_refused(self, inside):
        assert "cannot be read" in refusal(workbook({"A": [["email"]]})[:400], inside, "people.xlsx")
        Intake.objects.all().delete()
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as target:
            target.writestr("contacts.csv", PEOPLE)
        assert "zip archive" in refusal(archive.getvalue(), inside, "people.zip")

    def test_one_cell_far_away_does_not_fill_the_memory(self, inside):
        data = workbook({"A": [["email"], ["ann@a.example"]]})
        source, target = zipfile.ZipFile(io.BytesIO(data)), io.BytesIO()
        with zipfile.ZipFile(target, "w") as archive:
            for name in source.namelist():
                archive.writestr(name, source.read(name).replace(b'r="A2"', b'r="XFD1048576"'))
        assert "too large" in refusal(target.getvalue(), inside, "people.xlsx")


class Zone(BaseResolver):
    """A DNS with a host of each kind, on loopback."""

    def resolve(self, request, handler):
        reply = request.reply()
        name, kind = str(request.q.qname).rstrip("."), QTYPE[request.q.qtype]
        records = {
            ("mail.example", "MX"): MX("mx.mail.example"),
            ("null.example", "MX"): MX(".", preference=0),
            ("old.example", "A"): A("127.0.0.1"),
            ("six.example", "AAAA"): AAAA("::1"),
        }
        if name == "broken.example":
            reply.header.rcode = RCODE.SERVFAIL
        elif (name, kind) in records:
            reply.add_answer(RR(name, request.q.qtype, rdata=records[name, kind], ttl=1))
        elif name == "gone.example":
            reply.header.rcode = RCODE.NXDOMAIN
        return reply


@pytest.fixture
def dns_resolver():
    import dns.asyncresolver

    server = DNSServer(Zone(), address="127.0.0.1", port=0)
    server.start_thread()
    resolver = dns.asyncresolver.Resolver(configure=False)
    resolver.nameservers = ["127.0.0.1"]
    resolver.port = server.server.server_address[1]
    yield resolver
    server.stop()
    server.server.server_close()


class TestMailHosts:
    def test_only_domains_that_surely_take_no_mail_are_refused(self, inside, dns_resolver):
        hosts = ["mail", "null", "old", "six", "none", "gone", "broken"]
        done = take(
            "email\n" + "".join(f"ann@{h}.example\n" for h in hosts), inside, check_mx=True, resolver=dns_resolver
        )
        assert verdicts(done) == {3: Verdict.NO_MX, 6: Verdict.NO_MX, 7: Verdict.NO_MX}
        assert "gone.example" in done.rejected_rows.get(number=7).said

    def test_a_dns_that_does_not_answer_refuses_nobody(self, inside):
        import dns.asyncresolver

        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers, resolver.port = ["127.0.0.1"], 9
        resolver.lifetime = 0.2
        assert take("email\nann@gone.example\n", inside, check_mx=True, resolver=resolver).accepted == 1


class TestRejectedRows:
    def test_they_come_back_as_a_file_that_never_calculates(self, inside, alpha):
        done = take('email,name\n=1+1,Ann\nann,"=HYPERLINK(""x"")"\n＝a@a.example,\n\tbob,\nинфо,x\n', inside)
        lines = intake.rejected_csv(done)
        with context.public():
            text = "".join(lines)
        rows = list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline="")))
        assert rows[0] == ["Row", "Address", "Reason", "Detail"]
        assert [row[0] for row in rows[1:]] == ["2", "3", "4", "5", "6"]
        assert [row[1] for row in rows[1:]] == ["'=1+1", "ann", "'＝a@a.example", "bob", "инфо"]
        assert rows[1][2] == Verdict.FORMULA.label
        for row in rows:
            for cell in row:
                assert cell[:1] not in set("=+-@\t\r＝＋－＠")

    def test_every_one_is_there_over_many_pages(self, inside):
        done = take("email\n" + "bad\n" * 4_500, inside)
        assert sum(1 for _ in intake.rejected_csv(done)) == 4_501
        assert intake.rejected_counts(done) == {"bad_syntax": 4_500}

    def test_each_says_what_is_wrong_in_the_language_of_whoever_looks(self, inside):
        done = take("email,name\nann@a.example,Ann\nAnn@a.example,Ann\nbob@localhost,Bob\n", inside)
        repeated, nowhere = done.rejected_rows.all()
        assert (repeated.said, nowhere.said) == (
            "The same address is in row 2.",
            "“localhost” is no name that a domain can have.",
        )
        with translation.override("ru"):
            assert repeated.said == "Этот адрес уже есть в строке 2."
            assert nowhere.said == "«localhost» — недопустимое имя домена."
            assert "«localhost»" in "".join(intake.rejected_csv(done))


class TestCommand:
    def run(self, capsys, *words):
        call_command("import_contacts", *map(str, words))
        return capsys.readouterr().out

    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "people.csv"
        path.write_text(PEOPLE + "bad,,,\n")
        return path

    def test_it_makes_the_list_and_ends_with_a_table(self, alpha, file, capsys):
        said = self.run(capsys, file, "--list", "New", "--agency", "alpha")
        assert "people.csv: 3 rows" in said
        assert "Not an email address" in said
        with context.entered(alpha):
            assert Subscription.objects.filter(list__name="New").count() == 2
        self.run(capsys, file, "--list", "New", "--agency", "alpha")

    def test_a_terminal_sees_a_bar(self, alpha, file, capsys, monkeypatch):
        monkeypatch.setattr("sys.stdout.isatty", lambda: True)
        said = self.run(capsys, file, "--list", "New", "--agency", "alpha")
        assert "Reading rows" in said
        assert "people.csv: 3 rows" in said

    def test_it_prints_one_json_object(self, alpha, file, capsys):
        said = json.loads(self.run(capsys, file, "--list", "New", "--agency", "alpha", "--json"))
        assert said.pop("seconds") >= 0
        assert said == {"rows": 3, "accepted": 2, "rejected": {"bad_syntax": 1}}

    def test_a_refused_file_an_unknown_agency_and_a_missing_file_are_clear_errors(self, alpha, beta, file, tmp_path):
        with pytest.raises(CommandError, match="Known: alpha, beta"):
            call_command("import_contacts", file, "--list", "New", "--agency", "gamma")
        with pytest.raises(CommandError, match="No such file"):
            call_command("import_contacts", tmp_path / "no.csv", "--list", "New", "--agency", "alpha")
        file.write_text("name\nAnn\n")
        with pytest.raises(CommandError, match=r"nothing was imported\. Row 1: No column"):
            call_command("import_contacts", file, "--list", "New", "--agency", "alpha")
        with pytest.raises(CommandError, match="--list"):
            call_command("import_contacts", file, "--list", "x" * 121, "--agency", "alpha")


class TestDemoFile:
    def test_it_has_1200_rows_of_which_60_are_bad_in_ten_ways(self, inside, tmp_path):
        path = tmp_path / "contacts.csv"
        write_contacts(path)
        done = take(path.read_bytes(), inside)
        assert (done.rows, done.accepted) == (1_200, 1_140)
        assert intake.rejected_counts(done) == dict.fromkeys(sorted(KINDS), 6)
        assert Contact.objects.count() == Subscription.objects.count() == 1_140
        assert not Contact.objects.exclude(email__endswith=".example").exists()
        numbers = [row.number for row in done.rejected_rows.all()]
        assert min(numbers) < 200
        assert max(numbers) > 1_000

    def test_it_is_the_same_file_for_the_same_seed(self, tmp_path):
        for name, seed in (("a", 1), ("b", 1), ("c", 2)):
            write_contacts(tmp_path / name, rows=100, bad=10, seed=seed)
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
        assert (tmp_path / "a").read_text(encoding="utf-8").splitlines()[0] == ",".join(HEADER)

    def test_it_refuses_numbers_that_do_not_come_out_even(self, tmp_path):
        with pytest.raises(ValueError, match="multiple of 10"):
            write_contacts(tmp_path / "x", bad=61)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.binary(max_size=300),
    st.sampled_from([b"", b"email,name\n", b"email;name\n\xef\xbb\xbf", b"\xff\xfe", b"PK\x03\x04"]),
)
def test_no_bytes_break_it(inside, data, start):
    file = io.BytesIO(start + data)
    with contextlib.suppress(intake.IntakeRefused):
        intake.import_file(file, file_name="any.csv", into=inside, now=NOW)
    last = Intake.objects.latest("pk")
    assert last.status == (Intake.Status.FAILED if last.problem else Intake.Status.DONE)
    assert last.rows == last.accepted + last.rejected
