//! A small HTTP client for tests: a request in, status, headers and body out, on loopback only.

use std::sync::Once;

use super::PATIENCE;

/// What came back.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: reqwest::header::HeaderMap,
    /// The whole body.
    pub body: Vec<u8>,
}

impl Reply {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; panics with the reply when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e} in {} {}", self.status, self.text()))
    }

    /// A header's value, if there is one.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }
}

/// A client with connections of its own.
pub fn client() -> reqwest::Client {
    static PROVIDER: Once = Once::new();
    PROVIDER.call_once(|| {
        // It fails only when there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    // The tests that reach TLS listeners say which authority they trust; the system's are of no use on loopback.
    let builder = reqwest::Client::builder().no_proxy().timeout(PATIENCE).tls_certs_only([]);
    builder.build().expect("the settings are constant")
}

/// Sends a request and reads the whole reply.
pub async fn send(request: reqwest::RequestBuilder) -> Result<Reply, String> {
    let text = |e: reqwest::Error| match std::error::Error::source(&e) {
        Some(source) => format!("{e}: {source}"),
        None => e.to_string(),
    };
    let response = request.send().await.map_err(text)?;
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let body = response.bytes().await.map_err(text)?.to_vec();
    Ok(Reply { status, headers, body })
}

/// Runs a future to its end on a thread and runtime of its own, so that it works inside and outside of a runtime.
pub fn block_on<T: Send>(future: impl Future<Output = T> + Send) -> T {
    std::thread::scope(|scope| {
        let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().map(|rt| rt.block_on(future));
        scope.spawn(run).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)).expect("a runtime can be made")
    })
}
