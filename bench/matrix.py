"""Every strategy over every transport on two QEMUs: `make matrix`. What was run is kept: it goes on where it was cut.

python -m bench.matrix [--data-dir DIR] [--minutes N] [--page FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from driver.check import unsupported
from driver.check_binary import BinaryFacts, ask_binary
from driver.datadir import DataDir, default_path
from driver.facts import binary_facts
from driver.hardware import Hardware
from driver.request import Request
from driver.run import run_migration
from driver.scenario import Scenario
from driver.transport import TRANSPORTS
from exporter import history
from exporter.index import RunRow
from exporter.start import start_exporter
from workload.cache import cache_dir
from workload.errors import BadValueError, MigrascopeError
from workload.settings import Workload

COMPARISON = "matrix"
HARDWARE = Hardware(vcpus=1, memory_mib=128, accelerator="tcg")
WORKLOAD = Workload(working_set_mib=16, granularity_mib=4)
HARD: dict[str, object] = {"bandwidth_mib_s": 32, "downtime_limit_ms": 100, "max_time_seconds": 20}
"""16 MiB at full speed take 500 ms: what does not help the guest to converge is seen not to."""
EASY: dict[str, object] = {"bandwidth_mib_s": 64, "downtime_limit_ms": 1000, "max_time_seconds": 20}
UNRUN = frozenset({"broken", "abandoned", "cancelled", "running"})

STRATEGIES: dict[str, dict[str, object]] = {
    "pre-copy that converges": EASY,
    "pre-copy that never does": HARD | {"max_time_seconds": 8},
    "pause": HARD | {"pause_iterations": 2},
    "post-copy": HARD | {"post_copy_iterations": 2},
    "post-copy, preempt": HARD | {"post_copy_iterations": 2, "post_copy_preempt": True},
    "post-copy that recovers": HARD
    | {"post_copy_iterations": 2, "schedule": "post-copy 0.05 s: cut", "post_copy_recoveries": 1},
    "retune on a stall": HARD | {"schedule": "stalled: downtime-limit-ms=3000"},
    "auto-converge": HARD
    | {"bandwidth_mib_s": 64, "downtime_limit_ms": 200, "auto_converge_initial": 80, "auto_converge_increment": 19},
    "auto-converge, post-copy": HARD | {"auto_converge_increment": 10, "post_copy_iterations": 3},
    "dirty-limit": HARD | {"dirty_limit_mib_s": 10},
    "XBZRLE": HARD | {"xbzrle_cache_percent": 25, "schedule": "iteration 4: downtime-limit-ms=3000"},
    "compress": EASY | {"compress_threads": 2},
    "multifd": EASY | {"multifd_channels": 2},
    "multifd, zlib": EASY | {"multifd_channels": 2, "multifd_compression": "zlib"},
    "multifd, zstd": EASY | {"multifd_channels": 2, "multifd_compression": "zstd"},
    "multifd, post-copy": HARD | {"multifd_channels": 2, "post_copy_iterations": 2},
    "zero-copy": EASY | {"multifd_channels": 2, "zero_copy_send": True},
    "background snapshot": EASY | {"background_snapshot": True},
    "switchover-ack": EASY | {"switchover_ack": True},
    "TLS, shared key": EASY | {"tls": "psk"},
    "TLS, certificates": EASY | {"tls": "x509"},
    "TLS, multifd": EASY | {"tls": "psk", "multifd_channels": 2},
}
ABOUT = (
    "Made by `make matrix`: a guest of 128 MiB that dirties 16 MiB at full speed, under TCG, one run a cell. Figures"
    " are total ms / downtime ms by QEMU / blackout ms as the guest felt it / iterations, `?` where there is none."
    " Every cell ran or says why it cannot."
)
VERSIONS = {"7.2": "qemu-system-x86_64", "10.0": "qemu-system-x86_64-10.0"}


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One cell: a scenario for a version, or the reason why there can be none."""

    strategy: str
    transport: str
    version: str
    scenario: Scenario | None
    refused: str | None

    def request(self) -> Request:
        """What is run."""
        if self.scenario is None:
            raise BadValueError(f"matrix: {self.strategy} over {self.transport}: {self.refused}")
        return Request(
            scenario=self.scenario, hardware=HARDWARE, workload=WORKLOAD, source_binary=VERSIONS[self.version],
            warm_start=True, comparison=COMPARISON,
        )  # fmt: skip


