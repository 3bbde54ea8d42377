#!/usr/bin/env bash
# Puts what the guest boots into the cache: its kernel, found or downloaded, and its initrd, compiled. A later run finds
# both there and needs no network.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec .venv/bin/python - <<'PYTHON'
import sys

from workload.cache import cache_dir
from workload.errors import MigrascopeError
from workload.image import build_initrd
from workload.kernel import find_kernel

try:
    cache_dir().mkdir(parents=True, exist_ok=True)
    find_kernel(None, cache_dir())
    build_initrd(cache_dir())
except MigrascopeError as error:
    sys.exit(f"set-up: {error}")
PYTHON
