//! Sends events to Iguazu, again where that may help, and never under another id; `Sender::send` is all there is to call. Needs the
//! crates `reqwest`, `serde_json`, `tokio` and `uuid`. The API key is in IGUAZU_KEY; refused events are on stderr with the reason.

use std::time::Duration;

use serde_json::{Value, json};

const BATCH: usize = 100; // events of one request
const TRIES: u32 = 8; // of one batch, then its events are given up
const PAUSE_MAX: Duration = Duration::from_secs(30); // between two tries

pub struct Sender {
    pub client: reqwest::Client,
    pub url: String,
    pub accepted: usize,
    pub refused: usize,
    pub given_up: usize,
}

impl Sender {
    pub async fn send(&mut self, mut events: Vec<Value>) {
        // The ids are chosen once, before the first try: consumers find what came twice by them.
        for event in events.iter_mut().filter(|event| event.get("id").is_none()) {
            event["id"] = json!(uuid::Uuid::now_v7().to_string());
        }
        for batch in events.chunks(BATCH) {
            self.deliver(batch.to_vec()).await;
        }
    }

    /// Sends until nothing is left that may still be accepted, or the tries are used up.
    async fn deliver(&mut self, mut left: Vec<Value>) {
        for attempt in 0..TRIES {
            let wait = self.try_once(&mut left).await;
            if left.is_empty() {
                return;
            }
            // At least as long as the proxy asks, and not at the same moment as everybody else.
            let backoff = (Duration::from_millis(200) * 2u32.pow(attempt)).min(PAUSE_MAX);
            let jitter = f64::from(uuid::Uuid::new_v4().as_bytes()[0]) / 256.0;
            tokio::time::sleep(wait.min(PAUSE_MAX) + backoff.mul_f64(jitter)).await;
        }
        self.given_up += left.len();
    }

    /// One request. Leaves the events to send again, and says how long to wait before that.
    async fn try_once(&mut self, events: &mut Vec<Value>) -> Duration {
        let request = self.client.post(format!("{}/v1/events", self.url)).header("content-type", "application/json");
        let request = request.bearer_auth(std::env::var("IGUAZU_KEY").unwrap_or_default());
        // No reply, or none of Iguazu's: the events may have been taken, so the same ones go again with the same ids.
        let Ok(response) = request.body(json!(events).to_string()).send().await else { return Duration::ZERO };
        let seconds = response.headers().get("retry-after").and_then(|wait| wait.to_str().ok()?.parse().ok());
        let wait = Duration::from_secs(seconds.unwrap_or(0));
        let Ok(text) = response.text().await else { return wait };
        let Ok(reply) = serde_json::from_str::<Value>(&text) else { return wait };
        // Without a count the request was refused as a whole, and nothing was taken.
        let whole = reply.get("events").is_none().then(|| vec![reply.clone(); events.len()]);
        let results = whole.or_else(|| reply["results"].as_array().cloned()).unwrap_or_default();
        let (sent, mut failed) = (std::mem::take(events), 0);
        for (position, result) in results.iter().enumerate() {
            let event = &sent[result["index"].as_u64().map_or(position, |index| index as usize)];
            match result["retry"].as_bool() {
                Some(true) => events.push(event.clone()),
                Some(false) => eprintln!("{} {} {}", event["id"], result["code"], result["message"]),
                None => continue, // accepted, with something to say
            }
            failed += 1;
        }
        self.refused += failed - events.len();
        self.accepted += sent.len() - failed;
        wait
    }
}
