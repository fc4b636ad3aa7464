//! One topic of a client, for the path of an event: records are handed to librdkafka by its C interface here.
//!
//! In: records. Out: librdkafka has a copy of each, or it was refused at once. Never: waits, or looks the topic up by name. Beside it,
//! the other thing that rdkafka has no call for: a new password for a client that runs.
//!
//! rdkafka's own `send` names the topic, and librdkafka then compares the name with those of all its topics, one after the other
//! under a lock: some 60 instructions each, a hundred topics cost more than the rest of `send`. It also copies each header's
//! name into a string of its own first. So this module has `unsafe`, as only `bell` does beside it; `Client::resend` still uses rdkafka's
//! `send`, and a test compares what the two put into Kafka.
#![allow(unsafe_code, reason = "librdkafka's topic handles have no safe interface")]

use std::ffi::{CString, c_char, c_void};
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rdkafka::bindings::{self, rd_kafka_vtype_t as Field};
use rdkafka::error::{IsError, KafkaError};
use rdkafka::producer::Producer;
use rdkafka::util::IntoOpaque;

use super::partition::Partitions;
use super::{Client, ProduceError, Record, Refused};
use crate::outcome::Tracked;

/// librdkafka's `RD_KAFKA_PARTITION_UA`: key and partitioner choose.
const PARTITION_BY_KEY: i32 = -1;

/// A topic of a client. Records that go through it need no look-up.
pub struct TopicHandle {
    // Declared first, so dropped first: a handle must not outlive its client.
    native: Native,
    client: Arc<Client>,
    partitions: Arc<Partitions>,
    name: String,
}

impl TopicHandle {
    /// The topic's handle. Asks no broker: a topic that does not exist is told by [`Client::topic`], or by the report.
    pub fn new(client: &Arc<Client>, topic: &str) -> Result<TopicHandle, ProduceError> {
        let failed = |source| ProduceError::Handle {
            cluster: client.cluster().to_owned(),
            topic: topic.to_owned(),
            source: Box::new(source),
        };
        let name = CString::new(topic).map_err(|nul| failed(nul.into()))?;
        // SAFETY: the client outlives the call, the name ends with a zero byte and is copied. No configuration of its own means
        // the client's.
        let native = unsafe {
            bindings::rd_kafka_topic_new(client.producer().client().native_ptr(), name.as_ptr(), ptr::null_mut())
        };
        // SAFETY: the function has no precondition; it reads this thread's last error.
        let native = NonNull::new(native)
            .ok_or_else(|| failed(KafkaError::MessageProduction(unsafe { bindings::rd_kafka_last_error() }.into())))?;
        client.note_topic(topic);
        Ok(TopicHandle {
            native: Native(native),
            client: Arc::clone(client),
            partitions: client.partitions(topic),
            name: topic.to_owned(),
        })
    }

