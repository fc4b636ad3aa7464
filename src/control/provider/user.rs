//! Kafka users: a password is made, sealed, given to Kafka, and tried by logging in with it.
//!
//! Never: a password in a step, a log line, an error or the audit log; a password that replaces another one unless a new generation
//! was asked for; a user's credential deleted: Kafka 4.1 and 4.3 brokers that restart after such a deletion may let no SCRAM user
//! log in any more. Its access is taken away and its password replaced by one that nobody knows.

use serde::{Deserialize, Serialize};

use super::{Answer, Comparison, Observed, Provider, Reach, Step, StepError, check_cluster, check_service, read_wish};
use crate::config::{Sasl, Secret};
use crate::control::kafka::scram::ScramMechanism;
use crate::control::kafka::users::NewCredential;
use crate::control::kafka::{AdminError, KafkaAdmin as _, KafkaClient};
use crate::control::policy::Facts;
use crate::control::resource::{Found, Kind, Mechanism, ResourceId, Spec, UserSpec, Violation, rule};
use crate::control::seal;
use crate::control::sink::{Delivery, Sinks};
use crate::control::store::{self, Need};
use crate::control::world::{Change, World};

/// How often a password is hashed by whoever checks it. Kafka's least is 4,096.
const ITERATIONS: u32 = 8_192;

/// The provider of Kafka users.
#[derive(Default)]
pub struct UserProvider {
    sinks: Sinks,
}

/// What a step wishes of a user.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
enum Wish {
    /// It logs in with the password of this generation, which this reader may read once.
    Login {
        mechanism: Mechanism,
        generation: u32,
        reader: String,
        /// Where it is put, in place of being read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        put: Option<PutInto>,
    },
    /// Nobody knows its password any more.
    LockOut { mechanism: Mechanism },
}

/// Where a password is put.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct PutInto {
    sink: String,
    service: String,
}

/// A user as Kafka and our store have it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Seen {
    /// Mechanisms that Kafka has a credential for.
    mechanisms: Vec<Mechanism>,
    /// The newest password that a login has proved.
    verified: Option<u32>,
    /// Whether it was locked out.
    locked: bool,
}

impl UserProvider {
    /// A provider that can put passwords into these sinks.
    pub fn with(sinks: Sinks) -> UserProvider {
        UserProvider { sinks }
    }

    fn spec(change: &Change) -> Option<&UserSpec> {
        match &change.desired {
            Some(Spec::User(user)) => Some(user),
            _ => None,
        }
    }

    /// Gives Kafka the password of this generation, logs in with it, and puts it where it is wanted.
    async fn set(&self, id: &ResourceId, wish: NewPassword<'_>, reach: &Reach) -> Result<(), StepError> {
        let NewPassword { mechanism, generation, reader, put } = wish;
        let of = format!("{id}#{generation}");
        let known = reach.store.sealed_secret(&id.to_string(), i64::from(generation)).await?;
        let password = match known {
            Some(sealed) => reach.sealer.open(&sealed, &of).map_err(conflict)?,
            None => {
                // Written down before Kafka has it: whoever goes on after a crash gives Kafka the same one.
                let password = seal::password().map_err(conflict)?;
                let sealed = reach.sealer.seal(&password, &of).map_err(conflict)?;
                let secret = store::Secret {
                    resource: id.to_string(),
                    generation: i64::from(generation),
                    sealed: Some(sealed),
                    digest: None,
                    reader: reader.to_owned(),
                    expires_ms: None,
                };
                let mut tx = reach.store.begin().await?;
                tx.put_secret(&secret).await?;
                tx.commit().await?;
                password
            }
        };
        let secret = Secret::new((*password).clone());
        upsert(id, mechanism, secret.clone(), reach).await?;
        Self::prove(id, mechanism, secret.clone(), reach).await?;
        if let Some(PutInto { sink: name, service }) = put {
            let sink = self.sinks.find(name).ok_or_else(|| conflict(format!("there is no sink `{name}` any more")))?;
            let (cluster, user) = (id.cluster.as_deref().unwrap_or_default(), id.name.as_str());
            let mechanism = scram(mechanism).sasl_name();
            sink.put(Delivery { service, cluster, user, generation, mechanism, password: &secret }).await?;
        }
        let mut tx = reach.store.begin().await?;
        tx.verify_secret(&id.to_string(), i64::from(generation)).await?;
        if put.is_some() {
            // It is where it was wanted: nobody reads it here any more.
            tx.take_secret(&id.to_string(), i64::from(generation), reader).await?;
        }
        tx.commit().await?;
        Ok(())
    }

