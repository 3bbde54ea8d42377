"""Finding a kernel for the guest, and its modules: the one given, the host's, or the distribution's, unpacked."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import re
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from workload.errors import BadValueError, UnsupportedError
from workload.modules import DISK_MODULES, keep_modules

# Small kernels with the serial console built in. Each depends on the versioned package that holds the kernel.
PACKAGES = {"debian": "linux-image-cloud-amd64", "ubuntu": "linux-image-virtual"}
DOWNLOAD_TIMEOUT_SECONDS = 300.0
UNPACK_TIMEOUT_SECONDS = 120.0

_VERSIONED = re.compile(r"linux-image-(unsigned-)?\d")


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """A kernel image for x86-64; `source` is `given`, `host` or `distribution`."""

    path: Path
    release: str
    source: str
    sha256: str


def find_kernel(explicit: Path | None, cache: Path) -> Kernel:
    """Return the kernel given, else the running host's if readable, else the distribution's (from the cache first).

    Raises:
        BadValueError: the kernel given cannot be read or is no kernel.
        UnsupportedError: none was given and none could be found or fetched.
    """
    if explicit is not None:
        return _load(explicit, "given")
    try:
        return _load(Path("/boot") / f"vmlinuz-{platform.release()}", "host")
    except BadValueError:
        pass  # absent, or for root only as on Ubuntu: the next place
    folder = cache / "kernel"
    cached = sorted(folder.glob("vmlinuz-*"), key=lambda path: path.stat().st_mtime)
    return _load(cached[-1] if cached else _fetch(cache), "distribution")


def disk_modules(kernel: Kernel, cache: Path) -> tuple[Path, ...]:
    """The modules that make a virtio disk of a guest's kernel, in the order of loading; none where all are built in.

    They come from the cache, else from beside the kernel (`lib/modules/RELEASE` of the root that it stands in, or of
    this host), else, for the distribution's kernel, from its package.

    Raises:
        UnsupportedError: they are not to be had.
    """
    folder = _modules_folder(cache, kernel.sha256)
    if not folder.exists():
        roots = (kernel.path.parent.parent, Path("/"))
        trees = [tree for root in roots if (tree := root / "lib" / "modules" / kernel.release).is_dir()]
        if trees:
            keep_modules(trees[0], DISK_MODULES, folder)
        elif kernel.source == "distribution":
            with _unpacked(f"linux-image-{kernel.release}", cache / "kernel", "name a kernel with --kernel") as root:
                keep_modules(root / "lib" / "modules" / kernel.release, DISK_MODULES, folder)
        else:
            places = " or ".join(str(root / "lib" / "modules") for root in roots)
            raise UnsupportedError(
                f"guest's disk: kernel {kernel.path} has no modules in {places}"
                f" ({kernel.release}); name another kernel with --kernel"
            )
    return tuple(sorted(folder.iterdir()))


def _modules_folder(cache: Path, sha256: str) -> Path:
    return cache / "modules" / sha256[:16]


def _load(path: Path, source: str) -> Kernel:
    try:
        image = path.read_bytes()
    except OSError as error:
        raise BadValueError(f"kernel {path}: cannot be read: {error.strerror}") from None
    return Kernel(path=path, release=_release(image, path), source=source, sha256=hashlib.sha256(image).hexdigest())


def _release(image: bytes, path: Path) -> str:
    """Read the release out of a bzImage's header (kernel: Documentation/arch/x86/boot.rst).

    Raises:
        BadValueError: this is no 64-bit bzImage.
    """
    if len(image) < 0x250 or image[0x1FE:0x200] != b"\x55\xaa" or image[0x202:0x206] != b"HdrS":
        raise BadValueError(f"kernel {path}: not a kernel image, want an x86 bzImage (a vmlinuz file)")
    protocol, xload_flags = struct.unpack_from("<H", image, 0x206)[0], struct.unpack_from("<H", image, 0x236)[0]
    if protocol < 0x20C or not xload_flags & 1:
        raise BadValueError(f"kernel {path}: not a 64-bit kernel, want one for x86-64")
    start = struct.unpack_from("<H", image, 0x20E)[0] + 0x200
    words = image[start : start + 256].split(b"\0")[0].decode("ascii", "replace").split()
    return words[0] if words else "unknown"


def _fetch(cache: Path) -> Path:
    """Download the distribution's kernel package, and keep its kernel and the modules that a guest may want."""
    package = _package()
    advice = f"get {package} unpacked, or name a kernel with --kernel"
    folder = cache / "kernel"
    with _unpacked(package, folder, advice) as root:
        for image in root.glob("boot/vmlinuz-*"):
            tree = root / "lib" / "modules" / image.name.removeprefix("vmlinuz-")
            with contextlib.suppress(UnsupportedError):  # told once a guest with a disk is wanted
                keep_modules(tree, DISK_MODULES, _modules_folder(cache, hashlib.sha256(image.read_bytes()).hexdigest()))
            path = folder / image.name
            image.chmod(0o644)
            image.replace(path)
            return path
    raise UnsupportedError(f"kernel: package {package} leads to no boot/vmlinuz-*; name a kernel with --kernel")


@contextlib.contextmanager
def _unpacked(package: str, folder: Path, advice: str) -> Iterator[Path]:
    """Download a kernel package, or the one behind it, and unpack it below `folder` for as long as it is needed."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        versioned = _versioned(package, scratch, advice)
        _run(["apt-get", "download", versioned], scratch, DOWNLOAD_TIMEOUT_SECONDS, advice)
        for archive in Path(scratch).glob("*.deb"):
            _run(["dpkg-deb", "-x", str(archive), scratch], scratch, UNPACK_TIMEOUT_SECONDS, advice)
        yield Path(scratch)


def _package() -> str:
    """Name the package that depends on the distribution's current small kernel."""
    try:
        release = platform.freedesktop_os_release()
    except OSError:
        release = {}
    for name in (release.get("ID", ""), *release.get("ID_LIKE", "").split()):
        if name in PACKAGES:
            return PACKAGES[name]
    raise UnsupportedError(
        f"kernel: the host's cannot be read and {release.get('NAME', 'this system')} is not one whose kernel package is"
        f" known ({', '.join(PACKAGES)}); name a kernel with --kernel"
    )


def _versioned(package: str, scratch: str, advice: str) -> str:
    """Follow the dependencies of the unversioned package to the one that holds a kernel."""
    while not _VERSIONED.match(package):
        listing = _run(["apt-cache", "depends", package], scratch, UNPACK_TIMEOUT_SECONDS, advice)
        match = re.search(r"^\s*Depends: (linux-image-\S+)$", listing, re.MULTILINE)
        if match is None:
            raise UnsupportedError(f"kernel: apt-cache knows no kernel package behind {package}; {advice}")
        package = match[1]
    return package


def _run(command: list[str], folder: str, timeout_seconds: float, advice: str) -> str:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=True,
        )
    except FileNotFoundError:
        raise UnsupportedError(f"kernel: {command[0]} is missing; {advice}") from None
    except subprocess.TimeoutExpired:
        raise UnsupportedError(f"kernel: {' '.join(command)} took over {timeout_seconds:.0f} s; {advice}") from None
    except subprocess.CalledProcessError as error:
        said = next((line for line in error.stderr.splitlines() if line.startswith("E:")), error.stderr.strip())
        raise UnsupportedError(
            f"kernel: {' '.join(command)} failed: {said} (is `apt-get update` due?); {advice}"
        ) from None
    return done.stdout
