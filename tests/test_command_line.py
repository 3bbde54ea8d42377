"""The command line: bad input is met with one line and an exit status, and leaves nothing behind."""

from __future__ import annotations

import importlib
import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from driver.comparison import COMPARISONS
from migrascope.main import MODULES, main
from migrascope.options import Parser, add_run_options, value_from
from workload.settings import Workload

BAD = {
    "run --downtime-limit-ms 0": "scenario.downtime_limit_ms=0: want 1 to 2000000 ms",
    "run --downtime-limit-ms 99999999": "scenario.downtime_limit_ms=99999999: want 1 to",
    "run --bandwidth-mib-s -5": "scenario.bandwidth_mib_s=-5: want 1 to",
    "run --bandwidth-mib-s 0": "scenario.bandwidth_mib_s=0: want 1 to",
    "run --max-iterations 0": "scenario.max_iterations=0: want 1 to",
    "run --max-iterations 99999999999": "scenario.max_iterations=99999999999: want 1 to",
    "run --strategy post-copi": "did you mean 'post-copy'?",
    "run --strategy none+pose": "strategy 'pose' is not known; did you mean 'pause'?",
    "compare demp": "strategy or comparison 'demp' is not known; did you mean 'demo'?",
    "compare demo none": "'demo' is a named comparison and stands alone",
    "compare none:bandwidth=3": "want field=value with one of",
    "compare none:bandwidth_mib_s=x": "scenario.bandwidth_mib_s='x': want 1 to",
    "run --memory-mib 64 --working-set-mib 128": "hardware.memory_mib=64: want at least the working set's 128 MiB",
    "run --memory-mib 9999999 --accel tcg": "this host has",
    "run --dirty-ring-size 5000": "want a power of two",
    "run --accel xen": "hardware.accelerator='xen': want one of auto, kvm, tcg",
    "run --phases 5:tick_ms=3": "workload.phases: 'tick_ms=3': want NAME=VALUE with one of rate_limit_mib_s",
    "run --working-set-mib 33 --guest-page-size 2m-hugetlb": "working_set_mib=33: want a multiple of 2 MiB",
    "run --kernel /nonexistent": "kernel /nonexistent: cannot be read",
    "run --kernel /etc/passwd": "not a kernel image",
    "run --settle-seconds 0": "settle.settle_seconds=0.0: want 0.1 to 600 s",
    "run --run-id ../../etc": "run id '../../etc': want the form of 2",
    "run --qemu /bin/ls": "/bin/ls is not QEMU",
    "show nothing": "run 'nothing': no such run",
    "campaign check none.toml": "campaign none.toml: No such file or directory",
    "campaign run none.toml": "campaign none.toml: No such file or directory",
    "campaign status nothing": "campaign 'nothing': no such campaign",
    "campaign report nothing": "campaign report: want -o FILE, or --json, or both",
    "campaign report nothing -o x.html": "campaign 'nothing': no such campaign",
    "exporter --port 99999": "--port 99999: want 0 (any free one) to 65535",
}


@pytest.mark.parametrize("words", BAD)
def test_bad_input_gets_one_line_and_status_2_and_leaves_no_run(
    words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRASCOPE_DRIVER_LOCK", str(tmp_path / "driver.lock"))
    data = tmp_path / "data"
    assert main([*words.split(), "--data-dir", str(data)]) == 2
    printed = capsys.readouterr()
    assert BAD[words] in printed.err
    assert printed.err.count("\n") == 1
    assert not printed.out
    assert not data.exists() or not list((data / "runs").iterdir())


@pytest.mark.parametrize("words", ["run --bandwidth-mib-s abc", "nope", "run --acel tcg", "run --workload zip", ""])
def test_a_wrong_word_on_the_command_line_gets_one_line_that_names_the_help(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert printed.err.count("\n") == 1
    assert "--help`" in printed.err


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("--workload worst", Workload()),
        ("--workload read-mostly --working-set-mib 8", Workload(write_percent=5, working_set_mib=8)),
        ("--rate-limit-mib-s 7 --workload rate", Workload(rate_limit_mib_s=7)),
        ("--workload rate --rate-limit-mib-s 7", Workload(rate_limit_mib_s=7)),
    ],
)
def test_a_workloads_name_stands_for_its_usual_settings_and_options_win(words: str, wanted: Workload) -> None:
    parser = Parser()
    add_run_options(parser)
    assert value_from(Workload, parser.parse_args(words.split())) == wanted


def test_a_data_directory_of_a_newer_schema_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "version").write_text("99\n")
    (tmp_path / "runs").mkdir()
    assert main(["runs", "--data-dir", str(tmp_path)]) == 2
    assert "was written by a newer migrascope (schema 99" in capsys.readouterr().err
    assert (tmp_path / "version").read_text() == "99\n"


def test_a_port_that_is_taken_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert main(["exporter", "--port", str(port), "--data-dir", str(tmp_path)]) == 1
    assert capsys.readouterr().err == (
        f"migrascope: port {port} on 127.0.0.1: Address already in use; choose another with --port\n"
    )
    assert not (tmp_path / "exporter.json").exists()


def test_list_and_runs_print_arrays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json"]) == 0
    assert [row["name"] for row in json.loads(capsys.readouterr().out)] == list(COMPARISONS)
    assert main(["runs", "--json", "--data-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_an_unsupported_run_has_its_record_and_status_6(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRASCOPE_DRIVER_LOCK", str(tmp_path / "driver.lock"))
    data = tmp_path / "data"
    assert main(["run", "--qemu", "qemu-nope", "--data-dir", str(data), "--json"]) == 6
    row = json.loads(capsys.readouterr().out)
    assert row["outcome"] == "unsupported"
    assert "qemu-nope is neither on the path nor in the cache" in row["reason"]
    assert main(["runs", "--json", "--data-dir", str(data)]) == 0
    assert [run["run"] for run in json.loads(capsys.readouterr().out)] == [row["run"]]


def test_every_command_is_found_in_the_module_that_is_imported_for_it() -> None:
    for module, names in MODULES.items():
        commands = importlib.import_module(f"migrascope.{module}").COMMANDS
        assert tuple(command.name for command in commands) == names
    folder = Path(main.__code__.co_filename).parent
    assert {path.stem for path in folder.glob("*.py") if "COMMANDS = (" in path.read_text()} == {*MODULES}


def test_a_list_of_runs_imports_nothing_that_only_other_commands_need(tmp_path: Path) -> None:
    code = (
        "import sys; from migrascope.main import main; main(['runs', '--data-dir', sys.argv[1]]); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert not {"plotly", "scipy", "duckdb", "prometheus_client", "qemu", "influxdb_client"} & set(done.stdout.split())


def test_a_run_begins_without_the_libraries_that_only_its_end_needs() -> None:
    dear = {"pyarrow", "numpy", "scipy", "duckdb", "plotly", "grafanalib", "influxdb_client", "distributed"}
    code = "import sys, migrascope.migrations; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not dear & set(done.stdout.split())
