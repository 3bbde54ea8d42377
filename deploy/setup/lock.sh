#!/usr/bin/env bash
# lock.sh: writes deploy/lock/*.txt anew from pyproject.toml: the newest versions that fit, for Python 3.11 and newer,
# with the hash of every file. The only step of set-up that chooses versions; run it by hand (`make lock`).
set -euo pipefail
cd "$(dirname "$0")/../.."
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
"${PYTHON:-python3}" -m venv "$tools"
"$tools/bin/python" -m pip --quiet --disable-pip-version-check install uv

# --no-config, --no-header: no setting of this machine gets in, no command line or address of an index gets written.
compile=("$tools/bin/uv" pip compile --quiet --upgrade --no-config --no-header --universal --python-version 3.11
  --generate-hashes --extra build pyproject.toml)
"${compile[@]}" --extra test --extra campaign --output-file deploy/lock/test.txt
# constrained by the other, so that both name the same versions
"${compile[@]}" --constraint deploy/lock/test.txt --output-file deploy/lock/run.txt
