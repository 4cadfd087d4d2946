"""Faults in slow motion: each plays one of them step by step, through real accounts, and says what came of it.

No line means that everything held. `guards` lists what must be taken out for a line to appear.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import Any
from unittest import mock

from django.db import Error, connection, connections

from campaigns import audit, caps, control, delivery, dispatch, lifecycle
from campaigns.delivery import Batch, Delivery, Lines
from campaigns.lifecycle import Claimed
from campaigns.models import Message
from providers.accounts import ledger as accounts
from providers.accounts import rate
from providers.accounts.models import Account, Allotment
from providers.senders import ledger as senders
from providers.senders.models import Sender, SenderDomain
from tenants import context
from tests.chaos.scene import Scene
from tests.stage import NOON

LATER = NOON + timedelta(minutes=6)


class Killed(BaseException):
    """What the end of a worker looks like from inside: nothing after it is done any more."""


# --- what workers do


def queue(scene: Scene, count: int, *, through: str = "smtp", **fields: Any) -> None:
    """Queue so many mails of Alpha's for one account."""
    scene.launch_for("alpha", count, now=NOON, **fields)
    with in_alpha(scene):
        account = scene.accounts[through]
        Message.objects.update(account=account, planned=account)


@contextmanager
def in_alpha(scene: Scene) -> Iterator[None]:
    with context.entered(scene.agencies["alpha"]):
        yield


def allotment(scene: Scene, through: str = "smtp") -> Allotment:
    with context.public():
        return Allotment.objects.select_related("account").get(
            agency=scene.agencies["alpha"], account=scene.accounts[through]
        )


def claim(scene: Scene, count: int, *, now: datetime = NOON, through: str = "smtp") -> list[Claimed]:
    with in_alpha(scene):
        return dispatch.claim_batch(scene.agencies["alpha"], allotment(scene, through), now=now, limit=count)


def send(scene: Scene, batch: list[Claimed], *, now: datetime = NOON, through: str = "smtp") -> None:
    """What a worker does with what it has claimed."""
    account = scene.accounts[through]
    with in_alpha(scene), Lines(account) as lines:
        until = now + timedelta(minutes=1)
        Delivery(scene.agencies["alpha"], account, lines, lambda: now, until=until).run(Batch(batch), lambda: None)


def drain(scene: Scene, *, now: datetime = NOON) -> None:
    """Send whatever may go through any account, until nothing moves any more."""
    for _ in range(3):
        moved = False
        for account in scene.accounts.values():
            with in_alpha(scene):
                result = dispatch.drain(account.pk, clock=lambda: now, until=now + timedelta(minutes=1))
            moved |= bool(result.sent or result.moved_to)
        if not moved:
            return


def rescue(scene: Scene, *, now: datetime = LATER) -> None:
    with in_alpha(scene):
        lifecycle.rescue(now=now)


@contextmanager
def dying_at(verb: str) -> Iterator[None]:
    """A worker that is killed as it comes to this verb of lifecycle."""
    with mock.patch.object(lifecycle, verb, side_effect=Killed), suppress(Killed):
        yield


@contextmanager
def once_after(module: Any, name: str, work: Callable[[], None]) -> Iterator[None]:
    """The first time that this function has returned, something else happens before its caller goes on."""
    real = getattr(module, name)
    waiting = [work]

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        if waiting:
            waiting.pop()()
        return result

    with mock.patch.object(module, name, wrapped):
        yield


@contextmanager
def meanwhile(scene: Scene, module: Any, name: str, work: Callable[[], None]) -> Iterator[list[str]]:
    """The same, in a worker of its own: until it has done it, or waits for what its caller holds."""
    found: list[str] = []
    pids: list[int] = []
    over = threading.Event()

    def other() -> None:
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                pids.append(cursor.fetchone()[0])
            work()
        except (Error, RuntimeError) as error:
            found.append(f"{type(error).__name__}: {error}")
        finally:
            connections.close_all()
            over.set()

    thread = threading.Thread(target=other)

    def start() -> None:
        thread.start()
        while not over.wait(0.01):
            with connection.cursor() as cursor:
                cursor.execute("SELECT cardinality(pg_blocking_pids(pid)) > 0 FROM unnest(%s::int[]) pid", [pids])
                if any(row[0] for row in cursor.fetchall()):
                    return

    with once_after(module, name, start):
        yield found
    thread.join(30)


# --- the faults


def killed_on_the_wire(scene: Scene) -> list[str]:
    """The mails have left, and the worker dies before it can say so."""
    queue(scene, 4)
    with in_alpha(scene), dying_at("sent"):
        dispatch.drain(scene.accounts["smtp"].pk, clock=lambda: NOON, until=LATER)
    rescue(scene)
    drain(scene, now=LATER)
    return scene.findings(now=LATER, doubted_most=4)


