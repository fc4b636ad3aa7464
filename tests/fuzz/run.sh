#!/usr/bin/env bash
# Fuzzes for a time: tests/fuzz/run.sh SECONDS [TARGET...], all targets if none is named; they share the seconds.
#
# What it finds is kept in tests/fuzz/regressions/TARGET, where `cargo test --test conformance` finds it; what covers something new stays in
# target/tests/fuzz/TARGET, so that the next run goes on from there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cd "$root"
target=${CARGO_TARGET_DIR:-$root/target}
kept=$target/tests/fuzz
seconds=${1:?"say how many seconds"}
shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then targets=(wire json schema batch headers); fi

# Only this crate is compiled anew, with coverage; see `rustc` beside this file.
RUSTC_WORKSPACE_WRAPPER=$root/tests/fuzz/rustc cargo build --locked --quiet --example fuzz

for name in "${targets[@]}"; do
    regressions=tests/fuzz/regressions/$name
    mkdir -p "$kept/$name" "$regressions"
    log=$kept/$name.log
    if ! IGUAZU_FUZZ_TARGET=$name IGUAZU_FUZZ_CORPUS=$kept/$name "$target/debug/examples/fuzz" "$kept/$name" "$regressions" \
        -max_total_time=$((seconds / ${#targets[@]})) -timeout=10 -rss_limit_mb=1024 -max_len=4096 \
        -artifact_prefix="$regressions/" >"$log" 2>&1; then
        grep -A 12 -m 1 -E 'panicked|ERROR: libFuzzer' "$log" >&2
        printf 'error: fuzzing %s found something; its input is in %s, all that was said in %s\n' "$name" "$regressions" "$log" >&2
        exit 1
    fi
    grep -E '^#[0-9]+.DONE' "$log" | sed "s/^/$name: /"
done
