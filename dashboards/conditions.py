"""The conditions of runs in words: scenario, workload, hardware, guest, host, versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dashboards.units import UNKNOWN, rate, size
from driver.record import Host, RunRecord
from workload.value import Setting, settings_of

OFF = "off"
UNITS = ("_ms", "_mib_s", "_mbit_s", "_mib", "_percent", "_hz")
COUNTED = ("iterations", "attempts", "channels", "threads", "guests", "entries")
"""Units that are words: of one thing they lose their s."""
COMPOUNDS = ("post-copy", "auto-converge", "zero-copy")
LABELS = {
    "max_time_seconds": "max time", "settle_seconds": "settle", "recover_seconds": "recover",
    "post_copy_iterations": "post-copy after iterations", "post_copy_seconds": "post-copy after time",
    "pause_iterations": "pause after iterations", "hosts": "where the QEMUs run",
}  # fmt: skip
"""Fields whose words do not follow from their name alone."""


def conditions(records: Sequence[RunRecord]) -> list[tuple[str, list[dict[str, str]]]]:
    """Groups of conditions; of each group one mapping a run, from what it is to its value in words."""
    return [
        ("Scenario", [_settings(record.scenario) | {"strategy": _strategy(record)} for record in records]),
        ("Workload", [_settings(record.workload) for record in records]),
        ("Hardware", [_settings(record.hardware) | _machine(record) for record in records]),
        ("Guest", [_guest(record) for record in records]),
        ("Host", [_host(record) for record in records]),
        ("Versions", [_versions(record) for record in records]),
    ]


def split_off(facts: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Part a group of conditions: what holds something, and the names of what is off or empty."""
    idle = [name for name, words in facts.items() if words in (OFF, "none")]
    return {name: words for name, words in facts.items() if name not in idle}, idle


def _settings(value: Any) -> dict[str, str]:
    """A value's fields in words: `downtime limit: 300 ms`, and `off` where 0 says so."""
    if value is None:
        return {}
    return {
        LABELS.get(name) or _label(name): _words(getattr(value, name), known)
        for name, (_, _, known) in settings_of(type(value)).items()
    }


def _label(name: str) -> str:
    """A field in words, without its unit: that stands with the number."""
    for unit in UNITS:
        name = name.removesuffix(unit)
    words = name.replace("_", " ")
    for compound in COMPOUNDS:
        words = words.replace(compound.replace("-", " "), compound)
    return words


def _words(found: Any, known: Setting) -> str:
    if isinstance(found, bool):
        return "on" if found else OFF
    if isinstance(found, str) or found is None:
        return found or "none"
    if known.zero and found == 0:
        return OFF
    unit = known.unit.removesuffix("s") if found == 1 and known.unit in COUNTED else known.unit
    return f"{found:,} {unit}".strip()


def _strategy(record: RunRecord) -> str:
    return record.scenario.strategy if record.scenario else UNKNOWN


def _machine(record: RunRecord) -> dict[str, str]:
    facts = {"machine used": str(record.negotiated["machine"])} if "machine" in record.negotiated else {}
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
    facts = _host_facts(record.host)
    if there := record.destination_host:
        facts |= {
            f"destination's {name.removesuffix(' of the host')}": value for name, value in _host_facts(there).items()
        }
    if clock := record.clock_offset:
        drift = "" if clock.drift_ns is None else f", {clock.drift_ns / 1e6:+.3f} ms later"
        known = f"known to {clock.uncertainty_ns / 1e6:.3f} ms{drift}"
        facts["destination's clock"] = f"{clock.monotonic_ns / 1e6:+.3f} ms against the source's, {known}"
    return facts


def _host_facts(host: Host) -> dict[str, str]:
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
