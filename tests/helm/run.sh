#!/usr/bin/env bash
# Builds Helm, as tests/helm/go.mod names it, and compares what it makes of the chart with tests/golden/helm.
#
#   ./tests/helm/run.sh            compares
#   ./tests/helm/run.sh --record   records
#
# Needs Go and, in target/tests, the Python packages of tests/run.sh.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
kept=${CARGO_TARGET_DIR:-$root/target}/tests
(cd "$root/tests/helm" && go build -trimpath -ldflags='-s -w' -o "$kept/helm/helm" helm.sh/helm/v4/cmd/helm)
"$kept/venv/bin/python" "$root/tests/helm/chart.py" render --helm "$kept/helm/helm" "$@"
