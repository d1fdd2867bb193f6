#!/usr/bin/env bash
# The programs that the tests start, by Debian package. As root on Debian what is missing is installed, without starting
# any service; otherwise one line says what is missing.
set -euo pipefail

declare -A packages=(
  [gcc]=gcc [git]=git [curl]=curl [nginx]=nginx [psql]=postgresql-client [mosquitto_pub]=mosquitto-clients
  [mosquitto]=mosquitto [slapd]=slapd [freeradius]=freeradius [ldapsearch]=ldap-utils [squid]=squid [htpasswd]=apache2-utils
  [nft]=nftables [ip]=iproute2 [ss]=iproute2 [runuser]=util-linux [nsenter]=util-linux [python3]=python3
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for program in "${!packages[@]}"; do
  command -v "$program" >/dev/null || missing+=("${packages[$program]}")
done
[ -e /usr/include/stdlib.h ] || missing+=(libc6-dev) # the race detector's cgo; gcc only recommends it
compgen -G '/usr/lib/postgresql/*/bin/postgres' >/dev/null || missing+=(postgresql)
[ "${#missing[@]}" -eq 0 ] && exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if [ "$(id -u)" -ne 0 ] || ! command -v apt-get >/dev/null; then
  echo "missing for the end-to-end tests (as root: apt-get install): ${missing[*]}"
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
