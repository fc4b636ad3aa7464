//! Rejected events back through a running proxy's doors.
//!
//! In: dead letters. Out: each posted as its sender sent it, with its id, and counted by what the reply says. Never: goes on when
//! the proxy does not answer, or cannot take them now: what was not sent is still in the topic.

use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use bytes::{BufMut as _, Bytes, BytesMut};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::Tally;
use super::dead_letters::value;
use crate::cli::Failure;
use crate::dead_letter::{self, Part, Reason};
use crate::dev::client::{Address, Answer, Connection, Post};
use crate::dev::read_back::Consumed;

/// Requests at the same time; each waits for its event's acknowledgement, linger included.
const CONNECTIONS: usize = 32;
/// How long a request may take: longer than the proxy itself waits for Kafka (`http.ack_timeout_seconds`, 35).
const REQUEST_TIMEOUT: Duration = Duration::from_secs(40);
/// How often an event is sent that the proxy cannot take now, and the pause between.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// Where events go in.
pub(super) struct Door {
    address: Address,
    authorization: Option<String>,
    runtime: Runtime,
}

impl Door {
    pub(super) fn open(url: &str, ca: Option<&Path>, api_key_file: Option<&Path>) -> Result<Door, Failure> {
        let address = Address::parse(url, ca).map_err(|error| Failure::Usage(error.to_string()))?;
        let read = |file: &Path| {
            let key = std::fs::read_to_string(file);
            key.map(|key| format!("Bearer {}", key.trim()))
                .map_err(|error| Failure::Usage(format!("cannot read {}: {error}", file.display())))
        };
        let authorization = api_key_file.map(read).transpose()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Door { address, authorization, runtime })
    }

    /// Posts all of them and waits for the replies.
    pub(super) fn post_all(&self, letters: &[(&Consumed, Reason)], tally: &mut Tally) -> Result<(), Failure> {
        let mut shares: Vec<Vec<Post>> = vec![Vec::new(); CONNECTIONS];
        for (number, (letter, reason)) in letters.iter().enumerate() {
            match self.post(letter, reason) {
                Ok(post) => shares[number % CONNECTIONS].push(post),
                Err(why) => tally.refuse(why),
            }
        }
        self.runtime.block_on(async {
            let mut tasks = JoinSet::new();
            for share in shares.into_iter().filter(|share| !share.is_empty()) {
                tasks.spawn(send(self.address.clone(), share));
            }
            while let Some(done) = tasks.join_next().await {
                let codes = done.map_err(|_| Failure::Failed("a sender panicked; this is a bug".to_owned()))??;
                codes.into_iter().for_each(|refused| match refused {
                    None => tally.done += 1,
                    Some(code) => tally.refuse(code),
                });
            }
            Ok(())
        })
    }

    /// The request that the sender made, as far as it was about this event; or why there is none.
    fn post(&self, letter: &Consumed, reason: &Reason) -> Result<Post, String> {
        let content_type = text(letter, "content-type").unwrap_or("application/json").to_owned();
        let mut body = value(letter);
        if reason.is_base64 {
            let decoded = base64::engine::general_purpose::STANDARD.decode(&body);
            body = Bytes::from(decoded.map_err(|_| "its payload is not base64".to_owned())?);
        }
        let mut headers = vec![("content-type".to_owned(), content_type.clone())];
        headers.extend(self.authorization.clone().map(|key| ("authorization".to_owned(), key)));
        let path = match reason.part {
            Some(Part::Event) if content_type == "application/x-protobuf" => {
                body = batch_of(&body);
                "/v1/events?reply=acknowledged".to_owned()
            }
            Some(Part::Event) => "/v1/events?reply=acknowledged".to_owned(),
            _ => {
                add_envelope(letter, reason, &mut headers)?;
                format!("/v1/events/{}?reply=acknowledged", reason.event)
            }
        };
        Ok(Post { path, headers, body })
    }
}

/// `iguazu.v1.EventBatch` with this one event: its field 1.
fn batch_of(event: &[u8]) -> Bytes {
    let mut batch = BytesMut::with_capacity(event.len() + 6);
    batch.put_u8(1 << 3 | 2);
    prost::encoding::encode_varint(event.len() as u64, &mut batch);
    batch.put_slice(event);
    batch.freeze()
}

