"""A mail server for what comes back: bounces, complaints, replies. It stores each mail, then says 250.

How each ended is counted by day.

Only mail to its own domains is taken, so it relays nothing; what it cannot store, the other server keeps and brings
again.
"""

import asyncio
import logging
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session
from django.db import close_old_connections
from django.utils import timezone

from providers.accounts import inbox
from providers.accounts.models import InboundDay
from tenants.tally import Tally

logger = logging.getLogger(__name__)

MOST_RECIPIENTS = 50
# Seconds without a word, after which a session is ended.
PATIENCE = 60
# Longer lines than the 998 characters of RFC 5321 are written by servers that bounce, and read by all others.
LONGEST_LINE = 1 << 20
_REFUSALS = (
    ("552", InboundDay.Result.TOO_LARGE),
    ("550 5.7.1", InboundDay.Result.FOREIGN),
    ("452", InboundDay.Result.TOO_MANY),
    ("451", InboundDay.Result.NOT_STORED),
    ("500 Line too long", InboundDay.Result.LONG_LINE),
)
# Each holds a connection to the database.
_WRITERS = 4


class Receiver:
    """Answers the commands of aiosmtpd's sessions."""

    def __init__(self, domains: Collection[str], *, one_recipient: bool = False) -> None:
        # With LMTP there would be an answer for each recipient after the text, which aiosmtpd does not give.
        self._domains = frozenset(domain.lower() for domain in domains)
        self._most_recipients = 1 if one_recipient else MOST_RECIPIENTS
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="inbox")
        self._tally: Tally[InboundDay.Result] = Tally(lambda counts: inbox.count(counts, now=timezone.now()))

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, rcpt_options: list[str]
    ) -> str:
        """Take only what is ours."""
        if address.rpartition("@")[2].lower() not in self._domains:
            return "550 5.7.1 no mail is taken here for that domain"
        if len(envelope.rcpt_tos) >= self._most_recipients:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        envelope.rcpt_options.extend(rcpt_options)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Store the mail, then take it."""
        raw = envelope.original_content or b""
        await asyncio.get_running_loop().run_in_executor(
            self._writers, self._keep, (envelope.mail_from or "").strip("<>"), list(envelope.rcpt_tos), raw
        )
        return "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """What cannot be done now, such as storing a mail, the other server tries again; why is not its business."""
        logger.error("a mail could not be taken", exc_info=error)
        return "451 4.3.0 try again later"

    def answered(self, status: str) -> None:
        """Count a refusal, whoever made it; this is called with each answer."""
        if status[:1] in "45":
            found = (result for words, result in _REFUSALS if status.startswith(words))
            self._tally.add(next(found, InboundDay.Result.PROTOCOL))

    def close(self) -> None:
        """Let what is being stored end, and write down what was counted."""
        self._writers.shutdown()
        self._tally.flush()

    def _keep(self, sender: str, recipients: list[str], raw: bytes) -> None:
        close_old_connections()
        new = inbox.keep(sender, recipients, raw)
        self._tally.add(InboundDay.Result.STORED if new else InboundDay.Result.REPEATED)


class _Counted:
    """Of both: the receiver hears of every answer, also of those that aiosmtpd gives itself."""

    line_length_limit = LONGEST_LINE

    async def push(self, status: Any) -> None:
        await super().push(status)  # type: ignore[misc]
        self.event_handler.answered(status if isinstance(status, str) else status.decode())  # type: ignore[attr-defined]


class _Smtp(_Counted, SMTP):
    pass


class _Lmtp(_Counted, LMTP):
    pass


async def serve(
    receiver: Receiver, *, host: str, port: int, hostname: str, most_bytes: int, lmtp: bool = False
) -> asyncio.Server:
    """Listen until the server is closed. Raises OSError when the port cannot be had."""
    kind: Any = _Lmtp if lmtp else _Smtp

    def session() -> Any:
        return kind(
            receiver,
            data_size_limit=most_bytes,
            enable_SMTPUTF8=True,
            hostname=hostname,
            ident="ESMTP" if not lmtp else "LMTP",
            timeout=PATIENCE,
        )

    return await asyncio.get_running_loop().create_server(session, host, port)
