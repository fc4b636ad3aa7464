//! Asking the control plane for what is newer than what is here.
//!
//! In: how it is reached. Out: documents that were accepted. Never: a question without an end, two at once, or a storm of them: what
//! fails or is refused is asked again after a pause that grows.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::{Client, StatusCode, Url};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Pushed, kept};
use crate::config::{Accepted, Routes, Signed, accept};
use crate::outbound;
use crate::telemetry::health::Health;

/// How long the control plane may wait for something new before it answers that there is nothing.
const WAIT: Duration = Duration::from_secs(20);
/// What an answer may take beyond that.
const GRACE: Duration = Duration::from_secs(10);
const CONNECT: Duration = Duration::from_secs(3);
/// The pause after an answer that did not come or is refused; doubles up to the second.
const PAUSE_FIRST: Duration = Duration::from_millis(250);
const PAUSE_LAST: Duration = Duration::from_secs(3);
/// Most bytes of an answer: some hundred thousand event types.
const ANSWER_BYTES_MAX: usize = 256 << 20;

/// Under which name `/ready` shows that the control plane does not answer.
const CONDITION: &str = "control plane";

/// Follows a control plane until it is told to stop.
#[derive(Debug)]
pub struct Follower {
    /// What was accepted, and who is told.
    pub pushed: Arc<Pushed>,
    /// How it is reached; another token or address counts from the next question on.
    pub routes: watch::Receiver<Arc<Routes>>,
    /// Where it is shown that it cannot be.
    pub health: Arc<Health>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("{0}")]
    Settings(String),
    #[error("it cannot be reached: {}", causes(.0))]
    Transport(reqwest::Error),
    #[error("it answers {status}: {body}")]
    Status { status: StatusCode, body: String },
    #[error("its answer has more than {ANSWER_BYTES_MAX} bytes")]
    TooLong,
    #[error("its answer cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Follower {
    /// Asks again and again.
    pub async fn run(self, stop: CancellationToken) {
        let state_dir = self.pushed.state_dir.clone();
        let Ok(name) = tokio::task::spawn_blocking(move || kept::name(&state_dir)).await else { return };
        let (mut failures, mut client, mut node) = (0, None, 0);
        let mut settings = self.routes.clone();
        loop {
            let routes = Arc::clone(&settings.borrow_and_update());
            let asked = async {
                if client.is_none() {
                    client = Some(http_client(&routes).map_err(AskError::Settings)?);
                }
                let client = client.as_ref().expect("it was made above");
                let url = &routes.urls[node % routes.urls.len().max(1)];
                self.ask(client, url, &name).await
            };
            let answer = tokio::select! {
                () = stop.cancelled() => return,
                changed = settings.changed() => match changed {
                    Ok(()) => {
                        (client, failures) = (None, 0);
                        continue;
                    }
                    Err(_) => return,
                },
                answer = asked => answer,
            };
            let trouble = match answer {
                Ok(None) => {
                    self.pushed.confirm();
                    None
                }
                Ok(Some(signed)) => self.take(signed, &routes),
                Err(error) => {
                    self.pushed.unanswered.fetch_add(1, Relaxed);
                    // Another node may know more.
                    node = node.wrapping_add(1);
                    let problem = error.to_string();
                    if failures == 0 {
                        warn!(problem, "the control plane does not answer, routes stay as they are");
                    }
                    self.health
                        .set_condition(CONDITION, &format!("it does not answer, routes stay as they are: {problem}"));
                    Some(())
                }
            };
            let Some(()) = trouble else {
                if std::mem::take(&mut failures) > 0 {
                    info!("the control plane answers again");
                }
                continue;
            };
            let pause = pause(failures);
            failures += 1;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Takes what came, or says why not and asks for a pause.
    fn take(&self, signed: Signed, routes: &Routes) -> Option<()> {
        self.health.clear_condition(CONDITION);
        let before = self.pushed.accepted.borrow().clone();
        match accept(signed, &routes.public_keys, before.as_deref()) {
            Ok(accepted) => {
                self.pushed.take(accepted);
                None
            }
            Err(refusal) => {
                warn!(code = refusal.code(), %refusal, "what the control plane sends is refused whole, routes stay as they are");
                self.pushed.refuse(&refusal);
                Some(())
            }
        }
    }

    /// One question; none when there is nothing new.
    async fn ask(&self, client: &Client, base: &str, name: &str) -> Result<Option<Signed>, AskError> {
        self.pushed.asked.fetch_add(1, Relaxed);
        let mut url =
            Url::parse(&format!("{base}/v1/snapshot")).map_err(|error| AskError::Settings(error.to_string()))?;
        let known: Option<Arc<Accepted>> = self.pushed.accepted.borrow().clone();
        {
            let mut query = url.query_pairs_mut();
            query.append_pair("wait", &WAIT.as_secs().to_string()).append_pair("proxy", name);
            if let Some(known) = known {
                query.append_pair("after", &known.revision.to_string());
                query.append_pair("proxies", &known.proxies.to_string());
            }
        }
        let mut response = client.get(url).send().await.map_err(unreachable)?;
        let status = response.status();
        if status == StatusCode::NO_CONTENT {
            self.health.clear_condition(CONDITION);
            return Ok(None);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(AskError::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        if status != StatusCode::OK {
            let body = String::from_utf8_lossy(&body).chars().take(200).collect();
            return Err(AskError::Status { status, body });
        }
        Ok(Some(serde_json::from_slice(&body)?))
    }
}

/// The URL is known, and would hide the cause.
fn unreachable(error: reqwest::Error) -> AskError {
    AskError::Transport(error.without_url())
}

fn causes(error: &dyn std::error::Error) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn http_client(routes: &Routes) -> Result<Client, String> {
    let token = outbound::credential(format!("Bearer {}", routes.token.expose()))?;
    let plain = routes.urls.iter().all(|url| url.starts_with("http://"));
    let builder = outbound::builder(routes.ca_file.as_deref(), plain)?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, token)]);
    outbound::build(builder.default_headers(headers).connect_timeout(CONNECT).timeout(WAIT + GRACE))
}

/// Grows, and is never the same at all proxies: they would all come at once when the control plane is back.
fn pause(failures: u32) -> Duration {
    let pause = PAUSE_FIRST.saturating_mul(1 << failures.min(10)).min(PAUSE_LAST);
    let chance = RandomState::new().hash_one(failures) % 1_000;
    pause.mul_f64(0.75 + chance as f64 / 2_000.0)
}