def killed_before_the_wire(scene: Scene) -> list[str]:
    """The worker dies with mails in its hands that it has not tried."""
    queue(scene, 4)
    with in_alpha(scene), dying_at("begin"):
        dispatch.drain(scene.accounts["smtp"].pk, clock=lambda: NOON, until=LATER)
    rescue(scene)
    drain(scene, now=LATER)
    return scene.findings(now=LATER)


def crash_of_postgresql(scene: Scene) -> list[str]:
    """PostgreSQL crashes when the mails have left, and with it go the marks that were not flushed to disk."""
    queue(scene, 4)
    with in_alpha(scene), dying_at("sent"):
        dispatch.drain(scene.accounts["smtp"].pk, clock=lambda: NOON, until=LATER)
    with in_alpha(scene), connection.cursor() as cursor:
        cursor.execute("UPDATE campaigns_message SET attempted_at = NULL WHERE status = 'claimed'")
        # PostgreSQL does this to an unlogged table.
        cursor.execute("DELETE FROM server_epoch")
    rescue(scene)
    drain(scene, now=LATER)
    return scene.findings(now=LATER, doubted_most=4)


def poison(scene: Scene) -> list[str]:
    """A mail ends every worker that prepares it."""
    queue(scene, 1)
    now = NOON
    for _ in range(5):
        batch = claim(scene, 1, now=now)
        now += timedelta(minutes=6)
        rescue(scene, now=now)
    return ["a fifth worker was given the mail that had ended four"] if batch else []


def slow_before_the_wire(scene: Scene) -> list[str]:
    """A worker sleeps for longer than its lease, and wakes up when another one has its mails."""
    queue(scene, 1)
    slow = claim(scene, 1)
    rescue(scene)
    other = claim(scene, 1, now=LATER)
    send(scene, slow, now=LATER)
    send(scene, other, now=LATER)
    return scene.findings(now=LATER)


def slow_to_say_sent(scene: Scene) -> list[str]:
    """It says that it has sent what is not its own any more."""
    queue(scene, 1)
    slow = claim(scene, 1)
    rescue(scene)
    other = claim(scene, 1, now=LATER)
    with in_alpha(scene):
        lifecycle.sent([(slow[0], "id")], now=LATER)
    send(scene, other, now=LATER)
    return scene.findings(now=LATER)


def slow_to_give_back(scene: Scene) -> list[str]:
    """It gives back what another one has on the wire by now."""
    queue(scene, 1)
    slow = claim(scene, 1)
    rescue(scene)
    other = claim(scene, 1, now=LATER)
    with once_after(lifecycle, "begin", lambda: lifecycle.release(slow)):
        send(scene, other, now=LATER)
    drain(scene, now=LATER)
    return scene.findings(now=LATER)


def two_claim_at_once(scene: Scene) -> list[str]:
    """Two workers claim the same mails in the same moment, each with senders of its own."""
    queue(scene, 2)
    found, batches = race(scene, dispatch, "_due")
    for batch in batches:
        send(scene, batch)
    drain(scene)
    return [*found, *scene.findings(now=NOON)]


def race(scene: Scene, module: Any, name: str) -> tuple[list[str], list[list[Claimed]]]:
    """A worker claims one mail, and in the middle of that another one does the same."""
    batches: list[list[Claimed]] = []
    with meanwhile(scene, module, name, lambda: batches.append(claim(scene, 1))) as found:
        try:
            batches.append(claim(scene, 1))
        except (Error, RuntimeError) as error:
            found.append(f"{type(error).__name__}: {error}")
    return found, batches


def last_of_the_account(scene: Scene) -> list[str]:
    """Two workers reserve the last mail of an account in the same moment."""
    Account.objects.filter(name="smtp").update(per_day=2)
    queue(scene, 3)
    claim(scene, 1)
    return oversold(scene, 2, race(scene, accounts, "_lock")[0])


def last_of_a_sender(scene: Scene) -> list[str]:
    """Two workers choose the same sender, who may send one mail more."""
    queue(scene, 3)
    with in_alpha(scene):
        Sender.objects.update(active=False)
        Sender.objects.filter(address="s0@smtp0.alpha.example").update(active=True, per_day=2)
    claim(scene, 1)
    return oversold(scene, 2, race(scene, senders, "take_seats")[0])


def last_of_a_domain(scene: Scene) -> list[str]:
    """Two workers choose two senders of a domain that may send one mail more."""
    queue(scene, 3)
    with in_alpha(scene):
        SenderDomain.objects.update(per_day=2)
        Sender.objects.exclude(domain__name="smtp0.alpha.example").update(active=False)
    claim(scene, 1)
    return oversold(scene, 2, race(scene, senders, "take_seats")[0])


def last_of_a_campaign(scene: Scene) -> list[str]:
    """Two workers claim first mails of a campaign that may write to one more contact today."""
    queue(scene, 3, new_contacts_per_day=2)
    claim(scene, 1)
    return oversold(scene, 2, race(scene, caps, "lock")[0])


