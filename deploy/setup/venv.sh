#!/usr/bin/env bash
# venv.sh run|test: makes .venv hold exactly what deploy/lock/NAME.txt names, every file checked against its hash, and this
# checkout itself as an editable install. Does nothing, and needs no network, when .venv was made from the same lock.
set -euo pipefail
cd "$(dirname "$0")/../.."
want=${1:?usage: venv.sh run|test}
python=${PYTHON:-python3}

# The path belongs to the key since scripts in .venv/bin carry it, the interpreter since wheels are built for its version.
key() {
  {
    pwd -P
    "$python" -c 'import sys; print(sys.version)'
    cat "deploy/lock/$1.txt"
    sed "/^\[tool/,\$d" pyproject.toml # what is installed; not how it is linted
  } | sha256sum | cut -d' ' -f1
}
stamp=.venv/.made-from
# test.txt holds all that run.txt holds (lock.sh sees to that), so that `make demo` after `make test` changes nothing.
for lock in "$want" test; do
  if [ -x .venv/bin/python ] && [ "$(cat $stamp 2>/dev/null)" = "$lock $(key "$lock")" ]; then
    exit 0
  fi
done

echo "set-up: filling .venv from deploy/lock/$want.txt"
"$python" -m venv --clear .venv
pip=(.venv/bin/python -m pip --quiet --no-input --disable-pip-version-check install)
# Wheels only: a source archive would run its own build, with dependencies that no lock holds.
"${pip[@]}" --require-hashes --no-deps --only-binary :all: -r "deploy/lock/$want.txt"
"${pip[@]}" --no-deps --no-build-isolation --no-index --editable .
echo "$want $(key "$want")" >$stamp
