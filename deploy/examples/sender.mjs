// Sends events to Iguazu: `node sender.mjs URL < events.ndjson`, a JSON event a line; the API key is in IGUAZU_KEY. Node 18.
//
// Exit code 0 when every event was accepted; refused ones are on stderr with the reason.
import { randomUUID } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

const BATCH = 100; // events of one request
const TRIES = 8; // of one batch, then its events are given up
const PAUSE_MAX = 30_000; // milliseconds between two tries

const [url] = process.argv.slice(2);
const headers = { "content-type": "application/x-ndjson" };
if (process.env.IGUAZU_KEY) headers.authorization = "Bearer " + process.env.IGUAZU_KEY;
const counts = { accepted: 0, refused: 0, "given up": 0 };

let batch = [];
for await (const line of createInterface({ input: process.stdin })) {
  const event = JSON.parse(line);
  // The id is chosen once, before the first try: consumers find what came twice by it.
  event.id ??= randomUUID();
  batch.push(event);
  if (batch.length === BATCH) {
    await deliver(batch);
    batch = [];
  }
}
if (batch.length > 0) await deliver(batch);
console.log(Object.entries(counts).map(([what, count]) => `${what} ${count}`).join(", "));
process.exitCode = counts.refused + counts["given up"] === 0 ? 0 : 1;

// Sends until nothing is left that may still be accepted, or the tries are used up.
async function deliver(events) {
  for (let attempt = 0; attempt < TRIES; attempt++) {
    const { again, wait } = await tryOnce(events);
    if (again.length === 0) return;
    events = again;
    if (attempt + 1 < TRIES) {
      // At least as long as the proxy asks, and not at the same moment as everybody else.
      const backoff = Math.min(PAUSE_MAX, 200 * 2 ** attempt);
      await sleep(Math.min(PAUSE_MAX, wait) + Math.random() * backoff);
    }
  }
  counts["given up"] += events.length;
}

// One request: the events to send again, and how long to wait before that.
async function tryOnce(events) {
  const body = events.map((event) => JSON.stringify(event)).join("\n");
  let wait = 0, reply;
  try {
    const signal = AbortSignal.timeout(60_000);
    const response = await fetch(url + "/v1/events", { method: "POST", headers, body, signal });
    wait = 1000 * Number(response.headers.get("retry-after") ?? 0);
    reply = await response.json();
  } catch {
    // No reply, or none of Iguazu's: the events may have been taken, so the same ones go again with the same ids.
    return { again: events, wait };
  }
  // Without a count the request was refused as a whole, and nothing was taken.
  const results = "events" in reply ? reply.results ?? [] : events.map((_, index) => ({ ...reply, index }));
  const failed = results.filter((result) => "retry" in result);
  const refused = failed.filter((result) => !result.retry);
  for (const { index, code, message } of refused) console.error(events[index].id, code, message ?? "");
  counts.refused += refused.length;
  counts.accepted += events.length - failed.length;
  return { again: failed.filter((result) => result.retry).map((result) => events[result.index]), wait };
}
