"""Pure: how a queue empties on a virtual clock. The rules are those of real claims, asked of the same functions; only
the steps are longer: at most an hour, in which so many mails go as every limit together lets through.

What it takes for granted: every mail is taken at its first try, wires are never what is slow, domains that warm up get
no complaints, and nobody else uses more of an account than they have today. Two things are exact in the mean alone: the
gap between mails of a sender, whose random part is averaged, and whose domain a mail is to, where that is capped.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from itertools import accumulate, product
from typing import Any
from zoneinfo import ZoneInfo

from django.db import models
from django.utils.translation import gettext_lazy as _

from campaigns import failover, pace, paced, precedence, sequence
from campaigns.gaps import Gap, longest
from campaigns.planning import largest_remainder
from campaigns.reasons import Reason
from providers.accounts import adapters, ledger, rate
from providers.accounts.ledger import Limit
from providers.accounts.models import Account, Allotment, Period
from providers.accounts.routing import Route
from providers.senders import recovery, warmup
from providers.senders.ledger import HOURS, WINDOW, hour_of, local_day, next_day, per_hour
from providers.senders.standing import Group, Standing

NO_GAP = Gap()
HOUR, ONE_DAY = timedelta(hours=1), timedelta(days=1)
SHORT = timedelta(minutes=5)
# Workers are rung for every minute: a sender that has rested is asked at the next one.
TICK = timedelta(minutes=1)
HORIZON = timedelta(days=366)
# Longer than any quota lasts: if nothing has gone for so long, nothing ever will.
STUCK = timedelta(days=70)
NOON = time(12)
# Ticks of a day and an hour: nearly always a sender has rested by then, and what comes later is in proportion.
_KNOWN = 25 * 60


class Bound(models.TextChoices):
    """What keeps more mails from going on a day."""

    ACCOUNT_DAY = "account_day", _("The account's mails a day")
    ACCOUNT_MONTH = "account_month", _("The account's mails a month")
    ALLOTMENT = "allotment", _("Your share of the account")
    RATE = "rate", _("The account's mails a second")
    SENDERS = "senders", _("The senders' mails a day")
    SENDERS_HOUR = "senders_hour", _("The senders' mails an hour")
    DOMAIN_DAY = "domain_day", _("The sender domains' mails a day")
    WARMUP = "warmup", _("Sender domains warm up")
    RECOVERY = "recovery", _("Senders recover from bounces or complaints")
    GAP = "gap", _("The gap between two mails of a sender")
    NEW_CONTACTS = "new_contacts", _("The campaign's new contacts a day")
    RECIPIENT_DOMAIN = "recipient_domain", _("The campaign's mails a day to one domain")
    WINDOW = "window", _("The campaign does not send on this day")
    HOLIDAY = "holiday", _("A holiday")
    ACCOUNT_BLOCKED = "account_blocked", _("The account refuses mails")
    NO_SENDERS = "no_senders", _("The account has no active sender")
    NOTHING_LEFT = "nothing_left", _("Nothing is left to send")


@dataclass(frozen=True, slots=True)
class Through:
    """An account as the agency may use it, and what is used of its limits so far. `open` is whether it takes mails,
    `strict` whether only those to contacts who have given consent."""

    account: Account
    allotment: Allotment
    used: Mapping[Limit, int] = field(default_factory=dict)
    open: bool = True
    strict: bool = False


@dataclass(frozen=True, slots=True)
class Sending:
    """How a campaign sends. `accounts` are those that its mails have been given to, beside those where some wait: while
    any of its mails waits, the senders of all these keep its gap.

    `to_domains` counts recipient domains, where there is a cap on each: by mails to it that wait and that went today.
    `follow_ups` are its steps but for the first: each is reckoned to go to everybody who got the one before. Mails of
    the steps `by_itself`, by how many come before, share no request with others.
    """

    campaign_id: int
    traffic_class: str
    overflow: str
    gap: Gap = NO_GAP
    accounts: frozenset[int] = frozenset()
    new_contacts: int | None = None
    new_today: int = 0
    per_domain: int | None = None
    to_domains: Mapping[tuple[int, int], int] = field(default_factory=dict)
    follow_ups: Sequence[sequence.Step] = ()
    by_itself: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Waiting:
    """So many mails of a campaign at one account that are due together. `first`: they count as new contacts; `step` is
    how many of its steps come before theirs; `consented`: they may go to accounts that require consent."""

    campaign_id: int
    account_id: int
    priority: int
    due_at: datetime
    schedule: pace.Schedule
    count: int
    first: bool = False
    step: int = 0
    consented: bool = True


@dataclass(frozen=True, slots=True)
class Scene:
    """Everything that decides when the mails of an agency, whose zone that is, will go."""

    zone: ZoneInfo
    accounts: Sequence[Through]
    domains: Sequence[Standing]
    campaigns: Sequence[Sending]
    waiting: Sequence[Waiting]


@dataclass(frozen=True, slots=True)
class Day:
    """One of the agency's days of one campaign: mails by account, what kept the others back, how many are left."""

    day: date
    accounts: Mapping[int, int]
    bound: Bound
    left: int

    @property
    def total(self) -> int:
        """Mails of the day."""
        return sum(self.accounts.values())


