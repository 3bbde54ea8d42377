"""The servers of the stack: where each one's program is found and with which words it is started."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dashboards.stack_config import RETENTION

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, kw_only=True)
class Service:
    """One server: its program's names, usual port, health page, package, and its command line and environment.

    `words` takes the program, the stack's directory and the port. What is `optional` is left out where it is missing.
    """

    name: str
    programs: Sequence[str]
    port: int
    health: str
    package: str
    words: Callable[[Path, Path, int], list[str]]
    environment: Callable[[Path, int], Mapping[str, str]] = field(default=lambda _directory, _port: {})
    optional: bool = False

    def find(self, cache: Path) -> Path | None:
        """Find the program: in PATH, else unpacked in the cache."""
        for name in self.programs:
            if found := shutil.which(name):
                return Path(found)
            if (cache / "bin" / name).exists():
                return cache / "bin" / name
        return None


def _prometheus(program: Path, directory: Path, port: int) -> list[str]:
    return [
        str(program),
        f"--config.file={directory / 'prometheus' / 'prometheus.yml'}",
        f"--storage.tsdb.path={directory / 'prometheus' / 'data'}",
        f"--storage.tsdb.retention.time={RETENTION}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--web.enable-remote-write-receiver",
        "--log.level=warn",
    ]


def _alertmanager(program: Path, directory: Path, port: int) -> list[str]:
    return [
        str(program),
        f"--config.file={directory / 'alertmanager' / 'alertmanager.yml'}",
        f"--storage.path={directory / 'alertmanager' / 'data'}",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--cluster.listen-address=",  # one of its own: no gossip, no further port
        "--log.level=warn",
    ]


def _victoria_metrics(program: Path, directory: Path, port: int) -> list[str]:
    return [
        str(program),
        f"-storageDataPath={directory / 'victoria-metrics' / 'data'}",
        f"-httpListenAddr={LOOPBACK}:{port}",
        "-retentionPeriod=100y",
        "-loggerLevel=WARN",
    ]


def _grafana(program: Path, directory: Path, port: int) -> list[str]:  # noqa: ARG001 - it is told by its environment
    words = [str(program), *(["server"] if program.name == "grafana" else [])]
    home = Path("/usr/share/grafana")
    return [*words, "--homepath", str(home)] if home.is_dir() else words


def _grafana_environment(directory: Path, port: int) -> dict[str, str]:
    home = directory / "grafana"
    return {
        "GF_SERVER_HTTP_ADDR": LOOPBACK,
        "GF_SERVER_HTTP_PORT": str(port),
        "GF_PATHS_DATA": str(home / "data"),
        "GF_PATHS_LOGS": str(home / "logs"),
        "GF_PATHS_PLUGINS": str(home / "plugins"),
        "GF_PATHS_PROVISIONING": str(home / "provisioning"),
        "GF_AUTH_ANONYMOUS_ENABLED": "true",  # it listens on loopback only, and shows without changing
        "GF_AUTH_ANONYMOUS_ORG_ROLE": "Viewer",
        "GF_ANALYTICS_REPORTING_ENABLED": "false",
        "GF_ANALYTICS_CHECK_FOR_UPDATES": "false",
        "GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH": str(home / "dashboards" / "live-run.json"),
    }


PROMETHEUS = Service(
    name="prometheus", programs=("prometheus",), port=9090, health="/-/ready", package="prometheus", words=_prometheus
)
ALERTMANAGER = Service(
    name="alertmanager", programs=("prometheus-alertmanager", "alertmanager"), port=9093, health="/-/ready",
    package="prometheus-alertmanager", words=_alertmanager,
)  # fmt: skip
VICTORIA_METRICS = Service(
    name="victoria-metrics", programs=("victoria-metrics", "victoria-metrics-prod"), port=8428, health="/health",
    package="victoria-metrics", words=_victoria_metrics,
)  # fmt: skip
GRAFANA = Service(
    name="grafana", programs=("grafana", "grafana-server"), port=3000, health="/api/health", package="grafana",
    words=_grafana, environment=_grafana_environment, optional=True,
)  # fmt: skip


def services(*, long_term: bool) -> list[Service]:
    """The stack's servers in the order of their start: a store before who writes to it, Grafana last."""
    return [*([VICTORIA_METRICS] if long_term else []), ALERTMANAGER, PROMETHEUS, GRAFANA]
