"""Another host for tests: a real sshd in a network namespace, whose monotonic clock is 1000 s ahead; wants root."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tests.waiting import wait_until

AHEAD_SECONDS = 1000
SESSION = "MIGRASCOPE_TEST_SESSION"
INSIDE = """
mount -t tmpfs tmpfs /run && mkdir -m 755 /run/sshd && mount --bind {folder}/passwd /etc/passwd &&
mount --bind {folder}/shadow /etc/shadow && mount -t tmpfs tmpfs {hidden} && exec {sshd} -D -e -f {folder}/sshd_config
"""
"""sshd wants its directory, a user of its own and root without a locked password: seen by nobody else."""


@dataclass(frozen=True, kw_only=True)
class OtherHost:
    """Where it is reached by an `ssh` of its own in `path`, and what is seen of it from outside."""

    name: str
    address: str
    address6: str
    device: str
    path: Path
    cache: Path

    def link(self, state: str) -> None:
        """Set the link `up` or `down`."""
        _do("ip", "link", "set", self.device, state)

    def processes(self) -> list[str]:
        """The command lines of all that runs there but sshd's own."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        return [line for pid in pids.stdout.split() if (line := _command_line(pid)) and "sshd" not in line[:200]]

    def qemu(self) -> int:
        """The process of the one QEMU that runs there."""
        pids = subprocess.run(["ip", "netns", "pids", self.name], capture_output=True, text=True, check=True)
        (pid,) = [int(pid) for pid in pids.stdout.split() if "-chardev" in _command_line(pid)]
        return pid

    def disk(self) -> bytes:
        """What stands on the disk of the one guest that is there."""
        (path,) = Path("/tmp").glob("migrascope-" + "[0-9a-f]" * 16 + "/disk")
        return path.read_bytes()

    def left(self) -> list[str]:
        """What of a run is left there: its processes and directories."""
        return self.processes() + [str(path) for path in Path("/tmp").glob("migrascope-" + "[0-9a-f]" * 16)]


@contextmanager
def other_host(
    folder: Path, sshd: Path, ssh: Path, *, settings: str = "", hidden: Path | None = None
) -> Iterator[OtherHost]:
    """Make the host; `settings` are lines of sshd_config that go before others, `hidden` a directory empty there."""
    probe = subprocess.run(["unshare", "--mount", "--", "true"], capture_output=True, text=True, check=False)
    if probe.returncode:  # below a chroot; `ip -n` refuses there as well
        pytest.skip(f"{probe.stderr.strip()}: no mount namespace can be made here")
    folder.mkdir(mode=0o700)
    (folder / "nothing").mkdir()
    word, number = secrets.token_hex(3), secrets.randbelow(200) + 20
    net, net6 = f"198.18.{number}", f"fd00:{secrets.randbelow(0xFFFF):x}:{number:x}:"
    name, device = f"mt-{word}", f"mt-{word}"
    host = OtherHost(
        name=name, address=f"{net}.2", address6=f"{net6}:2", device=device, path=folder / "bin", cache=folder / "cache"
    )  # fmt: skip
    _write_files(folder, host, ssh, settings)
    _do("ip", "netns", "add", name)
    try:
        _do("ip", "link", "add", device, "type", "veth", "peer", "eth0", "netns", name)
        _do("ip", "address", "add", f"{net}.1/30", "dev", device)
        _do("ip", "address", "add", f"{net6}:1/126", "dev", device, "nodad")
        _do("ip", "link", "set", device, "up")
        _do("ip", "-n", name, "address", "add", f"{host.address}/30", "dev", "eth0")
        _do("ip", "-n", name, "address", "add", f"{host.address6}/126", "dev", "eth0", "nodad")
        for each in ("lo", "eth0"):
            _do("ip", "-n", name, "link", "set", each, "up")
        with (folder / "sshd.log").open("wb") as log:
            server = subprocess.Popen(
                [
                    "setpriv", "--pdeathsig", "KILL", "--", "ip", "netns", "exec", name, "unshare", "--mount", "--time",
                    "--monotonic", str(AHEAD_SECONDS), "--fork", "--kill-child",
                    "sh", "-c", INSIDE.format(folder=folder, sshd=sshd, hidden=hidden or folder / "nothing"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            said = folder / "sshd.log"
            wait_until(lambda: server.poll() is not None or "listening" in said.read_text().lower())
            assert server.poll() is None, said.read_text()
            yield host
        finally:
            pids = subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True, check=True)
            for pid in pids.stdout.split():
                subprocess.run(["kill", "-KILL", pid], capture_output=True, check=False)
            server.wait(10)
    finally:
        _do("ip", "netns", "delete", name)
        subprocess.run(["ip", "link", "delete", device], capture_output=True, check=False)


def _write_files(folder: Path, host: OtherHost, ssh: Path, settings: str) -> None:
    for name in ("host_key", "user_key"):
        key = Ed25519PrivateKey.generate()
        encoding, form = serialization.Encoding, serialization.PrivateFormat.OpenSSH
        (folder / name).touch(mode=0o600)
        (folder / name).write_bytes(key.private_bytes(encoding.PEM, form, serialization.NoEncryption()))
        public = key.public_key().public_bytes(encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        (folder / f"{name}.pub").write_bytes(public + b"\n")
    passwd = Path("/etc/passwd").read_text()
    if "\nsshd:" not in passwd:
        passwd += "sshd:x:65533:65534::/run/sshd:/usr/sbin/nologin\n"
    (folder / "passwd").write_text(passwd)
    (folder / "shadow").write_text("root:*:19000:0:99999:7:::\n")
    (folder / "sshd_config").write_text(
        f"{settings}\nListenAddress {host.address}\nListenAddress [{host.address6}]\n"
        f"HostKey {folder}/host_key\nPidFile none\nUsePAM no\n"
        "StrictModes no\n"
        f"AuthorizedKeysFile {folder}/user_key.pub\nPermitRootLogin prohibit-password\n"
        f"SetEnv XDG_CACHE_HOME={host.cache} {SESSION}={os.environ[SESSION]} PATH={os.environ['PATH']}\n"
    )
    (folder / "known_hosts").write_text(f"{host.address},{host.address6} {(folder / 'host_key.pub').read_text()}")
    (folder / "ssh_config").write_text(
        f"Host there\n HostName {host.address}\n User root\nHost there6\n HostName {host.address6}\n User root\n"
        f"Host nobody\n HostName {host.address}\n Port 9\n"
        f"Host stranger\n HostName {host.address}\n User nobody\n"
        f"Host *\n IdentityFile {folder}/user_key\n IdentitiesOnly yes\n UserKnownHostsFile {folder}/known_hosts\n"
    )
    host.path.mkdir()
    wrapper = host.path / "ssh"
    wrapper.write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh_config "$@"\n')
    wrapper.chmod(0o755)


def _command_line(pid: str) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def _do(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