def cells(binaries: Mapping[str, BinaryFacts]) -> Iterator[Cell]:
    """Every cell, a strategy's transports and versions together."""
    for strategy, fields in STRATEGIES.items():
        for transport in TRANSPORTS:
            for version, binary in binaries.items():
                scenario, refused = None, None
                try:
                    given: dict[str, object] = fields | {"transport": transport}
                    scenario = Scenario(**given)  # type: ignore[arg-type]
                    refused = unsupported(scenario, HARDWARE, binary)
                except BadValueError as error:
                    refused = str(error).partition(": ")[2].partition(";")[0]
                yield Cell(
                    strategy=strategy, transport=transport, version=version,
                    scenario=None if refused else scenario, refused=refused,
                )  # fmt: skip


def done(data: DataDir) -> dict[tuple[str, str], RunRow]:
    """The runs that were made, by scenario and version; the last of each counts."""
    found = {}
    for row in history.runs(data):
        if row.comparison == COMPARISON and row.outcome not in UNRUN:
            version = ".".join(str(row.conditions["source_qemu"]).split(".")[:2])
            found[(row.scenario or "", version)] = row
    return found


async def run(data: DataDir, every: list[Cell], minutes: float) -> None:
    """Run what is missing, until the time is over."""
    made, end = done(data), time.monotonic() + 60 * minutes
    missing = [cell for cell in every if cell.scenario and (cell.scenario.name, cell.version) not in made]
    missing.sort(key=lambda cell: list(TRANSPORTS).index(cell.transport))  # what is asked for most comes first
    for number, cell in enumerate(missing, start=1):
        if time.monotonic() > end:
            sys.stderr.write(f"{len(missing) - number + 1} of {len(every)} cells are left\n")
            return
        record = await run_migration(cell.request(), data, start_exporter)
        sys.stderr.write(
            f"{number}/{len(missing)} {cell.version} {cell.strategy} over {cell.transport}: {record.outcome}"
            f" {record.reason or ''}\n"
        )


def page(every: list[Cell], made: Mapping[tuple[str, str], RunRow], binaries: Mapping[str, BinaryFacts]) -> str:
    """The table in Markdown: a line a strategy and transport, a column a version."""
    versions = list(binaries)
    lines = [
        "# Every strategy over every transport",
        "",
        ABOUT,
        "",
        f"| strategy | transport | {' | '.join(f'QEMU {binaries[version].version}' for version in versions)} |",
        f"|---|---|{'---|' * len(versions)}",
    ]
    by_place = {(cell.strategy, cell.transport, cell.version): cell for cell in every}
    for strategy in STRATEGIES:
        for transport in TRANSPORTS:
            told = [_told(by_place[(strategy, transport, version)], made) for version in versions]
            lines.append(f"| {strategy} | {transport} | {' | '.join(told)} |")
    ran = sum(cell.scenario is not None and (cell.scenario.name, cell.version) in made for cell in every)
    refused = sum(cell.refused is not None for cell in every)
    lines += ["", f"{len(every)} cells: {ran} ran, {refused} cannot be, {len(every) - ran - refused} were not run yet."]
    return "\n".join(lines) + "\n"


def _told(cell: Cell, made: Mapping[tuple[str, str], RunRow]) -> str:
    if cell.scenario is None:
        return f"cannot be: {cell.refused}"
    row = made.get((cell.scenario.name, cell.version))
    if row is None:
        return "not run yet"
    figures = [row.figures.get(f"{name}_seconds") for name in ("total", "qemu_downtime", "blackout")]
    numbers = ["?" if figure is None else f"{1000 * figure:.0f}" for figure in figures]
    iterations = row.figures.get("iterations")
    numbers.append("?" if iterations is None else f"{iterations:.0f}")
    words = row.outcome.replace("_", " ")
    if row.outcome != "completed" and row.reason:
        words += f" ({row.reason.partition(' (log')[0]})"
    return words if row.outcome == "unsupported" else f"{words} {' / '.join(numbers)}"


def main() -> int:
    """Run what is missing and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, default=default_path().with_name("migrascope-matrix"))
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--page", type=Path, default=Path("docs/matrix.md"))
    arguments = parser.parse_args()
    data, binaries = DataDir.open(arguments.data_dir), {}
    for version, binary in VERSIONS.items():
        try:
            binaries[version] = asyncio.run(_facts(binary))
        except MigrascopeError as error:
            sys.stderr.write(f"matrix: {version} is left out: {error}\n")
    every = list(cells(binaries))
    asyncio.run(run(data, every, arguments.minutes))
    arguments.page.write_text(page(every, done(data), binaries))
    return 0


async def _facts(binary: str) -> BinaryFacts:
    return await ask_binary(await binary_facts(binary), cache_dir())


if __name__ == "__main__":
    sys.exit(main())
