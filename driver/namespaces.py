"""Two network namespaces joined by a link of a set speed: made for one run, and swept where its driver was killed."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

from workload.errors import BrokenError, UnsupportedError

NAMES = "namespaces"
"""The file in a run's runtime directory that names them, written before they are made."""
NAMED = Path("/var/run/netns")
"""Where `ip netns add` puts namespaces by their names (ip-netns(8))."""

DEVICE = "link0"
COMMAND_SECONDS = 10.0
TOOLS = ("ip", "tc", "nsenter")
REMEDY = "apt-get install iproute2 util-linux (Debian, Ubuntu), dnf install iproute iproute-tc util-linux (Fedora)"
LATENCY_MS = 50
LEAST_BURST_BYTES = 64 << 10
TIMER_HZ = 250


@dataclass(frozen=True, kw_only=True)
class Namespace:
    """One end of the link: the namespace's name and its address there (RFC 2544's range, seen by nobody else)."""

    name: str
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        """What a command line begins with that is to run there.

        `ip netns exec` and `ip -n` would also replace /sys, for which they make / private: it is no mount point below a
        chroot. What runs here needs the network alone.
        """
        return ("nsenter", f"--net={NAMED / self.name}")


@contextlib.asynccontextmanager
async def joined_namespaces(link_mbit_s: int, shaper: str, runtime: Path) -> AsyncIterator[tuple[Namespace, Namespace]]:
    """Make two namespaces joined by a veth pair, limited in both directions where `link_mbit_s` is not 0.

    Raises:
        UnsupportedError: a tool, a right or the kernel's shaper is missing.
    """
    for tool in TOOLS:
        if shutil.which(tool) is None:
            raise UnsupportedError(f"hosts=namespaces: {tool} is not on the path; {REMEDY}")
    word = secrets.token_hex(3)
    ends = tuple(
        Namespace(name=f"migrascope-{word}-{side}", address=f"198.18.0.{number}")
        for side, number in (("s", 1), ("d", 2))
    )
    names = runtime / NAMES
    names.write_text("".join(f"{end.name}\n" for end in ends))
    try:
        for end in ends:
            await _do("ip", "netns", "add", end.name)
        first, second = ends
        await _do(*first.prefix, "ip", "link", "add", DEVICE, "type", "veth", "peer", DEVICE, "netns", second.name)
        for end in ends:
            await _do(*end.prefix, "ip", "address", "add", f"{end.address}/30", "dev", DEVICE)
            for device in ("lo", DEVICE):
                await _do(*end.prefix, "ip", "link", "set", device, "up")
            for limit in shaper_commands(link_mbit_s, shaper):
                await _do(*end.prefix, "tc", *limit)
        yield first, second
    finally:
        remove_namespaces(end.name for end in ends)
        names.unlink(missing_ok=True)


def shaper_commands(link_mbit_s: int, shaper: str) -> list[list[str]]:
    """The `tc` commands that limit what leaves `DEVICE`; none for 0.

    A bucket holds at least what passes between two timer ticks (tc-tbf(8)), and one packet of 64 KiB before it is
    segmented.
    """
    if not link_mbit_s:
        return []
    rate = f"{link_mbit_s}mbit"
    burst = str(max(LEAST_BURST_BYTES, link_mbit_s * 125_000 // TIMER_HZ))
    add = ["qdisc", "add", "dev", DEVICE, "root"]
    if shaper == "tbf":
        return [[*add, "tbf", "rate", rate, "burst", burst, "latency", f"{LATENCY_MS}ms"]]
    shape = ["class", "add", "dev", DEVICE, "parent", "1:", "classid", "1:1", "htb", "rate", rate, "burst", burst]
    return [[*add, "handle", "1:", "htb", "default", "1"], [*shape, "cburst", burst]]


def left_behind(runtime: Path) -> list[str]:
    """The namespaces that a dead driver's runtime directory names."""
    with contextlib.suppress(OSError):
        return (runtime / NAMES).read_text().split()
    return []


def remove_namespaces(names: Iterable[str]) -> None:
    """Remove namespaces, and with them the link; those that are gone do not matter."""
    for name in names:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(
                ["ip", "netns", "delete", name], stdin=subprocess.DEVNULL, capture_output=True, check=False,
                timeout=COMMAND_SECONDS,
            )  # fmt: skip


async def _do(*command: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        raise BrokenError(f"{' '.join(command)}: did not end within {COMMAND_SECONDS:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        words = (said.decode(errors="replace").strip().splitlines() or [f"exited with {process.returncode}"])[-1]
        raise UnsupportedError(
            f"hosts=namespaces: {' '.join(command)}: {words}; want root (or CAP_NET_ADMIN and CAP_SYS_ADMIN) and the"
            " kernel's veth and shaper"
        )
