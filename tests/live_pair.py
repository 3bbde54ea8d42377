"""Two real QEMUs as a driver would run them, steered by hand through a plain socket: what the exporter is tested on."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from driver.clock import Clock
from driver.datadir import DataDir, RunDir
from driver.hardware import Hardware
from driver.lock import run_lock
from driver.marks import Mark, append_mark
from driver.record import Host, RunRecord, read_record, write_record
from driver.scenario import Scenario
from driver.targets import Target, Targets, write_targets
from tests.waiting import wait_until
from workload.console import Parser, Ready
from workload.image import build_initrd, guest_command_line
from workload.kernel import find_kernel
from workload.settings import Workload

ROLES = ("source", "destination")


class PlainMonitor:
    """A QMP client of a few lines on a buffered blocking socket: nothing of the exporter's is in it."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(10)
        wait_until(lambda: self._socket.connect_ex(str(path)) == 0)  # the path is there before anybody listens
        self._file = self._socket.makefile("rwb")
        self._file.readline()
        self.execute("qmp_capabilities")

    def execute(self, command: str, **arguments: Any) -> Any:
        """Execute a command; events on the way are skipped."""
        self._file.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        self._file.flush()
        while True:
            answer = json.loads(self._file.readline())
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


def a_record(run: str, clock: Clock, scenario: Scenario) -> RunRecord:
    """A run's record as it stands when its driver attaches."""
    return RunRecord(
        run=run, clock=clock, scenario=scenario, hardware=Hardware(memory_mib=128), workload=Workload(),
        host=Host(name="here", cpu="some", cores=2, memory_bytes=1 << 33, kernel="6.1"), accelerator="tcg",
    )  # fmt: skip


@dataclass
class LivePair:
    """A run's directory, its two QEMUs and their control monitors."""

    data: DataDir
    qemu: Path
    cache: Path
    sockets: Path
    scenario: Scenario = field(default_factory=lambda: Scenario(bandwidth_mib_s=32, downtime_limit_ms=100))
    workload: Workload = field(default_factory=lambda: Workload(working_set_mib=32, granularity_mib=8))
    run: str = "20261124-000000-test"

    def __enter__(self) -> Self:
        self.clock = Clock.now()
        self.dir: RunDir = self.data.run(self.run)
        self.dir.path.mkdir()
        self._held = contextlib.ExitStack()  # as a driver does: a run whose lock is free is taken for abandoned
        self._held.enter_context(run_lock(self.dir))
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.control: dict[str, PlainMonitor] = {}
        for role in ROLES:
            self.processes[role] = subprocess.Popen(self._command(role))
        for role in ROLES:
            self.control[role] = PlainMonitor(self.sockets / f"{role}-control")
            capabilities = [{"capability": "events", "state": True}, {"capability": "postcopy-ram", "state": True}]
            self.control[role].execute("migrate-set-capabilities", capabilities=capabilities)
            self.control[role].execute(
                "migrate-set-parameters",
                **{
                    "max-bandwidth": self.scenario.bandwidth_bytes_per_second,
                    "downtime-limit": self.scenario.downtime_limit_ms,
                },
            )
        write_record(self.dir, a_record(self.run, self.clock, self.scenario))
        targets = tuple(
            Target(
                role=role,
                pid=self.processes[role].pid,
                monitor=str(self.sockets / f"{role}-watch"),
                console=str(self.dir.console(role)),
            )
            for role in ROLES
        )
        write_targets(
            self.dir,
            Targets(
                run=self.run, campaign=None, scenario=self.scenario.name, host="here", clock=self.clock, targets=targets
            ),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for monitor in self.control.values():
            monitor.close()
        for process in self.processes.values():
            process.kill()
            process.wait()
        self._held.close()

    def mark(self, name: str, kind: str = "phase", **detail: Any) -> None:
        """Append a mark, as the driver does."""
        append_mark(self.dir, Mark(kind=kind, name=name, time_ns=self.clock.stamp(), detail=detail))

    def boot(self) -> None:
        """Let the guest run and wait until it is ready."""
        self.mark("boot")
        self.control["source"].execute("cont")
        wait_until(self._ready)
        self.mark("settle")

    def migrate(self) -> None:
        """Begin the migration."""
        uri = f"unix:{self.sockets / 'stream'}"
        self.control["destination"].execute("migrate-incoming", uri=uri)
        self.mark("migrate")
        self.control["source"].execute("migrate", uri=uri)

    def status(self) -> Any:
        """The source's status."""
        return self.control["source"].execute("query-migrate").get("status")

    def end(self, outcome: str) -> None:
        """Write the outcome, as the driver does before it detaches."""
        self.mark(outcome, kind="outcome")
        write_record(self.dir, replace(read_record(self.dir), outcome=outcome))

    def _ready(self) -> bool:
        console = self.dir.console("source")
        return console.exists() and any(isinstance(r, Ready) for r in Parser().feed(console.read_bytes()))

    def _command(self, role: str) -> list[str | Path]:
        command: list[str | Path] = [
            self.qemu, "-name", f"guest={role},debug-threads=on", "-M", "pc", "-accel", "tcg,thread=multi",
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
            # 8 KiB more than a multiple of 64 pages: driver.kit.slow_path_kib says why
            "-m", f"{(128 << 10) + 8}K",
            "-kernel", find_kernel(None, self.cache).path, "-initrd", build_initrd(self.cache).path,
            "-append", guest_command_line(self.workload, 1, ""),
            "-chardev", f"file,id=console,path={self.dir.console(role)}", "-serial", "chardev:console",
        ]  # fmt: skip
        for name in ("control", "watch", "poller"):
            path = self.sockets / f"{role}-{name}"
            command += ["-chardev", f"socket,id={name},path={path},server=on,wait=off"]
            command += ["-mon", f"chardev={name},mode=control"]
        return command + (["-S"] if role == "source" else ["-incoming", "defer"])
