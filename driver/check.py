"""What cannot work, told before a guest boots: by what a QEMU binary knows, by QEMU's rules, and by known faults."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from driver.check_binary import COMPANIONS, BinaryFacts, ask_binary
from driver.doctor import USERFAULTFD_REMEDY, userfaultfd_refusal
from driver.hardware import Hardware
from driver.machine import machine_type
from driver.record import Binary
from driver.scenario import Scenario
from driver.strategy import capabilities, parameters
from driver.tls import PARAMETERS as TLS_PARAMETERS
from workload.cache import cache_dir
from workload.errors import UnsupportedError

SINCE = {
    "compress": "multi-thread compression was removed in QEMU 9.1",
    "dirty-limit": "it came with QEMU 8.1",
    "switchover-ack": "it came with QEMU 8.1",
    "avail-switchover-bandwidth": "it came with QEMU 8.2",
    "zero-page-detection": "it came with QEMU 9.0",
    "mapped-ram": "it came with QEMU 9.0",
    "multifd-qatzip-level": "it came with QEMU 9.2",
    "postcopy-preempt": "it came with QEMU 7.1",
    "zero-copy-send": "it came with QEMU 7.1",
}
"""Where a name is to be had, for people; whether a QEMU has it is asked of it."""

Rule = Callable[[Scenario, Hardware, BinaryFacts], str | None]


async def refusal(
    scenario: Scenario,
    hardware: Hardware,
    source: Binary,
    destination: Binary,
    no_userfaultfd: Callable[[], str | None] = userfaultfd_refusal,
) -> str | None:
    """Say why a run cannot work with these binaries, or None; asks each binary once and caches that.

    `no_userfaultfd` tells for the destination's host why post-copy cannot be had there.

    Raises:
        MigrascopeError: a binary does not answer.
    """
    for role, binary in (("source", source), ("destination", destination)):
        reason = unsupported(scenario, hardware, await ask_binary(binary, cache_dir()))
        if reason:
            return f"{role}: {reason}"
    try:
        await machine_type(hardware.machine, source, destination)
    except UnsupportedError as error:
        return str(error)
    if "post-copy" in scenario.strategies and (why := no_userfaultfd()):
        return f"post-copy: {why}: {USERFAULTFD_REMEDY}"
    if scenario.background_snapshot and (why := userfaultfd_refusal()):
        return f"background-snapshot: {why}: {USERFAULTFD_REMEDY}"
    return None


def unsupported(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:
    """Say why a QEMU binary cannot do what a scenario asks, or None where nothing speaks against it. Pure."""
    for rule in RULES:
        if reason := rule(scenario, hardware, binary):
            return reason
    return None


def _unknown(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:
    wanted = [*capabilities(scenario, disk=hardware.disk_mib > 0), *parameters(scenario, hardware.memory_bytes)]
    wanted += TLS_PARAMETERS if scenario.tls != "none" else ()
    known = {*binary.capabilities, *binary.parameters}
    for name in wanted:
        if name not in known:
            return f"QEMU {binary.version} does not know {name!r}: {SINCE.get(name, 'another version may (--qemu)')}"
    return None


def _no_such_choice(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:
    """In the words with which QEMU itself refuses what it was built without: qpl, uadk, qatzip."""
    for name, value in parameters(scenario, hardware.memory_bytes).items():
        choices = binary.choices.get(name)
        if choices is not None and value not in choices:
            built = ", ".join(choices)
            return f"QEMU {binary.version}: Parameter {name!r} does not accept value {value!r} (built with {built})"
    return None


def _address(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001 - a rule
    if (kind := scenario.carrier.known_as) and kind not in binary.addresses:
        return f"QEMU {binary.version} cannot migrate to a {kind}: that came with QEMU 8.2"
    return None


def _companion(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001 - a rule
    wanted = capabilities(scenario)
    for name, companion in COMPANIONS.items():
        if name in wanted and companion not in wanted:
            lacking = companion == "return-path" and not scenario.carrier.back_channel
            why = f", and the transport {scenario.transport} has no way back" if lacking else ""
            return f"QEMU takes {name} only beside {companion}{why}"
    return None


def _conflict(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    for one, other in itertools.combinations(sorted(capabilities(scenario)), 2):
        if words := binary.conflicts.get(f"{one}+{other}"):
            return f"QEMU {binary.version} refuses {one} beside {other}: {words}"
    return None


def _zero_copy(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    """Source: QEMU migration/options.c, migrate_caps_check, migrate_params_check; io/channel-socket.c."""
    if not scenario.zero_copy_send:
        return None
    if scenario.multifd_compression != "none" or scenario.tls != "none":
        return "zero-copy-send goes only uncompressed and without TLS"
    if scenario.transport != "tcp":
        return f"zero-copy-send goes only over tcp, the transport is {scenario.transport}"
    return None


def _mapped_ram(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    """Each page has its place in the file, so none may be packed (QEMU migration/options.c, migrate_params_check)."""
    if "mapped-ram" in capabilities(scenario) and scenario.multifd_compression != "none":
        return f"QEMU {binary.version} cannot use compression with mapped-ram"
    return None


def _dirty_ring(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    if scenario.dirty_limit_mib_s and (not hardware.dirty_ring_size or hardware.accelerator == "tcg"):
        return "dirty-limit needs KVM's dirty ring (--accel kvm --dirty-ring-size 4096)"
    return None


def _recovery(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    if scenario.post_copy_recoveries and scenario.transport not in ("unix", "tcp"):
        return f"post-copy is recovered over unix or tcp, the transport is {scenario.transport}"
    return None


def _disk(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    if hardware.disk_mib and scenario.background_snapshot:
        return (
            "a snapshot holds no disk: QEMU refuses pause-before-switchover, which the disk's mirror needs, beside it"
        )
    if hardware.disk_mib and scenario.carrier.saves:
        return f"a disk is mirrored to a QEMU that listens; {scenario.transport} saves the guest to a file"
    if hardware.disk_mib and scenario.attempts > 1:
        return f"a disk is mirrored to one destination, and attempts={scenario.attempts} may want another"
    return None


def _snapshot(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    """QEMU accepts both together, and then cannot load the file that it wrote (docs/qemu.md; seen with 10.0.2)."""
    if scenario.background_snapshot and "mapped-ram" in scenario.carrier.capabilities:
        return (
            f"QEMU {binary.version} saves a background snapshot to a mapped-ram file that it cannot load"
            " (Operation not permitted); exec-file and file can be loaded"
        )
    return None


def _machine(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    if hardware.machine not in binary.machines:
        return f"this QEMU {binary.version} was built without the machine type {hardware.machine}"
    return None


def _known_fault(scenario: Scenario, hardware: Hardware, binary: BinaryFacts) -> str | None:  # noqa: ARG001
    """Before 8.0 post-copy is accepted beside multifd, and then ends the destination (yank.c; seen with 7.2.22)."""
    if binary.release < (8, 0) and {"multifd", "post-copy"} <= set(scenario.strategies):
        return f"QEMU {binary.version} accepts post-copy beside multifd, and then its destination dies"
    return None


RULES: tuple[Rule, ...] = (
    _machine, _address, _unknown, _no_such_choice, _companion, _conflict, _zero_copy, _mapped_ram, _dirty_ring,
    _recovery, _disk, _snapshot, _known_fault,
)  # fmt: skip
