#!/bin/sh
# Install the Debian packages that the tests drive, or say which are missing.
# Usage: sh tests/packages.sh PACKAGE...
set -eu
command -v dpkg-query >/dev/null || { echo "not Debian: install these yourself: $*"; exit 0; }
missing=
for package in "$@"; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" != 0 ]; then
    echo "These Debian packages are missing; tests that need them will fail: apt-get install$missing"
    exit 0
fi
echo "Installing Debian packages:$missing"
export DEBIAN_FRONTEND=noninteractive
{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } >/tmp/portico-packages.log 2>&1 \
    || { tail -n 20 /tmp/portico-packages.log; exit 1; }
