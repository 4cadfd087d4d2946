"""The only writer of CampaignDay and RecipientDay: what a campaign itself allows a day, on the agency's days.

A first mail counts against the cap on new contacts, every mail against the one on its recipient's domain. Each domain
has the same cap, those where anybody may have an address too: it is the receiving server that minds. Only campaigns
that have such a cap have rows here, and a cap stays as it was at launch, so what was counted can be given back.

Locks: after messages and before the account's ledger, campaign days before recipient days, each in order of its key.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date

from django.db import connection
from django.db.models import F

from campaigns.models import Campaign, CampaignDay, RecipientDay, Step


@dataclass(frozen=True, slots=True)
class Cap:
    """What a campaign allows a day; None is no limit. `first_step` is the step whose mails are first mails."""

    campaign_id: int
    first_step: int
    new_contacts: int | None
    per_domain: int | None


@dataclass(frozen=True, slots=True)
class Mail:
    """What counts of a mail."""

    campaign_id: int
    step_id: int
    domain: str


@dataclass(slots=True)
class Rooms:
    """The room that is left in locked rows: by campaign, and by campaign and domain."""

    caps: Mapping[int, Cap]
    campaigns: dict[int, int] = field(default_factory=dict)
    domains: dict[tuple[int, str], int] = field(default_factory=dict)

    def take(self, mail: Mail) -> bool:
        """Whether there is room for this mail; if so it is taken."""
        cap = self.caps.get(mail.campaign_id)
        if cap is None:
            return True
        first = cap.new_contacts is not None and mail.step_id == cap.first_step
        key = (mail.campaign_id, mail.domain)
        if first and self.campaigns[mail.campaign_id] <= 0:
            return False
        if cap.per_domain is not None and self.domains[key] <= 0:
            return False
        if first:
            self.campaigns[mail.campaign_id] -= 1
        if cap.per_domain is not None:
            self.domains[key] -= 1
        return True


def domain_of(email: str) -> str:
    """What the mails to an address count under."""
    return email.rpartition("@")[2].lower()


def of(campaigns: Iterable[Campaign]) -> dict[int, Cap]:
    """The caps of those of the campaigns that have any, by campaign."""
    capped = [one for one in campaigns if one.new_contacts_per_day is not None or one.per_domain_per_day is not None]
    if not capped:
        return {}
    steps = Step.objects.filter(campaign__in=[one.pk for one in capped]).order_by("campaign", "position")
    firsts = dict(steps.distinct("campaign").values_list("campaign", "pk"))
    return {
        one.pk: Cap(one.pk, firsts[one.pk], one.new_contacts_per_day, one.per_domain_per_day)
        for one in capped
        if one.pk in firsts
    }


def lock(caps: Mapping[int, Cap], mails: Iterable[Mail], *, day: date) -> Rooms:
    """Lock the rows that these mails count in, and read what is left. Call in the transaction that locked the mails."""
    rooms = Rooms(caps)
    campaigns, domains = _counted(caps, mails)
    with connection.cursor() as cursor:
        if campaigns:
            keys = sorted(campaigns)
            limits = {key: caps[key].new_contacts or 0 for key in keys}
            cursor.execute(_OPEN_CAMPAIGNS, [day, keys, list(limits.values())])
            cursor.execute(_LOCK_CAMPAIGNS, [day, keys])
            rooms.campaigns = {key: limits[key] - used for key, used in cursor.fetchall()}
        if domains:
            pairs = sorted(domains)
            ids, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            cursor.execute(_OPEN_DOMAINS, [day, ids, names, [caps[key].per_domain for key in ids]])
            cursor.execute(_LOCK_DOMAINS, [ids, names, day])
            rooms.domains = {(key, name): (caps[key].per_domain or 0) - used for key, name, used in cursor.fetchall()}
    return rooms


def spend(caps: Mapping[int, Cap], mails: Iterable[Mail], *, day: date) -> None:
    """Count these mails in locked rows; the CHECKs refuse what the room did not allow."""
    campaigns, domains = _counted(caps, mails)
    with connection.cursor() as cursor:
        if campaigns:
            keys = sorted(campaigns)
            limits = [caps[key].new_contacts for key in keys]
            cursor.execute(_SPEND_CAMPAIGNS, [keys, [campaigns[key] for key in keys], limits, day])
        if domains:
            pairs = sorted(domains)
            ids, names = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
            limits = [caps[key].per_domain for key in ids]
            cursor.execute(_SPEND_DOMAINS, [ids, names, [domains[pair] for pair in pairs], limits, day])


def give_back(counts: Mapping[tuple[int, date], int], by_domain: Mapping[tuple[int, str, date], int]) -> None:
    """Return mails that were surely not sent: (campaign, day) → first mails, (campaign, domain, day) → mails."""
    for (campaign_id, day), count in sorted(counts.items()):
        CampaignDay.objects.filter(campaign=campaign_id, day=day).update(used=F("used") - count)
    for (campaign_id, domain, day), count in sorted(by_domain.items()):
        RecipientDay.objects.filter(campaign=campaign_id, domain=domain, day=day).update(used=F("used") - count)


def spent_campaigns(caps: Mapping[int, Cap], *, day: date) -> set[int]:
    """Campaigns that have written to as many new contacts as they may on this day."""
    capped = [key for key, cap in caps.items() if cap.new_contacts is not None]
    rows = CampaignDay.objects.filter(campaign__in=capped, day=day) if capped else ()
    return {row.campaign_id for row in rows if row.used >= (caps[row.campaign_id].new_contacts or 0)}


def spent_domains(cap: Cap, *, day: date) -> list[str]:
    """Domains to which the campaign has sent as many mails as it may on this day."""
    if cap.per_domain is None:
        return []
    spent = RecipientDay.objects.filter(campaign=cap.campaign_id, day=day, used__gte=cap.per_domain)
    return list(spent.values_list("domain", flat=True))


def _counted(caps: Mapping[int, Cap], mails: Iterable[Mail]) -> tuple[Counter[int], Counter[tuple[int, str]]]:
    campaigns: Counter[int] = Counter()
    domains: Counter[tuple[int, str]] = Counter()
    for mail in mails:
        cap = caps.get(mail.campaign_id)
        if cap is not None and cap.new_contacts is not None and mail.step_id == cap.first_step:
            campaigns[mail.campaign_id] += 1
        if cap is not None and cap.per_domain is not None:
            domains[mail.campaign_id, mail.domain] += 1
    return campaigns, domains


_OPEN_CAMPAIGNS = """
INSERT INTO campaigns_campaignday (campaign_id, day, allowed, used)
SELECT n.id, %s, n.allowed, 0 FROM unnest(%s::bigint[], %s::int[]) AS n (id, allowed) ORDER BY n.id
ON CONFLICT (campaign_id, day) DO NOTHING
"""
_LOCK_CAMPAIGNS = """
SELECT campaign_id, used FROM campaigns_campaignday WHERE day = %s AND campaign_id = ANY(%s)
ORDER BY campaign_id FOR UPDATE
"""
_OPEN_DOMAINS = """
INSERT INTO campaigns_recipientday (campaign_id, domain, day, allowed, used)
SELECT n.id, n.domain, %s, n.allowed, 0
FROM unnest(%s::bigint[], %s::text[], %s::int[]) AS n (id, domain, allowed) ORDER BY n.id, n.domain COLLATE "C"
ON CONFLICT (campaign_id, day, domain) DO NOTHING
"""
_LOCK_DOMAINS = """
SELECT d.campaign_id, d.domain, d.used
FROM campaigns_recipientday d JOIN unnest(%s::bigint[], %s::text[]) AS n (id, domain)
  ON d.campaign_id = n.id AND d.domain = n.domain
WHERE d.day = %s
ORDER BY d.campaign_id, d.domain COLLATE "C" FOR UPDATE OF d
"""
# What is allowed never grows past the cap or what was used before, so the CHECK catches what a lock should have.
_SPEND_CAMPAIGNS = """
UPDATE campaigns_campaignday d SET used = d.used + n.count, allowed = GREATEST(d.used, n.allowed)
FROM unnest(%s::bigint[], %s::int[], %s::int[]) AS n (id, count, allowed)
WHERE d.campaign_id = n.id AND d.day = %s
"""
_SPEND_DOMAINS = """
UPDATE campaigns_recipientday d SET used = d.used + n.count, allowed = GREATEST(d.used, n.allowed)
FROM unnest(%s::bigint[], %s::text[], %s::int[], %s::int[]) AS n (id, domain, count, allowed)
WHERE d.campaign_id = n.id AND d.domain = n.domain AND d.day = %s
"""
