from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

from providers.sandbox.faults import PROVIDERS

KEPT = 2000


@dataclass(frozen=True, slots=True)
class Delivery:
    """One mail to one recipient. `content` is the request's JSON or, from SMTP, the whole mail."""

    provider: str
    account: str
    sender: str
    recipient: str
    message_id: str
    content: Any


class Tally:
    """What was delivered. Every answer counts, also one that was lost on the way back."""

    def __init__(self, kept: int = KEPT) -> None:
        self._kept = kept
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.providers: Counter[str] = Counter(dict.fromkeys(PROVIDERS, 0))
        self.accounts: Counter[str] = Counter()
        self.senders: Counter[str] = Counter()
        self.recipients: Counter[str] = Counter()
        self.message_ids: Counter[tuple[str, str]] = Counter()
        self.requests: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.latest: deque[Delivery] = deque(maxlen=self._kept)

    def record(self, delivery: Delivery) -> None:
        """Count one delivery."""
        recipient = delivery.recipient.lower()
        self.providers[delivery.provider] += 1
        self.accounts[delivery.account] += 1
        self.senders[delivery.sender.lower()] += 1
        self.recipients[recipient] += 1
        if delivery.message_id:
            self.message_ids[recipient, delivery.message_id] += 1
        self.latest.append(delivery)

    def snapshot(self, *, detail: bool = False) -> dict[str, Any]:
        """Numbers as plain values for JSON.

        `duplicates`: deliveries beyond the first of each recipient, which is right for a campaign of one
        step. `repeated_message_ids`: beyond the first of each recipient and Message-ID, right for any.
        `requests`: sends asked for, whatever the answer. `troubles`: scripted answers of 500 and more, by provider and
        status. `detail` adds the counts per sender and recipient.
        """
        counts: dict[str, Any] = {
            "accepted": dict(self.providers),
            "accounts": dict(self.accounts),
            "requests": dict(self.requests),
            "troubles": dict(self.troubles),
            "distinct_recipients": len(self.recipients),
            "duplicates": self.recipients.total() - len(self.recipients),
            "repeated_message_ids": self.message_ids.total() - len(self.message_ids),
            "distinct_senders": len(self.senders),
            "max_per_sender": max(self.senders.values(), default=0),
        }
        if detail:
            counts |= {"recipients": dict(self.recipients), "senders": dict(self.senders)}
        return counts

    def messages(self, recipient: str = "") -> list[dict[str, Any]]:
        """The latest deliveries, oldest first; only those to `recipient` if given."""
        return [
            {
                "provider": one.provider,
                "account": one.account,
                "sender": one.sender,
                "recipient": one.recipient,
                "message_id": one.message_id,
                "content": one.content.decode("utf-8", "replace") if isinstance(one.content, bytes) else one.content,
            }
            for one in self.latest
            if not recipient or one.recipient.lower() == recipient.lower()
        ]
