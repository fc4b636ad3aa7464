#!/usr/bin/env bash
# Builds Iguazu and runs `iguazu dev` with the given arguments, installing what the build needs first.
#
#   ./deploy/dev.sh              everything on this machine, until ^C
#   ./deploy/dev.sh --once       the demonstration, then exit
#   ./deploy/dev.sh --help       the other options
#
# The folder it is called from stays the folder that relative arguments (`--proto DIR`) start from.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/deploy/packages.sh"

check_rust
install_missing "to build Iguazu" "${build_packages[@]}"

say "building (the first time takes some minutes)"
cargo build --manifest-path "$root/Cargo.toml" --profile quick --locked --quiet --bin iguazu >&2
exec "${CARGO_TARGET_DIR:-$root/target}/quick/iguazu" dev "$@"
