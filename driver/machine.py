"""The machine type that two QEMUs of different versions share: an alias means another type to each of them."""

from __future__ import annotations

import re

from driver.check_binary import BinaryFacts, ask_binary
from driver.record import Binary
from workload.cache import cache_dir
from workload.errors import UnsupportedError

VERSIONED = {
    "pc": re.compile(r"pc-i440fx-[a-z]*(\d+(?:\.\d+)*)"),
    "q35": re.compile(r"pc-q35-[a-z]*(\d+(?:\.\d+)*)"),
}
"""The versioned types of each alias; letters before the number are a distribution's. Of microvm there are none."""


async def machine_type(alias: str, source: Binary, destination: Binary) -> str:
    """The machine type that both QEMUs are to be started with: the alias itself where they are the same binary.

    Raises:
        UnsupportedError: they have no versioned type of it in common, or one of them does not answer.
    """
    if (source.sha256, source.version) == (destination.sha256, destination.version):
        return alias
    return common_machine_type(alias, await ask_binary(source, cache_dir()), await ask_binary(destination, cache_dir()))


def common_machine_type(alias: str, source: BinaryFacts, destination: BinaryFacts) -> str:
    """The newest versioned type that both know; one that either calls deprecated only where there is no other. Pure.

    A machine without versioned types is returned as it is: QEMU promises nothing about its migration then.

    Raises:
        UnsupportedError: there is none.
    """
    if alias not in VERSIONED:
        return alias
    ours, theirs = _versions(alias, source), _versions(alias, destination)

    def preference(name: str) -> tuple[bool, tuple[int, ...]]:
        return not (source.machines[name] or destination.machines[name]), ours[name]

    common = ours.keys() & theirs.keys()
    if not common:
        newest = " and ".join(max(known, key=known.__getitem__, default="none") for known in (ours, theirs))
        raise UnsupportedError(
            f"machine {alias}: QEMU {source.version} and QEMU {destination.version} know no version of it in common"
            f" (their newest: {newest}); take another pair of QEMUs (--qemu, --destination-qemu)"
        )
    return max(common, key=preference)


def _versions(alias: str, binary: BinaryFacts) -> dict[str, tuple[int, ...]]:
    """The versioned types of an alias that a binary knows, with their versions."""
    found = {name: VERSIONED[alias].fullmatch(name) for name in binary.machines}
    return {name: tuple(map(int, match[1].split("."))) for name, match in found.items() if match}
