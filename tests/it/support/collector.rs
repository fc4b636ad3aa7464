//! A collector of traces: takes OTLP over HTTP, keeps the spans.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

use super::wait_until;

/// A running collector; it ends when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    spans: Mutex<Vec<Span>>,
    services: Mutex<Vec<String>>,
    stop: AtomicBool,
}

impl Collector {
    /// Starts one on a free port.
    pub fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("port 0 is free");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared::default());
        let inside = Arc::clone(&shared);
        let thread = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if inside.stop.load(Relaxed) {
                    return;
                }
                let inside = Arc::clone(&inside);
                // It ends with its connection, which the exporter closes when it ends.
                std::thread::spawn(move || serve(stream, &inside));
            }
        });
        Collector { address, shared, thread: Some(thread) }
    }

    /// Where it takes traces.
    pub fn endpoint(&self) -> String {
        format!("http://{}/v1/traces", self.address)
    }

    /// Waits until there are so many spans; exactly so many.
    pub async fn await_spans(&self, count: usize) -> Vec<Span> {
        wait_until("spans are exported", async || {
            let spans = self.shared.spans.lock().expect("no code panics while it holds this lock");
            if spans.len() == count { Ok(spans.clone()) } else { Err(format!("{} of {count}", spans.len())) }
        })
        .await
    }

    /// `service.name` of each batch.
    pub fn services(&self) -> Vec<String> {
        self.shared.services.lock().expect("no code panics while it holds this lock").clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.shared.stop.store(true, Relaxed);
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A span's attribute as text.
pub fn attribute(span: &Span, name: &str) -> Option<String> {
    match span.attributes.iter().find(|pair| pair.key == name)?.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

fn serve(stream: TcpStream, shared: &Shared) {
    let mut reader = BufReader::new(stream);
    while let Some(body) = request(&mut reader) {
        let request = ExportTraceServiceRequest::decode(&*body).expect("the exporter speaks OTLP");
        for resource in request.resource_spans {
            let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
            let service = attributes.into_iter().find(|pair| pair.key == "service.name").and_then(|pair| pair.value);
            let service = service.and_then(|value| value.value).map(|value| format!("{value:?}"));
            shared.services.lock().expect("no code panics while it holds this lock").extend(service);
            let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            shared.spans.lock().expect("no code panics while it holds this lock").extend(spans);
        }
        let _ = reader.get_mut().write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    }
}

/// The body of the next request; none when the connection is closed.
fn request(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let (mut length, mut is_protobuf) = (0, false);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(value) = line.strip_prefix("content-length: ") {
            length = value.parse().expect("a length is a number");
        }
        is_protobuf |= line == "content-type: application/x-protobuf";
    }
    assert!(is_protobuf, "OTLP in Protobuf");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some(body)
}
