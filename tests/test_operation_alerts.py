"""Alerts that are not about one migration: each provoked by a real fault, and what would take long by promtool."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dashboards.alert import RUNBOOKS
from dashboards.rules import alerts
from migrascope.main import parser
from tests.faulty_host import Fired, Host, faulty_host
from tests.promtool import Told, check_rule, selector
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent
FIRE_SECONDS = 60.0
ALERTS = {alert.name: alert for alert in alerts()}
NIGHT = {"campaign": "night"}

PROVOKED: dict[Fired, str] = {
    ("CampaignFailureRatioHigh", "campaigns", "fails"): r"50% of its 6 runs failed",
    ("CampaignStuck", "campaigns", "given-up"): r"for \d+m [\d.]+s, and 5 are left\. Its driver is at work: 0",
    ("CampaignStuck", "campaigns", "hangs"): r"for 2h \d+m [\d.]+s, and 5 are left\. Its driver is at work: 1",
    ("CellParked", "campaigns", "parks"): r"parked cells: 1;",
    ("ExporterDown", "killed", ""): r"answers no scrape",
    ("TelemetryLate", "late", ""): r"is taken \d+(\.\d+)?ms or more after",
    ("MirrorFallingBehind", "mirrors", "away"): r"is \d+m [\d.]+s behind; [\d.]+kiB wait",
    ("MirrorDroppingData", "mirrors", "refuses"): r": [1-9]\d* samples or rows",
    ("MirrorDroppingData", "mirrors", "overflows"): r": [1-9]\d* samples or rows",
    ("DiskNearlyFull", "disk", ""): r": 9\d\d(\.\d+)?MiB are free",
}
"""Each fault of the host: the alert that it deserves, and what that says."""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory, prometheus_binary: Path) -> Iterator[Host]:
    with faulty_host(tmp_path_factory.mktemp("host"), prometheus_binary) as found:
        yield found


@pytest.mark.server
def test_nothing_is_told_while_exporters_serve_a_driver_works_a_mirror_takes_and_a_disk_has_room(host: Host) -> None:
    assert host.before == set()


@pytest.mark.server
@pytest.mark.parametrize("fault", PROVOKED, ids="-".join)
def test_a_fault_is_told_with_its_figures(host: Host, fault: Fired) -> None:
    if fault[1] not in host.data:
        pytest.skip(host.unmounted)
    wait_until(lambda: fault in host.firing(), FIRE_SECONDS)
    assert re.search(PROVOKED[fault], host.description(fault)), host.description(fault)
    assert "unknown" not in host.description(fault)


@pytest.mark.server
def test_no_fault_raises_the_alert_of_another_nor_what_is_well_beside_it(host: Host) -> None:
    wanted = {fault for fault in PROVOKED if fault[1] in host.data}
    wait_until(lambda: host.firing() >= wanted, FIRE_SECONDS)
    assert host.firing() == wanted


def series(name: str, values: str, **labels: str) -> dict[str, str]:
    return {selector(f"migrascope_{name}", labels): values}


def lateness(late: int) -> dict[str, str]:
    """A second's ticks, ten of them, of which so many are over 0.1 s late."""
    found: dict[str, str] = {}
    for bound, ticks in (("0.05", 10 - late), ("0.1", 10 - late), ("0.5", 10), ("+Inf", 10)):
        found |= series("sampling_lateness_seconds_bucket", f"0+{ticks}x60 _x200", source="threads", le=bound)
    return found


def campaign(change: str, active: str, left: str, stopped: str = "0x2000") -> dict[str, str]:
    return (
        series("campaign_last_change_timestamp_seconds", change, **NIGHT)
        | series("campaign_active", active, **NIGHT)
        | series("campaign_left_runs", left, **NIGHT)
        | series("campaign_stopped", stopped, **NIGHT)
    )


