#!/usr/bin/env bash
# Builds Iguazu and runs `iguazu dev` with the given arguments, installing what the build needs first.
#
#   ./deploy/dev.sh              everything on this machine, until ^C
#   ./deploy/dev.sh --once       the demonstration, then exit
#   ./deploy/dev.sh --kafka      the same on a real Kafka with users and access rules, fetched from Maven Central
#   ./deploy/dev.sh --help       the other options
#
# The folder it is called from stays the folder that relative arguments (`--proto DIR`) start from.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
source "$root/deploy/packages.sh"

target=${CARGO_TARGET_DIR:-$root/target}

kafka_packages=(
    "run:java    default-jre-headless  runs Kafka"
    "mvn         maven                 fetches Kafka"
)

# Kafka 4 needs Java 17.
probe_java() {
    local version
    version=$(java -version 2>&1 | sed -n 's/.*version "\([0-9]*\).*/\1/p')
    [ -n "$version" ] && [ "$version" -ge 17 ]
}

# Puts Kafka's jars, of the version that the tests run on, into target/kafka/lib, once for each version.
fetch_kafka() {
    local pom=$root/tests/kafka/pom.xml into=$target stamp
    stamp=$(cksum <"$pom")
    if [ "$stamp" = "$(cat "$into/kafka/stamp" 2>/dev/null)" ]; then return; fi
    install_missing "to run a real Kafka" "${kafka_packages[@]}"
    say "fetching Kafka, once"
    rm -rf "$into/kafka"
    mvn --batch-mode --quiet -Dstyle.color=never --file "$pom" dependency:copy-dependencies@kafka -Dinto="$into" >&2
    echo "$stamp" >"$into/kafka/stamp"
}

arguments=()
for argument in "$@"; do
    case $argument in
    --kafka)
        fetch_kafka
        install_missing "to run a real Kafka" "${kafka_packages[0]}"
        arguments+=(--kafka "$target/kafka/lib")
        ;;
    *) arguments+=("$argument") ;;
    esac
done

check_rust
install_missing "to build Iguazu" "${build_packages[@]}"

binary=$target/quick/iguazu
[ -x "$binary" ] || say "building; the first time takes some minutes"
cargo build --manifest-path "$root/Cargo.toml" --profile quick --locked --bin iguazu >&2
exec "$binary" dev ${arguments[@]+"${arguments[@]}"}
