#!/usr/bin/env bash
# screenshot.sh REPORT.html PICTURE.png [WIDTH HEIGHT]: a picture of a report's beginning, as the README shows it.
# Needs the browser that `make test` put into the cache. MIGRASCOPE_DARK=1 takes it dark.
set -euo pipefail
cache=${MIGRASCOPE_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/migrascope}
[ $# -ge 2 ] || { sed -n 2,3p "$0" >&2; exit 2; }
report=$(realpath "$1") picture=$(realpath -m "$2") width=${3:-1200} height=${4:-1270}
[ -x "$cache/bin/chromium" ] || { echo "screenshot: $cache/bin/chromium is not there: run \`make test\` once" >&2; exit 1; }
profile=$(mktemp -d)
trap 'rm -rf "$profile"' EXIT
options=(--headless --disable-gpu --hide-scrollbars "--user-data-dir=$profile" "--window-size=$width,$height"
  --virtual-time-budget=4000 "--screenshot=$picture")
[ "$(id -u)" != 0 ] || options+=(--no-sandbox)
[ -z "${MIGRASCOPE_DARK:-}" ] || options+=(--blink-settings=preferredColorScheme=0)
"$cache/bin/chromium" "${options[@]}" "file://$report" 2>"$profile/log" || { cat "$profile/log" >&2; exit 1; }
