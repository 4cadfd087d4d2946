"""Pure: whose turn it is. A mail has a head start of so many days, by its class and its step, and the longer it waits
the sooner it goes: in a queue the mail goes first that was due first, had each been due its head start earlier.

So nothing starves: what comes in later by more than the difference of their head starts goes behind.
"""

from datetime import UTC, datetime, timedelta

from providers.accounts.models import TrafficClass

ONE_DAY = timedelta(days=1)
# Days. A thread that has begun is not kept waiting by contacts who have heard nothing yet, for two weeks.
BULK, COLD, FOLLOW_UP, HIGH = 0, 7, 14, 30
# Every head start that there is: whoever reads a queue asks for the first mails of each, for they are sorted in it by
# head start, and a moment that held both could not be told from one of a mail that is not due yet.
LEVELS = range(HIGH + 1)
# The order of turns, of messages `m`. Days of 24 hours: others would be as long as the session's time zone has them.
TURN = "m.due_at - m.priority * interval '24 hours'"
ORDER = f"{TURN}, m.id"
AGED = f"""LEAST({HIGH}, m.priority + GREATEST(0, floor(
    extract(epoch FROM %(until)s::timestamptz - m.due_at) / {ONE_DAY.total_seconds():.0f}
)))"""


def head_start(traffic_class: str, *, follow_up: bool) -> int:
    """The days by which a mail goes before one of a bulk campaign that is due at the same time."""
    if traffic_class == TrafficClass.HIGH_PRIORITY:
        return HIGH
    if follow_up or traffic_class == TrafficClass.FOLLOW_UPS:
        return FOLLOW_UP
    return COLD if traffic_class == TrafficClass.COLD_OUTREACH else BULK


def aged(priority: int, due_at: datetime, until: datetime) -> int:
    """The head start, in days, of a mail that waits for its campaign's hours from when it was due: every whole day of
    that counts as age, which its new due time would forget. `AGED` says the same of messages `m`."""
    return min(HIGH, priority + max(0, (until - due_at) // ONE_DAY))


def turn(priority: int, due_at: datetime) -> datetime:
    """The moment by which queues are sorted, as `TURN` has it."""
    return due_at.astimezone(UTC) - priority * ONE_DAY
