#!/usr/bin/env bash
# Makes the secrets of compose.yaml, once: files in a folder that only you can enter (by default compose/secrets beside this script).
# Those that are there stay.
set -euo pipefail

into=${1:-$(dirname "${BASH_SOURCE[0]}")/secrets}
mkdir -p "$into"
chmod 700 "$into"
for name in kafka-admin kafka-proxy grafana-admin; do
    [ -e "$into/$name" ] || head -c 24 /dev/urandom | od -An -v -tx1 | tr -d ' \n' >"$into/$name"
done
[ -e "$into/control-seal-key" ] || head -c 32 /dev/urandom | base64 >"$into/control-seal-key"
# Each container has a user of its own, and Docker mounts a file with the rights that it has here.
chmod 444 "$into"/*
