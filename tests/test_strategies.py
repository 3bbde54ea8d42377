"""Each strategy and tunable once on real QEMUs of both versions: negotiated on both sides, and felt by QEMU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from driver.datadir import DataDir
from driver.marks import Mark, read_marks
from driver.progress import Progress
from driver.record import RunRecord
from driver.scenario import Scenario
from tests.driver_process import a_request
from tests.real_runs import ended

pytestmark = pytest.mark.qemu

VERSIONS = ("7.2", "10.0")
EASY = Scenario(bandwidth_mib_s=64, downtime_limit_ms=1000, max_time_seconds=30)
"""16 MiB take 250 ms: it converges at once."""
HARD = Scenario(bandwidth_mib_s=32, downtime_limit_ms=100, max_time_seconds=30)
"""16 MiB take 500 ms: it never does without help."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """A scenario, what must have been switched on, and what QEMU's final figures or the marks must show of it."""

    scenario: Scenario
    wanted: tuple[str, ...] = ()
    parameters: tuple[tuple[str, object], ...] = ()
    felt: Callable[[Progress], bool] = lambda _: True
    actions: tuple[str, ...] = ()
    versions: tuple[str, ...] = VERSIONS


def over(base: Scenario, **fields: object) -> Scenario:
    return replace(base, **fields)  # type: ignore[arg-type]


CASES: dict[str, Case] = {
    "pause": Case(scenario=over(HARD, pause_iterations=2), actions=("pause",)),
    "post-copy after iterations, preempt": Case(
        scenario=over(HARD, post_copy_iterations=2, post_copy_preempt=True, post_copy_bandwidth_mib_s=100),
        wanted=("postcopy-ram", "postcopy-preempt"),
        parameters=(("max-postcopy-bandwidth", 100 << 20),),
        felt=lambda final: final.fields["postcopy_requests"] > 0,
        actions=("post-copy",),
    ),
    "post-copy after seconds, blocktime": Case(
        scenario=over(HARD, post_copy_seconds=0.7, post_copy_blocktime=True),
        wanted=("postcopy-ram", "postcopy-blocktime"),
        actions=("post-copy",),
    ),
    "post-copy that loses its link and recovers": Case(
        scenario=over(HARD, post_copy_iterations=2, schedule="post-copy 0.05 s: cut", post_copy_recoveries=1),
        actions=("post-copy", "cut", "recover"),
    ),
    "post-copy that recovers over tcp": Case(
        scenario=over(
            HARD, transport="tcp", post_copy_iterations=2, schedule="post-copy 0.05 s: cut", post_copy_recoveries=1
        ),
        actions=("post-copy", "cut", "recover"),
    ),
    "auto-converge": Case(
        scenario=over(
            HARD, auto_converge_initial=60, auto_converge_increment=10, auto_converge_trigger=40,
            auto_converge_tailslow=True,
            schedule="iteration 2: auto-converge-max=75; iteration 4: downtime-limit-ms=3000",
        ),
        wanted=("auto-converge",),
        parameters=(("throttle-trigger-threshold", 40), ("cpu-throttle-tailslow", True)),
        actions=("retune", "retune"),
    ),
    "xbzrle": Case(
        scenario=over(HARD, xbzrle_cache_percent=20, max_iterations=4),
        wanted=("xbzrle",),
        parameters=(("xbzrle-cache-size", 16 << 20),),
        felt=lambda final: final.fields["xbzrle_cache_misses"] > 0,
    ),
    "compress": Case(
        scenario=over(EASY, compress_threads=2, compress_level=1, compress_wait=False),
        wanted=("compress",),
        parameters=(("compress-wait-thread", False),),
        felt=lambda final: final.fields["compression_pages"] > 0,
        versions=("7.2",),
    ),
    "multifd with zstd": Case(
        scenario=over(EASY, multifd_channels=3, multifd_compression="zstd", multifd_level=2),
        wanted=("multifd",),
        parameters=(("multifd-channels", 3), ("multifd-zstd-level", 2)),
        felt=lambda final: final.fields["multifd_bytes"] > 0,
    ),
    "multifd with zlib": Case(
        scenario=over(EASY, multifd_channels=2, multifd_compression="zlib"),
        parameters=(("multifd-compression", "zlib"),),
        felt=lambda final: final.fields["multifd_bytes"] > 0,
    ),
    "multifd and TLS with certificates": Case(
        scenario=over(EASY, multifd_channels=2, tls="x509", transport="tcp"),
        parameters=(("tls-hostname", "localhost"),),
        felt=lambda final: final.fields["multifd_bytes"] > 0,
    ),
    "zero-page detection, switchover-ack, available switchover bandwidth": Case(
        scenario=over(
            EASY, downtime_limit_ms=300, zero_page_detection="legacy", switchover_ack=True, avail_switchover_mib_s=400
        ),
        wanted=("switchover-ack", "return-path"),
        parameters=(("zero-page-detection", "legacy"), ("avail-switchover-bandwidth", 400 << 20)),
        versions=("10.0",),
    ),
    "zero-copy over tcp": Case(
        scenario=over(EASY, multifd_channels=2, zero_copy_send=True, transport="tcp"), wanted=("zero-copy-send",)
    ),
    "TLS with a shared key": Case(scenario=over(EASY, tls="psk"), parameters=(("tls-creds", "migrascope-tls"),)),
    "no return path": Case(scenario=over(EASY, return_path=False)),
    "a schedule": Case(
        scenario=over(
            HARD,
            schedule="iteration 2: bandwidth-mib-s=40; 1 s: downtime-limit-ms=120; iteration 3: downtime-limit-ms=3000",
        ),
        actions=("retune", "retune", "retune"),
    ),
    "a stall that is answered": Case(
        scenario=over(HARD, schedule="stalled: downtime-limit-ms=3000"), actions=("retune",)
    ),
    "auto-converge that ends in post-copy": Case(
        scenario=over(HARD, auto_converge_increment=10, post_copy_iterations=2),
        wanted=("auto-converge", "postcopy-ram"),
        actions=("post-copy",),
    ),
    "XBZRLE and auto-converge": Case(
        scenario=over(
            HARD, xbzrle_cache_percent=50, auto_converge_increment=50, schedule="1 s: downtime-limit-ms=3000"
        ),
        wanted=("auto-converge", "xbzrle"),
        actions=("retune",),
    ),
    "compression that ends in post-copy": Case(
        scenario=over(HARD, compress_threads=2, post_copy_iterations=2), wanted=("compress", "postcopy-ram"),
        actions=("post-copy",), versions=("7.2",),
    ),
}  # fmt: skip