    /// Logs in with a password. A cluster that nobody can log in to takes what it was given.
    async fn prove(id: &ResourceId, mechanism: Mechanism, password: Secret, reach: &Reach) -> Result<(), StepError> {
        let cluster = id.cluster.as_deref().unwrap_or_default();
        let Some(settings) = reach.settings.get(cluster) else { return Ok(()) };
        let sasl =
            Sasl::Password { mechanism: scram(mechanism).sasl_name().to_owned(), username: id.name.clone(), password };
        let mut settings = settings.clone();
        settings.sasl = Some(sasl);
        let client = KafkaClient::new(settings).map_err(conflict)?;
        // Brokers learn of a credential a little later than the controller; until then the login is refused.
        let until = tokio::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match client.describe_cluster().await {
                Ok(_) => return Ok(()),
                // A user without access may log in and see nothing: that is what was to be proved.
                Err(AdminError::Forbidden(_)) => return Ok(()),
                Err(error @ AdminError::LoginRefused(_)) if tokio::time::Instant::now() >= until => {
                    return Err(error.into());
                }
                Err(AdminError::LoginRefused(_)) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The password that a user is to have.
struct NewPassword<'w> {
    mechanism: Mechanism,
    generation: u32,
    reader: &'w str,
    put: Option<&'w PutInto>,
}

impl Provider for UserProvider {
    fn kind(&self) -> Kind {
        Kind::User
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        Self::spec(change).map(|user| ResourceId::of(Kind::Service, &user.service)).into_iter().collect()
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let mut found = Found::of(&change.id);
        check_cluster(&mut found, world, "users");
        let Some(user) = Self::spec(change) else { return found.violations() };
        check_service(&mut found, world, &user.service);
        if let Some(Spec::User(before)) = world.before(&change.id).map(|resource| &resource.spec) {
            if user.generation < before.generation {
                let problem =
                    format!("its password is of generation {}, and none before it comes back", before.generation);
                found.add("generation", rule::NO_WAY_BACK, problem, "a greater number makes a new password");
            }
            if user.mechanism != before.mechanism && user.generation == before.generation {
                let problem = "another mechanism needs a new password".to_owned();
                found.add("mechanism", rule::NEEDS_ROTATION, problem, "raise `generation` with it");
            }
        }
        if let Some(sink) = user.sink.as_deref().filter(|sink| self.sinks.find(sink).is_none()) {
            let names = self.sinks.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            let names = if names.is_empty() { "there are none".to_owned() } else { format!("there are {names}") };
            let fix = format!("{names}; without a sink whoever asks reads the password once");
            found.add("sink", rule::UNKNOWN_SINK, format!("there is no sink `{sink}`"), fix);
        }
        found.violations()
    }

    fn facts(&self, _: &Change, _: &World, _: &mut Facts) {}

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let name = &change.id.name;
        let step = |wish: Wish, summary: String| Step {
            target: change.id.clone(),
            is_destructive: matches!(wish, Wish::LockOut { .. }),
            wish: serde_json::to_value(wish).expect("a wish has string keys"),
            summary,
        };
        let Some(user) = Self::spec(change) else {
            let before = world.before(&change.id).map(|resource| &resource.spec);
            return match before {
                Some(Spec::User(user)) => {
                    let wish = Wish::LockOut { mechanism: user.mechanism };
                    vec![step(wish, format!("lock user {name} out"))]
                }
                _ => vec![],
            };
        };
        let wish = Wish::Login {
            mechanism: user.mechanism,
            generation: user.generation,
            reader: world.requester().to_owned(),
            put: user.sink.clone().map(|sink| PutInto { sink, service: user.service.clone() }),
        };
        if compare(&wish, read(observed).as_ref()) == Comparison::Same {
            return vec![];
        }
        vec![step(wish, format!("make password {} of user {name} and log in with it", user.generation))]
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move {
            let described = reach.cluster(id)?.describe_users(std::slice::from_ref(&id.name)).await?;
            let credentials = match described.into_iter().next() {
                Some(Ok(user)) => user.credentials,
                Some(Err(AdminError::NotFound(_))) | None => vec![],
                Some(Err(error)) => return Err(error.into()),
            };
            let has = |mechanism| credentials.iter().any(|(known, _)| *known == scram(mechanism));
            let known = [Mechanism::ScramSha256, Mechanism::ScramSha512];
            let mechanisms: Vec<Mechanism> = known.into_iter().filter(|mechanism| has(*mechanism)).collect();
            if mechanisms.is_empty() {
                return Ok(Observed::Absent);
            }
            let state = reach.store.secret_state(&id.to_string()).await?;
            let verified = state.verified.map(|generation| generation as u32);
            let seen = Seen { mechanisms, verified, locked: state.locked };
            Ok(Observed::Present(serde_json::to_value(seen).expect("what is seen has string keys")))
        })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        match read_wish::<Wish>(step) {
            Ok(wish) => compare(&wish, read(observed).as_ref()),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            let id = &step.target;
            match read_wish(step).map_err(StepError::Conflict)? {
                Wish::Login { mechanism, generation, reader, put } => {
                    let wish = NewPassword { mechanism, generation, reader: &reader, put: put.as_ref() };
                    self.set(id, wish, reach).await
                }
                Wish::LockOut { mechanism } => {
                    let password = seal::password().map_err(conflict)?;
                    upsert(id, mechanism, Secret::new((*password).clone()), reach).await?;
                    let mut tx = reach.store.begin().await?;
                    tx.lock_secrets(&id.to_string()).await?;
                    Ok(tx.commit().await?)
                }
            }
        })
    }
}