    /// The client whose topic it is.
    pub fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// What is known of its partitions.
    pub(super) fn partitions(&self) -> &Partitions {
        &self.partitions
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands a record to librdkafka, in the lane `wal` to the log before it, or refuses it at once. `tracked` must have been made
    /// with the record's [`Record::cost_bytes`].
    pub fn send(&self, record: &Record<'_>, tracked: Box<Tracked>) -> Result<(), Refused> {
        match self.client.wal() {
            None => self.client.send(self, record, None, tracked),
            Some(wal) => self.client.append(wal, &self.name, record, tracked),
        }
    }

    /// Whether a reply may wait for the disk of the lane `wal`.
    pub fn offers_durable(&self) -> bool {
        self.client.wal().is_some_and(|wal| wal.offers_durable())
    }

    /// [`TopicHandle::send`] of a record out of the spool or the wal, past both, to the partition that it is bound to, if any.
    pub(super) fn send_again(
        &self,
        record: &Record<'_>,
        partition: Option<i32>,
        tracked: Box<Tracked>,
    ) -> Result<(), Refused> {
        self.client.send(self, record, partition, tracked)
    }

    /// Gives librdkafka a copy of the record, for a partition or the one that key and partitioner choose. `tracked` comes
    /// back with the delivery report, or with the error.
    pub(super) fn produce(
        &self,
        record: &Record<'_>,
        partition: Option<i32>,
        tracked: Box<Tracked>,
    ) -> Result<(), (KafkaError, Box<Tracked>)> {
        let headers = NativeHeaders::new(record);
        let (key, key_len) = parts(record.key);
        let (value, value_len) = parts(Some(record.value));
        let opaque = tracked.into_ptr();
        // SAFETY: client and topic live (`self` holds both); pointers and lengths are those of slices that outlive the call, and
        // `MSG_F_COPY` makes librdkafka copy them; the fields are pairs of type and value as `rdkafka.h` declares them, ended by `END`;
        // the opaque is what the client's context expects (`Box<Tracked>`), and is given away only if this succeeds.
        let result = unsafe {
            bindings::rd_kafka_producev(
                self.client.producer().client().native_ptr(),
                Field::RD_KAFKA_VTYPE_RKT,
                self.native.0.as_ptr(),
                Field::RD_KAFKA_VTYPE_PARTITION,
                partition.unwrap_or(PARTITION_BY_KEY),
                Field::RD_KAFKA_VTYPE_MSGFLAGS,
                bindings::RD_KAFKA_MSG_F_COPY,
                Field::RD_KAFKA_VTYPE_VALUE,
                value,
                value_len,
                Field::RD_KAFKA_VTYPE_KEY,
                key,
                key_len,
                Field::RD_KAFKA_VTYPE_OPAQUE,
                opaque,
                Field::RD_KAFKA_VTYPE_TIMESTAMP,
                record.timestamp_ms,
                Field::RD_KAFKA_VTYPE_HEADERS,
                headers.0,
                Field::RD_KAFKA_VTYPE_END,
            )
        };
        if result.is_error() {
            // SAFETY: librdkafka kept neither the opaque, made above from the box, nor the headers.
            let tracked = unsafe { <Box<Tracked> as IntoOpaque>::from_ptr(opaque) };
            return Err((KafkaError::MessageProduction(result.into()), tracked));
        }
        headers.given_away();
        Ok(())
    }
}

/// Gives a client that runs another user name and password: connections that it makes from now on log in by them. Says whether
/// librdkafka took them.
pub(super) fn set_credentials(client: &Client, username: &str, password: &str) -> bool {
    let (Ok(username), Ok(password)) = (CString::new(username), CString::new(password)) else { return false };
    // SAFETY: the client lives, both texts end with a zero byte and are copied. What it returns is an error to destroy, or null.
    unsafe {
        let native = client.producer().client().native_ptr();
        let error = bindings::rd_kafka_sasl_set_credentials(native, username.as_ptr(), password.as_ptr());
        if !error.is_null() {
            bindings::rd_kafka_error_destroy(error);
        }
        error.is_null()
    }
}

impl std::fmt::Debug for TopicHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "TopicHandle({}, {:?})", self.name, self.client)
    }
}

/// librdkafka's handle.
struct Native(NonNull<bindings::rd_kafka_topic_t>);

// SAFETY: librdkafka's topic handles may be used by any thread at any time; it locks and counts references inside.
unsafe impl Send for Native {}
// SAFETY: as above.
unsafe impl Sync for Native {}

impl Drop for Native {
    fn drop(&mut self) {
        // SAFETY: made by `rd_kafka_topic_new`, destroyed once, and before the client (see the order of `TopicHandle`'s fields).
        unsafe { bindings::rd_kafka_topic_destroy(self.0.as_ptr()) }
    }
}

/// A record's headers as librdkafka keeps them; null for none.
struct NativeHeaders(*mut bindings::rd_kafka_headers_t);

impl NativeHeaders {
    fn new(record: &Record<'_>) -> NativeHeaders {
        let headers = record.headers;
        if headers.is_empty() {
            return NativeHeaders(ptr::null_mut());
        }
        // SAFETY: allocates room for so many; it grows by itself, and allocation failure ends the process.
        let native = unsafe { bindings::rd_kafka_headers_new(headers.len()) };
        for (name, value) in headers.iter() {
            let (value, value_len) = parts(Some(value));
            // SAFETY: the list is the one made above; name and value are slices with their lengths, and are copied. It fails
            // only for lists that the application may not change, which this one is not.
            unsafe {
                bindings::rd_kafka_header_add(
                    native,
                    name.as_ptr().cast::<c_char>(),
                    name.len() as isize,
                    value,
                    value_len as isize,
                );
            }
        }
        NativeHeaders(native)
    }

    /// They belong to the record now.
    fn given_away(mut self) {
        self.0 = ptr::null_mut();
    }
}

impl Drop for NativeHeaders {
    fn drop(&mut self) {
        if !self.0.is_null() {
            // SAFETY: made by `rd_kafka_headers_new` and not given away.
            unsafe { bindings::rd_kafka_headers_destroy(self.0) }
        }
    }
}

/// Pointer and length as librdkafka takes them: null is no value, an empty value has an address.
fn parts(bytes: Option<&[u8]>) -> (*mut c_void, usize) {
    match bytes {
        None => (ptr::null_mut(), 0),
        Some(bytes) => (bytes.as_ptr().cast_mut().cast(), bytes.len()),
    }
}
