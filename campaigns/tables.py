"""A campaign's progress as tables for a terminal."""

from rich.table import Table

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
            told.add_row(one.label, f"{one.count:,}", "" if one.percent is None else f"{one.percent:g}")
        tables.append(told)
    if not report.reasons:
        return tables
    reasons = Table("not sent because", "mails", "clears")
    for reason in report.reasons:
        clears = f"{reason.clears_at:%Y-%m-%d %H:%M} UTC" if reason.clears_at else ""
        reasons.add_row(reason.label, f"{reason.count:,}", clears)
    return [*tables, reasons]
