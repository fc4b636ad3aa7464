#!/usr/bin/env bash
# Sends events to Iguazu: `sender.sh URL < events.ndjson`, a JSON event a line; the API key is in IGUAZU_KEY. Needs curl and jq.
#
# Exit code 0 when every event was accepted; refused ones are on stderr with the reason.
set -euo pipefail

url=$1
batch=100     # events of one request
tries=8       # of one batch, then its events are given up
pause_max=30  # seconds between two tries
accepted=0 refused=0 given_up=0

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
headers=(-H 'content-type: application/x-ndjson')
if [ -n "${IGUAZU_KEY:-}" ]; then headers+=(-H "authorization: Bearer $IGUAZU_KEY"); fi

# Sends what is in $work/events until nothing is left that may still be accepted, or the tries are used up.
deliver() {
    local attempt wait sent again
    for ((attempt = 0; attempt < tries; attempt++)); do
        sent=$(wc -l <"$work/events")
        : >"$work/head"
        if ! curl --silent --max-time 60 --dump-header "$work/head" --output "$work/reply" "${headers[@]}" \
            --data-binary "@$work/events" "$url/v1/events" ||
            ! jq -e 'has("code") or has("events")' "$work/reply" >"$work/is"; then
            # No reply, or none of Iguazu's. The events may have been taken, so the same ones go again with the same ids.
            again=$sent
        else
            # Refused as a whole, every event has that result; what has no `retry` was accepted.
            jq -c --argjson sent "$sent" '
                if has("events") then .results[]? else . as $all | range($sent) | $all + {index: .} end
                | select(has("retry"))' "$work/reply" >"$work/failed"
            jq -r 'select(.retry | not) | "\(.id // .index) \(.code) \(.message // "")"' "$work/failed" | tee "$work/refused" >&2
            jq -r 'select(.retry) | .index + 1' "$work/failed" >"$work/again"
            awk 'NR == FNR { again[$1]; next } FNR in again' "$work/again" "$work/events" >"$work/next"
            mv "$work/next" "$work/events"
            again=$(wc -l <"$work/events")
            refused=$((refused + $(wc -l <"$work/refused")))
            accepted=$((accepted + sent - $(wc -l <"$work/failed")))
        fi
        if [ "$again" -eq 0 ]; then return; fi
        if [ $((attempt + 1)) -lt $tries ]; then
            # At least as long as the proxy asks, and not at the same moment as everybody else.
            wait=$(sed -n 's/^retry-after: *\([0-9]*\).*/\1/Ip' "$work/head")
            sleep "$(awk -v wait="${wait:-0}" -v attempt="$attempt" -v most=$pause_max -v seed="$RANDOM$$" 'BEGIN {
                srand(seed); back = 0.2 * 2 ^ attempt
                print (wait < most ? wait : most) + rand() * (back < most ? back : most) }')"
        fi
    done
    given_up=$((given_up + again))
}

# The id is chosen once, before the first try: consumers find what came twice by it.
jq -c --arg run "$(cat /proc/sys/kernel/random/uuid)" '.id //= "\($run)-\(input_line_number)"' |
    split --lines $batch --suffix-length 6 - "$work/batch."

for file in "$work"/batch.*; do
    [ -e "$file" ] || continue
    mv "$file" "$work/events"
    deliver
done
echo "accepted $accepted, refused $refused, given up $given_up"
[ $((refused + given_up)) -eq 0 ]