/// The envelope, as the door of one payload takes it.
fn add_envelope(letter: &Consumed, reason: &Reason, out: &mut Vec<(String, String)>) -> Result<(), String> {
    let escaped = |text: &[u8]| {
        let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'%' | b'"');
        let escape = |byte: &u8| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
        text.iter().map(escape).collect::<String>()
    };
    if let Some(schema) = &reason.schema {
        let (kind, number) = schema.split_once(':').ok_or("its schema reference is damaged")?;
        out.push((format!("iguazu-schema-{kind}"), number.to_owned()));
    }
    if let Some(key) = &letter.key {
        out.push(("ce-partitionkey".to_owned(), escaped(key)));
    }
    let envelope = match crate::dev::decode::envelope(letter) {
        Ok(envelope) => envelope,
        // It could not be read when it came, so that there is none but its id.
        Err(_) => {
            out.extend(reason.id.as_ref().map(|id| ("ce-id".to_owned(), escaped(id.as_bytes()))));
            return Ok(());
        }
    };
    out.push(("ce-id".to_owned(), escaped(envelope.id.as_bytes())));
    out.push(("ce-source".to_owned(), escaped(envelope.source.as_bytes())));
    let optional = [("ce-time", &envelope.time), ("ce-properties", &envelope.properties)];
    for (name, value) in optional {
        out.extend(value.as_ref().map(|value| (name.to_owned(), escaped(value.as_bytes()))));
    }
    out.extend(envelope.traceparent.map(|trace| ("traceparent".to_owned(), trace)));
    for (name, value) in envelope.headers.iter().filter(|(name, _)| !dead_letter::is_ours(name)) {
        out.push(match name.strip_prefix("ce_") {
            Some(attribute) => (format!("ce-{attribute}"), escaped(value)),
            None => {
                let text = std::str::from_utf8(value).ok().filter(|text| !text.contains(char::is_control));
                let text = text.ok_or_else(|| format!("its header `{name}` is no text, which HTTP cannot carry"))?;
                (format!("iguazu-header-{name}"), text.to_owned())
            }
        });
    }
    Ok(())
}

fn text<'l>(letter: &'l Consumed, name: &str) -> Option<&'l str> {
    letter.header(name).and_then(|value| std::str::from_utf8(value).ok())
}

/// Posts one after the other; the code of each that was refused.
async fn send(address: Address, posts: Vec<Post>) -> Result<Vec<Option<String>>, Failure> {
    let mut connection = None;
    let mut codes = Vec::with_capacity(posts.len());
    for post in &posts {
        let mut tries = 0;
        codes.push(loop {
            let mut open = match connection.take() {
                Some(open) => open,
                None => Connection::open(&address, REQUEST_TIMEOUT).await.map_err(Failure::because)?,
            };
            let answer = open.post(post, REQUEST_TIMEOUT).await.map_err(Failure::because)?;
            connection = open.is_open().then_some(open);
            let Some((code, retry)) = refusal(&answer) else { break None };
            tries += 1;
            match retry {
                false => break Some(code),
                true if tries == TRIES => {
                    return Err(Failure::Failed(format!(
                        "{address} does not take events now (`{code}`); run it again"
                    )));
                }
                true => tokio::time::sleep(PAUSE).await,
            }
        });
    }
    Ok(codes)
}

/// The code of a refused event or request, and whether another try may help; none if it was taken.
fn refusal(answer: &Answer) -> Option<(String, bool)> {
    if answer.status.is_success() && answer.status.as_u16() != 207 {
        return None;
    }
    let told: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let told = if told["code"].is_string() { &told } else { &told["results"][0] };
    let code = told["code"].as_str().map_or_else(|| format!("status {}", answer.status.as_u16()), str::to_owned);
    // A login is not the event's fault: the others would be refused as well.
    let retry = told["retry"].as_bool().unwrap_or(false) || matches!(answer.status.as_u16(), 401 | 403);
    Some((code, retry))
}