@dataclass(frozen=True, slots=True)
class Run:
    """What became of one campaign; `left` are mails that had not gone when the simulation ended."""

    days: Sequence[Day]
    left: int

    @property
    def total(self) -> int:
        """All mails that were looked at."""
        return self.left + sum(day.total for day in self.days)


def simulate(scene: Scene, campaign_id: int | None, *, now: datetime, until: datetime | None = None) -> Run:
    """Send until nothing of this campaign is left (None is of all), nothing goes any more, or `until`, which is a year
    from now unless told."""
    return _Clockwork(scene, campaign_id, now).run(until or now + HORIZON)


@dataclass(frozen=True, slots=True)
class _Step:
    """A part of an hour of the clock: so many minutes; in `hours` a sender may send its day's mails."""

    hour: datetime
    ticks: int
    hours: float


class _Pace:
    """How many mails a sender sends in so many ticks after its first one, on average, if it always has one to send."""

    def __init__(self, gap: Gap) -> None:
        # Two mails are apart by the longer of their gaps, and then by what is left of a tick.
        parts: Counter[int] = Counter()
        for extra in range(gap.jitter + 1):
            parts[-int(-(gap.least + timedelta(seconds=extra)) // TICK) or 1] += 2 * extra + 1
        whole = (gap.jitter + 1) ** 2
        chances = [(ticks, weight / whole) for ticks, weight in parts.items()]
        self.each_tick = 1 / sum(ticks * chance for ticks, chance in chances)
        at = [1.0]
        for tick in range(1, _KNOWN):
            at.append(sum(at[tick - ticks] * chance for ticks, chance in chances if ticks <= tick))
        self.counts = [0.0, *accumulate(at[1:], initial=0.0)]

    def __call__(self, ticks: int) -> float:
        if ticks < len(self.counts):
            return self.counts[ticks]
        return self.counts[-1] + (ticks - len(self.counts) + 1) * self.each_tick


class _Group:
    """Senders of one domain with one limit, reckoned together.

    `spare` are those that have rested and were not needed yet, `ticks` is how long ago all of them had rested: while
    there are always mails, how many go from then on is known by their pace.
    """

    __slots__ = ("group", "hours", "in_hours", "pace", "senders", "spare", "taken", "ticks", "today")

    def __init__(self, group: Group) -> None:
        self.group, self.senders, self.today = group, group.senders, group.used_today
        self.hours, self.in_hours = list(group.hours), sum(used for _, used in group.hours)
        self.spare, self.ticks = float(group.rested), 0 if group.rested >= group.senders else _KNOWN
        self.taken = 0
        self.pace: _Pace | None = None

    def begin(self, hour: datetime) -> None:
        while self.hours and self.hours[0][0] < hour - WINDOW:
            self.in_hours -= self.hours.pop(0)[1]
        if not self.hours or self.hours[-1][0] != hour:
            self.hours.append((hour, 0))

    def end(self, ticks: int) -> None:
        if self.taken:
            hour, used = self.hours[-1]
            self.hours[-1] = (hour, used + self.taken)
            self.in_hours += self.taken
            self.today += self.taken
        if self.pace is not None:
            self.spare = min(self.senders, self.flow(self.pace, ticks) - self.taken)
            self.ticks = 0 if self.spare >= self.senders else self.ticks + ticks
        self.taken = 0

    def allowed(self, standing: Standing, step: int, day: date) -> int:
        allowed = warmup.allowed(self.group.per_day, standing.plan, step)
        cap = recovery.cap_on(self.group.caps, day)
        return allowed if cap is None else min(allowed, cap)

    def room(self, allowed: int) -> int:
        return max(0, self.senders * allowed - max(self.today, self.in_hours) - self.taken)

    def room_of_hour(self, allowed: int, hours: float) -> int:
        most = per_hour(self.group.per_hour, allowed, hours)
        return max(0, self.senders * most - self.hours[-1][1] - self.taken)

    def flow(self, pace: _Pace, ticks: int) -> float:
        return self.spare + self.senders * (pace(self.ticks + ticks) - pace(self.ticks))

    def rested(self, pace: _Pace, ticks: int) -> int:
        return max(0, int(self.flow(pace, ticks) + 1e-6) - self.taken)


class _Domain:
    __slots__ = ("day", "groups", "pace", "standing", "step", "today")

    def __init__(self, standing: Standing, day: date) -> None:
        self.standing, self.step, self.today = standing, standing.step, standing.used_today
        self.day = day
        self.groups = [_Group(group) for group in standing.groups]
        self.pace: _Pace | None = None

    def allowed(self) -> int:
        allowed = warmup.allowed(self.standing.per_day, self.standing.domain_plan, self.step)
        cap = recovery.cap_on(self.standing.caps, self.day)
        return allowed if cap is None else min(allowed, cap)

    def room(self) -> int:
        return max(0, self.allowed() - self.today)

    def rooms(self, step: "_Step | None" = None, *, rest: bool = True) -> list[int]:
        """What each group may send, together no more than the domain: today, or in this step, resting or not."""
        left, found = self.room(), []
        for group in self.groups:
            allowed = group.allowed(self.standing, self.step, self.day)
            room = min(left, group.room(allowed))
            if step is not None:
                room = min(room, group.room_of_hour(allowed, step.hours))
            if step is not None and rest and self.pace is not None:
                room = min(room, group.rested(self.pace, step.ticks))
            left -= room
            found.append(room)
        return found

    def bound(self) -> Bound:
        """What keeps its senders from sending more today."""
        allowed = [group.allowed(self.standing, self.step, self.day) for group in self.groups]
        of_senders = sum(group.room(most) for group, most in zip(self.groups, allowed, strict=True))
        of_caps = [self.standing.caps] if self.room() < of_senders else [group.group.caps for group in self.groups]
        if any(recovery.cap_on(caps, self.day) is not None for caps in of_caps):
            return Bound.RECOVERY
        if self.room() < of_senders:
            return Bound.WARMUP if self.allowed() < self.standing.per_day else Bound.DOMAIN_DAY
        planned = any(most < group.group.per_day for group, most in zip(self.groups, allowed, strict=True))
        return Bound.WARMUP if planned else Bound.SENDERS

    def new_day(self, yesterday: date, day: date) -> None:
        since, last = self.standing.warms_since, max(len(self.standing.plan), len(self.standing.domain_plan))
        judged = self.standing.judged
        if since and since <= yesterday and self.step <= last and not (judged and judged >= yesterday):
            limits = [group.group.per_day for group in self.groups for _ in range(group.senders)]
            most = warmup.together(
                limits, self.standing.plan, self.standing.per_day, self.standing.domain_plan, self.step
            )
            self.step = warmup.next_step(self.step, warmup.Evidence(self.today, most), last=last)
        self.today = 0
        self.day = day
        for group in self.groups:
            group.today = 0


class _Quota:
    """What is left of an account."""

    __slots__ = (
        *("account", "allotment", "bounds", "day", "domains", "open", "per_tick", "requests", "strict", "together"),
        "used",
    )

    def __init__(self, through: Through, domains: Iterable[_Domain]) -> None:
        self.account, self.allotment, self.open = through.account, through.allotment, through.open
        self.strict = through.strict
        self.used = {_key(limit): used for limit, used in through.used.items()}
        self.domains = [one for one in domains if through.account.pk in one.standing.homes]
        self.day: date | None = None
        self.bounds: list[Limit] = []
        per_second = through.account.per_second
        self.per_tick = None if per_second is None else rate.pace(per_second) * TICK.total_seconds()
        self.together = adapters.KINDS[through.account.kind].together
        self.requests = 0.0

    def begin(self, now: datetime, ticks: int) -> None:
        day = ledger.utc_day(now)
        if day != self.day:
            self.day, self.bounds = day, ledger.limits(self.account, self.allotment, day=day)
        if self.per_tick is not None:
            # What the last step did not use is lost, but for the piece of a request.
            self.requests = self.requests % 1 + self.per_tick * ticks

    def rooms(self, *, by_itself: bool) -> list[tuple[int, Bound]]:
        """What each limit leaves for mails, each of which is a request `by_itself` or not."""
        found = [(max(0, limit.allowed - self.used.get(_key(limit), 0)), _of_limit(limit)) for limit in self.bounds]
        if self.per_tick is None:
            return found
        # Parts of requests add up to whole ones, but for what is lost where they are reckoned.
        return [*found, (int(self.requests * (1 if by_itself else self.together) + 1e-6), Bound.RATE)]

    def free(self) -> int:
        """What the agency may still send through it today, as routes see it."""
        quota = min(room for room, bound in self.rooms(by_itself=False) if bound is not Bound.RATE)
        return min(quota, sum(sum(one.rooms()) for one in self.domains))

    def bound(self, step: "_Step", room: int) -> Bound:
        """What binds the senders of the account, of whom so many mails can go."""
        if not self.domains:
            return Bound.NO_SENDERS
        if room < (today := sum(sum(one.rooms()) for one in self.domains)):
            this_hour = sum(sum(one.rooms(step, rest=False)) for one in self.domains)
            return Bound.GAP if room < min(today, this_hour) else Bound.SENDERS_HOUR
        weights: Counter[Bound] = Counter()
        for domain in self.domains:
            weights[domain.bound()] += sum(group.senders for group in domain.groups)
        return weights.most_common(1)[0][0]

    def spend(self, count: int, *, by_itself: bool) -> None:
        for limit in self.bounds:
            key = _key(limit)
            self.used[key] = self.used.get(key, 0) + count
        self.requests -= count if by_itself else count / self.together


class _Recipients:
    """Mails of a campaign by recipient domain, each capped a day. Which go first is not known, so all go alike."""

    __slots__ = ("cap", "kinds", "taken", "today")

    def __init__(self, cap: int, to_domains: Mapping[tuple[int, int], int]) -> None:
        self.cap = cap
        # [mails to the domain, how many of them may go today, how many such domains].
        self.kinds: list[list[float]] = [
            [waiting, min(waiting, max(0, cap - used)), count] for (waiting, used), count in to_domains.items()
        ]
        self._open()

    def room(self) -> int:
        return self.today - self.taken

    def new_day(self) -> None:
        part = self._part()
        for kind in self.kinds:
            kind[0] -= min(kind[1], part * kind[0])
            kind[1] = min(kind[0], self.cap)
        self.kinds = [kind for kind in self.kinds if kind[0] > 1e-9]
        self._open()

    def _open(self) -> None:
        # Parts of mails add up to whole ones, but for what is lost where they are reckoned.
        self.today, self.taken = int(sum(kind[1] * kind[2] for kind in self.kinds) + 0.01), 0

    def _part(self) -> float:
        """The part of each domain's mails that was looked at today, up to its cap."""
        if self.taken >= self.today:
            return 1.0
        low, high = 0.0, 1.0
        while high - low > 1e-12:
            part = (low + high) / 2
            went = sum(min(kind[1], part * kind[0]) * kind[2] for kind in self.kinds)
            low, high = (part, high) if went < self.taken else (low, part)
        return high


class _Campaign:
    __slots__ = ("accounts", "new_today", "recipients", "sending")

    def __init__(self, sending: Sending) -> None:
        self.sending, self.new_today = sending, sending.new_today
        self.accounts = set(sending.accounts)
        self.recipients = None if sending.per_domain is None else _Recipients(sending.per_domain, sending.to_domains)

    def rooms(self, first: bool) -> list[tuple[int, Bound]]:
        found = []
        if first and self.sending.new_contacts is not None:
            found.append((max(0, self.sending.new_contacts - self.new_today), Bound.NEW_CONTACTS))
        if self.recipients is not None:
            found.append((self.recipients.room(), Bound.RECIPIENT_DOMAIN))
        return found

    def spend(self, count: int, first: bool) -> None:
        if first:
            self.new_today += count
        if self.recipients is not None:
            self.recipients.taken += count

    def new_day(self) -> None:
        self.new_today = 0
        if self.recipients is not None:
            self.recipients.new_day()


@dataclass(slots=True)
class _Queue:
    """Mails that wait together."""

    campaign: _Campaign
    account_id: int
    priority: int
    due_at: datetime
    schedule: pace.Schedule
    first: bool
    left: int
    why: Bound | None = None
    step: int = 0
    consented: bool = True

    @property
    def by_itself(self) -> bool:
        return self.step in self.campaign.sending.by_itself

    @property
    def turn(self) -> tuple[datetime, int]:
        """Queues of one turn are mails that come in no order of their own."""
        return precedence.turn(self.priority, self.due_at), self.campaign.sending.campaign_id


def _alike(queue: _Queue) -> tuple[Any, ...]:
    """Queues of one account that are one."""
    return queue.turn, queue.schedule, queue.first, queue.step, queue.consented


class _Clockwork:
    def __init__(self, scene: Scene, campaign_id: int | None, now: datetime) -> None:
        self.zone, self.target, self.now = scene.zone, campaign_id, now
        self.day = local_day(now, scene.zone)
        self.domains = [_Domain(one, local_day(now, scene.zone)) for one in scene.domains]
        self.quotas = {one.account.pk: _Quota(one, self.domains) for one in scene.accounts}
        self.campaigns = {one.campaign_id: _Campaign(one) for one in scene.campaigns}
        self.queues = [
            _Queue(
                self.campaigns[one.campaign_id],
                one.account_id,
                one.priority,
                one.due_at,
                one.schedule,
                one.first,
                one.count,
                step=one.step,
                consented=one.consented,
            )
            for one in scene.waiting
            if one.count
        ]
        for queue in self.queues:
            queue.campaign.accounts.add(queue.account_id)
        own = [one for one in self.queues if self._looks_at(one.campaign)]
        self.total = sum(one.left for one in own)
        self.own_schedule = own[0].schedule if own else None
        self.open_until: dict[pace.Schedule, datetime | None] = {}
        self.following: dict[tuple[int, int, datetime, pace.Schedule, int, bool], _Queue] = {}
        self.went: dict[date, Counter[int]] = {}
        self.kept: dict[date, Counter[Bound]] = {}

    def run(self, until: datetime) -> Run:
        began, last_went = self.day, self.now
        while (left := self._left()) and self.now < until and self.now - last_went < STUCK:
            due = self._due()
            end = self._end(due, until)
            ticks = max(1, round((end - self.now) / TICK))
            if due:
                hours = min([HOURS, *(one.schedule.hours for one in self.queues)])
                last_went = end if self._step(due, _Step(hour_of(self.now), ticks, hours)) else last_went
            else:
                last_went += end - self.now
                self._rest(ticks)
            self.now = end
            self._turn_day()
        return Run(self._days(began), left)

    def _left(self) -> int:
        return sum(one.left for one in self.queues if self._looks_at(one.campaign))

    def _looks_at(self, campaign: _Campaign) -> bool:
        return self.target is None or campaign.sending.campaign_id == self.target

    def _due(self) -> list[_Queue]:
        """What may go now, in its order; what is closed waits until it opens."""
        for queue in self.queues:
            if queue.due_at <= self.now:
                self._set_aside(queue)
        return sorted((one for one in self.queues if one.due_at <= self.now), key=lambda one: one.turn)

    def _set_aside(self, queue: _Queue) -> None:
        known = queue.schedule in self.open_until
        end = self.open_until.get(queue.schedule)
        if known and (end is None or end > self.now):
            return
        if closed := paced.why_closed(queue.schedule, self.now):
            until = closed[1] or self.now + paced.NEVER
            queue.priority = precedence.aged(queue.priority, queue.due_at, until)
            queue.due_at = until
        else:
            self.open_until[queue.schedule] = pace.next_closed(queue.schedule, self.now)

    def _end(self, due: Sequence[_Queue], until: datetime) -> datetime:
        later = [one.due_at for one in self.queues if one.due_at > self.now]
        if not due:
            return min([*later, until])
        closing = [end for one in due if (end := self.open_until.get(one.schedule)) is not None]
        closing += [self.now + SHORT] if self._slowest_may_end() else []
        return min([hour_of(self.now) + HOUR, next_day(self.now, self.zone), until, *later, *closing])

    def _slowest_may_end(self) -> bool:
        """Whether the campaign for whose sake others go slowly may be done in this hour, and they go on faster then."""
        gaps = {one.campaign.sending.campaign_id: one.campaign.sending.gap for one in self.queues}
        slowest = max(gaps, key=lambda one: gaps[one])
        own = [one for one in self.queues if one.campaign.sending.campaign_id == slowest]
        if min(gaps.values()) == gaps[slowest] or any(one.due_at > self.now for one in own):
            return False
        senders = sum(group.senders for domain in self.domains for group in domain.groups)
        return sum(one.left for one in own) <= senders * (HOUR / max(gaps[slowest].least, TICK) + 1)

    def _step(self, due: list[_Queue], step: _Step) -> int:
        running = {one.campaign.sending.campaign_id: one.campaign for one in self.queues}
        for domain in self.domains:
            homes = domain.standing.homes
            domain.pace = _pace(
                longest(one.sending.gap for one in running.values() if not homes.isdisjoint(one.accounts))
            )
            for group in domain.groups:
                group.begin(step.hour)
        for quota in self.quotas.values():
            quota.begin(self.now, step.ticks)
        by_account: dict[int, list[_Queue]] = {}
        for queue in due:
            queue.why = None
            by_account.setdefault(queue.account_id, []).append(queue)
        went = 0
        # Once a minute each account is drained, and what it cannot send finds another way.
        minutes, busy = step.ticks, True
        while minutes and busy:
            minutes, busy, ring = minutes - 1, False, sorted(by_account)
            while ring:
                account_id = ring.pop(0)
                sent = self._drain(account_id, by_account[account_id], step)
                moved_to = self._relieve(account_id, by_account)
                busy = busy or sent > 0 or bool(moved_to)
                went += sent
                ring += sorted(moved_to)
        self._rest(step.ticks)
        self._note(by_account)
        self.queues = [one for one in self.queues if one.left]
        return went

    def _rest(self, ticks: int) -> None:
        for domain in self.domains:
            for group in domain.groups:
                group.end(ticks)

    def _drain(self, account_id: int, queues: list[_Queue], step: _Step) -> int:
        quota, went, first = self.quotas.get(account_id), 0, 0
        while first < len(queues):
            turn = queues[first].turn
            last = first + 1
            while last < len(queues) and queues[last].turn == turn:
                last += 1
            together = [one for one in queues[first:last] if one.left and one.due_at <= self.now]
            if together and (quota is None or not quota.open):
                for queue in together:
                    queue.why = Bound.ACCOUNT_BLOCKED
            elif together and quota is not None:
                went += self._send(quota, together, step)
            first = last
        return went

    def _send(self, quota: _Quota, queues: list[_Queue], step: _Step) -> int:
        """Send of these what may go: all of one campaign, at one account."""
        campaign, went = queues[0].campaign, 0
        for first, by_itself in product((True, False), (False, True)):
            some = [one for one in queues if one.left and one.first is first and one.by_itself is by_itself]
            if not some:
                continue
            want = sum(one.left for one in some)
            rooms = [*campaign.rooms(first), *quota.rooms(by_itself=by_itself)]
            caps: list[list[int]] = []
            if min(room for room, _ in rooms) > 0:
                caps = [domain.rooms(step) for domain in quota.domains]
                rooms.append((sum(map(sum, caps)), Bound.SENDERS))
            room, bound = min(rooms, key=lambda one: one[0])
            count = min(want, room)
            if count < want:
                self._hold_back(some, quota.bound(step, room) if bound is Bound.SENDERS else bound)
            if count:
                _take(quota.domains, caps, count)
                quota.spend(count, by_itself=by_itself)
                campaign.spend(count, first)
                if self._looks_at(campaign):
                    self.went.setdefault(self.day, Counter())[quota.account.pk] += count
                for queue, part in zip(some, largest_remainder(count, [one.left for one in some]), strict=True):
                    queue.left -= part
                    self._follow(queue, part)
            went += count
        return went

    def _follow(self, queue: _Queue, count: int) -> None:
        """What follows for the contacts of so many mails that go now, by the hour."""
        sending = queue.campaign.sending
        if not count or queue.step >= len(sending.follow_ups):
            return
        step = sending.follow_ups[queue.step]
        due_at = hour_of(pace.later(queue.schedule, self.now, step.delay, step.unit) + HOUR)
        key = (sending.campaign_id, queue.account_id, due_at, queue.schedule, queue.step + 1, queue.consented)
        if self._looks_at(queue.campaign):
            self.total += count
        found = self.following.get(key)
        if found is None or not found.left:
            level = precedence.head_start(sending.traffic_class, follow_up=True)
            found = _Queue(queue.campaign, queue.account_id, level, due_at, queue.schedule, False, 0)
            found.step, found.consented = queue.step + 1, queue.consented
            self.following[key] = found
            self.queues.append(found)
        found.left += count

    def _hold_back(self, queues: Iterable[_Queue], bound: Bound) -> None:
        for queue in queues:
            queue.why = bound
            if bound in (Bound.NEW_CONTACTS, Bound.RECIPIENT_DOMAIN):
                queue.due_at = next_day(self.now, self.zone)

    def _relieve(self, account_id: int, by_account: dict[int, list[_Queue]]) -> set[int]:
        here = self._route(account_id)
        leaving = failover.who_leaves(here, broken=True)
        going: dict[str, list[_Queue]] = {}
        for queue in by_account[account_id] if leaving else ():
            if queue.left and queue.due_at <= self.now and queue.campaign.sending.overflow in leaving:
                going.setdefault(queue.campaign.sending.traffic_class, []).append(queue)
        moved: set[int] = set()
        for traffic_class, queues in going.items():
            others = [route for one in self.quotas if one != account_id and (route := self._route(one)) is not None]
            left = sum(one.left for one in queues)

            def move(to: int, at_most: int, queues: list[_Queue] = queues) -> int:
                return self._move(queues, to, at_most, by_account)

            moved |= failover.spread(left, traffic_class, others, move)
        return moved

    def _move(self, queues: list[_Queue], to: int, at_most: int, by_account: dict[int, list[_Queue]]) -> int:
        done, strict = 0, self.quotas[to].strict
        for queue in queues:
            if strict and not queue.consented:
                continue
            part = min(queue.left, at_most - done)
            if not part:
                continue
            queue.campaign.accounts.add(to)
            there = by_account.setdefault(to, [])
            same = _alike(queue)
            found = next((one for one in there if _alike(one) == same), None)
            if found is None:
                found = _Queue(
                    queue.campaign,
                    to,
                    queue.priority,
                    queue.due_at,
                    queue.schedule,
                    queue.first,
                    0,
                    queue.why,
                    queue.step,
                    queue.consented,
                )
                there.append(found)
                there.sort(key=lambda one: one.turn)
                self.queues.append(found)
            found.left += part
            queue.left -= part
            done += part
        return done

    def _route(self, account_id: int) -> Route | None:
        quota = self.quotas.get(account_id)
        if quota is None:
            return None
        account = quota.account
        classes = frozenset(account.traffic_classes)
        return Route(
            account.pk, account.name, account.kind, classes, account.priority, quota.free(), quota.open, quota.strict
        )

    def _note(self, by_account: Mapping[int, list[_Queue]]) -> None:
        """Remember what keeps back the mails of the campaign that is looked at."""
        kept: Counter[Bound] = Counter()
        seen = False
        for queues in by_account.values():
            for queue in queues:
                if self._looks_at(queue.campaign):
                    seen = True
                    if queue.left and queue.why is not None:
                        kept[queue.why] += queue.left
        if seen:
            self.kept[self.day] = kept

    def _turn_day(self) -> None:
        day = local_day(self.now, self.zone)
        if day == self.day:
            return
        for domain in self.domains:
            domain.new_day(self.day, day)
        for campaign in self.campaigns.values():
            campaign.new_day()
        self.day = day

    def _days(self, first: date) -> list[Day]:
        left, found = self.total, []
        for number in range((max([*self.went, *self.kept], default=first) - first).days + 1):
            day = first + number * ONE_DAY
            went = self.went.get(day, Counter())
            left -= went.total()
            found.append(Day(day, dict(went), self._bound(day, left), left))
        return found

    def _bound(self, day: date, left: int) -> Bound:
        if not left:
            return Bound.NOTHING_LEFT
        if kept := self.kept.get(day):
            return kept.most_common(1)[0][0]
        if self.own_schedule is None:
            return Bound.WINDOW
        closed = paced.why_closed(self.own_schedule, datetime.combine(day, NOON, self.own_schedule.zone))
        return Bound.HOLIDAY if closed and closed[0] is Reason.HOLIDAY else Bound.WINDOW


def _take(domains: Sequence[_Domain], caps: Sequence[Sequence[int]], count: int) -> None:
    """Spread so many mails over groups of senders: those who have sent least today first, as the rotation does."""
    groups = [(domain, group) for domain in domains for group in domain.groups]
    rooms = [room for domain in caps for room in domain]
    sent = [(group.senders, group.today + group.taken) for _, group in groups]
    for (domain, group), part in zip(groups, _level(sent, rooms, count), strict=True):
        domain.today += part
        group.taken += part
        if domain.pace is not None and part:
            group.pace = domain.pace


def _level(sent: Sequence[tuple[int, int]], rooms: Sequence[int], count: int) -> list[int]:
    """`count` split so that all (senders, mails so far) come to the same mails a sender, as far as their rooms go."""
    if count >= sum(rooms):
        return list(rooms)

    def parts(level: float) -> list[int]:
        return [
            min(room, max(0, int(senders * level) - so_far))
            for (senders, so_far), room in zip(sent, rooms, strict=True)
        ]

    low, high = 0.0, max((so_far + room + 1) / senders for (senders, so_far), room in zip(sent, rooms, strict=True))
    while high - low > 1e-3:
        middle = (low + high) / 2
        low, high = (middle, high) if sum(parts(middle)) <= count else (low, middle)
    found = parts(low)
    for index, room in enumerate(rooms):
        more = min(room - found[index], count - sum(found))
        found[index] += more
    return found


@lru_cache(maxsize=64)
def _pace(gap: Gap) -> _Pace | None:
    return _Pace(gap) if any(gap) else None


def _key(limit: Limit) -> tuple[int | None, str, date]:
    return limit.agency_id, limit.period, limit.starts


def _of_limit(limit: Limit) -> Bound:
    if limit.agency_id is not None:
        return Bound.ALLOTMENT
    return Bound.ACCOUNT_DAY if limit.period == Period.DAY else Bound.ACCOUNT_MONTH
