"""What cannot work is told before a guest boots: by recorded answers of QEMU 7.2 and 10.0, and by the real binaries."""

from __future__ import annotations

import json
import lzma
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from driver.check import unsupported
from driver.check_binary import BinaryFacts, ask_binary, ask_here, asking_command
from driver.datadir import DataDir
from driver.facts import binary_facts
from driver.hardware import Hardware
from driver.record import read_record
from driver.run import run_migration
from driver.scenario import HIGHEST_LEVEL, Scenario
from driver.strategy import parameters
from tests.driver_process import a_request
from workload.errors import BrokenError, UnsupportedError

ANSWERS = Path(__file__).with_name("data") / "answers"
TCG, RING = Hardware(accelerator="tcg"), Hardware(accelerator="kvm", dirty_ring_size=4096)

# scenario -> what 7.2 says, what 10.0 says; None: nothing speaks against it
CASES: dict[str, tuple[Scenario, str | None, str | None]] = {
    "nothing": (Scenario(), None, None),
    "compress": (Scenario(compress_threads=2), None, "does not know 'compress': .* removed in QEMU 9.1"),
    "compress, xbzrle": (Scenario(compress_threads=2, xbzrle_cache_percent=9), None, "'compress'"),
    "compress, multifd": (Scenario(compress_threads=2, multifd_channels=2), "not compatible with compress", "'comp"),
    "compress, post-copy": (Scenario(compress_threads=2, post_copy_iterations=2), None, "'compress'"),
    "compress, preempt": (
        Scenario(compress_threads=2, post_copy_iterations=2, post_copy_preempt=True), "preempt not compatible", "'comp"
    ),
    "multifd, xbzrle": (Scenario(multifd_channels=2, xbzrle_cache_percent=9), None, "not compatible with xbzrle"),
    "multifd, post-copy": (
        Scenario(multifd_channels=2, post_copy_seconds=1), "and then its destination dies", "not yet compatible"
    ),
    "multifd, post-copy in the schedule": (
        Scenario(multifd_channels=2, schedule="stalled: post-copy"), "and then its destination dies", "not yet"
    ),
    "multifd, TLS": (Scenario(multifd_channels=2, tls="x509"), None, None),
    "qpl": (Scenario(multifd_channels=2, multifd_compression="qpl"), "'qpl' .built with none, zlib, zstd.$", "'qpl'"),
    "uadk": (Scenario(multifd_channels=2, multifd_compression="uadk"), "value 'uadk'", "value 'uadk'"),
    "qatzip": (Scenario(multifd_channels=2, multifd_compression="qatzip"), "value 'qatzip'", "value 'qatzip'"),
    "qatzip with a level": (
        Scenario(multifd_channels=2, multifd_compression="qatzip", multifd_level=9), "came with QEMU 9.2", "'qatzip'"
    ),
    "zero pages": (Scenario(zero_page_detection="none"), "came with QEMU 9.0", None),
    "switchover": (Scenario(avail_switchover_mib_s=9), "came with QEMU 8.2", None),
    "switchover-ack": (Scenario(switchover_ack=True), "came with QEMU 8.1", None),
    "switchover-ack alone": (Scenario(switchover_ack=True, return_path=False), "came with", "only beside return-path"),
    "mapped-ram, zstd": (
        Scenario(multifd_channels=2, multifd_compression="zstd", transport="mapped-ram"),
        "cannot migrate to a file", "cannot use compression with mapped-ram",
    ),
    "zero-copy over unix": (Scenario(multifd_channels=2, zero_copy_send=True), "only over tcp", "only over tcp"),
    "zero-copy": (Scenario(multifd_channels=2, zero_copy_send=True, transport="tcp"), None, None),
    "zero-copy alone": (Scenario(zero_copy_send=True, transport="tcp"), "only beside multifd", "only beside multifd"),
    "zero-copy, TLS": (
        Scenario(multifd_channels=2, zero_copy_send=True, transport="tcp", tls="psk"), "without TLS", "without TLS"
    ),
    "a file": (Scenario(transport="file"), "cannot migrate to a file", None),
    "a mapped file": (Scenario(transport="mapped-ram"), "cannot migrate to a file", None),
    "a mapped file, switchover-ack": (
        Scenario(transport="mapped-ram", switchover_ack=True), "cannot migrate to a file", "mapped-ram has no way back"
    ),
    "a mapped file, XBZRLE": (
        Scenario(transport="mapped-ram", xbzrle_cache_percent=9), "cannot migrate to a file", "incompatible with xbzrle"
    ),
    "recovery over a descriptor": (
        Scenario(transport="fd", post_copy_iterations=2, post_copy_recoveries=1), "over unix or tcp", "over unix or tcp"
    ),
    "dirty-limit": (Scenario(dirty_limit_mib_s=9), "came with QEMU 8.1", "needs KVM's dirty ring"),
    "auto-converge, post-copy, XBZRLE": (
        Scenario(auto_converge_increment=9, post_copy_iterations=2, xbzrle_cache_percent=9), None, None
    ),
}  # fmt: skip


def recorded(version: str) -> BinaryFacts:
    return BinaryFacts.parse(json.loads(lzma.decompress((ANSWERS / f"{version}.json.xz").read_bytes())))


