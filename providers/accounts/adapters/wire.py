from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from providers.accounts.envelope import Envelope
from providers.accounts.errors import DeliveryError

# Signs a whole mail, given the sender's domain in ASCII and small letters; callable in any thread.
Sign = Callable[[str, bytes], bytes]


class Wire(ABC):
    """A line to one account at a provider: opened at the first mail, kept for many. One per thread."""

    @abstractmethod
    def send(self, envelope: Envelope, following: Envelope | None = None) -> str | None:
        """Hand over one mail, in at most one attempt; return the provider's id, None if it did not tell one.

        `following` is what this line will be given next, for a wire that can save waiting with it. It is not sent.
        Raises DeliveryError and nothing else; on return the provider has taken the mail.
        """

    def send_together(self, envelopes: Sequence[Envelope], key: str) -> list[str | DeliveryError | None]:
        """Hand over several mails in one request, where the kind of account has `together`, in at most one attempt.

        The same key and envelopes are delivered once within 24 hours. Each mail's result is the provider's id, or why
        it alone was refused. Raises DeliveryError when it is about the request as a whole.
        """
        raise NotImplementedError

    @abstractmethod
    def verify(self) -> None:
        """Sign in without sending anything; raises DeliveryError that names the setting to look at."""

    @abstractmethod
    def close(self) -> None:
        """Drop the connection; harmless twice, and the next mail opens a new one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
