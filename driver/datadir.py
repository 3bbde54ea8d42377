"""Where every file of the data directory stands, its schema version, and its atomic writing."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from workload.errors import BadValueError, BrokenError, MigrascopeError

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class RunDir:
    """One run's directory: paths only."""

    path: Path

    @property
    def run(self) -> str:
        """The run's id, which is the directory's name."""
        return self.path.name

    @property
    def lock(self) -> Path:
        """The flock that the driver holds for its life: only who obtains it may close an abandoned run."""
        return self.path / "lock"

    @property
    def record(self) -> Path:
        """run.json, the driver's: facts only."""
        return self.path / "run.json"

    @property
    def targets(self) -> Path:
        """targets.json, while live: pids, monitor sockets, console files, the clock anchor."""
        return self.path / "targets.json"

    @property
    def marks(self) -> Path:
        """marks.jsonl: the driver's phases and actions."""
        return self.path / "marks.jsonl"

    @property
    def samples(self) -> Path:
        """The directory of Parquet files, one a measurement, when ended."""
        return self.path / "samples"

    @property
    def summary(self) -> Path:
        """summary.json, derived from the samples by the exporter."""
        return self.path / "summary.json"

    @property
    def state(self) -> Path:
        """The saved guest of a run of kind `save`, while the run lasts."""
        return self.path / "state"

    def remove_state(self) -> None:
        """Remove the saved guest, complete or not."""
        for path in (self.state, self.state.with_suffix(".part")):
            path.unlink(missing_ok=True)

    def disk(self, role: str) -> Path:
        """The disk of `source` or `destination`, while the run lasts."""
        return self.path / f"disk-{role}.raw"

    def remove_disks(self) -> None:
        """Remove both disks."""
        for role in ("source", "destination"):
            self.disk(role).unlink(missing_ok=True)

    def journals(self) -> list[Path]:
        """The journal's segments in the order of writing."""
        return sorted(self.path.glob("journal.*"))

    def new_journal(self) -> Path:
        """The path of the next segment: each exporter process writes its own."""
        return self.path / f"journal.{len(self.journals()):04}"

    def console(self, role: str) -> Path:
        """The console file of `source` or `destination`."""
        return self.path / f"console-{role}.log"

    def log(self, role: str) -> Path:
        """What the QEMU of `source` or `destination` wrote to its stderr."""
        return self.path / f"{role}.log"


@dataclass(frozen=True, kw_only=True)
class CampaignDir:
    """One campaign's directory: paths only."""

    path: Path

    @property
    def campaign(self) -> str:
        """The campaign's id, which is the directory's name."""
        return self.path.name

    @property
    def plan(self) -> Path:
        """plan.toml: the file that the campaign was last started with, as it stood."""
        return self.path / "plan.toml"

    @property
    def state(self) -> Path:
        """state.jsonl: what has been planned, begun and ended, one line each."""
        return self.path / "state.jsonl"

    @property
    def lock(self) -> Path:
        """The flock that the campaign's driver holds for its life."""
        return self.path / "lock"

    def run_lock(self, place: str) -> Path:
        """The flock that stands for the host's driver lock in the run in one place: the campaign holds that itself."""
        return self.path / f"run-{place}.lock"

    def run_locks(self) -> list[Path]:
        """The locks of all places that runs were ever made in."""
        return sorted(self.path.glob("run-*.lock"))

    def log(self, run: str) -> Path:
        """What the process of one run wrote; kept where the run went wrong."""
        return self.path / "logs" / f"{run}.log"