@pytest.mark.parametrize("name", CASES)
def test_what_cannot_work_is_told_with_its_reason_and_what_can_is_let_through(name: str) -> None:
    scenario, *wanted = CASES[name]
    for version, words in zip(("7.2", "10.0"), wanted, strict=True):
        reason = unsupported(scenario, TCG, recorded(version))
        assert (reason is None) == (words is None), (version, reason)
        if words:
            with pytest.raises(UnsupportedError, match=words):
                raise UnsupportedError(reason)


def test_dirty_limit_is_let_through_with_a_dirty_ring_but_not_beside_auto_converge() -> None:
    limited = Scenario(dirty_limit_mib_s=9)
    assert unsupported(limited, RING, recorded("10.0")) is None
    both = unsupported(replace(limited, auto_converge_increment=9), RING, recorded("10.0"))
    assert both is not None
    assert "conflicts with auto-converge" in both


def test_a_qemu_of_a_later_release_may_combine_what_it_does_not_refuse() -> None:
    later = replace(recorded("10.0"), version="10.1.0", conflicts={})
    assert unsupported(Scenario(multifd_channels=2, post_copy_iterations=2), TCG, later) is None


@pytest.mark.qemu
@pytest.mark.parametrize("version", ["7.2", "10.0"])
async def test_the_real_binary_gets_the_same_verdicts_as_the_recorded_one(
    version: str, request: pytest.FixtureRequest
) -> None:
    path = request.getfixturevalue({"7.2": "qemu_binary", "10.0": "qemu_10_binary"}[version])
    real = BinaryFacts.parse(await ask_here(str(path)))
    if real.release != recorded(version).release:
        pytest.skip(f"the QEMU here is {real.version}, its answers were recorded of {version}")
    for name, (scenario, *_) in CASES.items():
        told = unsupported(scenario, TCG, real), unsupported(scenario, TCG, recorded(version))
        assert (told[0] is None) == (told[1] is None), (name, told)


@pytest.mark.qemu
@pytest.mark.parametrize("method", ["qpl", "uadk", "qatzip"])
async def test_compression_by_hardware_is_refused_in_the_words_of_the_real_qemu(
    method: str, qemu_binary: Path, qemu_10_binary: Path, run_data: DataDir
) -> None:
    scenario = Scenario(multifd_channels=2, multifd_compression=method)
    for path in map(str, (qemu_binary, qemu_10_binary)):
        if method in BinaryFacts.parse(await ask_here(path)).choices["multifd-compression"]:
            pytest.skip(f"{path} was built with {method}")
        words = said(path, parameters(scenario, 128 << 20))
        assert words == f"Parameter 'multifd-compression' does not accept value '{method}'"
        record = await run_migration(a_request(scenario, binary=path), run_data, None)
        assert record.outcome == "unsupported"
        assert words in (record.reason or "")
        assert read_record(run_data.run(record.run)) == record


@pytest.mark.qemu
def test_the_level_of_qatzip_is_what_the_real_qemu_takes(qemu_10_binary: Path) -> None:
    scenario = Scenario(multifd_channels=2, multifd_compression="qatzip", multifd_level=9)
    wanted = parameters(scenario, 128 << 20)
    assert wanted["multifd-qatzip-level"] == HIGHEST_LEVEL["qatzip"] == 9
    assert said(str(qemu_10_binary), {"multifd-qatzip-level": 9}) is None
    assert "expects a value between 1 and 9" in (said(str(qemu_10_binary), {"multifd-qatzip-level": 10}) or "")


def said(path: str, wanted: Mapping[str, Any]) -> str | None:
    """What a real QEMU without a machine says to parameters; None: it takes them."""
    commands = [{"execute": "qmp_capabilities"}, {"execute": "migrate-set-parameters", "arguments": wanted, "id": 1}]
    lines = "\n".join(map(json.dumps, [*commands, {"execute": "quit"}]))
    answers = subprocess.run(asking_command(path), input=lines, capture_output=True, text=True, check=True, timeout=30)
    (answer,) = (line for line in map(json.loads, answers.stdout.splitlines()) if line.get("id") == 1)
    words: str | None = answer.get("error", {}).get("desc")
    return words


@pytest.mark.qemu
async def test_a_binary_is_asked_once_and_its_answer_kept_by_its_hash(qemu_binary: Path, tmp_path: Path) -> None:
    binary = await binary_facts(str(qemu_binary))
    first = await ask_binary(binary, tmp_path)
    assert await ask_binary(replace(binary, path="/does/not/exist"), tmp_path) == first
    with pytest.raises(OSError, match="not/exist"):
        await ask_binary(replace(binary, path="/does/not/exist", sha256="another"), tmp_path)


async def test_what_does_not_answer_is_named(tmp_path: Path) -> None:
    for kind, words, script in (
        (BrokenError, "exited with 1 before it answered: none such", "echo none such >&2; exit 1"),
        (UnsupportedError, "did not answer query-version: it said nothing", "echo what?"),
    ):
        path = tmp_path / "qemu"
        path.write_text(f"#!/bin/sh\ncat > /dev/null\n{script}\n")
        path.chmod(0o755)
        with pytest.raises(kind, match=words):
            await ask_here(str(path))


@pytest.mark.qemu
async def test_a_run_that_would_kill_its_destination_ends_before_its_guest_begins(run_data: DataDir) -> None:
    record = await run_migration(a_request(Scenario(multifd_channels=2, post_copy_iterations=2)), run_data, None)
    assert record.outcome == "unsupported"
    assert record.reason
    assert "multifd" in record.reason
    assert [phase.name for phase in record.phases] == ["start"]
    assert not run_data.run(record.run).console("source").exists()
