#!/usr/bin/env bash
# Builds Iguazu, Bento and the OpenTelemetry Collector, measures all of them against the same real Kafka with the same generator and
# payloads, and draws the results.
#
#   ./benches/compare/run.sh                   everything: some five minutes to build the others, then ten to measure
#   ./benches/compare/run.sh --only Iguazu     those whose name contains a word
#   ./benches/compare/run.sh --linger-ms 20    another linger of Iguazu's than 1 ms where it waits for Kafka
#   ./benches/compare/run.sh --peer http://127.0.0.1:9000/post --body-template body.json [--content-type T] [--pid N]
#                                              the floor and another program, which runs already; `{payload}` in the body is one
#                                              payload, `{lines}` several, one a line, `{array}` a JSON array of them
#
# Programs and results go to target/compare. Needs two cores, one of them for the program under test, and nothing else running.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
here=$root/benches/compare
source "$root/deploy/packages.sh"

kept=${CARGO_TARGET_DIR:-$root/target}/compare
bento_version=v1.10.0
collector_version=v0.155.0

main() {
    check_rust
    install_missing "to build Iguazu and to run Kafka" "${packages[@]}"
    "$root/tests/run.sh" --fetch
    mkdir -p "$kept"
    case " $* " in
    *" --peer "* | *" --only Iguazu "*) ;;
    *) build_others ;;
    esac
    cargo bench --manifest-path "$root/Cargo.toml" --locked --bench compare -- \
        --programs "$kept/programs" --out "$kept/results.json" "$@"
    "$kept/../tests/venv/bin/python" "$here/draw.py" "$kept/results.json" "$kept"
    say "results: $kept/results.json, pictures beside it"
}

packages=(
    "${build_packages[@]}"
    "taskset     util-linux            gives the program under test a core of its own"
)

# The others are Go programs; what they are built from is named here and nowhere else.
build_others() {
    local programs=$kept/programs
    local stamp
    stamp="$bento_version $collector_version $(cat "$here/bento.go" "$here/collector.yaml" | sha256sum | cut -c1-16)"
    if [ "$stamp" = "$(cat "$programs/stamp" 2>/dev/null)" ]; then return; fi
    command -v go >/dev/null || refuse "Bento and the OpenTelemetry Collector are built with Go 1.24 or newer, and there is no go here;" \
        "install it from https://go.dev/dl, or measure Iguazu alone with: --only Iguazu"
    say "building Bento $bento_version and the OpenTelemetry Collector $collector_version, once"
    mkdir -p "$programs" "$kept/bento" "$kept/collector"
    cp "$here/bento.go" "$kept/bento/main.go"
    (
        cd "$kept/bento"
        rm -f go.mod go.sum
        go mod init compare/bento
        go get "github.com/warpstreamlabs/bento@$bento_version"
        go mod tidy
        go build -o "$programs/bento" .
    )
    sed "s/COLLECTOR_VERSION/$collector_version/" "$here/collector.yaml" >"$kept/collector/builder.yaml"
    (
        cd "$kept/collector"
        go run "go.opentelemetry.io/collector/cmd/builder@$collector_version" --config builder.yaml
        cp out/otelcol "$programs/otelcol"
    )
    echo "$stamp" >"$programs/stamp"
}

main "$@"
