"""The conditions of runs in words: scenario, workload, hardware, guest, host, versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards.units import UNKNOWN, rate, size
from driver.record import Host, RunRecord
from workload.value import settings_of


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


def _settings(value: Any) -> dict[str, str]:
    """A value's fields in words: `downtime limit: 300 ms`, and `off` where 0 says so."""
    if value is None:
        return {}
    facts = {}
    for name, (_, _, known) in settings_of(type(value)).items():
        found = getattr(value, name)
        words = name.removesuffix("_ms").removesuffix("_mib_s").removesuffix("_mib").removesuffix("_seconds")
        words = words.removesuffix("_percent").removesuffix("_hz")
        text = "off" if known.zero and found == 0 else f"{found:,}" if isinstance(found, int) else str(found)
        unit = f" {known.unit}" if known.unit and text != "off" else ""
        facts[words.replace("_", " ")] = text + unit
    return facts


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
