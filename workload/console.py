"""The console protocol: what the guest prints, one line a record, and the only grammar of it in Python.

    @m1 LINE KIND FIELDS... *CRC

`m1` is the protocol's version, LINE the number of this line since the guest started, CRC the CRC-32 (eight lower-case
hex digits) of everything from `@` up to the space before `*`, included. `@` and `*` occur nowhere else: a record is
found again right behind a torn one, and inside a line that the kernel has written into. Kinds and fields:

    ready    guest_ns vcpus working_set_bytes granularity_bytes tick_ms rate_limit_bytes loop loop=bytes_per_second,...
    xor      vcpu sequence guest_ns bytes taken_ns
    tick     sequence guest_ns
    phase    number guest_ns
    latency  sequence guest_ns taken_ns sum_ns most_ns bucket=count,...
    disk     sequence guest_ns bytes taken_ns writes sum_ns most_ns
    error    guest_ns text

A kind keeps its fields for as long as the version stands; `phase`, `latency` and `disk` came later, and consoles
from before them read as they did.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from workload.errors import BadValueError

LONGEST_LINE_BYTES = 4096
BUCKETS = 27
"""Of a latency record: 0 holds accesses of at most 1 us, n those of at most 2^n us and more than half of it, the last
one all that took longer than 2^25 us."""

_RECORD = re.compile(rb"(@m1 ([^@*\n]*) )\*([0-9a-f]{8})")
_NUMBER = r"(0|[1-9][0-9]{0,19})"
_WORD = r"[a-z][a-z0-9_-]*"
_READY = re.compile(
    rf"{_NUMBER} ready {' '.join([_NUMBER] * 6)} ({_WORD}) ({_WORD}={_NUMBER}(?:,{_WORD}={_NUMBER})*)", re.ASCII
)
_XOR = re.compile(rf"{_NUMBER} xor {' '.join([_NUMBER] * 5)}")
_TICK = re.compile(rf"{_NUMBER} tick {_NUMBER} {_NUMBER}")
_PHASE = re.compile(rf"{_NUMBER} phase {_NUMBER} {_NUMBER}")
_BUCKET = rf"(?:0|[1-9][0-9]?)={_NUMBER}"
_LATENCY = re.compile(rf"{_NUMBER} latency {' '.join([_NUMBER] * 5)} ({_BUCKET}(?:,{_BUCKET})*)")
_DISK = re.compile(rf"{_NUMBER} disk {' '.join([_NUMBER] * 7)}")
_ERROR = re.compile(rf"{_NUMBER} error {_NUMBER} ([ -)+-?A-~]+)")
_KERNEL = re.compile(rb"^\s*(<\d>)?\[ *\d+\.\d{6}\](\[ *[TC]\d+\])? ")
_PANIC = re.compile(rb"Kernel panic[ -~]*")


@dataclass(frozen=True, kw_only=True)
class Ready:
    """The working set is faulted in and the workers start; `loops` maps each candidate loop to its measured bytes/s."""

    line: int
    guest_ns: int
    vcpus: int
    working_set_bytes: int
    granularity_bytes: int
    tick_ms: int
    rate_limit_bytes: int
    loop: str
    loops: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Xor:
    """One vCPU has xored `bytes` more bytes in `taken_ns` of the guest's monotonic clock."""

    line: int
    vcpu: int
    sequence: int
    guest_ns: int
    bytes: int
    taken_ns: int


@dataclass(frozen=True, kw_only=True)
class Tick:
    """The guest was alive at `guest_ns` of its monotonic clock."""

    line: int
    sequence: int
    guest_ns: int


@dataclass(frozen=True, kw_only=True)
class Phase:
    """The workload's phase of that number has begun; the first one, 0, begins with `ready`."""

    line: int
    number: int
    guest_ns: int


@dataclass(frozen=True, kw_only=True)
class Latency:
    """What the probe's accesses to memory took in the last `taken_ns`: how many of them fell into which bucket."""

    line: int
    sequence: int
    guest_ns: int
    taken_ns: int
    sum_ns: int
    most_ns: int
    counts: Mapping[int, int]


