//! SCRAM users: who has a credential, new ones, deleted ones.
//!
//! A password is salted here; what goes to the broker cannot be turned back into it. Kafka never tells what it keeps, so that a
//! password is verified only by logging in with it.

use std::collections::HashSet;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    AlterUserScramCredentialsRequest, ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::describe_user_scram_credentials_request::{
    DescribeUserScramCredentialsRequest, UserName,
};
use kafka_protocol::messages::describe_user_scram_credentials_response::DescribeUserScramCredentialsResult;

use super::client::To;
use super::each::in_order;
use super::error::{AdminError, Refusal, check};
use super::scram::{self, ScramMechanism};
use super::topics::text;
use super::{Each, KafkaClient};
use crate::config::Secret;

/// What Kafka tells of a SCRAM user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserCredentials {
    /// The user's name, without `User:`.
    pub user: String,
    /// Each credential: how it logs in, and the iterations that its password was salted with.
    pub credentials: Vec<(ScramMechanism, i32)>,
}

/// A credential to create or replace. A connection that is open stays open.
#[derive(Clone, Debug)]
pub struct NewCredential {
    /// The user's name, without `User:`.
    pub user: String,
    /// How it logs in.
    pub mechanism: ScramMechanism,
    /// How often the password is hashed, 4,096 to 16,384: Kafka's limits.
    pub iterations: u32,
    /// The password; it does not leave this process.
    pub password: Secret,
}

/// Kafka's limits (`ScramControlManager`); checked here too, since more would only cost our time.
const ITERATIONS: std::ops::RangeInclusive<u32> = 4_096..=16_384;

impl KafkaClient {
    pub(super) async fn list_users(&self) -> Result<Vec<UserCredentials>, AdminError> {
        let request = DescribeUserScramCredentialsRequest::default().with_users(None);
        // A broker that may not tell our user fails within, and answers never (Kafka 4.1); it is not asked again.
        let described = self.read_once(To::Any, &request, |response| {
            check(response.error_code, response.error_message.as_ref())?;
            response.results.iter().map(credentials).collect()
        });
        described.await.map_err(|error| match error {
            AdminError::Timeout { reason } => {
                let hint = "Kafka does not answer this to a user that may not describe the cluster; name the users";
                AdminError::Timeout { reason: format!("{reason} ({hint})") }
            }
            other => other,
        })
    }

    pub(super) async fn describe_users(&self, users: &[String]) -> Result<Each<UserCredentials>, AdminError> {
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let mut seen = HashSet::new();
        // Kafka refuses a name that is asked for twice.
        let names = users.iter().filter(|user| seen.insert(user.as_str()));
        let names = names.map(|user| UserName::default().with_name(text(user))).collect();
        let request = DescribeUserScramCredentialsRequest::default().with_users(Some(names));
        self.read(To::Any, &request, |response| {
            check(response.error_code, response.error_message.as_ref())?;
            let answered = response.results.iter().map(|result| (result.user.to_string(), credentials(result)));
            Ok(in_order(users.iter().cloned(), answered))
        })
        .await
    }

    pub(super) async fn upsert_credentials(&self, credentials: &[NewCredential]) -> Result<Each<()>, AdminError> {
        let mut salted = Vec::with_capacity(credentials.len());
        for credential in credentials {
            salted.push(credential.salted());
        }
        let items = credentials.iter().zip(salted).map(|(credential, salted)| (credential.user.as_str(), salted));
        self.alter_credentials(items.collect(), |upsertions| {
            AlterUserScramCredentialsRequest::default().with_upsertions(upsertions)
        })
        .await
    }

    pub(super) async fn delete_credentials(
        &self,
        credentials: &[(String, ScramMechanism)],
    ) -> Result<Each<()>, AdminError> {
        let deletion = |(user, mechanism): &(String, ScramMechanism)| {
            Ok(ScramCredentialDeletion::default().with_name(text(user)).with_mechanism(mechanism.number()))
        };
        let items = credentials.iter().map(|credential| (credential.0.as_str(), deletion(credential)));
        self.alter_credentials(items.collect(), |deletions| {
            AlterUserScramCredentialsRequest::default().with_deletions(deletions)
        })
        .await
    }

    /// Sends changes, each with its user. Kafka takes one change of a user per request, so that a user's second one goes into a
    /// second request: the two are not made together.
    async fn alter_credentials<C: Clone + Send + Sync>(
        &self,
        items: Vec<(&str, Result<C, AdminError>)>,
        request: impl Fn(Vec<C>) -> AlterUserScramCredentialsRequest,
    ) -> Result<Each<()>, AdminError> {
        let mut results: Vec<Option<Result<(), AdminError>>> =
            items.iter().map(|(_, item)| item.as_ref().err().map(|error| Err(error.clone()))).collect();
        loop {
            let mut users = HashSet::new();
            let round: Vec<usize> =
                (0..items.len()).filter(|at| results[*at].is_none() && users.insert(items[*at].0)).collect();
            if round.is_empty() {
                break;
            }
            let changes = round.iter().filter_map(|at| items[*at].1.as_ref().ok().cloned()).collect();
            let request = request(changes);
            let answered = self.write(To::Any, &request, |response| {
                let results = response.results.iter();
                let answered = results
                    .map(|result| (result.user.to_string(), check(result.error_code, result.error_message.as_ref())));
                in_order(round.iter().map(|at| items[*at].0.to_owned()), answered)
            });
            let answered = answered.await.unwrap_or_else(|error| round.iter().map(|_| Err(error.clone())).collect());
            for (at, result) in round.into_iter().zip(answered) {
                results[at] = Some(result);
            }
        }
        Ok(results.into_iter().flatten().collect())
    }
}

impl NewCredential {
    fn salted(&self) -> Result<ScramCredentialUpsertion, AdminError> {
        let refuse =
            |message: String| AdminError::Invalid(Refusal::new(ResponseError::UnacceptableCredential, message));
        if !ITERATIONS.contains(&self.iterations) {
            let (least, most) = (ITERATIONS.start(), ITERATIONS.end());
            return Err(refuse(format!("{} iterations are not {least} to {most}", self.iterations)));
        }
        let salted = scram::salt(self.mechanism, &self.password, self.iterations);
        let salted = salted.map_err(|error| refuse(error.to_string()))?;
        Ok(ScramCredentialUpsertion::default()
            .with_name(text(&self.user))
            .with_mechanism(self.mechanism.number())
            .with_iterations(self.iterations.cast_signed())
            .with_salt(Bytes::from(salted.salt))
            // Owned by the bytes, and so wiped with the last of them.
            .with_salted_password(Bytes::from_owner(salted.password)))
    }
}

fn credentials(result: &DescribeUserScramCredentialsResult) -> Result<UserCredentials, AdminError> {
    check(result.error_code, result.error_message.as_ref())?;
    let infos = result.credential_infos.iter();
    Ok(UserCredentials {
        user: result.user.to_string(),
        credentials: infos.map(|info| (ScramMechanism::of_number(info.mechanism), info.iterations)).collect(),
    })
}
