"""What a QEMU binary knows of migration: asked once of a QEMU without a machine, kept by the binary's hash."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from driver.datadir import read_json, write_json
from driver.record import Binary
from workload.errors import BrokenError, MigrascopeError, UnsupportedError
from workload.value import from_json

ASK_SECONDS = 20.0
QUESTIONS = (
    "query-version", "query-migrate-capabilities", "query-migrate-parameters", "query-qmp-schema", "query-machines",
)  # fmt: skip

COMPANIONS = {"postcopy-preempt": "postcopy-ram", "zero-copy-send": "multifd", "switchover-ack": "return-path"}
"""Capabilities that QEMU takes only beside another one (source: QEMU migration/options.c, migrate_caps_check)."""

COMBINED = (
    "auto-converge", "background-snapshot", "compress", "dirty-limit", "mapped-ram", "multifd", "postcopy-blocktime",
    "postcopy-preempt", "postcopy-ram", "return-path", "switchover-ack", "xbzrle", "zero-copy-send",
)  # fmt: skip
"""Capabilities whose pairs a QEMU is asked about."""


@dataclass(frozen=True, kw_only=True)
class BinaryFacts:
    """What a binary answered.

    Capabilities and parameters by QEMU's names, the words that a parameter takes, kinds of migration addresses,
    `conflicts`: pairs of capabilities (`multifd+xbzrle`) that it refuses, with its own words, and `machines`: machine
    types and their aliases, each with whether it is deprecated.
    """

    version: str
    capabilities: tuple[str, ...]
    parameters: tuple[str, ...]
    choices: Mapping[str, tuple[str, ...]]
    addresses: tuple[str, ...]
    conflicts: Mapping[str, str]
    machines: Mapping[str, bool]

    @property
    def release(self) -> tuple[int, int]:
        """Major and minor version; for known faults only: what a QEMU can do it is asked."""
        found = re.match(r"(\d+)\.(\d+)", self.version)
        return (int(found[1]), int(found[2])) if found else (0, 0)

    @classmethod
    def parse(cls, answers: Mapping[str, Any]) -> BinaryFacts:
        """Read the answers to `QUESTIONS`, and QEMU's words on sets of capabilities: `a+b` -> refusal or None.

        Raises:
            KeyError, TypeError: they are not such answers.
        """
        number = answers["query-version"]["qemu"]
        types = {entry["name"]: entry for entry in answers["query-qmp-schema"]}
        setter = types[types["migrate-set-parameters"]["arg-type"]]
        known = sorted(each["capability"] for each in answers["query-migrate-capabilities"])
        return cls(
            version=f"{number['major']}.{number['minor']}.{number['micro']}",
            capabilities=tuple(known),
            parameters=tuple(sorted(answers["query-migrate-parameters"])),
            choices={
                member["name"]: tuple(types[member["type"]]["values"])
                for member in setter["members"]
                if types[member["type"]]["meta-type"] == "enum"
            },
            addresses=_addresses(answers["query-qmp-schema"]),
            conflicts=_conflicts(answers, known),
            machines={
                name: each["deprecated"]
                for each in answers["query-machines"]
                for name in (each["name"], each.get("alias"))
                if name
            },
        )


async def ask_binary(
    binary: Binary, cache: Path, ask: Callable[[str], Awaitable[Mapping[str, Any]]] | None = None
) -> BinaryFacts:
    """What a binary knows; from the cache where this very binary was asked before, else by `ask` (None: here).

    Raises:
        UnsupportedError: it does not answer.
    """
    key = hashlib.sha256(f"{binary.sha256} {binary.version}".encode()).hexdigest()[:32]
    place = cache / "binaries" / f"{key}.json"
    with contextlib.suppress(MigrascopeError, TypeError):
        return _read(place)
    answers = await (ask or ask_here)(binary.path)
    try:
        facts = BinaryFacts.parse(answers)
    except (KeyError, TypeError) as error:
        raise UnsupportedError(f"QEMU: {binary.path} -M none: its answers cannot be understood: {error!r}") from error
    write_json(place, dataclasses.asdict(facts))
    return facts


def _read(place: Path) -> BinaryFacts:
    data: Any = read_json(place)
    facts = from_json(BinaryFacts, data, str(place))
    return dataclasses.replace(
        facts,
        capabilities=tuple(facts.capabilities),
        parameters=tuple(facts.parameters),
        choices={name: tuple(words) for name, words in facts.choices.items()},
        addresses=tuple(facts.addresses),
    )


async def ask_here(path: str) -> dict[str, Any]:
    """Put all questions to a QEMU that has neither machine nor guest, and have it quit.

    Raises:
        UnsupportedError: it did not answer every one of them.
        BrokenError: it exited with an error, or did not end within the deadline.
    """
    process = await asyncio.create_subprocess_exec(
        *asking_command(path),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(ASK_SECONDS):
            said, errors = await process.communicate(questions())
    except TimeoutError:
        raise BrokenError(f"QEMU: {path} -M none did not answer within {ASK_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return answers_of(path, said, errors, process.returncode)


def asking_command(path: str) -> list[str]:
    """The command line of a QEMU that answers on stdout what it is asked on stdin."""
    return [path, "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio"]


def questions() -> bytes:
    """Everything that a QEMU is asked, as it is written to its stdin."""
    return b"\n".join(map(orjson.dumps, _questions())) + b"\n"


def answers_of(path: str, said: bytes, errors: bytes, status: int | None) -> dict[str, Any]:
    """Read what a QEMU answered, and how it exited.

    Raises:
        UnsupportedError: it did not answer every question.
        BrokenError: it exited with an error before.
    """
    answers: dict[str, Any] = {}
    with contextlib.suppress(orjson.JSONDecodeError):
        for line in map(orjson.loads, said.splitlines()):
            if (question := line.get("id")) in QUESTIONS and "return" in line:
                answers[question] = line["return"]
            elif question is not None and question not in QUESTIONS:
                answers[question] = line.get("error", {}).get("desc")
    if missing := [question for question in QUESTIONS if question not in answers]:
        last = (errors.decode(errors="replace").strip().splitlines() or ["it said nothing"])[-1]
        if status:
            raise BrokenError(f"QEMU: {path} -M none exited with {status} before it answered: {last[:200]}")
        raise UnsupportedError(f"QEMU: {path} -M none did not answer {missing[0]}: {last[:200]}")
    return answers


def _questions() -> list[dict[str, Any]]:
    """The commands in order: each set of capabilities is switched on, and off again."""
    commands: list[dict[str, Any]] = [{"execute": "qmp_capabilities"}]
    commands += [{"execute": name, "id": name} for name in QUESTIONS]
    sets = [(name,) for name in COMBINED] + list(itertools.combinations(COMBINED, 2))
    for names in sets:
        wanted = sorted({*names, *(COMPANIONS[name] for name in names if name in COMPANIONS)})
        for state, identity in ((True, {"id": "+".join(names)}), (False, {})):
            states = [{"capability": name, "state": state} for name in wanted]
            arguments = {"capabilities": states}
            commands.append({"execute": "migrate-set-capabilities", "arguments": arguments} | identity)
    return [*commands, {"execute": "quit"}]


def _conflicts(answers: Mapping[str, Any], known: Sequence[str]) -> dict[str, str]:
    """The pairs that are refused for another reason than one of them by itself."""
    found = {}
    for one, other in itertools.combinations([name for name in COMBINED if name in known], 2):
        words = answers.get(f"{one}+{other}")
        if words and words not in (answers.get(one), answers.get(other)):
            found[f"{one}+{other}"] = words
    return found


def _addresses(schema: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """The kinds of migration addresses (enum MigrationAddressType, whose name QEMU masks); none before 8.2."""
    kinds = [entry["values"] for entry in schema if {"socket", "exec", "rdma"} <= set(entry.get("values", ()))]
    return tuple(kinds[0]) if kinds else ()
