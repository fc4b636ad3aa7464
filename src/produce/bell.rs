//! Wakes a client's poll thread as soon as librdkafka has a report, while somebody waits for one.
//!
//! In: librdkafka's word that something is in its queue. Out: the poll thread is awake. Never: polls, or wakes the thread for
//! records that nobody waits for: those are cheaper to report in bulk.
#![allow(unsafe_code, reason = "rdkafka has no call that tells of a producer's queue")]

use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::thread::Thread;

use rdkafka::bindings;
use rdkafka::producer::{BaseProducer, Producer};

use super::context::Context;

/// Rings for the thread that hung it up, until it is dropped.
pub(super) struct Bell<'p> {
    queue: *mut bindings::rd_kafka_queue_t,
    ear: *mut Ear,
    /// The queue must not outlive its client.
    _producer: &'p BaseProducer<Context>,
}

/// What the callback needs.
struct Ear {
    thread: Thread,
    context: Arc<Context>,
}

impl Bell<'_> {
    /// For the thread that calls this, which is the one that polls.
    pub(super) fn hang(producer: &BaseProducer<Context>) -> Bell<'_> {
        let ear = Ear { thread: std::thread::current(), context: Arc::clone(producer.context()) };
        let ear = Box::into_raw(Box::new(ear));
        // SAFETY: the client lives as long as the bell does. The queue is counted, and given back when the bell is dropped; the
        // pointer that the callback gets is valid until then, see `Bell::drop`.
        let queue = unsafe {
            let queue = bindings::rd_kafka_queue_get_main(producer.client().native_ptr());
            bindings::rd_kafka_queue_cb_event_enable(queue, Some(ring), ear.cast());
            queue
        };
        Bell { queue, ear, _producer: producer }
    }
}

impl Drop for Bell<'_> {
    fn drop(&mut self) {
        // SAFETY: the queue was made by `rd_kafka_queue_get_main` and is destroyed once. librdkafka calls back under the lock of the
        // queue, which taking the callback away needs, too: after it nobody reads what the box holds.
        unsafe {
            bindings::rd_kafka_queue_cb_event_enable(self.queue, None, ptr::null_mut());
            bindings::rd_kafka_queue_destroy(self.queue);
            drop(Box::from_raw(self.ear));
        }
    }
}

/// librdkafka calls this from threads of its own when something comes into the queue that was empty.
unsafe extern "C" fn ring(_: *mut bindings::rd_kafka_t, ear: *mut c_void) {
    // SAFETY: it is what `Bell::hang` gave, and lives as long as calls come.
    let ear = unsafe { &*ear.cast::<Ear>() };
    if ear.context.is_awaited() {
        ear.thread.unpark();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;
    use std::time::{Duration, Instant};

    use rdkafka::producer::BaseRecord;

    use super::super::client::Surroundings;
    use super::super::settings;
    use super::*;
    use crate::dev::brokers::EmbeddedBrokers;
    use crate::outcome::{Ledger, Tracked};
    use crate::route::Lane;

    const WAIT: Duration = Duration::from_secs(20);

    #[test]
    fn a_thread_that_sleeps_is_woken_for_each_report_that_is_awaited() {
        let brokers = EmbeddedBrokers::start(1).expect("loopback has free ports");
        brokers.create_topic("orders", 1, 1).expect("the topic is new");
        let cluster = settings::tests::cluster(brokers.bootstrap());
        let config = settings::client_config(settings::producer(&cluster, Lane::Standard));
        let context = Context::new(&cluster, Lane::Standard, &Surroundings::default());
        let producer: BaseProducer<Context> = config.create_with_context(context).expect("the settings are right");
        let context = producer.context();
        let account = Ledger::default().account("order.placed", "core");
        let send = || {
            account.receive();
            let mut tracked = Tracked::new(&account, None, 0, 100);
            context.budget.take(100).expect("there is room");
            tracked.mark_sent(context.clock.now_ms());
            context.ages.add(tracked.sent_ms());
            let record = BaseRecord::with_opaque_to("orders", tracked).payload("1").key("");
            producer.send(record).map_err(|(error, _)| error).expect("there is room");
        };
        let _bell = Bell::hang(&producer);
        for delivered in 1..4 {
            context.note_awaited(context.clock.now_ms());
            send();
            let begun = Instant::now();
            while context.delivered.load(Relaxed) < delivered {
                assert!(begun.elapsed() < WAIT, "the report came and nobody rang");
                std::thread::park_timeout(WAIT);
                producer.poll(Duration::ZERO);
            }
        }
        // Long ago, as far as anybody can tell.
        context.note_awaited(context.clock.now_ms().wrapping_sub(600_000));
        send();
        producer.flush(WAIT).expect("the broker answers");
        assert!(!context.is_awaited());
    }
}
