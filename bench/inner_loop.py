"""Inner loops: bytes/s of the guest's candidates beside guestperf's kind, memcpy and memset, natively and under TCG.

Below them stands what the workloads do page by page with the candidate that the guest chooses. Run it with
`python -m bench.inner_loop`. Targets: the fastest candidate reaches guestperf's kind of loop under TCG and 0.8 of it
natively, although its content never repeats. Exit status 1 when one is missed. `guestperf-wide` is the same loop as gcc
vectorises it (16 bytes at a time), for comparison only.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from workload.cache import cache_dir
from workload.image import COMPILE, LIBRARIES, archive
from workload.kernel import find_kernel

SOURCE = Path(__file__).with_suffix(".c")
WORKLOAD = SOURCE.parents[1] / "workload"
REFERENCE = "guestperf"
WORKLOADS = ("random", "hotset", "zipf", "zero-80", "compressible-75", "change-2", "read")
OTHERS = (REFERENCE, "guestperf-wide", "memcpy", "memset", *WORKLOADS)
TARGETS = {"TCG": 1.0, "native": 0.8}
TIMEOUT_SECONDS = 120.0

Rates = dict[tuple[int, str], float]


def main() -> int:
    """Measure, print the table, and say whether the targets are met."""
    with tempfile.TemporaryDirectory() as scratch:
        program = build(Path(scratch))
        measured = {"native": run_native(program), "TCG": run_guest(program, Path(scratch))}
    show(measured)
    missed = [place for place, rates in measured.items() if not met(place, rates)]
    return 1 if missed else 0


def build(folder: Path) -> Path:
    """Compile the benchmark as the guest's init is compiled; the functions that it leaves out may be unused."""
    program = folder / "inner_loop"
    command = [*COMPILE, "-Wno-unused-function", "-I", str(WORKLOAD), "-o", str(program), str(SOURCE), *LIBRARIES]
    subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)
    return program


def run_native(program: Path) -> Rates:
    """Measure on the host itself."""
    done = subprocess.run([program], check=True, capture_output=True, text=True, timeout=TIMEOUT_SECONDS)
    return parse(done.stdout)


def run_guest(program: Path, folder: Path) -> Rates:
    """Measure as PID 1 of a guest with two vCPUs under multi-threaded TCG."""
    initrd, console = folder / "initrd.cpio", folder / "console.log"
    initrd.write_bytes(archive(program.read_bytes(), {}))
    command: list[str | Path] = [
        "qemu-system-x86_64", "-M", "pc", "-accel", "tcg,thread=multi", "-nodefaults", "-no-user-config",
        "-display", "none", "-no-reboot", "-m", "128", "-smp", "2", "-kernel", find_kernel(None, cache_dir()).path,
        "-initrd", initrd, "-append", "console=ttyS0 quiet panic=-1 mitigations=off",
        "-chardev", f"file,id=console,path={console}", "-serial", "chardev:console",
    ]  # fmt: skip
    subprocess.run(command, check=True, timeout=TIMEOUT_SECONDS)
    return parse(console.read_text(errors="replace"))


def parse(text: str) -> Rates:
    """Read the `result` lines: bytes/s by number of threads and loop."""
    rates: Rates = {}
    for words in map(str.split, text.splitlines()):
        if words[:1] == ["result"]:
            rates[int(words[1]), words[2]] = float(words[3])
    if "end" not in text.split():
        raise SystemExit(f"inner_loop: the benchmark did not reach its end; it printed: {text[-300:]!r}")
    return rates


def show(measured: dict[str, Rates]) -> None:
    """Print the table: GB/s, and in parentheses the ratio to guestperf's kind of loop."""
    columns = [(place, threads) for place, rates in measured.items() for threads in sorted({key[0] for key in rates})]
    table = Table("loop", *(f"{place}, {threads} thread{'s' * (threads > 1)}" for place, threads in columns))
    for loop in dict.fromkeys(name for rates in measured.values() for _, name in rates):
        cells = []
        for place, threads in columns:
            rate, reference = measured[place][threads, loop], measured[place][threads, REFERENCE]
            cells.append(f"{rate / 1e9:5.2f} GB/s ({rate / reference:.2f})")
        table.add_row(loop, *cells)
    Console().print(table)


def met(place: str, rates: Rates) -> bool:
    """Compare the candidate that the guest would choose with guestperf's kind, for each number of threads."""
    every = True
    for threads in sorted({key[0] for key in rates}):
        candidates = {name: rate for (count, name), rate in rates.items() if count == threads and name not in OTHERS}
        best = max(candidates, key=lambda name: candidates[name])
        ratio = candidates[best] / rates[threads, REFERENCE]
        verdict = "met" if ratio >= TARGETS[place] else "MISSED"
        where = f"{place}, {threads} thread{'s' * (threads > 1)}"
        print(f"{where}: {best} at {ratio:.2f} of {REFERENCE}'s, target {TARGETS[place]}: {verdict}")
        every = every and ratio >= TARGETS[place]
    return every


if __name__ == "__main__":
    sys.exit(main())