@dataclass(frozen=True, kw_only=True)
class Disk:
    """The guest has written `bytes` to its disk in the last `taken_ns`, in `writes` that took `sum_ns` in all."""

    line: int
    sequence: int
    guest_ns: int
    bytes: int
    taken_ns: int
    writes: int
    sum_ns: int
    most_ns: int


@dataclass(frozen=True, kw_only=True)
class GuestError:
    """The guest gives up: a bad setting, no memory. It powers off after this line."""

    line: int
    guest_ns: int
    text: str


Record: TypeAlias = Ready | Xor | Tick | Phase | Latency | Disk | GuestError


def write(record: Record) -> str:
    """Write a record as its line, newline included, as the guest's init does.

    Raises:
        BadValueError: the record holds what the grammar cannot carry (a negative number, a text with `@` or `*`).
    """
    match record:
        case Ready():
            loops = ",".join(f"{name}={rate:.0f}" for name, rate in record.loops.items())
            fields = (
                f"ready {record.guest_ns} {record.vcpus} {record.working_set_bytes} {record.granularity_bytes}"
                f" {record.tick_ms} {record.rate_limit_bytes} {record.loop} {loops}"
            )
        case Xor():
            fields = f"xor {record.vcpu} {record.sequence} {record.guest_ns} {record.bytes} {record.taken_ns}"
        case Tick():
            fields = f"tick {record.sequence} {record.guest_ns}"
        case Phase():
            fields = f"phase {record.number} {record.guest_ns}"
        case Latency():
            counts = ",".join(f"{bucket}={count}" for bucket, count in record.counts.items())
            fields = (
                f"latency {record.sequence} {record.guest_ns} {record.taken_ns} {record.sum_ns} {record.most_ns}"
                f" {counts}"
            )
        case Disk():
            fields = (
                f"disk {record.sequence} {record.guest_ns} {record.bytes} {record.taken_ns} {record.writes}"
                f" {record.sum_ns} {record.most_ns}"
            )
        case GuestError():
            fields = f"error {record.guest_ns} {record.text}"
    body = f"{record.line} {fields}"
    if _parse(body) is None:
        raise BadValueError(f"console record {body!r}: does not fit the console protocol's grammar")
    head = f"@m1 {body} "
    return f"{head}*{zlib.crc32(head.encode('ascii')):08x}\n"


class Parser:
    """Finds the records in a console's bytes, however these are torn, garbled, chunked or mixed with kernel messages.

    `lines` counts the records found; `lost_lines` the numbers missing between them (a first number above 0 is no gap: a
    guest may have been restored); `foreign_lines` whole lines of the kernel's; `garbage_lines` and `garbage_bytes` what
    is neither. `panicked` is the kernel's panic message once there was one.
    """

    def __init__(self) -> None:
        self.lines = 0
        self.lost_lines = 0
        self.foreign_lines = 0
        self.garbage_lines = 0
        self.garbage_bytes = 0
        self.panicked: str | None = None
        self._pending = b""
        self._consumed_bytes = 0
        self._next_line: int | None = None

    def feed(self, data: bytes) -> list[Record]:
        """Take the console's next bytes and return the records that they complete, in order."""
        return [record for record, _ in self.scan(data)]

    def scan(self, data: bytes) -> list[tuple[Record, int]]:
        """Like `feed`; beside each record stands how many bytes of the stream end with its line."""
        found: list[tuple[Record, int]] = []
        buffer = self._pending + data
        start = 0
        while True:
            end = buffer.find(b"\n", start, start + LONGEST_LINE_BYTES) + 1
            if not end:
                if len(buffer) - start < LONGEST_LINE_BYTES:
                    break
                end = start + LONGEST_LINE_BYTES
            stream_end = self._consumed_bytes + end
            found.extend((record, stream_end) for record in self._take_line(buffer[start:end]))
            start = end
        self._consumed_bytes += start
        self._pending = buffer[start:]
        return found

    def _take_line(self, line: bytes) -> list[Record]:
        records: list[Record] = []
        rest = b""
        end = 0
        for match in _RECORD.finditer(line):
            head, body, crc = match.groups()
            if int(crc, 16) != zlib.crc32(head) or (record := _parse(body.decode("latin-1"))) is None:
                continue
            rest += line[end : match.start()]
            end = match.end()
            self._count(record)
            records.append(record)
        self._judge(rest + line[end:])
        return records

    def _count(self, record: Record) -> None:
        self.lines += 1
        if self._next_line is not None and record.line > self._next_line:
            self.lost_lines += record.line - self._next_line
        self._next_line = record.line + 1

    def _judge(self, rest: bytes) -> None:
        text = rest.strip()
        if not text:
            return
        if self.panicked is None and (panic := _PANIC.search(text)):
            self.panicked = panic.group().decode("ascii")
        if _KERNEL.match(text + b" ") and b"@m" not in text:
            self.foreign_lines += 1
        else:
            self.garbage_lines += 1
            self.garbage_bytes += len(text)


