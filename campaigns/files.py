"""Files that go with a step's mails: attached, or pictures that their HTML shows as `cid:` and the file's name.

They are the step's, and so go with each of its texts; a picture goes only with those that show it. Once a step has
mails its files stay as they are: whoever looks at a mail again, or sends it again, has the same one.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from typing import Any

from django.core.files.uploadedfile import UploadedFile
from django.db import transaction
from django.utils.translation import gettext as _

from campaigns.models import Campaign, Message, Step, StepFile

# What every provider takes, all as of 2026-11 and after base64: Postmark 10 MB
# (postmarkapp.com/support/article/1056-what-are-the-attachment-and-email-size-limits), Postfix 10,240,000 bytes
# (postfix.org/postconf.5.html#message_size_limit; SMTP refuses by the server's own SIZE), Mailgun 25 MB
# (documentation.mailgun.com), SendGrid 30 MB (twilio.com/docs/sendgrid/api-reference/mail-send/limitations),
# Amazon SES 40 MB (docs.aws.amazon.com/ses/latest/dg/quotas.html) and Resend 40 MB
# (resend.com/docs/dashboard/emails/attachments).
MOST_ENCODED = 7 * 1024 * 1024
MOST_BYTES = 5 * 1024 * 1024
MOST_FILES = 10
_LONGEST_NAME, _LONGEST_NAME_BYTES = 100, 200

_OFFICE, _OLD_OFFICE = b"PK\x03\x04", b"\xd0\xcf\x11\xe0"
_WORD = "application/vnd.openxmlformats-officedocument"


@dataclass(frozen=True, slots=True)
class _Kind:
    """A kind of file: its type, and how its content begins; `text` is UTF-8, in which anything may stand first."""

    content_type: str
    begins: tuple[bytes, ...] = ()
    picture: bool = False

    @property
    def text(self) -> bool:
        return not self.begins

    def is_of(self, content: bytes) -> bool:
        """Whether this is the content of such a file."""
        if self.content_type == "image/webp":
            return content[:4] == b"RIFF" and content[8:12] == b"WEBP"
        if self.begins:
            return content.startswith(self.begins)
        try:
            return "\0" not in content.decode()
        except UnicodeDecodeError:
            return False


# What all providers take and mail programs open. The types are those that Python knows by these names, for Resend
# drops mails where they are not the same (anymail.backends.resend, make_attachment).
KINDS: Mapping[str, _Kind] = {
    "pdf": _Kind("application/pdf", (b"%PDF-",)),
    "docx": _Kind(f"{_WORD}.wordprocessingml.document", (_OFFICE,)),
    "xlsx": _Kind(f"{_WORD}.spreadsheetml.sheet", (_OFFICE,)),
    "pptx": _Kind(f"{_WORD}.presentationml.presentation", (_OFFICE,)),
    "odt": _Kind("application/vnd.oasis.opendocument.text", (_OFFICE,)),
    "ods": _Kind("application/vnd.oasis.opendocument.spreadsheet", (_OFFICE,)),
    "odp": _Kind("application/vnd.oasis.opendocument.presentation", (_OFFICE,)),
    "doc": _Kind("application/msword", (_OLD_OFFICE,)),
    "xls": _Kind("application/vnd.ms-excel", (_OLD_OFFICE,)),
    "ppt": _Kind("application/vnd.ms-powerpoint", (_OLD_OFFICE,)),
    "rtf": _Kind("application/rtf", (b"{\\rtf",)),
    "txt": _Kind("text/plain"),
    "csv": _Kind("text/csv"),
    "ics": _Kind("text/calendar"),
    "png": _Kind("image/png", (b"\x89PNG\r\n\x1a\n",), picture=True),
    "jpg": _Kind("image/jpeg", (b"\xff\xd8\xff",), picture=True),
    "jpeg": _Kind("image/jpeg", (b"\xff\xd8\xff",), picture=True),
    "gif": _Kind("image/gif", (b"GIF87a", b"GIF89a"), picture=True),
    "webp": _Kind("image/webp", (b"RIFF",), picture=True),
}
# https://support.google.com/mail/answer/6590, as of 2026-11: mails with these do not arrive.
BLOCKED = frozenset(
    [
        "ade",
        "adp",
        "apk",
        "appx",
        "appxbundle",
        "bat",
        "cab",
        "chm",
        "cmd",
        "com",
        "cpl",
        "diagcab",
        "diagcfg",
        "diagpkg",
        "dll",
        "dmg",
        "ex",
        "ex_",
        "exe",
        "hta",
        "img",
        "ins",
        "iso",
        "isp",
        "jar",
        "jnlp",
        "js",
        "jse",
        "lib",
        "lnk",
        "mde",
        "mjs",
        "msc",
        "msi",
        "msix",
        "msixbundle",
        "msp",
        "mst",
        "nsh",
        "pif",
        "ps1",
        "scr",
        "sct",
        "shb",
        "sys",
        "vb",
        "vbe",
        "vbs",
        "vhd",
        "vxd",
        "wsc",
        "wsf",
        "wsh",
        "xll",
    ]
)
_picture_name = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_shown = re.compile(
    r"""(\b(?:src|background)\s*=\s*["']?\s*|\burl\(\s*["']?\s*)cid:((?:\{\{.*?\}\}|[^"'\s>)])*)""", re.IGNORECASE
)


class FileRefusedError(ValueError):
    """The files are as they were; says what is wrong and what to do."""


def add(step: Step, name: str, content: bytes, *, inline: bool = False, by: str, now: datetime) -> StepFile:
    """Let this file go with the step's mails. Raises FileRefusedError."""
    kind = check(name, content, inline=inline)
    with transaction.atomic():
        _lock(step)
        found = list(of(step))
        if len(found) >= MOST_FILES:
            raise FileRefusedError(_("A mail has %(most)d files at most.") % {"most": MOST_FILES})
        if any(one.name.lower() == name.lower() for one in found):
            raise FileRefusedError(
                _("The step has a file “%(name)s” already: remove that one first, or give this one another name.")
                % {"name": name}
            )
        total = sum(encoded(one.size) for one in found) + encoded(len(content))
        if total > MOST_ENCODED:
            raise FileRefusedError(
                _("With “%(name)s” the files would have %(size)d kB as they are sent; %(most)d kB may go. Link to it.")
                % {"name": name, "size": -(-total // 1024), "most": MOST_ENCODED // 1024}
            )
        return StepFile.objects.create(
            step=step,
            name=name,
            content_type=kind.content_type,
            inline=inline,
            content=content,
            size=len(content),
            digest=sha256(content).hexdigest(),
            by=by,
            added_at=now,
        )


def read(upload: "UploadedFile[Any]") -> bytes:
    """What was uploaded, unless it is too much. Raises FileRefusedError."""
    _check_size(upload.name or "", upload.size or 0)
    content: bytes = upload.read()
    return content


def remove(file: StepFile) -> None:
    """Let this file go with the step's mails no more. Raises FileRefusedError."""
    with transaction.atomic():
        _lock(file.step)
        file.delete()


def of(step: Step) -> Iterable[StepFile]:
    """The files of the step without their content."""
    return step.files.defer("content")


def settled(step: Step) -> bool:
    """Whether its files stay as they are."""
    return Message.objects.filter(step=step).exists()


def encoded(size: int) -> int:
    """How many bytes of a mail so many bytes of a file are: base64 in lines of 76 characters."""
    characters = -(-size // 3) * 4
    return characters + 2 * (characters // 76)


def check(name: str, content: bytes, *, inline: bool) -> _Kind:
    """The kind of a file that may go with mails. Raises FileRefusedError."""
    _check_name(name)
    kind = _kind_of(name)
    if not content:
        raise FileRefusedError(_("“%(name)s” is empty.") % {"name": name})
    _check_size(name, len(content))
    if not kind.is_of(content):
        if kind.text:
            raise FileRefusedError(_("“%(name)s” is not text in UTF-8: save it as such.") % {"name": name})
        raise FileRefusedError(_("“%(name)s” is not what its name says: look at the file.") % {"name": name})
    if inline and not kind.picture:
        raise FileRefusedError(
            _("“%(name)s” cannot be shown in the mail: that is for PNG, JPEG, GIF and WebP.") % {"name": name}
        )
    if inline and not _picture_name.fullmatch(name):
        raise FileRefusedError(
            _("“%(name)s”: a picture's name has Latin letters, digits, dots, hyphens and underscores alone.")
            % {"name": name}
        )
    return kind


def shown(html: str) -> list[str]:
    """The names of the pictures that this HTML shows."""
    return list(dict.fromkeys(found[2] for found in _shown.finditer(html)))


def unknown(html: str, names: Collection[str]) -> str | None:
    """What is wrong with the pictures of this HTML, the step having those of these names."""
    missing = [name for name in shown(html) if name not in names]
    if not missing:
        return None
    words = _("The HTML shows “cid:%(name)s”, which is no picture of the step's files: upload it, or take it out.")
    return words % {"name": missing[0][:60]}


def problems(steps: Iterable[Step]) -> list[str]:
    """What is wrong with the pictures of these steps, one line each."""
    return [
        _("Step %(step)s: %(why)s") % {"step": text.name, "why": why}
        for step in steps
        for text in step.texts
        if shown(text.html) and (why := unknown(text.html, pictures(step)))
    ]


def pictures(step: Step) -> set[str]:
    """The names of the step's pictures."""
    return set(step.files.filter(inline=True).values_list("name", flat=True))


def with_content_ids(html: str, host: str) -> str:
    """The HTML with the Content-IDs of the pictures that it shows."""
    return _shown.sub(lambda found: f"{found[1]}cid:{content_id(found[2], host)}", html)


def content_id(name: str, host: str) -> str:
    """What a picture is called in a mail."""
    return f"{name}@{host}"


def _lock(step: Step) -> None:
    Campaign.objects.select_for_update().get(pk=step.campaign_id)
    if settled(step):
        raise FileRefusedError(_("The step has mails already, so its files stay as they are: add another step."))


def _check_size(name: str, size: int) -> None:
    if size > MOST_BYTES:
        raise FileRefusedError(
            _("“%(name)s” has %(size)d kB; a file may have %(most)d kB. Make it smaller, or link to it.")
            % {"name": name, "size": -(-size // 1024), "most": MOST_BYTES // 1024}
        )


def _check_name(name: str) -> None:
    if not name.strip() or name != name.strip():
        raise FileRefusedError(_("The file needs a name that neither begins nor ends with a space."))
    if not name.isprintable() or set(name) & set('/\\:*?"<>|'):
        raise FileRefusedError(
            _("The file's name has a line break, an invisible character or one of %(these)s in it: rename it.")
            % {"these": '/ \\ : * ? " < > |'}
        )
    if len(name) > _LONGEST_NAME or len(name.encode()) > _LONGEST_NAME_BYTES:
        raise FileRefusedError(
            _("The file's name is too long: it may have %(most)d characters, half as many outside of Europe.")
            % {"most": _LONGEST_NAME}
        )


def _kind_of(name: str) -> _Kind:
    first, *endings = (part.strip().lower() for part in name.split("."))
    if blocked := [ending for ending in endings if ending in BLOCKED]:
        raise FileRefusedError(
            _("“%(name)s” is refused: Gmail and others take no mail with a “.%(ending)s”, wherever it is in the name.")
            % {"name": name, "ending": blocked[0]}
        )
    kind = KINDS.get(endings[-1]) if first and endings else None
    if kind is None:
        raise FileRefusedError(
            _("“%(name)s” is of no kind that may be sent. These may: %(known)s.")
            % {"name": name, "known": ", ".join(KINDS)}
        )
    if doubled := [ending for ending in endings[:-1] if ending in KINDS]:
        raise FileRefusedError(
            _("“%(name)s” ends twice, with “.%(ending)s” and another, as viruses do: rename it.")
            % {"name": name, "ending": doubled[0]}
        )
    return kind
