//! Load in the background of a test: senders on a thread of their own that go on while brokers and proxies come and go, and note
//! what the replies said.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::time::MissedTickBehavior;

use super::http;
use super::oracle::Oracle;
use super::wait_for;

/// Events of a request.
const BATCH: u64 = 10;
/// Each stream sends a request so often.
const PACE: Duration = Duration::from_millis(40);
/// Codes of events that were refused before anything was produced: they must not be in Kafka.
const NEVER_PRODUCED: [&str; 5] = ["buffer_full", "event_type_unavailable", "overloaded", "rate_limited", "draining"];

/// What is sent over and over.
#[derive(Clone, Debug)]
pub struct Stream {
    /// Event name.
    pub event: String,
    /// Query of `/v1/events`, such as `reply=acknowledged`.
    pub query: &'static str,
}

/// What was sent of one stream, and what came of it.
#[derive(Debug, Default)]
pub struct Sent {
    /// What must be in Kafka, and what may be.
    pub oracle: Oracle,
    /// Events that were accepted into memory. They must be in Kafka unless the proxy died.
    pub enqueued: BTreeSet<u64>,
    /// Results by code; `(none)` where no reply came.
    pub codes: BTreeMap<String, u64>,
    /// The slowest reply.
    pub slowest: Duration,
    /// How long each reply took, in the order in which they came.
    pub took: Vec<Duration>,
}

/// Running senders. End them with [`Load::stop`].
#[derive(Debug)]
pub struct Load {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Vec<Sent>>>,
}

#[derive(Debug)]
struct Shared {
    /// Where the proxy is; none while there is none.
    target: Mutex<Option<SocketAddr>>,
    stop: AtomicBool,
    next: AtomicU64,
    replies: AtomicU64,
}

impl Load {
    /// Starts a sender for each stream, and waits until it is under way. Numbers of events are distinct over all of them.
    pub fn start(proxy: SocketAddr, streams: &[Stream]) -> Load {
        let shared = Arc::new(Shared {
            target: Mutex::new(Some(proxy)),
            stop: AtomicBool::new(false),
            next: AtomicU64::new(0),
            replies: AtomicU64::new(0),
        });
        let (inside, streams, replies) = (Arc::clone(&shared), streams.to_vec(), streams.len() as u64);
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let senders: Vec<_> =
                    streams.into_iter().map(|stream| tokio::spawn(send(stream, Arc::clone(&inside)))).collect();
                let mut all = Vec::new();
                for sender in senders {
                    all.push(sender.await.expect("a sender does not panic"));
                }
                all
            })
        };
        let thread = std::thread::Builder::new().name("load".into()).spawn(run).expect("a thread can be started");
        let load = Load { shared, thread: Some(thread) };
        load.await_replies(replies);
        load
    }

    /// Sends to another proxy from now on, or to none.
    pub fn redirect(&self, proxy: Option<SocketAddr>) {
        *self.shared.target.lock().expect("no code panics while it holds this lock") = proxy;
    }

    /// Waits until so many more requests were answered.
    pub fn await_replies(&self, count: u64) {
        let begin = self.shared.replies.load(Relaxed);
        wait_for("requests are answered", || match self.shared.replies.load(Relaxed) - begin {
            replies if replies >= count => Ok(()),
            replies => Err(format!("{replies} of {count}")),
        });
    }

    /// Waits so long, while requests are answered.
    pub fn go_on_for(&self, time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            self.await_replies(1);
        }
    }

    /// Ends when every request is answered: what each stream sent, in their order.
    pub fn stop(mut self) -> Vec<Sent> {
        self.shared.stop.store(true, Relaxed);
        self.thread.take().expect("it is stopped once").join().expect("the load does not panic")
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
    }
}

async fn send(stream: Stream, shared: Arc<Shared>) -> Sent {
    let (client, mut sent) = (http::client(), Sent::default());
    let mut due = tokio::time::interval(PACE);
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while !shared.stop.load(Relaxed) {
        due.tick().await;
        let Some(proxy) = *shared.target.lock().expect("no code panics while it holds this lock") else { continue };
        let first = shared.next.fetch_add(BATCH, Relaxed) + 1;
        let numbers = first..first + BATCH;
        let events: Vec<Value> = numbers
            .clone()
            .map(|number| {
                sent.oracle.sent(number);
                let mut event = Oracle::event(&stream.event, number);
                event["key"] = json!(format!("k-{}", number % 97));
                event
            })
            .collect();
        let url = format!("http://{proxy}/v1/events?results=all&{}", stream.query);
        let request = client.post(url).header("content-type", "application/json").body(json!(events).to_string());
        let begun = Instant::now();
        match http::send(request).await {
            Ok(reply) => {
                sent.took.push(begun.elapsed());
                sent.slowest = sent.slowest.max(begun.elapsed());
                sent.note(first, &reply);
            }
            Err(_) => *sent.codes.entry("(none)".to_owned()).or_default() += BATCH,
        }
        shared.replies.fetch_add(1, Relaxed);
    }
    sent
}

impl Sent {
    /// How many results had this code.
    pub fn count(&self, code: &str) -> u64 {
        self.codes.get(code).copied().unwrap_or(0)
    }

    fn note(&mut self, first: u64, reply: &http::Reply) {
        let body = reply.json();
        let Some(results) = body["results"].as_array() else {
            // Refused as a whole.
            let code = body["code"].as_str().unwrap_or("(no code)");
            return (0..BATCH).for_each(|index| self.note_one(first + index, code));
        };
        for result in results {
            let index = result["index"].as_u64().expect("a result has an index");
            self.note_one(first + index, result["code"].as_str().expect("a result has a code"));
        }
    }

    fn note_one(&mut self, number: u64, code: &str) {
        *self.codes.entry(code.to_owned()).or_default() += 1;
        match code {
            "enqueued" => drop(self.enqueued.insert(number)),
            "acknowledged" | "durable" | "spooled" => self.oracle.acknowledged(number),
            code if NEVER_PRODUCED.contains(&code) => self.oracle.refused(number),
            _ => {}
        }
    }
}
