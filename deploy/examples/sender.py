"""Sends events to Iguazu: `python3 sender.py URL < events.ndjson`, a JSON event a line; the API key is in IGUAZU_KEY. Python 3.9.

Exit code 0 when every event was accepted; refused ones are on stderr with the reason.
"""
import json
import os
import random
import sys
import time
import urllib.error
import urllib.request
import uuid

BATCH = 100      # events of one request
TRIES = 8        # of one batch, then its events are given up
PAUSE_MAX = 30   # seconds between two tries


def main(url):
    headers = {"content-type": "application/x-ndjson"}
    if "IGUAZU_KEY" in os.environ:
        headers["authorization"] = "Bearer " + os.environ["IGUAZU_KEY"]
    counts, batch = {"accepted": 0, "refused": 0, "given up": 0}, []
    for line in sys.stdin:
        event = json.loads(line)
        # The id is chosen once, before the first try: consumers find what came twice by it.
        event.setdefault("id", str(uuid.uuid4()))
        batch.append(event)
        if len(batch) == BATCH:
            deliver(url, headers, batch, counts)
            batch = []
    if batch:
        deliver(url, headers, batch, counts)
    print(", ".join(f"{what} {count}" for what, count in counts.items()))
    return 0 if counts["refused"] == counts["given up"] == 0 else 1


def deliver(url, headers, events, counts):
    """Sends until nothing is left that may still be accepted, or the tries are used up."""
    for attempt in range(TRIES):
        again, wait = try_once(url, headers, events, counts)
        if not again:
            return
        events = again
        if attempt + 1 < TRIES:
            # At least as long as the proxy asks, and not at the same moment as everybody else.
            backoff = min(PAUSE_MAX, 0.2 * 2**attempt)
            time.sleep(min(PAUSE_MAX, wait) + random.uniform(0, backoff))
    counts["given up"] += len(events)


def try_once(url, headers, events, counts):
    """One request. Returns the events to send again, and how long to wait before that."""
    body = "\n".join(json.dumps(event) for event in events).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url + "/v1/events", body, headers), timeout=60) as reply:
            wait, text = reply.headers.get("retry-after"), reply.read()
    except urllib.error.HTTPError as error:  # every status from 400
        wait, text = error.headers.get("retry-after"), error.read()
    except OSError:  # no reply: the events may have been taken, so the same ones go again with the same ids
        return events, 0
    try:
        reply = json.loads(text)
    except ValueError:  # of something in between
        return events, float(wait or 0)
    if "events" not in reply:  # refused as a whole, nothing was taken
        results = [dict(reply, index=index) for index in range(len(events))]
    else:
        results = reply.get("results", [])
    failed = [result for result in results if "retry" in result]
    refused = [result for result in failed if not result["retry"]]
    for result in refused:
        print(events[result["index"]]["id"], result["code"], result.get("message", ""), file=sys.stderr)
    counts["refused"] += len(refused)
    counts["accepted"] += len(events) - len(failed)
    return [events[result["index"]] for result in failed if result["retry"]], float(wait or 0)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
