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
    "exporter --attach name=x": "attach: qmp is missing; want at least name and qmp",
    "exporter --influx-url http://127.0.0.1:1 --influx-token-file none": "influxdb token file",
    "run --influx-url http://127.0.0.1:1 --influx-token-file none": "No such file or directory",
    "run --destination-address 192.0.2.1": "--destination-address: want --destination-host beside it",
    "exporter --attach-file /bin/true": "/bin/true: is not UTF-8 at byte",
    "run --transport tpc": "scenario.transport='tpc': did you mean 'tcp'? want one of unix, tcp",
    "compare none --report /": "report /: is a directory; want the path of a file",
    "compare none --report /etc/passwd/x.html": "report /etc/passwd/x.html: /etc/passwd is no directory",
    "query nothing": "query: view 'nothing' is not known; known: runs, guest",
    "query iteration": "query: view 'iteration' is not known; did you mean 'iterations'?",
    "query runs --csv --json": "want --json or --csv, not both",
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


MISTYPED = {
    "rum": "command 'rum' is not known; did you mean 'run'? known: run, compare",
    "campaign chek x": "verb 'chek' is not known; did you mean 'check'?",
    "stack upp": "verb 'upp' is not known; did you mean 'up'?",
    "history export xml": "format 'xml' is not known; known: csv, parquet, json",
    "run --bandwith-mib-s 64": "migrascope run: option '--bandwith-mib-s' is not known here; did you mean '--bandwidth",
    "list more": "migrascope list: word 'more' is not known here; see `migrascope list --help`",
    "run --bandwidth-mib-s 64MiB": "'64MiB': want a whole number, 1 to 1048576 MiB/s",
    "exporter --rest-hz x": "'x': want a number, 0.1 to 1000 Hz",
    "run --memory-mib 1e3": "'1e3': want a whole number, 64 to 16777216 MiB",
    "run --workload zip": "workload 'zip' is not known; did you mean 'zipf'?",
    "": "the following arguments are required: COMMAND",
}


@pytest.mark.parametrize("words", MISTYPED)
def test_a_mistyped_word_is_told_what_was_wanted_and_what_may_have_been_meant(
    words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    printed = capsys.readouterr()
    assert ended.value.code == 2
    assert MISTYPED[words] in printed.err
    assert printed.err.count("\n") == 1
    assert "--help`" in printed.err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("migrascope 0.")


@pytest.mark.parametrize("words", ["runs --json", "query runs --csv", "doctor"])
def test_a_full_disk_behind_stdout_is_one_line_and_status_7(words: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "migrascope.main", *words.split(), "--data-dir", str(tmp_path)]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.stderr == "migrascope: stdout: No space left on device\n"
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ("check {taken}", "is no directory; `build` makes one"),
        ("build {taken}", "want a directory that can be written"),
        ("build", "want a directory to write them into"),
    ],
)
def test_dashboards_that_cannot_be_written_or_found_are_one_line(
    words: str, wanted: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    assert main(["dashboards", *words.format(taken=taken).split()]) == 2
    printed = capsys.readouterr()
    assert wanted in printed.err
    assert printed.err.count("\n") == 1


def test_a_plans_mirror_and_kernel_are_looked_at_before_anything_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_text('[sampling]\ninflux_url = "nowhere"\n')
    assert main(["campaign", "check", str(plan), "--data-dir", str(tmp_path / "data")]) == 2
    assert f"campaign {plan}: sampling: influxdb URL 'nowhere': want http://HOST:PORT" in capsys.readouterr().err
    plan.write_text('[binaries]\nkernel = "none"\n')
    assert main(["campaign", "check", str(plan), "--data-dir", str(tmp_path / "data"), "--json"]) == 6
    (cell,) = json.loads(capsys.readouterr().out)["cells"]
    assert f"kernel {tmp_path}/none: cannot be read" in cell["unsupported"]


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


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--multifd-compression zstd", "run: --multifd-compression: changes nothing without --multifd-channels\n"),
        ("--strategy multifd --multifd-compression zstd", ""),
        ("--auto-converge-increment 10 --auto-converge-max 50", ""),
        (
            "--auto-converge-max 50 --auto-converge-initial 30",
            "run: --auto-converge-initial, --auto-converge-max: changes nothing without --auto-converge-increment\n",
        ),
    ],
)
def test_an_option_that_changes_nothing_is_told(
    options: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MIGRASCOPE_DRIVER_LOCK", str(tmp_path / "driver.lock"))
    assert main(["run", *options.split(), "--qemu", "qemu-nope", "--data-dir", str(tmp_path / "data")]) == 6
    printed = capsys.readouterr().err
    assert printed.startswith(told)
    assert ("changes nothing" in printed) is bool(told)


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
