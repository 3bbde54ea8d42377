"""The journal: an append-only file of a live run's samples, one checked line a batch.

A line is the CRC-32 of its JSON in eight hex digits, a space, the JSON, a newline. The first line is the header (labels
and clock), each other one a batch: samples and, with console samples, the offset up to which their console was read.
A batch is acknowledged once its write has returned; a torn or damaged line is skipped and counted.
"""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson

from driver.clock import Clock
from exporter.sample import Sample


@dataclass(frozen=True, kw_only=True)
class Header:
    """What holds for every sample of a journal: the run's labels and clock."""

    run: str
    campaign: str | None
    scenario: str
    host: str
    vm: str
    clock: Clock

    def tags(self) -> dict[str, str]:
        """The labels as tags; an absent campaign is the empty string."""
        return {
            "run": self.run, "campaign": self.campaign or "", "scenario": self.scenario, "host": self.host,
            "vm": self.vm,
        }  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Samples written in one go; `offsets` maps a role's console to the byte up to which it was read."""

    samples: Sequence[Sample]
    offsets: Mapping[str, int] = field(default_factory=dict)


class JournalWriter:
    """Appends batches to one segment; OSError (a full disk) passes through and leaves the file whole but for a tail."""

    def __init__(self, path: Path, header: Header) -> None:
        self.path = path
        self.bytes_written = 0
        self._torn = False
        self._handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        # tells compaction in every process that the segment is still written; the kernel ends it with the writer
        fcntl.flock(self._handle, fcntl.LOCK_EX)
        self._write(orjson.dumps({"header": asdict(header)}))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def append(self, batch: Batch) -> None:
        """Write a batch; it is acknowledged when this returns."""
        rows = [[s.measurement, s.time_ns, s.fields, s.tags] for s in batch.samples]
        self._write(orjson.dumps({"o": batch.offsets, "s": rows}))

    def close(self) -> None:
        """Close the file."""
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1

    def _write(self, content: bytes) -> None:
        # a write that was cut short by a full disk leaves a torn line: the next one starts with a newline of its own
        line = b"%s%08x %s\n" % (b"\n" if self._torn else b"", zlib.crc32(content), content)
        self._torn = True
        written = os.write(self._handle, line)
        self.bytes_written += written
        if written != len(line):
            raise OSError(28, "No space left on device", str(self.path))
        self._torn = False


@dataclass(kw_only=True)
class JournalReader:
    """Reads a segment. After the batches were taken, `header` and `damaged_lines` are known.

    `offset` is where the last batch ended that was yielded, or the last whole line that was read: a line that is being
    written is none yet.
    """

    path: Path
    header: Header | None = None
    damaged_lines: int = 0
    offset: int = 0

    def batches(self, start: int = 0) -> Iterator[Batch]:
        """Yield every whole batch in order, from the byte `start`; damaged lines are counted, never raised."""
        with self.path.open("rb") as file:
            if start:
                self._take_header(_checked(file.readline()))
                self.offset = file.seek(start)
            for line in file:
                if not line.endswith(b"\n"):
                    self.damaged_lines += 1
                    return  # to read on would take a line's second half, written meanwhile, for a line
                self.offset += len(line)
                data = _checked(line)
                if data is None:
                    self.damaged_lines += bool(line.strip())
                elif not self._take_header(data):
                    yield Batch(samples=[Sample(m, t, f, g) for m, t, f, g in data["s"]], offsets=data["o"])

    def _take_header(self, data: dict[str, Any] | None) -> bool:
        if data is None or "header" not in data:
            return False
        header = data["header"]
        self.header = Header(**(header | {"clock": Clock(**header["clock"])}))
        return True


def _checked(line: bytes) -> dict[str, Any] | None:
    content = line[9:-1]
    if len(line) < 11 or line[-1:] != b"\n" or line[:9] != b"%08x " % zlib.crc32(content):
        return None
    try:
        data = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(data, dict):
        return None
    if b"null" in content:  # what JSON has no word for (a number that is not finite) was written as null: it is absent
        for row in data.get("s", ()):
            row[2] = {name: value for name, value in row[2].items() if value is not None}
    return data