def oversold(scene: Scene, most: int, found: Sequence[str] = ()) -> list[str]:
    """What was claimed beyond the quota, or what the database's own CHECK had to refuse."""
    connection.set_schema_to_public()
    count = scene.statuses()["claimed"]
    return [*found, *([f"{count} mails were claimed of a quota of {most}"] if count > most else [])]


def one_second(scene: Scene) -> list[str]:
    """Two workers ask for the same second of a slow account."""
    account = scene.accounts["smtp"]
    account.per_second = 1  # type: ignore[assignment]
    granted = sum(rate.take(account, 1)[0] for _ in range(2))
    return [f"{granted} mails in a second that has room for one"] if granted > 1 else []


def lost_answer_of_resend(scene: Scene) -> list[str]:
    """Resend takes a mail and its answer is lost: it is asked again with the same key."""
    scene.script("resend=lost_answers:1")
    queue(scene, 6, through="resend")
    drain(scene)
    return scene.findings(now=NOON)


def refused_after_a_lost_answer(scene: Scene) -> list[str]:
    """Resend takes the tenth mail, its answer is lost, and then Resend refuses to answer again."""
    scene.script("resend=lost_answers:10", "resend=waves:1")
    queue(scene, 10, through="resend")
    for _ in range(10):
        send(scene, claim(scene, 1, through="resend"), through="resend")
    for minute in range(1, 4):
        drain(scene, now=NOON + timedelta(minutes=minute))
    return scene.findings(now=LATER, doubted_most=1)


def lost_answer_of_sendgrid(scene: Scene) -> list[str]:
    """SendGrid takes a mail and its answer is lost: nobody may try again."""
    scene.script("sendgrid=lost_answers:3")
    queue(scene, 6, through="sendgrid")
    drain(scene)
    return scene.findings(now=NOON, doubted_most=2)


def cut_after_data(scene: Scene) -> list[str]:
    """The mail server takes a mail and cuts the line before it says so."""
    scene.script("smtp=lost_answers:3")
    queue(scene, 6)
    drain(scene)
    return scene.findings(now=NOON, doubted_most=2)


def opted_out_after_the_claim(scene: Scene) -> list[str]:
    """A contact leaves while a worker holds the mail to them."""
    queue(scene, 1)
    batch = claim(scene, 1)
    with in_alpha(scene):
        delivery.suppress_address(batch[0].contact["email"], "asked to stop")
    send(scene, batch)
    return [f"{address} had opted out and has got a mail" for address in scene.taken()]


def paused_after_the_claim(scene: Scene) -> list[str]:
    """A campaign is paused while a worker holds its mails."""
    queue(scene, 1)
    batch = claim(scene, 1)
    with in_alpha(scene):
        control.pause(scene.campaigns[0][1])
    send(scene, batch)
    return [f"{address} has got a mail of a paused campaign" for address in scene.taken()]


def cancelled_while_claimed(scene: Scene) -> list[str]:
    """A campaign is cancelled while a worker holds its mails, and the worker dies."""
    queue(scene, 1)
    claim(scene, 1)
    with in_alpha(scene):
        control.cancel(scene.campaigns[0][1], now=NOON)
    rescue(scene)
    return [
        f"a mail of a cancelled campaign is {status} for ever" for status in scene.statuses() if status != "cancelled"
    ]


def all_refuse(scene: Scene) -> list[str]:
    """Every account refuses, so every mail is given back."""
    scene.script("resend=down", "sendgrid=down", "smtp=down")
    queue(scene, 6)
    drain(scene)
    scene.script()
    drain(scene, now=NOON + timedelta(hours=2))
    for minute in range(6):
        drain(scene, now=NOON + timedelta(hours=2, minutes=minute))
    return scene.findings(now=NOON + timedelta(hours=3))


def midnight(scene: Scene) -> list[str]:
    """A sender has used its day up just before midnight, and a new one begins."""
    evening = NOON.replace(hour=22, minute=30)
    queue(scene, 12)
    with in_alpha(scene):
        Sender.objects.update(active=False)
        Sender.objects.filter(address="s0@smtp0.alpha.example").update(active=True, per_day=4, per_hour=4)
    # Berlin's midnight is 23:00 here.
    claim(scene, 12, now=evening)
    claim(scene, 12, now=evening + timedelta(hours=1))
    return oversold(scene, 4)


def one_hour(scene: Scene) -> list[str]:
    """Everything has waited for hours, and one sender could send all of its day at once."""
    queue(scene, 12)
    with in_alpha(scene):
        Sender.objects.update(active=False)
        Sender.objects.filter(address="s0@smtp0.alpha.example").update(active=True, per_day=12, per_hour=4)
    claim(scene, 12)
    claim(scene, 12)
    return oversold(scene, 4)


def audit_drifts() -> list[str]:
    """What the ledgers say otherwise than the messages."""
    connection.set_schema_to_public()
    return [str(drift) for drift in audit.audit_quota().drifts]
