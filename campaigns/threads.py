"""Pure: which of the mails that a contact has got a further one goes on with, by RFC 5322 section 3.6.4."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

_REPLY = re.compile(r"\s*re\s*:", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Sent:
    """A mail that went out, and when: its Message-ID, its step and variant, and their subject as it was written."""

    message_id: str
    step_id: int
    subject: str
    variant: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Thread:
    """The step that gave it its subject, as it was written, with its variant, and the Message-IDs so far."""

    step_id: int
    references: tuple[str, ...] = ()
    variant: str = ""
    subject: str = ""

    @property
    def headers(self) -> dict[str, str]:
        """What says that a mail is of the thread; nothing for the first of one."""
        if not self.references:
            return {}
        return {"In-Reply-To": self.references[-1], "References": " ".join(self.references)}

    def as_reply(self, subject: str) -> str:
        """The subject of a mail of the thread, once it is filled in."""
        return subject if not self.references or _REPLY.match(subject) else f"Re: {subject}"


def thread(before: Iterable[Sent], step_id: int, subject: str, variant: str = "") -> Thread:
    """The thread of a mail of this step after those `before`, in the order in which they went: an empty subject, or the
    one that the thread has, goes on with it, and another begins one."""
    found, current = Thread(step_id, variant=variant, subject=subject), None
    for mail in (*before, Sent("", step_id, subject, variant)):
        if current is None or mail.subject not in ("", current):
            found, current = Thread(mail.step_id, variant=mail.variant, subject=mail.subject), mail.subject
        if mail.message_id:
            found = replace(found, references=(*found.references, mail.message_id))
    return found
