"""Numbers as people read them, always with their unit; what is not known is a dash, never 0."""

from __future__ import annotations

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
UNKNOWN = "—"


def digits(value: float) -> str:
    """Write a number with three digits that say something: `0.042`, `8.31`, `83.1`, `831`, `83,100`."""
    magnitude = abs(value)
    places = 0 if magnitude >= 99.95 else 1 if magnitude >= 9.995 else 2 if magnitude >= 0.9995 else 3
    if value == 0:
        return "0"
    return f"{value:,.{places}f}"


def duration(seconds: float | None) -> str:
    """Write seconds as `15.5 ms`, `8.31 s`, `2 min 5 s`, `1 h 2 min`."""
    if seconds is None:
        return UNKNOWN
    if seconds < 0.9995:
        return milliseconds(seconds)
    if seconds < 119.5:
        return f"{digits(seconds)} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def milliseconds(seconds: float | None) -> str:
    """Write seconds as `15.5 ms`, whatever their size."""
    return UNKNOWN if seconds is None else f"{digits(seconds * 1000)} ms"


def size(count: float | None) -> str:
    """Write bytes as `31.2 MiB` or `1.25 GiB`."""
    if count is None:
        return UNKNOWN
    if count and count < 0.9995 * MIB:
        return f"{digits(count / KIB)} KiB"
    return f"{digits(count / MIB)} MiB" if count < 999.5 * MIB else f"{digits(count / GIB)} GiB"


def rate(bytes_per_second: float | None) -> str:
    """Write bytes a second as `32.0 MiB/s`."""
    return UNKNOWN if bytes_per_second is None else f"{size(bytes_per_second)}/s"


def pace(seconds_per_gib: float | None) -> str:
    """Write the guest's pace as `1,204 ms/GiB`."""
    return UNKNOWN if seconds_per_gib is None else f"{digits(seconds_per_gib * 1000)} ms/GiB"


def percent(share: float | None) -> str:
    """Write a share of one as `99 %`, `187 %`."""
    return UNKNOWN if share is None else f"{digits(share * 100) if share < 0.0995 else format(share * 100, ',.0f')} %"


def times(factor: float | None) -> str:
    """Write a factor as `4.10 x`."""
    return UNKNOWN if factor is None else f"{digits(factor)} x"


def counted(count: int, noun: str) -> str:
    """Write a count with its noun: `1 run`, `12 runs`."""
    return f"{count} {noun if count == 1 else noun + 's'}"


def whole(count: float | None) -> str:
    """Write a count as `1,204`."""
    return UNKNOWN if count is None else f"{count:,.0f}"
