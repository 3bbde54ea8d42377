#!/usr/bin/env bash
# unpack.sh TOOL...: puts servers, a second QEMU and a browser for the tests into the cache. Debian's own packages, with
# those of their dependencies that this system lacks, are downloaded and unpacked, never installed: installing them would
# start their daemons. Works as a plain user. Each tool's programs are then $cache/bin/NAME, small scripts that stay in place.
set -euo pipefail
script=$(realpath "$0")
# shellcheck source=deploy/setup/private-apt.sh
. "$(dirname "$script")/private-apt.sh"
cache=${MIGRASCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/migrascope}
triplet=x86_64-linux-gnu

# tool -> suite suffix (- for none) | packages | programs, as NAME=path in the package
tools() {
  cat <<'TABLE'
prometheus       -           prometheus                                  prometheus=usr/bin/prometheus,promtool=usr/bin/promtool
alertmanager     -           prometheus-alertmanager                     alertmanager=usr/bin/prometheus-alertmanager,amtool=usr/bin/amtool
victoria-metrics -           victoria-metrics                            victoria-metrics=usr/bin/victoria-metrics
influxdb         -           influxdb                                    influxd=usr/bin/influxd
qemu-10          -backports  qemu-system-x86                             qemu-system-x86_64-10.0=usr/bin/qemu-system-x86_64
iproute2         -           iproute2                                    ip=bin/ip,tc=sbin/tc
numactl          -           numactl                                     numactl=usr/bin/numactl
openssh          -           openssh-server,openssh-client               sshd=usr/sbin/sshd,ssh=usr/bin/ssh
chromium         -           chromium-headless-shell,fonts-dejavu-core   chromium=usr/lib/chromium/chromium-headless-shell
TABLE
}

