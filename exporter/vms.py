"""Which QEMUs of others are watched: the words of --attach, and the attach file."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workload.errors import BadValueError

MOST_SOCKET_BYTES = 107
MOST_ENDS = 2

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_SLOT = re.compile(r"vm\d+")
_KEYS = ("name", "qmp", "pid", "console")


@dataclass(frozen=True, kw_only=True)
class VmQemu:
    """One QEMU that something else runs: the VM's name, a QMP socket of our own, and what may be known besides.

    Without `pid` it is the process at the socket's other end. `console` is a file to which the guest's serial console
    is written, for guests that run migrascope's workload. Two QEMUs of one name are the two ends of its migration.

    Raises:
        BadValueError: a name that no label can bear, or that could be a slot's; a path that is no socket's.
    """

    name: str
    qmp: str
    pid: int | None = None
    console: str | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadValueError(f"attach: name={self.name!r}: want letters, digits, '.', '_' and '-', at most 63")
        if _SLOT.fullmatch(self.name):
            raise BadValueError(f"attach: name={self.name!r}: vm and a number names a slot of migrascope's own runs")
        if not self.qmp.startswith("/") or len(self.qmp.encode()) > MOST_SOCKET_BYTES:
            raise BadValueError(
                f"attach: {self.name}: qmp={self.qmp!r}: want a unix socket's absolute path of at most"
                f" {MOST_SOCKET_BYTES} bytes"
            )
        if self.pid is not None and self.pid <= 0:
            raise BadValueError(f"attach: {self.name}: pid={self.pid}: want a process's number")


def parse_words(text: str) -> VmQemu:
    """Read `name=NAME,qmp=SOCKET[,pid=PID][,console=FILE]`.

    Raises:
        BadValueError: a key is unknown, missing or given twice, or its value is wrong.
    """
    found: dict[str, Any] = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if not equals or key in found:
            raise BadValueError(f"attach: {part!r}: want each of {', '.join(f'{key}=' for key in _KEYS)} at most once")
        found[key] = int(value) if key == "pid" and value.isdigit() else value
    return _qemu(found, "attach")


def read_file(path: Path) -> tuple[VmQemu, ...]:
    """Read an attach file: a list of objects with the keys of `VmQemu`, in YAML or JSON (which is YAML).

    Raises:
        BadValueError: it cannot be read, or an entry is wrong; the message names file and entry.
    """
    try:
        entries = yaml.safe_load(path.read_text())
    except OSError as error:
        raise BadValueError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise BadValueError(f"{path}: is not UTF-8 at byte {error.start}; want YAML or JSON") from error
    except yaml.YAMLError as error:
        raise BadValueError(f"{path}: is neither YAML nor JSON: {' '.join(str(error).split())}") from error
    if not isinstance(entries, list):
        raise BadValueError(f"{path}: want a list of objects with {', '.join(_KEYS)}, found {type(entries).__name__}")
    return checked(_qemu(entry, f"{path}: entry {number}") for number, entry in enumerate(entries, 1))


def checked(qemus: Iterable[VmQemu]) -> tuple[VmQemu, ...]:
    """Check a whole set: a socket serves one client, and a VM has at most two QEMUs.

    Raises:
        BadValueError: naming the socket or the VM.
    """
    found = tuple(qemus)
    for qemu in found:
        if sum(other.qmp == qemu.qmp for other in found) > 1:
            raise BadValueError(f"attach: {qemu.qmp} is named twice; a monitor serves one client")
        if sum(other.name == qemu.name for other in found) > MOST_ENDS:
            raise BadValueError(f"attach: {qemu.name} is named more than twice; a migration has two ends")
    return found


def by_name(qemus: Sequence[VmQemu]) -> dict[str, tuple[VmQemu, ...]]:
    """The QEMUs of each VM."""
    return {name: tuple(q for q in qemus if q.name == name) for name in dict.fromkeys(q.name for q in qemus)}


def _qemu(found: object, where: str) -> VmQemu:
    if not isinstance(found, Mapping):
        raise BadValueError(f"{where}: want an object with {', '.join(_KEYS)}, found {type(found).__name__}")
    if unknown := [key for key in found if key not in _KEYS]:
        raise BadValueError(f"{where}: unknown key {unknown[0]!r}; known: {', '.join(_KEYS)}")
    for key, kind in (("name", str), ("qmp", str), ("pid", int), ("console", str)):
        value = found.get(key)
        if value is None and key in ("name", "qmp"):
            raise BadValueError(f"{where}: {key} is missing; want at least name and qmp")
        if value is not None and (not isinstance(value, kind) or isinstance(value, bool)):
            raise BadValueError(f"{where}: {key}={value!r}: want {'a number' if kind is int else 'a word'}")
    return VmQemu(**{str(key): value for key, value in found.items()})
