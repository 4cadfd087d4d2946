import time
from dataclasses import dataclass
from enum import Enum
from fnmatch import fnmatchcase

PROVIDERS = ("resend", "sendgrid", "smtp")

# Kind → (what its value means, its default). None: the kind takes no value.
KINDS: dict[str, tuple[str, float | str | None]] = {
    "down": ("", None),
    "slow": ("seconds before each answer", 0.2),
    "throttle": ("mails a second that pass", 10.0),
    "lost_answers": ("every how many accepted mails the answer is lost", 10.0),
    "refuse": ("pattern of the addresses that are refused, such as refused*", "refused*"),
    "silent": ("", None),
    "timeout_after_acceptance": ("every how many accepted mails there is no answer", 1.0),
    "cut_after_data": ("every how many mails the line is cut when all of it is there, and none of it is taken", 10.0),
    "waves": ("how many requests get a 429, then a 503, then a 500, after ten times as many that pass", 10.0),
}
_WHOLE = ("lost_answers", "timeout_after_acceptance", "cut_after_data", "waves")
_WAVES = (*(200,) * 10, 429, 503, 500)


class FaultError(ValueError):
    """A fault that cannot be scripted; its text says what can."""


@dataclass(frozen=True)
class Fault:
    """One scripted fault of one provider. `value` is what KINDS says, None for the kind's default."""

    provider: str
    kind: str
    value: float | str | None = None

    def __post_init__(self) -> None:
        if self.provider not in PROVIDERS:
            raise FaultError(f"no provider {self.provider!r}: use one of {', '.join(PROVIDERS)}")
        if self.kind not in KINDS:
            raise FaultError(f"no fault {self.kind!r}: use one of {', '.join(KINDS)}")
        if self.value is None:
            object.__setattr__(self, "value", KINDS[self.kind][1])
        elif KINDS[self.kind][1] is None:
            raise FaultError(f"{self.kind} takes no value")
        elif isinstance(self.value, float | int) and not 0 < self.value < 100_000:
            raise FaultError(f"{self.kind}: {KINDS[self.kind][0]} must be more than 0")
        elif self.kind in _WHOLE and self.value != int(self.value):
            raise FaultError(f"{self.kind}: {KINDS[self.kind][0]} must be a whole number")

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.provider}={self.kind}"
        value = f"{self.value:g}" if isinstance(self.value, float) else self.value
        return f"{self.provider}={self.kind}:{value}"


def parse(text: str) -> Fault:
    """`provider=kind` or `provider=kind:value`; raises FaultError that names what is allowed."""
    provider, equals, rest = text.strip().partition("=")
    if not equals:
        raise FaultError(f"{text!r} is not provider=fault, such as resend=down or smtp=lost_answers:5")
    kind, colon, value = rest.partition(":")
    if not colon:
        return Fault(provider, kind)
    if isinstance(KINDS.get(kind, ("", ""))[1], float):
        try:
            return Fault(provider, kind, float(value))
        except ValueError as error:
            if isinstance(error, FaultError):
                raise
            raise FaultError(f"{kind}: {value!r} is not a number ({KINDS[kind][0]})") from None
    return Fault(provider, kind, value)


class Answer(Enum):
    """What becomes of the answer to a mail that was accepted."""

    GIVEN = "given"
    LOST = "lost"
    NEVER = "never"


class Script:
    """The faults of one provider that are on now, and what they need to remember."""

    def __init__(self) -> None:
        self.active: dict[str, Fault] = {}
        self._accepted = 0
        self._second = 0
        self._passed = 0
        self._asked = 0
        self._given = 0

    def set(self, fault: Fault) -> None:
        """Switch a fault on; one of the same kind is replaced."""
        self.active[fault.kind] = fault
        self._accepted = self._asked = self._given = 0

    def clear(self) -> None:
        """Switch everything off."""
        self.active.clear()

    @property
    def down(self) -> bool:
        return "down" in self.active

    @property
    def silent(self) -> bool:
        """Whether nothing is told of what becomes of mails."""
        return "silent" in self.active

    @property
    def latency(self) -> float:
        """Seconds before an answer."""
        fault = self.active.get("slow")
        return float(fault.value) if fault and fault.value else 0.0

    def wave(self) -> int:
        """The HTTP status that this request meets, 200 where it passes. Called once for each."""
        fault = self.active.get("waves")
        if fault is None:
            return 200
        self._asked += 1
        return _WAVES[(self._asked - 1) // int(fault.value or 1) % len(_WAVES)]

    def cuts(self) -> bool:
        """Whether the line is cut now that all of a mail is there. Called once for each."""
        fault = self.active.get("cut_after_data")
        if fault is None:
            return False
        self._given += 1
        return self._given % int(fault.value or 1) == 0

    def passes(self) -> bool:
        """Whether this second still has room for a mail, and take it."""
        fault = self.active.get("throttle")
        if fault is None:
            return True
        second = int(time.monotonic())
        if second != self._second:
            self._second, self._passed = second, 0
        self._passed += 1
        return self._passed <= float(fault.value or 0)

    def refuses(self, address: str) -> bool:
        """Whether this recipient is refused for good. The pattern matches the address or its local part."""
        fault = self.active.get("refuse")
        if fault is None:
            return False
        lower = address.lower()
        return any(fnmatchcase(candidate, str(fault.value).lower()) for candidate in (lower, lower.partition("@")[0]))

    def answer(self) -> Answer:
        """Called once for each accepted mail."""
        self._accepted += 1
        for kind, answer in (("lost_answers", Answer.LOST), ("timeout_after_acceptance", Answer.NEVER)):
            fault = self.active.get(kind)
            if fault is not None and self._accepted % int(fault.value or 1) == 0:
                return answer
        return Answer.GIVEN
