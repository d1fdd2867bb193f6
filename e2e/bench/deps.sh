#!/usr/bin/env bash
# The programs that the benchmark starts, by Debian package. As root on Debian what is missing is installed, without
# starting any service; otherwise one line says what is missing. Without wrk and nginx the benchmark uses its own.
set -euo pipefail

declare -A packages=([ip]=iproute2 [nft]=nftables [nsenter]=util-linux [nginx]=nginx [wrk]=wrk)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing for the benchmark (as root: apt-get install): ${missing[*]}"
  exit 0
fi
# invoke-rc.d asks this file whether a package may start its service (101: no).
if [ ! -e /usr/sbin/policy-rc.d ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
  trap 'rm -f /usr/sbin/policy-rc.d' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q
apt-get install -yq --no-install-recommends "${missing[@]}"
