#!/usr/bin/env bash
# Puts what the guest boots into the cache: its kernel with the modules of a disk, found or downloaded, and its initrds,
# compiled. A later run finds them there and needs no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=deploy/setup/private-apt.sh
. deploy/setup/private-apt.sh

guest() {
  .venv/bin/python - <<'PYTHON'
import sys

from workload.cache import cache_dir
from workload.errors import MigrascopeError
from workload.image import build_initrd
from workload.kernel import disk_modules, find_kernel

try:
    cache_dir().mkdir(parents=True, exist_ok=True)
    kernel = find_kernel(None, cache_dir())
    build_initrd(cache_dir())
    build_initrd(cache_dir(), disk_modules(kernel, cache_dir()))
except MigrascopeError as error:
    sys.exit(f"set-up: {error}")
PYTHON
}

# The system's package lists may be absent or so old that the kernel they name is gone: then again with fresh ones.
if command -v apt-get >/dev/null; then
  guest 2>/dev/null && exit
  scratch=$(mktemp -d)
  trap 'rm -rf "$scratch"' EXIT
  private_apt "$scratch"
fi
guest