def of_version(version: str, request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue({"7.2": "qemu_binary", "10.0": "qemu_10_binary"}[version]))


def actions(record: RunRecord, run_data: DataDir) -> list[Mark]:
    taken = {"pause", "post-copy", "cut", "recover", "retune"}
    return [mark for mark in read_marks(run_data.run(record.run)) if mark.kind == "action" and mark.name in taken]


@pytest.mark.parametrize(
    ("name", "version"), [(name, version) for name, case in CASES.items() for version in case.versions]
)
async def test_a_strategy_is_negotiated_and_takes_effect(
    name: str, version: str, run_data: DataDir, request: pytest.FixtureRequest
) -> None:
    case = CASES[name]
    record = await ended(a_request(case.scenario, binary=of_version(version, request)), run_data)
    xbzrle_alone = case.scenario.strategies == ("xbzrle",)  # of a content that never repeats it can make nothing less
    assert (record.outcome, record.reason if record.outcome != "not_converged" else None) == (
        "not_converged" if xbzrle_alone else "completed", None
    ), record.reason  # fmt: skip
    assert set(case.wanted) <= set(record.negotiated["capabilities"])
    for parameter, value in case.parameters:
        assert record.negotiated["parameters"][parameter] == value
    if not xbzrle_alone:  # a cancelled migration tells only its status
        assert case.felt(Progress.parse(record.final)), record.final
    assert [mark.name for mark in actions(record, run_data)] == list(case.actions)