def _parse(body: str) -> Record | None:
    """Read what stands between the start mark and the CRC; None where the grammar does not fit."""
    if match := _TICK.fullmatch(body):
        line, sequence, guest_ns = map(int, match.groups())
        return Tick(line=line, sequence=sequence, guest_ns=guest_ns)
    if match := _XOR.fullmatch(body):
        line, vcpu, sequence, guest_ns, count, taken_ns = map(int, match.groups())
        return Xor(line=line, vcpu=vcpu, sequence=sequence, guest_ns=guest_ns, bytes=count, taken_ns=taken_ns)
    if match := _LATENCY.fullmatch(body):
        return _latency([int(number) for number in match.groups()[:6]], match[7])
    if match := _DISK.fullmatch(body):
        line, *numbers = map(int, match.groups())
        names = ("sequence", "guest_ns", "bytes", "taken_ns", "writes", "sum_ns", "most_ns")
        return Disk(line=line, **dict(zip(names, numbers, strict=True)))
    if match := _PHASE.fullmatch(body):
        line, number, guest_ns = map(int, match.groups())
        return Phase(line=line, number=number, guest_ns=guest_ns)
    if match := _READY.fullmatch(body):
        return _ready([int(number) for number in match.groups()[:7]], match[8], match[9])
    if match := _ERROR.fullmatch(body):
        return GuestError(line=int(match[1]), guest_ns=int(match[2]), text=match[3])
    return None


def _ready(numbers: list[int], loop: str, measured: str) -> Ready | None:
    line, guest_ns, vcpus, working_set_bytes, granularity_bytes, tick_ms, rate_limit_bytes = numbers
    loops = {name: float(rate) for name, rate in (pair.split("=") for pair in measured.split(","))}
    if loop not in loops:
        return None
    return Ready(
        line=line,
        guest_ns=guest_ns,
        vcpus=vcpus,
        working_set_bytes=working_set_bytes,
        granularity_bytes=granularity_bytes,
        tick_ms=tick_ms,
        rate_limit_bytes=rate_limit_bytes,
        loop=loop,
        loops=loops,
    )


def _latency(numbers: list[int], measured: str) -> Latency | None:
    line, sequence, guest_ns, taken_ns, sum_ns, most_ns = numbers
    pairs = [(int(bucket), int(count)) for bucket, count in (pair.split("=") for pair in measured.split(","))]
    places = [bucket for bucket, _ in pairs]
    if places != sorted(set(places)) or places[-1] >= BUCKETS:
        return None
    return Latency(
        line=line,
        sequence=sequence,
        guest_ns=guest_ns,
        taken_ns=taken_ns,
        sum_ns=sum_ns,
        most_ns=most_ns,
        counts=dict(pairs),
    )
