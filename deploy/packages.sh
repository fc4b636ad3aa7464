# Sourced by deploy/dev.sh and tests/run.sh: is what we need here, and if not, install it or say what to do.
# The caller sets `root`, the folder of Cargo.toml.
# shellcheck shell=bash disable=SC2034,SC2154

# cmake is not among them: the librdkafka that we build comes with a configure script of its own.
build_packages=(
    "cc          gcc           compiles librdkafka, zstd and mimalloc"
    "c++         g++           compiles librdkafka"
    "make        make          builds librdkafka"
    "pkg-config  pkg-config    finds OpenSSL and zlib"
    "lib:openssl libssl-dev    TLS and SCRAM in librdkafka"
    "lib:zlib    zlib1g-dev    gzip in librdkafka"
)

say() { if [ -t 2 ]; then printf '\033[1m==> %s\033[0m\n' "$*" >&2; else printf '==> %s\n' "$*" >&2; fi; }
refuse() { printf 'error: %s\n' "$*" >&2; exit 69; } # EX_UNAVAILABLE of sysexits(3)

# Refuses a missing or too old Rust, before anything is compiled. The version needed is Cargo.toml's.
check_rust() {
    local needed found
    needed=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$root/Cargo.toml")
    if ! command -v cargo >/dev/null || ! command -v rustc >/dev/null; then
        refuse "Rust $needed or newer is needed and there is no cargo here; install it from https://rustup.rs," \
            "then open a new shell"
    fi
    found=$(rustc --version | cut -d' ' -f2)
    if ! at_least "$needed" "${found%%-*}"; then
        refuse "Rust $needed or newer is needed and this is $found; run: rustup update stable"
    fi
}

# at_least NEEDED FOUND: compares dotted versions.
at_least() { [ "$(printf '%s\n%s\n' "$1" "$2" | sort -V | head -n 1)" = "$1" ]; }

# install_missing WHY "PROBE PACKAGE WHAT FOR"...: installs the Debian packages whose probe fails. A probe is a command's
# name, `lib:NAME` for what pkg-config knows as NAME, or `run:NAME` for the function probe_NAME.
install_missing() {
    local why=$1 entry probe package purpose missing=() lines=()
    shift
    for entry in "$@"; do
        read -r probe package purpose <<<"$entry"
        if ! is_here "$probe"; then
            missing+=("$package")
            lines+=("$(printf '      %-24s %s' "$package" "$purpose")")
        fi
    done
    [ ${#missing[@]} -eq 0 ] && return

    say "missing $why:"
    printf '%s\n' "${lines[@]}" >&2
    local as_root=()
    if ! command -v apt-get >/dev/null; then
        refuse "this system has no apt-get; install the packages above, or what they are called here, and start again"
    elif [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null ||
            refuse "only root may install them and there is no sudo; as root: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    say "installing them with: ${as_root[*]:+${as_root[*]} }apt-get install ${missing[*]}"
    # The lists of packages may be old, or not there at all in a fresh container.
    if ! ${as_root[@]+"${as_root[@]}"} apt-get update -qq >&2 ||
        ! ${as_root[@]+"${as_root[@]}"} env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
            "${missing[@]}" </dev/null >&2; then
        refuse "apt-get failed; install the packages above and start again"
    fi
}

is_here() {
    case $1 in
    lib:*) command -v pkg-config >/dev/null && pkg-config --exists "${1#lib:}" ;;
    run:*) "probe_${1#run:}" ;;
    *) command -v "$1" >/dev/null ;;
    esac
}
