"""What tests of real parts ask for: binaries of the system or the cache, free ports, and that nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import psutil
import pytest
from playwright.sync_api import Browser, sync_playwright

from driver.datadir import DataDir
from driver.lock import VARIABLE
from driver.watch import find_exporter
from exporter.mirror import delivery, feed
from exporter.start import LINGER_VARIABLE
from tests.faulty import Script, faulty_server
from tests.golden import Golden
from tests.native_guest import build_native
from tests.servers import unused_port
from workload.cache import cache_dir

# A busy machine is no counterexample; and what CI says of a commit does not depend on a throw of dice.
hypothesis.settings.register_profile("house", deadline=None, derandomize=os.environ.get("CI") == "true")
hypothesis.settings.load_profile("house")

GRACE_SECONDS = 5.0
# Every process that a test starts inherits this variable: so it is known as ours even when its parent has gone.
MARK = "MIGRASCOPE_TEST_SESSION"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update", action="store_true", help="write the golden files anew")


@pytest.fixture(scope="session")
def native(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The guest's init, built for the host."""
    return build_native(tmp_path_factory.mktemp("native"))


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A short directory: a socket's path has at most 107 bytes."""
    path = Path(tempfile.mkdtemp(prefix="mt-"))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Golden:
    """The files of what was agreed on."""
    return Golden(update=request.config.getoption("--update"))


@pytest.fixture(scope="session")
def cache() -> Path:
    """The cache directory that set-up filled: kernel, initrd, servers."""
    return cache_dir()


@pytest.fixture(scope="session")
def qemu_binary() -> Path:
    """The installed QEMU (7.2 on Debian 12)."""
    found = shutil.which("qemu-system-x86_64")
    return Path(found) if found else _absent("qemu-system-x86_64", "not in PATH")


@pytest.fixture(scope="session")
def qemu_10_binary(cache: Path) -> Path:
    """QEMU 10.0, a script that execs it with its own firmware directories."""
    return _cached(cache, "qemu-system-x86_64-10.0")


@pytest.fixture(scope="session")
def prometheus_binary(cache: Path) -> Path:
    return _cached(cache, "prometheus")


@pytest.fixture(scope="session")
def promtool(cache: Path) -> Path:
    return _cached(cache, "promtool")


@pytest.fixture(scope="session")
def victoria_metrics_binary(cache: Path) -> Path:
    return _cached(cache, "victoria-metrics")


@pytest.fixture(scope="session")
def alertmanager_binary(cache: Path) -> Path:
    return _cached(cache, "alertmanager")


@pytest.fixture(scope="session")
def amtool(cache: Path) -> Path:
    return _cached(cache, "amtool")


@pytest.fixture(scope="session")
def influxd_binary(cache: Path) -> Path:
    return _cached(cache, "influxd")


@pytest.fixture(scope="session")
def influxdb_binary(cache: Path) -> Path:
    return _cached(cache, "influxd")


@pytest.fixture(scope="session")
def chromium_binary(cache: Path) -> Path:
    """Chromium's headless shell; as root it wants --no-sandbox."""
    return _cached(cache, "chromium")


@pytest.fixture(scope="session")
def sshd_binary(cache: Path) -> Path:
    return _cached(cache, "sshd")


@pytest.fixture(scope="session")
def ssh_binary(cache: Path) -> Path:
    return _cached(cache, "ssh")


@pytest.fixture(scope="module")
def browser(chromium_binary: Path) -> Iterator[Browser]:
    """A running Chromium; of each module its own, since Playwright's loop must not meet that of asynchronous tests."""
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(chromium_binary), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def cached_tools(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`ip`, `tc` and `numactl` of the cache, where this system has none."""
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}:{cache / 'bin'}")


@pytest.fixture
def run_data(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cached_tools: None,  # noqa: ARG001 - runs find them
) -> Iterator[DataDir]:
    """A data directory with a very long path and a comma and spaces in it; its sockets' directory ends up empty."""
    runtime = Path(f"/tmp/mr-{os.getpid()}")
    runtime.mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    yield DataDir.open(tmp_path / ("a, very long directory name " * 5) / ("and another " * 8))
    left = [str(path) for path in runtime.rglob("*")]
    runtime.rmdir() if not left else None
    assert not left


@pytest.fixture
def watched_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataDir]:
    """A data directory for runs with an exporter, which ends with the test."""
    monkeypatch.setenv(VARIABLE, str(tmp_path / "driver.lock"))
    monkeypatch.setenv(LINGER_VARIABLE, "0")
    data = DataDir.open(tmp_path / "data")
    yield data
    if client := find_exporter(data):
        os.kill(client.info.pid, signal.SIGTERM)


@pytest.fixture
def free_port() -> int:
    """A TCP port of loopback that nothing listens on at this moment."""
    return unused_port()


@pytest.fixture
def script() -> Iterator[Script]:
    """A server that takes writes and follows a script of faults."""
    with faulty_server() as found:
        yield found


@pytest.fixture
def data(tmp_path: Path) -> DataDir:
    """An empty data directory."""
    return DataDir.open(tmp_path / "data")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mirror's pauses of a fraction: what is tested is their order, not their length."""
    monkeypatch.setattr(delivery, "FIRST_PAUSE_SECONDS", 0.02)
    monkeypatch.setattr(delivery, "LAST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(feed, "LOOK_SECONDS", 0.02)


@pytest.fixture(scope="session", autouse=True)
def no_process_outlives_the_tests() -> Iterator[None]:
    """Fail the session when a process that a test started is still there at its end; such a process is killed."""
    mark = uuid.uuid4().hex
    os.environ[MARK] = mark
    yield
    deadline = time.monotonic() + GRACE_SECONDS
    while (left := _marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.1)
    told = [_describe(process) for process in left]
    for process in left:
        process.kill()
    del os.environ[MARK]
    assert not told, "still running at the end of the tests: " + "; ".join(told)


def _marked(mark: str) -> list[psutil.Process]:
    own = os.getpid()
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != own and process.environ().get(MARK) == mark and process.status() != "zombie":
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue  # gone, or another user's, and so not started here
    return found


def _describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} {' '.join(process.cmdline())[:120]}"
    except psutil.NoSuchProcess:
        return f"{process.pid} (gone since)"


def _cached(cache: Path, name: str) -> Path:
    path = cache / "bin" / name
    return path if path.exists() else _absent(name, f"not in {path.parent}")


def _absent(name: str, where: str) -> Path:
    """Skip the test, or fail it where everything is meant to be there."""
    reason = f"{name}: {where}; `make setup-test` brings it"
    if os.environ.get("CI") == "true" or os.environ.get("MIGRASCOPE_REQUIRE_ALL"):
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
