"""Which alert every recorded case deserves, argued in words; docs/alerts.md shows the table."""

from __future__ import annotations

from fnmatch import fnmatch

WHY: dict[str, tuple[str, str]] = {
    "*-never-converges": ("MigrationNotConverging", "an unthrottled guest, too slow a link, nothing left to try"),
    "*-auto-converge-too-weak": ("MigrationNotConverging", "its limit on time came before enough throttle"),
    "*-throttle-saturated": (
        "MigrationNotConverging MigrationThrottleSaturated GuestSlowedTooLong",
        "80 % is all that auto-converge may take, it does not suffice, and the guest pays for it",
    ),
    "*-post-copy-loses-its-link": (
        "MigrationPostcopyPaused MigrationFailed", "the link is cut in post-copy, and the run ends with it"
    ),
    "*-post-copy-outage": ("MigrationPostcopyPaused", "the link is cut, and the guest waits for three seconds"),
    "*-cancel-on-a-stall": ("MigrationNotConverging", "it stalled and was given up for that"),
    "*-downtime-over-limit": (
        "MigrationDowntimeOverLimit", "told of a link that it has not, QEMU stops the guest far too early"
    ),
    "7.2-guest-lost": (
        "MigrationFailed GuestSilent", "QEMU says completed, and the guest whose memory it lost never prints again"
    ),
    "*-background-snapshot-cancelled": ("", "a snapshot was given up; its guest, which was to go nowhere, runs on"),
}  # fmt: skip
"""Pattern of recordings -> the alerts that they deserve (separated by spaces), and why. All others deserve none."""

SILENT = "it completes"


def deserved(name: str) -> set[str]:
    """The alerts that a recording deserves."""
    return {alert for pattern, (alerts, _) in WHY.items() if fnmatch(name, pattern) for alert in alerts.split()}


def reason(name: str) -> str:
    """Why it deserves them, or none."""
    return next((why for pattern, (_, why) in WHY.items() if fnmatch(name, pattern)), SILENT)


def table(names: list[str]) -> str:
    """The table of alerts and recorded cases, as docs/alerts.md holds it."""
    rows = ["| recorded case | fires | why |", "|---|---|---|"]
    rows += [f"| {name} | {', '.join(sorted(deserved(name))) or '-'} | {reason(name)} |" for name in names]
    return "\n".join(rows) + "\n"
