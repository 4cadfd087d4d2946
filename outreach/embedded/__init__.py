"""PostgreSQL without set-up.

With no DATABASE_URL, every process that needs the database calls `start()`: it runs the PostgreSQL that ships
as a Python package, in `var/`, on a Unix socket that only its owner can reach, with real durability settings.

server     one process's use of it: started by the first that needs it, stopped by the last
programs   which PostgreSQL, and how its programs are run (never as root)
place      where the data and the socket are, and whose they are
"""

import atexit
import os
from pathlib import Path

from outreach.embedded.place import PORT, EmbeddedError, place_of
from outreach.embedded.programs import DATABASE, USER
from outreach.embedded.server import Server

__all__ = ["EmbeddedError", "Server", "connection_settings", "needed", "start"]


def needed() -> bool:
    """Whether this installation has no PostgreSQL of its own, so that ours must run."""
    return not os.environ.get("DATABASE_URL")


def connection_settings(var: Path) -> dict[str, str]:
    """Where the server of this `var/` listens or would listen; starts nothing."""
    return {"HOST": str(place_of(var).sockets), "PORT": PORT, "NAME": DATABASE, "USER": USER}


_used: dict[Path, Server] = {}


def start(var: Path) -> Server:
    """Run the server of this `var/` until the last process that called this has ended.

    Called again, it starts a server anew that has gone, and does nothing to one that runs. Raises EmbeddedError.
    """
    if var not in _used:
        _used[var] = Server(var)
        atexit.register(_used[var].release)
    _used[var].start()
    return _used[var]
