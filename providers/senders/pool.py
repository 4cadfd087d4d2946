"""Many senders at once: an account's senders over an agency's domains."""

from collections.abc import Sequence
from datetime import date

from django.core.exceptions import ValidationError
from django.db import transaction
from django.utils.translation import gettext as _

from providers.accounts.models import Account, Allotment
from providers.senders import warming
from providers.senders.models import Home, Sender, SenderDomain


@transaction.atomic
def add_senders(
    allotment: Allotment,
    addresses: Sequence[tuple[str, str]],
    *,
    per_day: int = 50,
    per_hour: int | None = None,
    domain_per_day: int = 2000,
    warming_since: date | None = None,
) -> int:
    """Create (address, display name) senders of this account and their domains; return how many are new.

    New domains count as warm, unless they warm up since a day. Addresses that exist are left as they are, so the call
    can be repeated. Raises ValidationError when the
    allotment's number of senders would be exceeded, or a limit is below 1; then nothing is created.
    """
    limits = {"per_day": per_day, "per_hour": per_hour, "domain_per_day": domain_per_day}
    if low := [name for name, limit in limits.items() if limit is not None and limit < 1]:
        raise ValidationError({name: _("Write 1 or more.") for name in low})
    account = allotment.account
    # One at a time for an allotment, or two calls together would exceed it.
    Allotment.objects.select_for_update().get(pk=allotment.pk)
    names = sorted({address.rsplit("@", 1)[1] for address, _name in addresses})
    made = [SenderDomain(name=name, per_day=domain_per_day, warmup_started_on=warming_since) for name in names]
    for domain in made:
        warming.fill_in(domain)
    SenderDomain.objects.bulk_create(made, ignore_conflicts=True)
    domains = {domain.name: domain for domain in SenderDomain.objects.filter(name__in=names)}
    Home.objects.bulk_create(
        [Home(domain=domain, account=account) for domain in domains.values()], ignore_conflicts=True
    )
    known = set(Sender.objects.filter(domain__in=domains.values()).values_list("address", flat=True))
    new = [
        Sender(
            domain=domains[address.rsplit("@", 1)[1]],
            account=account,
            address=address,
            name=name,
            per_day=per_day,
            per_hour=per_hour,
        )
        for address, name in addresses
        if address not in known
    ]
    check_room(allotment, adding=len(new))
    Sender.objects.bulk_create(new, batch_size=1000)
    return len(new)


def check_room(allotment: Allotment, *, adding: int) -> None:
    """Raise ValidationError when so many more senders would exceed the agency's allotment at this account."""
    account: Account = allotment.account
    have = Sender.objects.filter(account=account).count()
    allowed = min(allotment.senders, account.sender_limit)
    if have + adding > allowed:
        raise ValidationError(
            _(
                "%(account)s allows this agency %(allowed)d senders; it has %(have)d, so %(adding)d more do not fit. "
                "Ask the operator for a larger allotment."
            )
            % {"account": account.name, "allowed": allowed, "have": have, "adding": adding}
        )
