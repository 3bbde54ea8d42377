"""The modules of a guest's disk: found with what they depend on, unpacked whatever packed them, or named as missing."""

from __future__ import annotations

import gzip
import lzma
import platform
from pathlib import Path

import cramjam
import pytest

from tests.test_image import bzimage
from workload.errors import UnsupportedError
from workload.kernel import Kernel, disk_modules, find_kernel
from workload.modules import keep_modules


def a_module(name: str, *needed: str) -> bytes:
    """What a module's .modinfo section says, among other bytes."""
    return b"\x7fELF\0license=GPL\0depends=" + ",".join(needed).encode() + b"\0name=" + name.encode() + b"\0"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A kernel's modules, packed in all the ways that distributions pack them; one is built in."""
    tree = tmp_path / "root" / "lib" / "modules" / "6.1.0-test"
    (tree / "kernel" / "drivers").mkdir(parents=True)
    for name, content in {
        "virtio_blk.ko": a_module("virtio_blk", "virtio", "virtio_ring"),
        "virtio_ring.ko.xz": lzma.compress(a_module("virtio_ring")),
        "virtio-pci.ko.gz": gzip.compress(a_module("virtio_pci", "virtio_ring", "virtio-pci-modern-dev", "built_in")),
        "virtio_pci_modern_dev.ko.zst": bytes(cramjam.zstd.compress(a_module("virtio_pci_modern_dev"))),
        "virtio.ko": a_module("virtio"),
    }.items():
        (tree / "kernel" / "drivers" / name).write_bytes(content)
    (tree / "modules.builtin").write_text("kernel/drivers/built-in.ko\n")
    return tree


def test_modules_are_kept_unpacked_behind_all_that_they_depend_on(tree: Path, tmp_path: Path) -> None:
    keep_modules(tree, ("virtio_pci", "virtio_blk"), tmp_path / "kept")
    found = sorted((tmp_path / "kept").iterdir())
    assert [path.name for path in found] == [
        "00-virtio_ring.ko", "01-virtio_pci_modern_dev.ko", "02-virtio_pci.ko", "03-virtio.ko", "04-virtio_blk.ko",
    ]  # fmt: skip
    assert found[0].read_bytes() == a_module("virtio_ring")
    assert found[1].read_bytes() == a_module("virtio_pci_modern_dev")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_kernel_that_has_all_built_in_needs_none(tree: Path, tmp_path: Path) -> None:
    keep_modules(tree, ("built_in",), tmp_path / "kept")
    assert list((tmp_path / "kept").iterdir()) == []


def test_a_missing_module_is_named_and_nothing_is_kept(tree: Path, tmp_path: Path) -> None:
    (tree / "kernel" / "drivers" / "virtio_ring.ko.xz").unlink()
    with pytest.raises(UnsupportedError, match=r"kernel 6\.1\.0-test has no module virtio_ring .* not built in"):
        keep_modules(tree, ("virtio_pci",), tmp_path / "kept")
    assert [path.name for path in tmp_path.iterdir()] == ["root"]


def test_a_given_kernels_modules_are_found_in_its_root_and_then_in_the_cache(tree: Path, tmp_path: Path) -> None:
    path = tmp_path / "root" / "boot" / "vmlinuz-6.1.0-test"
    path.parent.mkdir()
    path.write_bytes(bzimage("6.1.0-test"))
    kernel = find_kernel(path, tmp_path)
    found = disk_modules(kernel, tmp_path)
    assert [each.name for each in found][-1] == "04-virtio_blk.ko"
    tree.rename(tree.with_name("gone"))
    assert disk_modules(kernel, tmp_path) == found


def test_a_kernel_without_modules_is_told_where_they_were_looked_for(tmp_path: Path) -> None:
    lone = Kernel(path=tmp_path / "boot" / "vmlinuz", release="6.1.0-lone", source="given", sha256="cd" * 32)
    with pytest.raises(
        UnsupportedError, match=rf"has no modules in {tmp_path}/lib/modules or /lib/modules \(6\.1\.0-l"
    ):
        disk_modules(lone, tmp_path)


@pytest.mark.usefixtures("tree")
def test_the_distributions_kernel_and_its_modules_come_from_one_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = tmp_path / "root" / "boot" / "vmlinuz-6.1.0-test"
    image.parent.mkdir()
    image.write_bytes(bzimage("6.1.0-test"))
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, script in {
        "apt-get": 'echo "$2" >> "$LOG"; : > "$2.deb"',
        "apt-cache": 'echo "  Depends: linux-image-6.1.0-test"',
        "dpkg-deb": f'cp -a {tmp_path}/root/. "$3"',
    }.items():
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin:/usr/bin")
    monkeypatch.setenv("LOG", str(tmp_path / "log"))
    monkeypatch.setattr(platform, "release", lambda: "0.0-of-no-host")
    monkeypatch.setattr("workload.kernel.PACKAGES", {platform.freedesktop_os_release()["ID"]: "linux-image-some"})
    cache = tmp_path / "cache"
    kernel = find_kernel(None, cache)
    assert len(disk_modules(kernel, cache)) == 5
    assert (tmp_path / "log").read_text().split() == ["linux-image-6.1.0-test"]
    for path in (cache / "modules").glob("*/*"):  # a cache of before there were disks
        path.unlink()
    next((cache / "modules").iterdir()).rmdir()
    assert len(disk_modules(kernel, cache)) == 5
    assert (tmp_path / "log").read_text().split() == ["linux-image-6.1.0-test"] * 2
    assert [path.name for path in (cache / "kernel").iterdir()] == [image.name]
