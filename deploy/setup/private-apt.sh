# Sourced, not run. private_apt DIR: package lists of our own under DIR, so that packages can be downloaded (not installed)
# by a plain user, from lists that are fresh, while nothing of the system's is written. Sets APT_CONFIG for apt's tools.
# The mirror is whichever this machine uses: apt itself names it, from sources of either format, so no address stands here.
# shellcheck shell=bash

private_apt() {
  local dir=$1 codename
  codename=$(sed -n "s/^VERSION_CODENAME=//p" /etc/os-release)
  mkdir -p "$dir"/{lists,archives}/partial "$dir/sources"
  # apt's own user may not look into a home directory; a plain user may not take the system's lock, nor is it needed
  cat >"$dir/apt.conf" <<CONF
Dir::State::Lists "$dir/lists";
Dir::Cache "$dir";
Dir::Cache::archives "$dir/archives";
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "$dir/sources";
APT::Sandbox::User "$(id -un)";
Debug::NoLocking "true";
Acquire::Retries "3";
CONF
  # Only `update` names the sources also where no list was ever fetched. The backports stand beside the other suites of a
  # mirror, whether or not this machine has them switched on.
  apt-get -o "Dir::State::Lists=$dir/lists" -o Debug::NoLocking=1 --print-uris update 2>/dev/null |
    sed -nE "/^'cdrom:/d; s#^'(.*)/dists/([^/]+)/(.*)/binary-amd64/Packages.*#\1 \2 \3#p" |
    awk -v name="$codename" '
      $2 == name || $2 == name "-updates" || $2 == name "-security" { print "deb", $1, $2, $3 }
      $2 == name { print "deb", $1, name "-backports", $3 }' >"$dir/sources/machine.list"
  export APT_CONFIG=$dir/apt.conf
  # One source that fails (a third party's, a mirror without backports) need not matter: whoever misses a package from it
  # shows this log.
  apt-get -qq update >"$dir/log" 2>&1 || true
}
