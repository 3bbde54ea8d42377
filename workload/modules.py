"""A kernel's modules: those that a guest wants with what they depend on, decompressed, in the order of loading."""

from __future__ import annotations

import gzip
import lzma
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cramjam

from workload.errors import UnsupportedError

DISK_MODULES = ("virtio_pci", "virtio_blk")

_DEPENDS = re.compile(rb"\0depends=([\w,-]*)\0")
"""In a module's .modinfo section (kernel: scripts/mod/modpost.c). No depmod has run over an unpacked package."""

_PLAIN: Mapping[str, Callable[[bytes], bytes]] = {
    ".ko": bytes,
    ".ko.xz": lzma.decompress,
    ".ko.gz": gzip.decompress,
    ".ko.zst": lambda packed: bytes(cramjam.zstd.decompress(packed)),
}


def keep_modules(tree: Path, wanted: Sequence[str], folder: Path) -> None:
    """Put modules of a kernel (`tree` is its lib/modules/RELEASE) and their dependencies into a folder of their own.

    Their names tell the order of loading: 00-virtio.ko, 01-virtio_ring.ko. A folder without files: all are built in.

    Raises:
        UnsupportedError: the kernel has one of them neither as a module nor built in.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(dir=folder.parent, prefix=".new-"))
    try:
        for place, (name, content) in enumerate(_with_dependencies(tree, wanted)):
            (scratch / f"{place:02}-{name}.ko").write_bytes(content)
        scratch.chmod(0o755)
        if not folder.exists():
            scratch.rename(folder)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _with_dependencies(tree: Path, wanted: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    """Each module once, as (name, content), behind all that it depends on; what is built in is left out."""
    files = {_name(path): path for path in sorted(tree.rglob("*.ko*")) if _kind(path) in _PLAIN}
    listing = tree / "modules.builtin"
    built_in = {_name(Path(line)) for line in listing.read_text().split()} if listing.exists() else set()
    done: set[str] = set()

    def visit(name: str) -> Iterator[tuple[str, bytes]]:
        if name in done or name in built_in:
            return
        if name not in files:
            raise UnsupportedError(
                f"guest's disk: kernel {tree.name} has no module {name} in {tree}, and it is not built in; name another"
                " kernel with --kernel"
            )
        done.add(name)
        content = _PLAIN[_kind(files[name])](files[name].read_bytes())
        needed = _DEPENDS.search(content)
        for other in needed[1].decode().split(",") if needed and needed[1] else ():
            yield from visit(other.replace("-", "_"))
        yield name, content

    for name in wanted:
        yield from visit(name)


def _kind(path: Path) -> str:
    return path.name[path.name.index(".ko") :]


def _name(path: Path) -> str:
    """A module's name as its users write it: file names may have `-` where names have `_`."""
    return path.name[: path.name.index(".ko")].replace("-", "_")