main() {
  mkdir -p "$cache/bin" "$cache/servers"
  cache=$(cd "$cache" && pwd -P)
  exec 9>"$cache/unpack.lock"
  flock 9 # two set-ups at once take turns
  # shellcheck source=/dev/null
  . /etc/os-release
  local tool wanted=()
  for tool in "$@"; do
    stamped "$tool" || wanted+=("$tool")
  done
  [ ${#wanted[@]} -gt 0 ] || return 0
  if ! command -v apt-get >/dev/null || ! command -v dpkg-deb >/dev/null; then
    echo "set-up: ${wanted[*]}: come from Debian packages, and this system has no apt: tests that need them are skipped" >&2
    return 0
  fi
  apt_dir=$(mktemp -d "$cache/apt-XXXXXX")
  trap 'rm -rf "$apt_dir"' EXIT
  private_apt "$apt_dir"
  for tool in "${wanted[@]}"; do
    unpack "$tool"
  done
}

row() { tools | awk -v tool="$1" '$1 == tool { print; found = 1 } END { exit !found }'; }

# Whether a tool in the cache was made from what is asked for now, and its programs still start: a library of the
# system that they rely on may be gone since.
stamped() {
  local row programs program
  row=$(row "$1") || { echo "set-up: no such tool: $1 (known: $(tools | awk '{ print $1 }' | paste -sd' '))" >&2; exit 2; }
  [ "$(cat "$cache/servers/$1/made-from" 2>/dev/null)" = "$(made_from "$row")" ] || return 1
  read -r _ _ _ programs <<<"$row"
  for program in ${programs//,/ }; do
    starts "$cache/bin/${program%%=*}" || return 1
  done
}

# this script is part of it, since it writes the programs' scripts
made_from() { echo "$VERSION_CODENAME" "$1" "$(sha256sum <"$script")"; }

starts() {
  local option
  for option in --version version -V --show; do # ip and tc know -V, numactl --show
    ! "$1" $option >/dev/null 2>&1 || return 0
  done
  return 1
}

unpack() {
  local tool=$1 row suite packages programs root deb program from=()
  row=$(row "$tool")
  read -r _ suite packages programs <<<"$row"
  # only for backports: naming the plain suite would shut out its security updates
  [ "$suite" = - ] || from=(-t "$VERSION_CODENAME$suite")
  echo "set-up: downloading ${packages//,/ } and what they need into $cache/servers/$tool"
  rm -f "$apt_dir"/archives/*.deb
  # shellcheck disable=SC2086
  if ! apt-get -qq -y --no-install-recommends --download-only --reinstall "${from[@]}" \
    install ${packages//,/ } >>"$apt_dir/log" 2>&1; then
    grep -E '^[EW]:' "$apt_dir/log" | tail -n 3 >&2 || true
    echo "set-up: $tool: this machine's package sources do not offer ${packages//,/ }: tests that need it are skipped" >&2
    return 0
  fi
  root=$cache/servers/$tool.new
  rm -rf "$root"
  mkdir -p "$root"
  for deb in "$apt_dir"/archives/*.deb; do
    dpkg-deb --extract "$deb" "$root"
    basename "$deb" >>"$root/packages"
  done
  rm -rf "$root"/usr/share/{doc,man,locale,lintian,bug}
  rm -rf "$cache/servers/$tool"
  mv "$root" "$cache/servers/$tool"
  root=$cache/servers/$tool
  for program in ${programs//,/ }; do
    write_program "$root" "${program%%=*}" "${program#*=}"
    starts "$cache/bin/${program%%=*}" || {
      echo "set-up: $tool: $cache/bin/${program%%=*} --version fails: $("$cache/bin/${program%%=*}" --version 2>&1 | tail -n 1)" >&2
      exit 1
    }
  done
  made_from "$row" >"$root/made-from"
}

# The program is exec'ed, so that its process id is the one its starter knows. The packages' names stand in the script,
# so that the script differs wherever the program does.
write_program() {
  local root=$1 name=$2 path=$3 libraries extra=()
  libraries=$(find "$root" -name 'lib*.so*' -path "*/lib/$triplet/*" -printf '%h\n' | sort -u | paste -sd:)
  {
    echo '#!/bin/sh'
    sed 's/^/# /' "$root/packages"
    [ -z "$libraries" ] || echo "export LD_LIBRARY_PATH='$libraries'"
    case $name in
      qemu-*) # firmware that the newer package no longer ships comes from the installed one's directories
        echo "export QEMU_MODULE_DIR='$root/usr/lib/$triplet/qemu'"
        extra=(-L "'$root/usr/share/qemu'" -L "'$root/usr/share/seabios'" -L /usr/share/qemu -L /usr/share/seabios) ;;
      chromium)
        write_fonts "$root"
        echo "export FONTCONFIG_FILE='$root/fonts.conf'" ;;
      alertmanager) # Debian's reads its templates at a fixed place: it is shown them there, in a mount namespace of its own
        cat <<WRAPPER
private='--propagation private'
[ "\$(id -u)" = 0 ] || private="--user --map-root-user \$private"
# below a chroot / is no mount point, and can be made private by nobody: whoever made the chroot has seen to that
unshare --mount \$private true 2>/dev/null || private='--propagation unchanged'
[ -e /usr/share/prometheus/alertmanager/default.tmpl ] || exec unshare --mount \$private sh -c \\
  'mount -t overlay overlay -o lowerdir="\$0":/usr/share /usr/share && exec "\$@"' '$root/usr/share' '$root/$path' "\$@"
WRAPPER
        ;;
    esac
    echo "exec '$root/$path' ${extra[*]} \"\$@\""
  } >"$cache/bin/$name.new"
  chmod +x "$cache/bin/$name.new"
  mv "$cache/bin/$name.new" "$cache/bin/$name"
}

write_fonts() {
  local family aliases=
  for family in "sans-serif:DejaVu Sans" "serif:DejaVu Serif" "monospace:DejaVu Sans Mono" "system-ui:DejaVu Sans"; do
    aliases+="<alias><family>${family%%:*}</family><prefer><family>${family#*:}</family></prefer></alias>"
  done
  cat >"$1/fonts.conf" <<XML
<?xml version="1.0"?>
<!DOCTYPE fontconfig SYSTEM "urn:fontconfig:fonts.dtd">
<fontconfig>
<dir>$1/usr/share/fonts</dir><dir>/usr/share/fonts</dir><cachedir>$1/fonts-cache</cachedir>
$aliases
</fontconfig>
XML
}

main "$@"
