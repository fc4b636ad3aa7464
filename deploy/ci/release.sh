#!/usr/bin/env bash
# Makes what a release is of: the binary with what one needs beside it, the Helm chart, a list of all parts (SBOM), checksums.
#
#   deploy/ci/release.sh v0.1.0 dist                  builds, and fills dist/
#   deploy/ci/release.sh --binary FILE v0.1.0 dist    takes a binary that is built already
#   deploy/ci/release.sh --no-chart v0.1.0 dist       leaves the chart out, which needs helm
#
# Needs cargo, jq, tar and helm. The workflows beside it call it and add an image; nothing is uploaded here.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

refuse() { printf 'error: %s\n' "$*" >&2; exit 64; }

binary=
chart=deploy/helm/iguazu
while true; do
    case ${1:-} in
    --binary) binary=$(realpath "$2") && shift 2 ;;
    --no-chart) chart= && shift ;;
    *) break ;;
    esac
done
[ $# -eq 2 ] || refuse "usage: deploy/ci/release.sh [--binary FILE] [--no-chart] TAG FOLDER"
if [ -n "$chart" ]; then
    command -v helm >/dev/null || refuse "the chart needs helm (https://helm.sh), and there is none here; --no-chart leaves it out"
fi
tag=$1
into=$(realpath --canonicalize-missing "$2")
cd "$root"

metadata=$(cargo metadata --locked --format-version 1)
version=$(jq -r '.resolve.root as $root | .packages[] | select(.id == $root) | .version' <<<"$metadata")
[ "$tag" = "v$version" ] || refuse "the tag is $tag and Cargo.toml says $version; they must be the same"
if [ -z "$binary" ]; then
    cargo build --release --locked --bin iguazu
    binary=$(jq -r .target_directory <<<"$metadata")/release/iguazu
fi
[ "$("$binary" --version)" = "iguazu $version" ] || refuse "$binary is not iguazu $version"

mkdir -p "$into"
name=iguazu-$version-$(uname -m)-$(uname -s | tr '[:upper:]' '[:lower:]')
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
mkdir -p "$stage/$name"
# Laid out as here, so that pages find what they link and their commands find the files that they name; of what is committed only, so that a
# secret that lies about goes nowhere.
beside=(LICENSE README.md .github/SECURITY.md deploy proto benches/README.md 'benches/*.svg' 'benches/*.png' tests/schema_changes)
git ls-files -z -- "${beside[@]}" | xargs -0 cp --parents --no-dereference --target-directory="$stage/$name"
install -m 755 "$binary" "$stage/$name/iguazu"
# The same input gives the same archive.
tar --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}" \
    -C "$stage" -cf - "$name" | gzip -n >"$into/$name.tar.gz"

if [ -n "$chart" ]; then helm package "$chart" --app-version "$version" --destination "$into" >/dev/null; fi

# CycloneDX 1.5, from what Cargo itself resolved for this system; what only tests and benches use is left out.
target=$(rustc -vV | sed -n 's/^host: //p')
cargo metadata --locked --format-version 1 --filter-platform "$target" | jq --arg serial "urn:uuid:$(cat /proc/sys/kernel/random/uuid)" '
    (.packages | map({key: .id, value: .}) | from_entries) as $packages
    | (.resolve.nodes | map({key: .id, value: [.deps[] | select(any(.dep_kinds[]; .kind != "dev")) | .pkg]}) | from_entries) as $needs
    | .resolve.root as $root
    | def purl: "pkg:cargo/\(.name)@\(.version)";
    def all($seen; $next): if ($next | length) == 0 then $seen
        else ($seen + $next) as $now | all($now; [$next[] | $needs[.][]] | unique - $now) end;
    {
        bomFormat: "CycloneDX", specVersion: "1.5", version: 1, serialNumber: $serial,
        metadata: {component: ($packages[$root] | {type: "application", "bom-ref": purl, name, version, purl: purl})},
        components: [all([]; [$root])[] | select(. != $root) | $packages[.] | {
            type: "library", "bom-ref": purl, name, version, purl: purl,
            licenses: (if .license then [{expression: (.license | gsub("/"; " OR "))}] else [] end)}],
        dependencies: [all([]; [$root])[] | {ref: ($packages[.] | purl), dependsOn: [$needs[.][] | $packages[.] | purl] | unique}]
    }' >"$into/iguazu-$version.cdx.json"

(
    shopt -s nullglob
    cd "$into"
    sha256sum -- *.tar.gz *.tgz *.cdx.json >SHA256SUMS
)
cat "$into/SHA256SUMS"
