//! Spans -> a collector, by OTLP over HTTP (`opentelemetry-proto`'s messages, protobuf).
//!
//! In: spans as they end. Out: batches of them, posted; counts of those that arrived and of those that did not. Never: holds
//! anybody up, tries a batch a second time (the next ones would wait), says more than now and then that the collector takes nothing.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::{self as otlp, ResourceSpans, ScopeSpans, span, status};
use prost::Message as _;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{Kind, Span, Tracer, Value};
use crate::config::Traces;
use crate::outbound;

/// Spans of one request to the collector.
const BATCH_MAX: usize = 512;
/// How long spans wait for others.
const BATCH_WAIT: Duration = Duration::from_secs(1);
/// How long the collector may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may take for the last ones.
const LAST_TIMEOUT: Duration = Duration::from_millis(500);
/// How often it is said that it does not take them.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// The bits of a span's flags that say that it is sampled, and that its parent was in another process or not is known (OTLP,
/// `SpanFlags`).
const FLAGS: u32 = 0x101;

/// Why spans cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("the exporter of traces cannot be set up: {0}")]
pub struct SetupError(String);

/// Posts spans.
#[derive(Debug)]
pub struct Exporter {
    tracer: Arc<Tracer>,
    spans: mpsc::Receiver<Span>,
    client: reqwest::Client,
    endpoint: String,
    resource: Resource,
    /// When it was last said that the collector takes nothing.
    warned: Option<Instant>,
}

impl Exporter {
    /// An exporter by these settings, and what hands spans to it.
    pub fn new(settings: &Traces) -> Result<(Arc<Tracer>, Exporter), SetupError> {
        let plain = settings.endpoint.starts_with("http://");
        let mut builder = outbound::builder(settings.ca_file.as_deref(), plain).map_err(SetupError)?;
        if let Some(token) = &settings.token {
            let value = outbound::credential(format!("Bearer {}", token.expose())).map_err(SetupError)?;
            builder = builder.default_headers([(AUTHORIZATION, value)].into_iter().collect());
        }
        let client = outbound::build(builder).map_err(SetupError)?;
        let (tracer, spans) = Tracer::new(settings.sample_ratio);
        let resource = Resource {
            attributes: vec![
                text("service.name", settings.service_name.clone()),
                text("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ],
            ..Resource::default()
        };
        let endpoint = settings.endpoint.clone();
        let exporter = Exporter { tracer: Arc::clone(&tracer), spans, client, endpoint, resource, warned: None };
        Ok((tracer, exporter))
    }

    /// Posts spans until it is stopped, and then once more what there is.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(BATCH_MAX);
        while !stop.is_cancelled() {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                taken = self.spans.recv_many(&mut batch, BATCH_MAX) => if taken == 0 { return },
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = fill(&mut self.spans, &mut batch) => {}
                () = tokio::time::sleep(BATCH_WAIT) => {}
            }
            let timeout = if stop.is_cancelled() { LAST_TIMEOUT } else { TIMEOUT };
            self.export(&mut batch, timeout).await;
        }
        while let Ok(span) = self.spans.try_recv() {
            batch.push(span);
        }
        if !batch.is_empty() {
            self.export(&mut batch, LAST_TIMEOUT).await;
        }
    }

    async fn export(&mut self, batch: &mut Vec<Span>, timeout: Duration) {
        let count = batch.len() as u64;
        let scope = InstrumentationScope { name: env!("CARGO_PKG_NAME").to_owned(), ..InstrumentationScope::default() };
        let spans = batch.drain(..).map(message).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource_spans =
            vec![ResourceSpans { resource: Some(self.resource.clone()), scope_spans, ..ResourceSpans::default() }];
        let body = ExportTraceServiceRequest { resource_spans }.encode_to_vec();
        let request = self.client.post(&self.endpoint).header(CONTENT_TYPE, "application/x-protobuf").body(body);
        let result = request.timeout(timeout).send().await.and_then(reqwest::Response::error_for_status);
        let counts = &self.tracer.counts;
        let Err(error) = result else {
            counts.exported.fetch_add(count, Relaxed);
            return;
        };
        counts.failed.fetch_add(count, Relaxed);
        if self.warned.is_none_or(|warned| warned.elapsed() >= WARN_EVERY) {
            self.warned = Some(Instant::now());
            let error = error.without_url();
            warn!(%error, spans = count, "the collector of traces takes no spans");
        }
    }
}

/// Adds spans as they come until the batch is full.
async fn fill(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    while batch.len() < BATCH_MAX {
        let room = BATCH_MAX - batch.len();
        if spans.recv_many(batch, room).await == 0 {
            return;
        }
    }
}

fn message(span: Span) -> otlp::Span {
    let kind = match span.kind {
        Kind::Server => span::SpanKind::Server,
        Kind::Producer => span::SpanKind::Producer,
    };
    let link = |context: super::Context| span::Link {
        trace_id: context.trace_id.to_vec(),
        span_id: context.span_id.to_vec(),
        flags: FLAGS,
        ..span::Link::default()
    };
    otlp::Span {
        trace_id: span.context.trace_id.to_vec(),
        span_id: span.context.span_id.to_vec(),
        parent_span_id: span.parent.map(|parent| parent.to_vec()).unwrap_or_default(),
        flags: FLAGS,
        name: span.name,
        kind: kind.into(),
        start_time_unix_nano: span.begun_ns,
        end_time_unix_nano: span.ended_ns,
        attributes: span.attributes.into_iter().map(|(key, value)| attribute(key, value)).collect(),
        links: span.link.map(link).into_iter().collect(),
        status: span.error.map(|message| otlp::Status { message, code: status::StatusCode::Error.into() }),
        ..otlp::Span::default()
    }
}

fn attribute(key: &str, value: Value) -> KeyValue {
    match value {
        Value::Text(value) => text(key, value),
        Value::Number(value) => key_value(key, any_value::Value::IntValue(value)),
    }
}

fn text(key: &str, value: String) -> KeyValue {
    key_value(key, any_value::Value::StringValue(value))
}

fn key_value(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
