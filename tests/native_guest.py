"""The guest's init built for the host, so that its functions can be tried without a QEMU."""

from __future__ import annotations

import subprocess
from pathlib import Path

from workload.image import COMPILE, LIBRARIES, SOURCES

SOURCE = Path(__file__).with_name("native.c")
WORKLOAD = SOURCE.parents[1] / "workload"


def build_native(folder: Path) -> Path:
    """Compile `native.c` with the guest's own flags; the functions that it leaves out may be unused."""
    assert all((WORKLOAD / name).exists() for name in SOURCES)
    program = folder / "native"
    command = [*COMPILE, "-Wno-unused-function", "-I", str(WORKLOAD), "-o", str(program), str(SOURCE), *LIBRARIES]
    subprocess.run(command, check=True, timeout=120)
    return program


def run_native(program: Path, *arguments: str) -> bytes:
    """Run it and return what it printed."""
    return subprocess.run([program, *arguments], check=True, timeout=60, capture_output=True).stdout