def half_failed(runs: int) -> dict[str, str]:
    """Of so many runs of two strategies, those of the second one failed."""
    found: dict[str, str] = {}
    for strategy, failed in (("none", 0), ("pause", runs // 2)):
        found |= series("campaign_runs_total", f"{runs // 2}x2000", **NIGHT, strategy=strategy)
        found |= series("campaign_runs_failed_total", f"{failed}x2000", **NIGHT, strategy=strategy)
    return found


AT = "Campaign night of localhost:9742: "
HALF = (
    f"{AT}50% of its 6 runs failed, lost their guest or broke. A run that does not converge is an answer and does"
    " not count."
)
WAITING = "are left. Its driver is at work:"

HELD: dict[str, tuple[str, dict[str, str], dict[str, str], str, tuple[int, ...], tuple[int, ...]]] = {
    "an hour without a change, the driver alive": (
        "CampaignStuck", campaign("-3580x300", "1x300", "3x300"), NIGHT,
        f"{AT}no run began or ended for 1h 0m 15s, and 3 {WAITING} 1 (1 yes, 0 no).", (35,), (20, 29),
    ),
    "a minute without a driver": (
        "CampaignStuck", campaign("-50x300", "0x300", "3x300"), NIGHT,
        f"{AT}no run began or ended for 1m 30s, and 3 {WAITING} 0 (1 yes, 0 no).", (40,), (10, 19),
    ),
    "given up for a day": (
        "CampaignStuck", campaign("-86390x300", "0x300", "3x300"), NIGHT, "", (), (100,),
    ),
    "a campaign with nothing left": ("CampaignStuck", campaign("-5000x300", "0x300", "0x300"), NIGHT, "", (), (100,)),
    "stopped by somebody, with runs left": (
        "CampaignStuck", campaign("-50x300", "0x300", "3x300", stopped="1x300"), NIGHT, "", (), (40, 100, 250),
    ),
    "three failures of six while it runs, for however long a run takes": (
        "CampaignFailureRatioHigh", half_failed(6) | campaign("-3000x300", "1x300", "3x300"), NIGHT, HALF, (20, 250),
        (5,),
    ),
    "three failures of six, told for ten minutes after its end and a minute more": (
        "CampaignFailureRatioHigh", half_failed(6) | campaign("0x2000", "1x30 0x2000", "0x2000", stopped="0x30 1x2000"),
        NIGHT, HALF, (20, 300, 590, 650), (5, 670, 1200),
    ),
    "half of four failed": (
        "CampaignFailureRatioHigh", half_failed(4) | campaign("0x300", "1x300", "3x300"), NIGHT, "", (), (60,),
    ),
    "a target that misses one scrape": ("ExporterDown", {selector("up", {}): "1x10 0 1x100"}, {}, "", (), (12, 20, 60)),
    "one tick in ten is late": (
        "TelemetryLate", lateness(1), {}, ("localhost:9742: one sample in a hundred is taken 460ms or more after its"
        " time. The host is short of CPU."), (40,), (15, 150),
    ),
    "no tick is late": ("TelemetryLate", lateness(0), {}, "", (), (40, 60)),
    "a mirror a minute behind": (
        "MirrorFallingBehind",
        series("mirror_lag_seconds", "55+1x100 0x100", mirror="b")
        | series("mirror_waiting_bytes", "1048576x200", mirror="a")
        | series("mirror_waiting_bytes", "3145728x200", mirror="b"),
        {"mirror": "b"}, "Mirror b of localhost:9742 is 1m 15s behind; 3MiB wait. Nothing is lost yet.",
        (20,), (5, 14, 145),
    ),
    "a disk with 4 % free": (
        "DiskNearlyFull",
        series("data_directory_free_bytes", "42949672960x30 429496729600x200")
        | series("data_directory_size_bytes", "1073741824000x300"), {},
        ("localhost:9742: 40GiB are free for the data directory. Once nothing is left, samples wait for 30 s and then"
        " runs end as broken."), (20, 50), (5, 80),
    ),
    "a cell parked two hours ago": (
        "CellParked",
        series("campaign_parked_cells", "1x100", **NIGHT)
        | series("campaign_last_change_timestamp_seconds", "-7200x100", **NIGHT), NIGHT, "", (), (10, 60),
    ),
}  # fmt: skip
"""What happens: alert, series, labels, what is told, at which seconds it is told, and at which it is not."""


@pytest.mark.server
@pytest.mark.parametrize("case", HELD)
def test_an_alert_holds_and_stays_as_long_as_it_says(tmp_path: Path, promtool: Path, case: str) -> None:
    name, values, labels, description, told, silent = HELD[case]
    alert = Told(labels=labels, description=description)
    expected = {second: [alert] for second in told} | {second: [] for second in silent}
    check_rule(promtool, tmp_path, ALERTS[name], values, expected)


COMMAND = re.compile(r"`migrascope ([a-z][^`]*)`|^    migrascope (.*?)(?:  .*)?$", re.MULTILINE)


def commands() -> list[str]:
    """Every command that a runbook tells its reader to run; one that is only named stands for its help."""
    texts = [path.read_text() for path in sorted((ROOT / RUNBOOKS).glob("*.md"))]
    found = {"".join(words) for text in texts for words in COMMAND.findall(text)}
    return sorted(command if " " in command else f"{command} --help" for command in found)


@pytest.mark.parametrize("command", commands())
def test_every_command_of_a_runbook_is_one_that_migrascope_takes(command: str) -> None:
    words = shlex.split(command)
    try:
        parser(words[0]).parse_args(words)
    except SystemExit as end:
        assert end.code == 0, command  # noqa: PT017 - what --help ends with
