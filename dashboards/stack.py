"""The stack that shows: Prometheus, Alertmanager and what else is wanted, as plain processes on loopback.

What runs stands in stack/stack.json of the data directory; data, logs and the configuration that each server runs with
stand beside it. The processes are in sessions of their own: they outlive the command, and `down` ends them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dashboards import build
from dashboards.rules import rule_files
from dashboards.stack_config import Places, configurations
from dashboards.stack_services import ALERTMANAGER, LOOPBACK, PROMETHEUS, VICTORIA_METRICS, Service, services
from driver.datadir import DataDir, read_json, write_atomically, write_json
from driver.detached import start_detached
from workload.errors import BadValueError, BrokenError, MigrascopeError
from workload.value import from_json

READY_SECONDS = 60.0
STOP_SECONDS = 15.0
ANSWER_SECONDS = 2.0
LOOK_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class Running:
    """One server that was started; its process is known by id and time of creation, since ids are used again."""

    name: str
    pid: int
    created: float
    port: int
    health: str
    log: str

    @property
    def url(self) -> str:
        """Its address for a browser."""
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def process(self) -> psutil.Process | None:
        """Its process, None once it has ended."""
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(self.pid)
            if abs(process.create_time() - self.created) < 1.0 and process.status() != psutil.STATUS_ZOMBIE:
                return process
        return None

    @property
    def state(self) -> str:
        """`up`, `not answering`, or `down`."""
        if self.process is None:
            return "down"
        return "up" if _answers(self) else "not answering"


def up(data: DataDir, cache: Path, *, long_term: bool = False, webhook: str | None = None) -> list[Running]:
    """Start what does not run yet, with configuration, rules and dashboards written anew; returns all that runs.

    A server's port is its usual one, or any that is free where that is taken. Servers that run already read their
    configuration again.

    Raises:
        MigrascopeError: a server is missing, or did not come up (those that this call started are stopped again).
    """
    wanted = services(long_term=long_term)
    found = {service.name: service.find(cache) for service in wanted}
    if missing := [service for service in wanted if found[service.name] is None and not service.optional]:
        names = ", ".join(service.name for service in missing)
        packages = " ".join(service.package for service in missing)
        raise MigrascopeError(
            f"stack: {names}: neither in PATH nor in {cache / 'bin'}; `make stack` fetches them, or install {packages}"
        )
    with _locked(data):
        before = {each.name: each for each in running(data) if each.process}
        ports = {name: each.port for name, each in before.items()}
        ports |= {
            service.name: _port(service) for service in wanted if found[service.name] and service.name not in before
        }
        _write(data, ports, webhook)
        started: list[Running] = []
        try:
            for service in wanted:
                program = found[service.name]
                if service.name in before:
                    _reload(before[service.name])
                elif program is not None:
                    started.append(_start(service, program, _directory(data), ports[service.name]))
                    write_json(_state(data), [asdict(each) for each in (*before.values(), *started)])
                    _wait_ready(started[-1])
        except BaseException:
            _stop(started)
            _remember(data, list(before.values()))
            raise
        return [*before.values(), *started]


def down(data: DataDir) -> list[Running]:
    """Stop every server; returns those that ran. What they stored stays.

    Raises:
        BrokenError: one does not end, not even by SIGKILL.
    """
    with _locked(data):
        ran = [each for each in running(data) if each.process]
        _stop(list(reversed(ran)))
        _remember(data, [])
        return ran


def running(data: DataDir) -> list[Running]:
    """The servers that were started and not stopped, whether or not they live.

    Raises:
        MigrascopeError: stack.json is damaged.
    """
    path = _state(data)
    if not path.exists():
        return []
    found = read_json(path)
    if not isinstance(found, list):
        raise BadValueError(f"{path}: want a list of servers; the file is damaged")
    return [from_json(Running, each, str(path)) for each in found]


def _directory(data: DataDir) -> Path:
    return data.path / "stack"


def _state(data: DataDir) -> Path:
    return _directory(data) / "stack.json"


def _remember(data: DataDir, servers: Sequence[Running]) -> None:
    if servers:
        write_json(_state(data), [asdict(each) for each in servers])
    else:
        _state(data).unlink(missing_ok=True)


def _write(data: DataDir, ports: dict[str, int], webhook: str | None) -> None:
    directory = _directory(data)
    rules = directory / "prometheus" / "rules"
    store = ports.get(VICTORIA_METRICS.name)
    places = Places(
        rules=str(rules / "*.yml"),
        dashboards=str(directory / "grafana" / "dashboards"),
        prometheus=f"{LOOPBACK}:{ports[PROMETHEUS.name]}",
        alertmanager=f"{LOOPBACK}:{ports[ALERTMANAGER.name]}",
        file_sd=str(data.file_sd),
        victoria_metrics=f"{LOOPBACK}:{store}" if store else None,
    )
    for name, text in configurations(places, webhook).items():
        write_atomically(directory / name, text.encode())
    for old in rules.glob("*.yml"):
        old.unlink()
    for name, text in rule_files().items():
        write_atomically(rules / name, text.encode())
    build.build(directory / "grafana" / "dashboards")
    data.file_sd.parent.mkdir(mode=0o700, parents=True, exist_ok=True)


def _port(service: Service) -> int:
    """The service's usual port, or any free one."""
    for port in (service.port, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((LOOPBACK, port))
            return int(probe.getsockname()[1])
    raise BrokenError(f"stack: {service.name}: no port of {LOOPBACK} is free")


def _start(service: Service, program: Path, directory: Path, port: int) -> Running:
    home = directory / service.name
    (home / "data").mkdir(mode=0o700, parents=True, exist_ok=True)
    log = home / "server.log"
    environment = os.environ | service.environment(directory, port)
    pid = start_detached(service.words(program, directory, port), log, environment)
    created = psutil.Process(pid).create_time()
    return Running(
        name=service.name, pid=pid, created=created, port=port, health=service.health, log=str(log)
    )  # fmt: skip


def _wait_ready(server: Running) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not _answers(server):
        if server.process is None:
            raise BrokenError(f"stack: {server.name} ended before it answered: {_last_line(server)}")
        if time.monotonic() > deadline:
            raise BrokenError(f"stack: {server.name} does not answer on {server.url}: {_last_line(server)}")
        time.sleep(LOOK_SECONDS)


def _answers(server: Running) -> bool:
    try:
        with urllib.request.urlopen(server.url + server.health, timeout=ANSWER_SECONDS) as reply:  # noqa: S310 - ours
            return bool(reply.status == 200)
    except OSError:
        return False


def _reload(server: Running) -> None:
    """Have a server read its configuration again; all but Grafana and VictoriaMetrics do so at SIGHUP."""
    if server.name in (PROMETHEUS.name, ALERTMANAGER.name) and (process := server.process):
        process.send_signal(1)


def _stop(servers: Sequence[Running]) -> None:
    """Ask each to end, then kill it: a ladder with a bound on each rung."""
    processes = [process for server in servers if (process := server.process)]
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    _, left = psutil.wait_procs(processes, timeout=STOP_SECONDS)
    for process in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    _, left = psutil.wait_procs(left, timeout=STOP_SECONDS)
    if left:
        raise BrokenError(f"stack: process {left[0].pid} does not end, not even by SIGKILL")


def _last_line(server: Running) -> str:
    text = Path(server.log).read_text(errors="replace").strip()
    line = text.splitlines()[-1][-300:] if text else "it said nothing"
    return f"{line} (log: {server.log})"


@contextlib.contextmanager
def _locked(data: DataDir) -> Iterator[None]:
    """Let one `stack` command at a time change what runs."""
    directory = _directory(data)
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