/// Gives Kafka this password of a user.
async fn upsert(id: &ResourceId, mechanism: Mechanism, password: Secret, reach: &Reach) -> Result<(), StepError> {
    let (user, mechanism) = (id.name.clone(), scram(mechanism));
    let credential = NewCredential { user, mechanism, iterations: ITERATIONS, password };
    let done = reach.cluster(id)?.upsert_credentials(&[credential]).await?;
    Ok(done.into_iter().next().unwrap_or(Ok(()))?)
}

fn conflict(error: impl std::fmt::Display) -> StepError {
    StepError::Conflict(error.to_string())
}

fn compare(wish: &Wish, seen: Option<&Seen>) -> Comparison {
    let same = |is_same: bool| if is_same { Comparison::Same } else { Comparison::Different };
    match (wish, seen) {
        (Wish::Login { mechanism, generation, .. }, Some(seen)) => {
            same(seen.mechanisms.contains(mechanism) && seen.verified == Some(*generation) && !seen.locked)
        }
        (Wish::Login { .. }, None) => Comparison::Different,
        (Wish::LockOut { .. }, seen) => same(seen.is_none_or(|seen| seen.locked)),
    }
}

fn read(observed: &Observed) -> Option<Seen> {
    match observed {
        Observed::Absent => None,
        Observed::Present(value) => serde_json::from_value(value.clone()).ok(),
    }
}

fn scram(mechanism: Mechanism) -> ScramMechanism {
    match mechanism {
        Mechanism::ScramSha256 => ScramMechanism::Sha256,
        Mechanism::ScramSha512 => ScramMechanism::Sha512,
    }
}
