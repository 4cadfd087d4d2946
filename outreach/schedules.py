"""Every periodic job in one table: name → (job, every so many minutes)."""

from collections.abc import Callable
from typing import Any

from campaigns import jobs as campaigns

SCHEDULES: dict[str, tuple[Callable[..., Any], int]] = {
    "take back and ring": (campaigns.tick, 1),
    "post events": (campaigns.post_events, 1),
    "ask accounts": (campaigns.checkup, 5),
    "pause what cannot go on": (campaigns.check_possible, 5),
    "warm up domains": (campaigns.warm, 60),
    "expire sign-ups": (campaigns.expire_sign_ups, 24 * 60),
    "choose variants": (campaigns.choose_variants, 24 * 60),
    "check the DNS of domains": (campaigns.check_dns, 24 * 60),
    "audit quotas": (campaigns.audit, 24 * 60),
    "audit mails": (campaigns.audit_ledger, 24 * 60),
}
