#!/usr/bin/env bash
# Sees that the three things which must come from the system are there: a C compiler that links statically, Python 3.11
# or newer with venv, and QEMU for x86. Installs them on Debian 12 and Ubuntu 24.04 as root or with sudo; elsewhere, or
# without the right to install, it names what is missing and the command that installs it.
set -euo pipefail

# What is asked is what a thing can do, not which package it came in: a self-built QEMU or a pyenv Python is as good.
links_statically() {
  command -v gcc >/dev/null &&
    echo 'int main(void) { return 0; }' | gcc -static -x c -o /dev/null - 2>/dev/null
}
has_python() {
  "${PYTHON:-python3}" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}
has_qemu() { command -v qemu-system-x86_64 >/dev/null; }

missing=()
links_statically || missing+=(compiler)
has_python || missing+=(python)
has_qemu || missing+=(qemu)
[ ${#missing[@]} -gt 0 ] || exit 0

# shellcheck source=/dev/null
. /etc/os-release 2>/dev/null || ID=unknown
distribution="${ID:-unknown} ${VERSION_ID:-}"
# shellcheck disable=SC2034 # read below, by the names in missing
case " ${ID:-} ${ID_LIKE:-} " in
  *" debian "* | *" ubuntu "*)
    install="apt-get install --no-install-recommends" compiler="gcc libc6-dev" python="python3 python3-venv" qemu=qemu-system-x86 ;;
  *" fedora "* | *" rhel "*)
    install="dnf install" compiler="gcc glibc-static" python=python3 qemu=qemu-system-x86-core ;;
  *" arch "*)
    install="pacman -S" compiler=gcc python=python qemu=qemu-system-x86 ;;
  *" suse "* | *" opensuse "*)
    install="zypper install" compiler="gcc glibc-devel-static" python="python311" qemu=qemu-x86 ;;
  *)
    echo "set-up: missing: ${missing[*]} (want gcc with a static C library, Python 3.11 or newer with venv," \
      "qemu-system-x86_64; this system, $distribution, is not known here: install them with its package manager)" >&2
    exit 1 ;;
esac
packages=()
for thing in "${missing[@]}"; do
  read -ra names <<<"${!thing}"
  packages+=("${names[@]}")
done

refuse() {
  echo "set-up: missing: ${packages[*]}; $1: $install ${packages[*]}" >&2
  exit 1
}

case "$distribution" in
  "debian 12") ;;
  "ubuntu 24.04") echo "set-up: Ubuntu 24.04 takes the same path as Debian 12, but is untested" >&2 ;;
  *) refuse "on $distribution nothing is installed for you; as root run" ;;
esac
as_root=()
if [ "$(id -u)" != 0 ]; then
  as_root=(sudo -n)
  sudo -n true 2>/dev/null || refuse "there is no sudo without a password here; as root run"
fi

echo "set-up: installing ${packages[*]}"
apt=("${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3)
"${apt[@]}" update
# dpkg has no quiet switch: what it says is shown only when it fails
log=$(mktemp)
trap 'rm -f "$log"' EXIT
"${apt[@]}" install -y --no-install-recommends "${packages[@]}" >"$log" 2>&1 || {
  tail -n 20 "$log" >&2
  refuse "apt-get could not install them (its last words are above)"
}
still=
links_statically || still+=" compiler"
has_python || still+=" python>=3.11"
has_qemu || still+=" qemu"
[ -z "$still" ] || { echo "set-up: installed ${packages[*]}, but still missing:$still" >&2; exit 1; }
