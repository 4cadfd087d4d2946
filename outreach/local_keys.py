"""Keys of a local installation: made once, kept readable by their owner only."""

import base64
import json
import os
import secrets
from contextlib import suppress
from pathlib import Path

from outreach.embedded.place import not_ours


def ensure(var: Path) -> dict[str, str]:
    """SECRET_KEY and SECRETS_KEYS of this checkout, made at the first call. Two processes at once get the same ones."""
    try:
        return _ensure(var / "keys.json", var)
    except PermissionError as error:
        raise SystemExit(not_ours(Path(error.filename))) from error


def _ensure(path: Path, var: Path) -> dict[str, str]:
    var.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        made = {
            "SECRET_KEY": secrets.token_urlsafe(50),
            "SECRETS_KEYS": "local:" + base64.b64encode(secrets.token_bytes(32)).decode(),
        }
        draft = var / f"keys.{os.getpid()}.{secrets.token_hex(4)}"
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            json.dump(made, file)
        # A hard link fails where the file exists, so the first writer wins and nobody reads half a file.
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    found: dict[str, str] = json.loads(path.read_text())
    return found