@dataclass(frozen=True, kw_only=True)
class DataDir:
    """The data directory: paths, and its opening with a check of the schema version."""

    path: Path

    @classmethod
    def open(cls, path: Path | None = None) -> DataDir:
        """Open, or make, the data directory; None takes `$XDG_STATE_HOME/migrascope`.

        Raises:
            BadValueError: it is not a directory, its path cannot be printed, or a newer migrascope wrote it.
            BrokenError: it cannot be made or written.
        """
        place = (path or default_path()).absolute()
        if not str(place).isprintable():
            raise BadValueError(f"data directory {str(place)!r}: want a path of printable characters")
        try:
            if place.exists() and not place.is_dir():
                raise BadValueError(f"data directory {place}: is not a directory; choose another with --data-dir")
            place.mkdir(mode=0o700, parents=True, exist_ok=True)
            (place / "runs").mkdir(mode=0o700, exist_ok=True)
            version = place / "version"
            if not version.exists():
                write_atomically(version, f"{SCHEMA_VERSION}\n".encode())
            found = version.read_text().strip()
        except OSError as error:
            raise BrokenError(f"data directory {place}: {error.strerror}; choose another with --data-dir") from error
        if not found.isdigit():
            raise BadValueError(f"data directory {place}: its version file says {found[:40]!r}, want a number")
        if int(found) > SCHEMA_VERSION:
            raise BadValueError(
                f"data directory {place}: was written by a newer migrascope (schema {found}, this one knows"
                f" {SCHEMA_VERSION}); update, or choose another with --data-dir"
            )
        return cls(path=place)

    @property
    def runs(self) -> Path:
        """The directory of all runs."""
        return self.path / "runs"

    @property
    def exporter_lock(self) -> Path:
        """The flock of the one exporter that serves this data directory."""
        return self.path / "exporter.lock"

    @property
    def exporter(self) -> Path:
        """exporter.json: pid, boot id, watch socket, port."""
        return self.path / "exporter.json"

    @property
    def exporter_log(self) -> Path:
        """What an exporter that a run started wrote to its stderr."""
        return self.path / "exporter.log"

    @property
    def file_sd(self) -> Path:
        """The target list for Prometheus' file_sd_configs."""
        return self.path / "prometheus" / "file_sd.json"

    @property
    def index(self) -> Path:
        """index.sqlite: one row a run; can always be rebuilt."""
        return self.path / "index.sqlite"

    @property
    def spool(self) -> Path:
        """What InfluxDB has not yet acknowledged."""
        return self.path / "spool"

    @property
    def campaigns(self) -> Path:
        """The directory of campaigns' directories."""
        return self.path / "campaigns"

    def campaign(self, campaign: str) -> CampaignDir:
        """The directory of one campaign, whether it exists or not."""
        return CampaignDir(path=self.campaigns / campaign)

    def all_campaigns(self) -> list[CampaignDir]:
        """All campaigns' directories, the one that was touched last at the end."""
        found = [CampaignDir(path=path) for path in self.campaigns.glob("*/") if (path / "state.jsonl").exists()]
        return sorted(found, key=lambda campaign: (campaign.state.stat().st_mtime_ns, campaign.campaign))

    def find_campaign(self, word: str) -> CampaignDir:
        """Find a campaign by its id, a unique beginning of it, or `latest`.

        Raises:
            BadValueError: no campaign or several match.
        """
        campaigns = self.all_campaigns()
        if word == "latest" and campaigns:
            return campaigns[-1]
        found = [one for one in campaigns if one.campaign == word] or [
            one for one in campaigns if one.campaign.startswith(word)
        ]
        if len(found) != 1:
            many = f"{len(found)} campaigns match" if found else "no such campaign"
            raise BadValueError(
                f"campaign {word!r}: {many} in {self.campaigns}; `migrascope campaign status` lists them"
            )
        return found[0]

    def run(self, run: str) -> RunDir:
        """The directory of one run, whether it exists or not."""
        return RunDir(path=self.runs / run)

    def all_runs(self) -> list[RunDir]:
        """All runs' directories, oldest first (ids sort by time)."""
        return [RunDir(path=path) for path in sorted(self.runs.iterdir()) if path.is_dir()]

    def find_run(self, word: str) -> RunDir:
        """Find a run by its id, a unique beginning or ending of it, `latest`, or `latest~N`.

        Raises:
            BadValueError: no run or several match.
        """
        runs = self.all_runs()
        latest = re.fullmatch(r"latest(?:~(\d+))?", word)
        if latest and (back := int(latest[1] or 0)) < len(runs):
            return runs[-1 - back]
        found = [run for run in runs if run.run == word] or [
            run for run in runs if run.run.startswith(word) or run.run.endswith(word)
        ]
        if len(found) != 1:
            many = f"{len(found)} runs match" if found else "no such run"
            raise BadValueError(f"run {word!r}: {many} in {self.runs}; `migrascope runs` lists them")
        return found[0]


def default_path() -> Path:
    """`$XDG_STATE_HOME/migrascope`, by default `~/.local/state/migrascope`."""
    state = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "migrascope"


def write_atomically(path: Path, content: bytes, mode: int = 0o600, *, durable: bool = True) -> None:
    """Write a file so that a reader sees the old or the new content, never a part; OSError passes through.

    Without `durable` that holds for the end of any process, but not for a loss of power.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content)
            file.flush()
            if durable:
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def write_json(path: Path, data: Mapping[str, Any] | list[Any], *, durable: bool = True) -> None:
    """Write JSON atomically, indented, with a newline at its end; `durable` as in `write_atomically`."""
    content = orjson.dumps(data, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    write_atomically(path, content, durable=durable)


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        MigrascopeError: it is missing, unreadable or no JSON.
    """
    try:
        return orjson.loads(path.read_bytes())
    except OSError as error:
        raise MigrascopeError(f"{path}: {error.strerror}") from error
    except orjson.JSONDecodeError as error:
        raise MigrascopeError(f"{path}: is no JSON ({error}); the file is damaged") from error


def append_line(path: Path, data: Mapping[str, Any]) -> None:
    """Append one JSON object as a line, in one write; OSError passes through, and leaves no part of the line."""
    line = orjson.dumps(data, option=orjson.OPT_APPEND_NEWLINE)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        size = os.fstat(handle).st_size
        if os.write(handle, line) != len(line):
            os.ftruncate(handle, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
    finally:
        os.close(handle)


def runtime_dir() -> Path:
    """Make a short directory for sockets (a socket's path has at most 107 bytes); its maker removes it."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    parent = base if base and len(base) < 40 and os.access(base, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="migrascope-", dir=parent or "/tmp"))  # noqa: S108 - short, 0700
