"""Where the data and the socket of one `var/` are, and whose they are."""

import hashlib
import os
import pwd
import re
import stat
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

PORT = "5432"

# Linux allows 107 bytes, macOS 103, for the path of a socket.
_SOCKET_PATH_BYTES = 100
_SOCKET_PATH_PLAIN = re.compile(r"[\w./ -]+", re.ASCII)
# Where root keeps what an unprivileged user must reach, when the checkout lies in a private folder.
_SYSTEM_STATE = Path("/var/lib/polza-outreach")


class EmbeddedError(Exception):
    """PostgreSQL cannot run here; the message says what to do."""


@dataclass(frozen=True)
class Place:
    data: Path
    sockets: Path
    uid: int
    gid: int


def place_of(var: Path) -> Place:
    """Changes nothing, so every process finds the same place."""
    data = _data_folder(var.resolve())
    uid, gid = _server_user(data)
    sockets = data
    path = str(data / f".s.PGSQL.{PORT}")
    if len(os.fsencode(path)) > _SOCKET_PATH_BYTES or not _SOCKET_PATH_PLAIN.fullmatch(path):
        # Not TMPDIR: two terminals may have different ones, and must find the same server.
        sockets = Path(f"/tmp/polza-{_digest(data)}-{uid}")  # noqa: S108 - owner and mode are checked
    return Place(data, sockets, uid, gid)


def _data_folder(var: Path) -> Path:
    data = var / "postgres"
    if data.exists() or not is_root() or _open_to_all(var):
        return data.resolve()
    return _SYSTEM_STATE / _digest(var) / "postgres"


def _server_user(data: Path) -> tuple[int, int]:
    """PostgreSQL refuses to run as root, so root lends it to whoever owns the data, at first to nobody."""
    if not is_root():
        return os.geteuid(), os.getegid()
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return owner.st_uid, owner.st_gid
    nobody = pwd.getpwnam("nobody")
    return nobody.pw_uid, nobody.pw_gid


def is_root() -> bool:
    return os.geteuid() == 0


def _open_to_all(folder: Path) -> bool:
    """Whether any user may enter this folder; one that is not made yet will be made so."""
    return all(step.stat().st_mode & 0o001 for step in (folder, *folder.parents) if step.exists())


def _digest(path: Path) -> str:
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def prepare(place: Place, var: Path) -> None:
    """Make the folders. Raises EmbeddedError if they are another user's."""
    try:
        _make_open_to_all(var)
        _make_open_to_all(place.data.parent)
    except PermissionError as error:
        raise EmbeddedError(not_ours(Path(error.filename))) from error
    if place.data.exists() and place.data.stat().st_uid != place.uid:
        raise EmbeddedError(not_ours(place.data))


def is_linked(place: Place, var: Path) -> bool:
    """Whether `var/postgres` is the data or leads to them."""
    return (var / "postgres").resolve() == place.data


def link(place: Place, var: Path) -> None:
    """Let `var/postgres` lead to the data, which begin anew: a `var/` that was removed took its keys along."""
    if place.data.exists():
        place.data.rename(place.data.with_name(f"postgres.before-{time.strftime('%Y%m%d-%H%M%S')}"))
    (var / "postgres").unlink(missing_ok=True)
    (var / "postgres").symlink_to(place.data)


def _make_open_to_all(folder: Path) -> None:
    if not folder.exists():
        _make_open_to_all(folder.parent)
        folder.mkdir(exist_ok=True)
        if is_root():
            folder.chmod(0o755)


def open_beside(place: Place, name: str) -> IO[bytes]:
    """Open a file beside the data: anew each time, because a lock belongs to the open file."""
    path = place.data.with_name(f"postgres.{name}")
    try:
        # The log quotes rows, so it is nobody else's to read.
        file = os.fdopen(os.open(path, os.O_APPEND | os.O_CREAT | os.O_WRONLY, 0o600), "ab")
    except PermissionError as error:
        raise EmbeddedError(not_ours(path)) from error
    if is_root():
        os.fchown(file.fileno(), place.uid, place.gid)
    return file


def own_folder(folder: Path, place: Place) -> None:
    """Make a folder that only the server's user may enter. Raises EmbeddedError if there is another one."""
    with suppress(FileExistsError):
        folder.mkdir(mode=0o700)
        if is_root():
            os.chown(folder, place.uid, place.gid)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != place.uid or found.st_mode & 0o077:
        raise EmbeddedError(f"{folder} is not a private folder of the database's user: remove it and try again.")


def not_ours(path: Path) -> str:
    """What to say when a file of `var/` may not be used."""
    # Not Path.exists, which raises where it may not look.
    while not os.path.exists(path):
        path = path.parent
    return (
        f"{path} belongs to the user {path.owner()}. Run this as the user that first ran it in this folder "
        "(root, if that was root), or remove var/ to begin anew (this deletes its data)."
    )
