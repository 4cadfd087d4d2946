"""A campaign's progress and its forecast as tables for a terminal."""

from rich.table import Table

from campaigns.forecast import Report
from campaigns.progress import Progress


def of(report: Progress) -> list[Table]:
    """What went where, what became of it, and why the rest did not go."""
    accounts = Table("account", "planned", "sent")
    for account in report.accounts:
        accounts.add_row(account.name, f"{account.planned:,}", f"{account.sent:,}")
    accounts.add_row("all", f"{report.total:,}", f"{report.sent:,}", style="bold")
    tables = [accounts]
    if any(one.count for one in report.told):
        told = Table("heard of those sent", "mails", "%")
        for one in report.told:
            count = f"{one.count:,}" if one.measured else "not measured"
            told.add_row(one.label, count, "" if one.percent is None else f"{one.percent:g}")
            for reader, label in (("human", "by people"), ("machine", "by programs"), ("unclear", "unclear")):
                if one.readers and one.count:
                    told.add_row(f"  {label}", f"{getattr(one.readers, reader):,}", "")
        tables.append(told)
    if not report.reasons:
        return tables
    reasons = Table("not sent because", "mails", "clears")
    for reason in report.reasons:
        clears = f"{reason.clears_at:%Y-%m-%d %H:%M} UTC" if reason.clears_at else ""
        reasons.add_row(reason.label, f"{reason.count:,}", clears)
    return [*tables, reasons]


def foreseen(report: Report) -> list[Table]:
    """When it finishes and what it costs, each day, what goes without an account, and what came of the forecast."""
    found = []
    if (made := report.forecast) is not None and made.days:
        whole = Table("mails", "finishes", "accounts, $", "further mails, $")
        whole.add_row(f"{made.mails:,}", str(made.finishes_on or "never"), str(made.cost.rent), str(made.cost.mails))
        days = Table("day", *made.accounts, "all", "left", "what keeps more from going")
        for day in made.days:
            each = [f"{day.accounts.get(name, 0):,}" for name in made.accounts]
            days.add_row(str(day.day), *each, f"{day.total:,}", f"{day.left:,}", day.limit_label)
        without = Table("if this account dies now", "day", "still goes")
        for one in made.without:
            without.add_row(one.account, str(one.day), f"{one.percent} %")
        found += [whole, days, without]
    if (came := report.outcome) is not None:
        error = "" if came.error_percent is None else f"{came.error_percent:+} %"
        late = "" if came.days_late is None else f"{came.days_late:+}"
        outcome = Table("foreseen at launch", "finishes", "days late", "mails beside those foreseen")
        outcome.add_row(str(came.foreseen_on or "never"), str(came.finishes_on or ""), late, error)
        days = Table("day", "foreseen", "sent")
        for pair in came.days:
            days.add_row(str(pair.day), f"{pair.foreseen:,}", f"{pair.sent:,}")
        found += [outcome, days]
    return found
