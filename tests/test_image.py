"""The initrd and the kernel: built the same each time, found in order, refused in one line."""

from __future__ import annotations

import gzip
import hashlib
import platform
import struct
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from workload import image, kernel
from workload.errors import BadValueError, BrokenError, UnsupportedError
from workload.image import build_initrd, guest_command_line
from workload.kernel import find_kernel
from workload.settings import Workload


def bzimage(release: str = "6.1.0-test", protocol: int = 0x20F, xload_flags: int = 1) -> bytes:
    """The head of a kernel image, as the boot protocol lays it out."""
    data = bytearray(0x1000)
    data[0x1FE:0x200] = b"\x55\xaa"
    data[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", data, 0x206, protocol)
    struct.pack_into("<H", data, 0x20E, 0x600)
    struct.pack_into("<H", data, 0x236, xload_flags)
    text = f"{release} (someone@somewhere) #1 SMP".encode() + b"\0"
    data[0x800 : 0x800 + len(text)] = text
    return bytes(data)


@pytest.fixture
def no_host_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: "0.0-of-no-host")


def only_these_on_path(monkeypatch: pytest.MonkeyPatch, folder: Path, **scripts: str) -> None:
    """Make PATH a folder with nothing but these shell scripts."""
    folder.mkdir()
    for name, text in scripts.items():
        script = folder / name.replace("_", "-")
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))


def test_the_same_sources_give_the_same_bytes(tmp_path: Path) -> None:
    first, second = build_initrd(tmp_path / "one"), build_initrd(tmp_path / "two")
    assert first.path.read_bytes() == second.path.read_bytes()
    assert first.sha256 == second.sha256 == hashlib.sha256(first.path.read_bytes()).hexdigest()


def test_a_built_initrd_is_taken_from_the_cache(tmp_path: Path) -> None:
    before = build_initrd(tmp_path).path.stat()
    after = build_initrd(tmp_path).path.stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_two_that_build_at_once_both_get_a_whole_initrd(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(build_initrd, [tmp_path, tmp_path])
    assert first == second
    assert [entry.name for entry in (tmp_path / "initrd").iterdir()] == [first.path.name]


def test_a_missing_compiler_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_these_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(UnsupportedError, match=r"gcc is missing; install gcc and libc6-dev"):
        build_initrd(tmp_path / "cache")


def test_a_missing_static_library_is_told_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    only_these_on_path(monkeypatch, tmp_path / "bin", gcc="echo libc.a")
    with pytest.raises(UnsupportedError, match=r"libc\.a is missing; install libc6-dev"):
        build_initrd(tmp_path / "cache")


def test_a_failing_compiler_leaves_its_first_error_and_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gcc = 'case $1 in --version) echo 1;; -print*) echo "$0";; *) echo "init.c:1: error: no" >&2; exit 1;; esac'
    only_these_on_path(monkeypatch, tmp_path / "bin", gcc=gcc)
    with pytest.raises(BrokenError, match=r"gcc exited with 1 on init\.c: init\.c:1: error: no"):
        build_initrd(tmp_path / "cache")
    assert list((tmp_path / "cache" / "initrd").iterdir()) == []


def test_every_source_of_the_guest_is_part_of_its_key() -> None:
    folder = Path(image.__file__).parent
    assert sorted(image.SOURCES) == sorted(path.name for path in folder.glob("*.[ch]"))


def test_the_command_line_says_console_panic_and_every_setting() -> None:
    words = guest_command_line(Workload(rate_limit_mib_s=9), 3, "more=1").split()
    assert {"console=ttyS0", "quiet", "panic=-1"} <= set(words)
    assert words[-18:] == [
        "migrascope.working_set_mib=32",
        "migrascope.granularity_mib=16",
        "migrascope.tick_ms=10",
        "migrascope.rate_limit_mib_s=9",
        "migrascope.pattern=sequential",
        "migrascope.hot_memory_percent=10",
        "migrascope.hot_access_percent=90",
        "migrascope.zipf_exponent_percent=99",
        "migrascope.write_percent=100",
        "migrascope.change_percent=100",
        "migrascope.zero_percent=0",
        "migrascope.compressible_percent=0",
        "migrascope.disk_write_mib_s=0",
        "migrascope.guest_page_size=any",
        "migrascope.probe_hz=0",
        "migrascope.phases=none",
        "migrascope.vcpus=3",
        "more=1",
    ]


def test_a_given_kernel_is_taken_and_its_release_read(tmp_path: Path) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(bzimage("6.6.6-given"))
    found = find_kernel(path, tmp_path / "cache")
    assert (found.path, found.release, found.source) == (path, "6.6.6-given", "given")
    assert found.sha256 == hashlib.sha256(bzimage("6.6.6-given")).hexdigest()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a kernel image, want an x86 bzImage"),
        (b"#!/bin/sh\n" * 100, "not a kernel image, want an x86 bzImage"),
        (gzip.compress(bzimage()), "not a kernel image, want an x86 bzImage"),
        (bzimage(xload_flags=0), "not a 64-bit kernel, want one for x86-64"),
        (bzimage(protocol=0x204), "not a 64-bit kernel, want one for x86-64"),
    ],
)
def test_a_given_file_that_is_no_kernel_is_refused_in_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "vmlinuz"
    path.write_bytes(content)
    with pytest.raises(BadValueError) as caught:
        find_kernel(path, tmp_path / "cache")
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file or directory"), (".", "Is a directory")])
def test_a_given_kernel_that_cannot_be_read_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(BadValueError, match=f"cannot be read: {reason}"):
        find_kernel(tmp_path / name, tmp_path / "cache")


