"""How long the guest's sampled accesses to memory took, in words: one row a window of the run."""

from __future__ import annotations

from dashboards.units import UNKNOWN, digits
from exporter.latency import WINDOWS
from exporter.summary import Summary

WORDS = {"before": "before", "during": "migrating", "post_copy": "in post-copy", "after": "afterwards"}

HEADINGS = ("access to memory", "median", "99 %", "longest")
NOTE = "Sampled accesses of the guest, by its own clock; median and 99 % are upper bounds, within a factor of two."


def access_rows(summary: Summary) -> list[tuple[str, str, str, str]]:
    """Window, median, 99th percentile and longest access of each window that was probed; none where none was."""
    found = []
    for name in WINDOWS:
        p50, p99, most = (getattr(summary, f"{name}_access_seconds_{figure}") for figure in ("p50", "p99", "max"))
        if most is not None:
            found.append((WORDS[name], f"≤ {latency(p50)}", f"≤ {latency(p99)}", latency(most)))
    return found


def latency(seconds: float | None) -> str:
    """Write seconds as `1.6 µs` or `12.3 ms`."""
    if seconds is None:
        return UNKNOWN
    return f"{digits(seconds * 1e6)} µs" if seconds < 0.9995e-3 else f"{digits(seconds * 1e3)} ms"
