"""A campaign's progress as tables for a terminal."""

from rich.table import Table

from campaigns.progress import Progress


def of(report: Progress) -> list[Table]:
    """What went where, and why the rest did not."""
    accounts = Table("account", "planned", "sent")
    for account in report.accounts:
        accounts.add_row(account.name, f"{account.planned:,}", f"{account.sent:,}")
    accounts.add_row("all", f"{report.total:,}", f"{report.sent:,}", style="bold")
    if not report.reasons:
        return [accounts]
    reasons = Table("not sent because", "mails", "clears")
    for reason in report.reasons:
        clears = f"{reason.clears_at:%Y-%m-%d %H:%M} UTC" if reason.clears_at else ""
        reasons.add_row(reason.label, f"{reason.count:,}", clears)
    return [accounts, reasons]