@pytest.mark.usefixtures("no_host_kernel")
def test_a_cached_kernel_is_taken_without_asking_anyone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cache" / "kernel" / "vmlinuz-6.1.0-test"
    path.parent.mkdir(parents=True)
    path.write_bytes(bzimage())
    only_these_on_path(monkeypatch, tmp_path / "bin")
    found = find_kernel(None, tmp_path / "cache")
    assert (found.path, found.release, found.source) == (path, "6.1.0-test", "distribution")


@pytest.mark.usefixtures("no_host_kernel")
def test_a_distribution_without_apt_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "PACKAGES", {platform.freedesktop_os_release()["ID"]: "linux-image-some"})
    only_these_on_path(monkeypatch, tmp_path / "bin")
    with pytest.raises(UnsupportedError, match=r"apt-cache is missing; get linux-image-some .* --kernel"):
        find_kernel(None, tmp_path / "cache")


@pytest.mark.usefixtures("no_host_kernel")
def test_a_failing_download_says_what_apt_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "PACKAGES", {platform.freedesktop_os_release()["ID"]: "linux-image-some"})
    only_these_on_path(
        monkeypatch,
        tmp_path / "bin",
        apt_cache='echo "$2"; echo "  Depends: linux-image-9.9.9-some"',
        apt_get='echo "E: no network today" >&2; exit 100',
    )
    with pytest.raises(UnsupportedError, match=r"download linux-image-9\.9\.9-some failed: E: no network today"):
        find_kernel(None, tmp_path / "cache")
    assert list((tmp_path / "cache" / "kernel").iterdir()) == []


@pytest.mark.usefixtures("no_host_kernel")
def test_an_unknown_distribution_is_told_to_name_a_kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "freedesktop_os_release", lambda: {"ID": "other", "NAME": "Other Linux"})
    with pytest.raises(UnsupportedError, match=r"Other Linux is not one .*\(debian, ubuntu\); name a kernel"):
        find_kernel(None, tmp_path / "cache")


def test_the_kernel_that_this_host_runs_guests_with_is_a_64_bit_linux(cache: Path) -> None:
    found = find_kernel(None, cache)
    assert found.source in ("host", "distribution")
    assert found.release[0].isdigit()


def test_the_modules_of_a_disk_stand_in_the_initrd_in_their_order(tmp_path: Path) -> None:
    plain = build_initrd(tmp_path)
    (tmp_path / "01-b.ko").write_bytes(b"second")
    (tmp_path / "00-a.ko").write_bytes(b"first")
    both = build_initrd(tmp_path, (tmp_path / "00-a.ko", tmp_path / "01-b.ko"))
    content = both.path.read_bytes()
    assert content.index(b"modules/00-a.ko\0") < content.index(b"first") < content.index(b"modules/01-b.ko\0")
    assert b"modules" not in plain.path.read_bytes().partition(b"init\0")[0]
    assert both.sha256 != plain.sha256
    (tmp_path / "01-b.ko").write_bytes(b"another")
    assert build_initrd(tmp_path, (tmp_path / "00-a.ko", tmp_path / "01-b.ko")).sha256 != both.sha256
