"""The report's tables as HTML: figures side by side, conditions with what differs, iterations, what was done when."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from dashboards.colours import OUTCOME_SIGNS, outcome_meaning
from dashboards.figures import Figures
from dashboards.report_lines import Iteration
from dashboards.units import UNKNOWN, digits, duration, milliseconds, pace, rate, size, times, whole
from driver.marks import Mark
from driver.record import RunRecord
from workload.value import settings_of

ITERATIONS_SHOWN = 300

FIGURE_COLUMNS: tuple[tuple[str, str, Callable[[Figures], str]], ...] = (
    ("total_seconds", "total", lambda f: duration(f.total_seconds)),
    ("iterations", "iterations", lambda f: whole(f.iterations)),
    ("blackout_seconds", "blackout", lambda f: bound(f) + milliseconds(f.blackout_seconds)),
    ("stop_resume_seconds", "STOP → RESUME", lambda f: milliseconds(f.stop_resume_seconds)),
    ("qemu_downtime_seconds", "QEMU's downtime", lambda f: milliseconds(f.qemu_downtime_seconds)),
    ("longest_silence_seconds", "longest silence", lambda f: milliseconds(f.longest_silence_seconds)),
    ("settle_seconds_per_gib_mean", "guest settled", lambda f: pace(f.settle_seconds_per_gib_mean)),
    ("migrate_seconds_per_gib_mean", "guest migrating", lambda f: pace(f.migrate_seconds_per_gib_mean)),
    ("slowdown", "guest slowdown", lambda f: times(f.slowdown)),
    ("transferred_bytes", "sent", lambda f: size(f.transferred_bytes)),
    ("source_cpu_seconds", "CPU source", lambda f: duration(f.source_cpu_seconds)),
    ("destination_cpu_seconds", "CPU destination", lambda f: duration(f.destination_cpu_seconds)),
    ("time_to_first_throttle_seconds", "first throttle", lambda f: duration(f.time_to_first_throttle_seconds)),
)
"""Key, heading and text of each figure, in the order of interest."""

MEANINGS = {
    "blackout_seconds": "the guest stood still: shift of its ticks' offset",
    "stop_resume_seconds": "QEMU's events, source to destination",
    "qemu_downtime_seconds": "as query-migrate says",
    "longest_silence_seconds": "largest gap between ticks",
    "slowdown": "mean while migrating / settled",
    "source_cpu_seconds": "whole QEMU, while migrating",
    "destination_cpu_seconds": "whole QEMU, while migrating",
    "time_to_first_throttle_seconds": "after the migration's start",
}


def bound(figures: Figures) -> str:
    """`≤ ` where the blackout is an upper bound (KVM's guest clock may jump)."""
    return "≤ " if figures.blackout_upper_bound and figures.blackout_seconds is not None else ""


def outcome_html(outcome: str | None) -> str:
    """An outcome with its sign and colour."""
    meaning = outcome_meaning(outcome)
    word = escape((outcome or "not ended").replace("_", " "))
    return f'<span class="outcome {meaning}">{OUTCOME_SIGNS[meaning]} {word}</span>'


def figures_table(rows: Sequence[tuple[str, Figures]], swatches: Sequence[str]) -> str:
    """One row a run; `rows` are (label, figures), `swatches` the HTML before each label."""
    columns = [column for column in FIGURE_COLUMNS if any(getattr(f, column[0]) is not None for _, f in rows)]
    heads = "".join(f"<th>{escape(name)}</th>" for _, name, _ in columns)
    body = "".join(
        f"<tr><th>{swatch}{escape(label)}</th><td class=words>{outcome_html(figures.outcome)}</td>"
        + "".join(_figure_cell(figures, key, text(figures)) for key, _, text in columns)
        + "</tr>"
        for (label, figures), swatch in zip(rows, swatches, strict=True)
    )
    return scrolled(f"<thead><tr><th>run</th><th class=words>outcome</th>{heads}</tr></thead><tbody>{body}</tbody>")


def figures_list(figures: Figures) -> str:
    """One run's figures as large numbers, each with what it means or why it is missing."""
    items = []
    for key, name, text in FIGURE_COLUMNS:
        known = getattr(figures, key) is not None
        note = MEANINGS.get(key, "") if known else figures.why.get(key, "")
        if not known and not note:
            continue
        small = f"<small>{escape(note)}</small>" if note else ""
        items.append(f"<div><dt>{escape(name)}</dt><dd>{escape(text(figures))}{small}</dd></div>")
    return f"<dl class=figures>{''.join(items)}</dl>" if items else ""


def conditions_table(records: Sequence[RunRecord], labels: Sequence[str], swatches: Sequence[str]) -> str:
    """Scenario, workload, hardware, guest, host and versions; a row whose runs differ is marked."""
    heads = "".join(
        f"<th class=words>{swatch}{escape(label)}</th>" for label, swatch in zip(labels, swatches, strict=True)
    )
    body = []
    for group, per_run in _conditions(records):
        keys = list(dict.fromkeys(key for facts in per_run for key in facts))
        if not keys:
            continue
        body.append(f'<tr class=head><th colspan="{len(records) + 1}">{group}</th></tr>')
        for key in keys:
            values = [facts.get(key, UNKNOWN) for facts in per_run]
            differs = " class=differs" if len(set(values)) > 1 else ""
            cells = "".join(f"<td class=words>{escape(value)}</td>" for value in values)
            body.append(f"<tr{differs}><th>{escape(key)}</th>{cells}</tr>")
    return scrolled(f"<thead><tr><th></th>{heads}</tr></thead><tbody>{''.join(body)}</tbody>")


def iterations_table(found: Sequence[Iteration]) -> str:
    """One row an iteration, folded up; of very many the first and the last."""
    if not found:
        return ""
    shown = list(found)
    left_out = ""
    if len(found) > ITERATIONS_SHOWN:
        half = ITERATIONS_SHOWN // 2
        shown = [*found[:half], *found[-half:]]
        left_out = f" (the first and the last {half} of them)"
    rows = "".join(
        f"<tr><td>{i.number}</td><td>{i.seconds:.3f} s</td><td class=words>{i.status}</td>"
        f"<td>{size(i.remaining_bytes)}</td><td>{rate(i.dirty_bytes_per_second)}</td>"
        f"<td>{rate(i.bandwidth_bytes_per_second)}</td>"
        f"<td>{UNKNOWN if i.throttle_percent is None else f'{i.throttle_percent:.0f} %'}</td>"
        f"<td>{duration(i.implied_downtime_seconds)}</td><td class=words>{i.verdict}</td></tr>"
        for i in shown
    )
    heads = "<th>iteration</th><th>at</th><th class=words>status</th><th>remaining</th><th>dirty rate</th>"
    heads += "<th>bandwidth</th><th>throttle</th><th>implied downtime</th><th class=words>verdict</th>"
    table = scrolled(f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>")
    return f"<details><summary>{len(found)} iterations{left_out}</summary>{table}</details>"


def marks_table(marks: Sequence[Mark], origin_ns: int) -> str:
    """The driver's phases and actions with what it acted on, folded up."""
    if not marks:
        return ""
    rows = "".join(
        f"<tr><td>{(mark.time_ns - origin_ns) / 1e9:.3f} s</td><td class=words>{escape(mark.kind)}</td>"
        f"<td class=words>{escape(mark.name)}</td><td class=words>{escape(_detail(mark.detail))}</td></tr>"
        for mark in marks
    )
    heads = "<th>at</th><th class=words>mark</th><th class=words>name</th><th class=words>acted on</th>"
    table = scrolled(f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody>")
    return f"<details><summary>What the driver did, and when</summary>{table}</details>"


def scrolled(inner: str) -> str:
    """A table that scrolls inside itself where the page is narrow."""
    return f'<div class=scroll tabindex=0 role=region aria-label="table"><table>{inner}</table></div>'


def _figure_cell(figures: Figures, key: str, text: str) -> str:
    why = figures.why.get(key)
    return f'<td title="{escape(why)}">{escape(text)} *</td>' if why else f"<td>{escape(text)}</td>"


def _detail(detail: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {digits(value) if isinstance(value, float) else value}"
        for key, value in detail.items()
        if value is not None
    )


def _conditions(records: Sequence[RunRecord]) -> list[tuple[str, list[dict[str, str]]]]:
    return [
        ("Scenario", [_settings(record.scenario) | {"strategy": _strategy(record)} for record in records]),
        ("Workload", [_settings(record.workload) for record in records]),
        ("Hardware", [_settings(record.hardware) | _machine(record) for record in records]),
        ("Guest", [_guest(record) for record in records]),
        ("Host", [_host(record) for record in records]),
        ("Versions", [_versions(record) for record in records]),
    ]


def _settings(value: Any) -> dict[str, str]:
    """A value's fields in words: `downtime limit: 300 ms`, and `off` where 0 says so."""
    if value is None:
        return {}
    facts = {}
    for name, (_, _, known) in settings_of(type(value)).items():
        found = getattr(value, name)
        words = name.removesuffix("_ms").removesuffix("_mib_s").removesuffix("_mib").removesuffix("_seconds")
        text = "off" if known.zero and found == 0 else f"{found:,}" if isinstance(found, int) else str(found)
        unit = f" {known.unit}" if known.unit and text != "off" else ""
        facts[words.replace("_", " ")] = text + unit
    return facts


def _strategy(record: RunRecord) -> str:
    return record.scenario.strategy if record.scenario else UNKNOWN


def _machine(record: RunRecord) -> dict[str, str]:
    facts = {}
    if record.accelerator:
        facts["accelerator used"] = record.accelerator + (
            f" ({record.accelerator_reason})" if record.accelerator_reason else ""
        )
    return facts


def _guest(record: RunRecord) -> dict[str, str]:
    guest = record.guest
    if guest is None:
        return {}
    return {
        "kernel": f"{guest.kernel_release} ({guest.kernel_path})",
        "inner loop": guest.loop or UNKNOWN,
        "settled rate": rate(guest.settled_bytes_per_second),
        "initrd (SHA-256)": guest.initrd_sha256[:16],
        "start": "warm (restored)" if record.warm_start else "booted",
    }


def _host(record: RunRecord) -> dict[str, str]:
    host = record.host
    return {
        "name": host.name, "CPU": host.cpu, "cores": str(host.cores), "memory": size(host.memory_bytes),
        "kernel of the host": host.kernel,
    }  # fmt: skip


def _versions(record: RunRecord) -> dict[str, str]:
    facts = {"run": record.run}
    for role, binary in (("source", record.source_binary), ("destination", record.destination_binary)):
        if binary:
            facts[f"QEMU {role}"] = f"{binary.version} ({binary.path})"
            facts[f"QEMU {role} (SHA-256)"] = binary.sha256[:16]
    if record.git_revision:
        facts["migrascope"] = record.git_revision[:12]
    facts |= {"campaign": record.campaign} if record.campaign else {}
    return facts
