//! Logging in to a broker: SASL PLAIN and SCRAM, over Kafka's own requests.

use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::{SaslAuthenticateRequest, SaslAuthenticateResponse, SaslHandshakeRequest};
use kafka_protocol::protocol::StrBytes;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::connection::Connection;
use super::error::{AdminError, Refusal, check};
use super::scram::{Exchange, ScramError, ScramMechanism};
use crate::config::Secret;

/// Who logs in, and how.
pub(super) struct Login {
    pub mechanism: Mechanism,
    pub username: String,
    pub password: Secret,
}

/// A SASL mechanism.
#[derive(Clone, Copy)]
pub(super) enum Mechanism {
    Plain,
    Scram(ScramMechanism),
}

impl Mechanism {
    /// The mechanism of a SASL name that the configuration takes.
    pub fn named(name: &str) -> Option<Mechanism> {
        let scram = || ScramMechanism::NAMED.iter().find(|scram| scram.sasl_name() == name);
        if name == "PLAIN" { Some(Mechanism::Plain) } else { scram().copied().map(Mechanism::Scram) }
    }

    const fn name(self) -> &'static str {
        match self {
            Mechanism::Plain => "PLAIN",
            Mechanism::Scram(mechanism) => mechanism.sasl_name(),
        }
    }
}

impl Login {
    /// Logs in; gives for how long, when the broker limits it.
    pub async fn log_in(&self, on: &mut Connection, until: Instant) -> Result<Option<Duration>, AdminError> {
        let request = SaslHandshakeRequest::default().with_mechanism(StrBytes::from_static_str(self.mechanism.name()));
        let offered = on.call(&request, until).await.map_err(|error| on.before_use(error))?;
        let names: Vec<&str> = offered.mechanisms.iter().map(|name| name.as_str()).collect();
        let message = format!("{} was asked for, the broker offers {}", self.mechanism.name(), names.join(", "));
        check(offered.error_code, Some(&StrBytes::from_string(message)))?;

        let last = match self.mechanism {
            Mechanism::Plain => {
                let mut message =
                    Zeroizing::new(Vec::with_capacity(2 + self.username.len() + self.password.expose().len()));
                for part in ["", &self.username, self.password.expose()] {
                    message.extend_from_slice(part.as_bytes());
                    message.push(0);
                }
                message.pop();
                authenticate(on, message, until).await?
            }
            Mechanism::Scram(mechanism) => {
                let exchange = Exchange::begin(mechanism, &self.username, &self.password).map_err(refused)?;
                let challenge = authenticate(on, Zeroizing::new(exchange.first()), until).await?;
                let (answer, proof) = exchange.last(&challenge.auth_bytes).map_err(refused)?;
                let last = authenticate(on, Zeroizing::new(answer), until).await?;
                proof.check(&last.auth_bytes).map_err(refused)?;
                last
            }
        };
        let lifetime_ms = u64::try_from(last.session_lifetime_ms).ok().filter(|lifetime| *lifetime > 0);
        Ok(lifetime_ms.map(Duration::from_millis))
    }
}

async fn authenticate(
    on: &mut Connection,
    message: Zeroizing<Vec<u8>>,
    until: Instant,
) -> Result<SaslAuthenticateResponse, AdminError> {
    // Bytes that own the vector, so that it is wiped when the last of them is dropped.
    let request = SaslAuthenticateRequest::default().with_auth_bytes(Bytes::from_owner(message));
    let response = on.call(&request, until).await.map_err(|error| on.before_use(error))?;
    check(response.error_code, response.error_message.as_ref())?;
    Ok(response)
}

fn refused(error: ScramError) -> AdminError {
    AdminError::LoginRefused(Refusal::new(ResponseError::SaslAuthenticationFailed, error.to_string()))
}
