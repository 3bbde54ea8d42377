"""What is deployed: compose, image and units, as far as they can be checked without a container engine or systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dashboards.stack_config import COMPOSE

DEPLOY = Path(__file__).parent.parent / "deploy"
SERVICES: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]


@pytest.mark.parametrize("name", SERVICES)
def test_a_service_is_pinned_confined_and_on_loopback_only(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[\w./-]+:v?\d+\.\d+\.\d+", service["image"]), "a tag that moves names no version"
    assert service["user"].split(":")[0] != "0"
    assert service["read_only"]
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    assert service.get("healthcheck") or "build" in service


@pytest.mark.parametrize("name", SERVICES)
def test_what_is_mounted_from_the_tree_is_there_and_cannot_be_written(name: str) -> None:
    for mount in SERVICES[name].get("volumes", []):
        if mount.startswith("./"):
            source, _, mode = mount.split(":")
            assert (DEPLOY / source).exists()
            assert mode == "ro"


def test_secrets_come_by_file_and_are_not_in_the_tree() -> None:
    for service in SERVICES.values():
        for variable, value in service.get("environment", {}).items():
            if re.search("PASSWORD|TOKEN", variable):
                assert str(value).startswith("/run/secrets/")
    tracked = subprocess.run(
        ["git", "ls-files", "secrets"], cwd=DEPLOY, capture_output=True, text=True, timeout=30, check=False
    )
    if tracked.returncode == 0:
        assert tracked.stdout.split() == ["secrets/.gitignore"]


def test_the_configuration_names_the_services_that_compose_runs() -> None:
    addresses = [COMPOSE.prometheus, COMPOSE.alertmanager, COMPOSE.victoria_metrics, COMPOSE.influxdb]
    for address in [*addresses, *COMPOSE.exporters]:
        assert address is not None
        name, port = address.split(":")
        assert any(each.endswith(f":{port}") for each in SERVICES[name]["ports"])
    assert COMPOSE.influx_token_file == "/run/secrets/influxdb_token"
    assert "influxdb_token" in SERVICES["grafana"]["secrets"]


@pytest.mark.parametrize("unit", sorted((DEPLOY / "systemd").glob("*.service")), ids=lambda path: path.name)
def test_systemd_finds_no_fault_with_a_unit(unit: Path, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    # the program is where the unit says on the machine that it is meant for; here any that is executable stands for it
    for each in (DEPLOY / "systemd").glob("*.service"):
        (tmp_path / each.name).write_text(each.read_text().replace("/opt/migrascope/.venv/bin/migrascope", "/bin/true"))
    found = subprocess.run(
        ["systemd-analyze", "verify", "--recursive-errors=no", tmp_path / unit.name],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (found.returncode, found.stderr) == (0, "")
