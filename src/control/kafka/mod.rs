//! Administration of a Kafka cluster: typed calls, one result per item, in the order asked.
//!
//! In: topics, configs, access rules, users and quotas to make, change or describe. Out: what the cluster says, or an
//! [`AdminError`] that says what to do about it. Never: resends a change that may have been made, shows a password, asks for
//! the legacy `AlterConfigs` (it resets every key that is not named), creates a topic by asking for it.
//!
//! [`KafkaAdmin`] is the contract; [`KafkaClient`] is the implementation over the wire, on the codec crate `kafka-protocol`,
//! which is named nowhere else. The structs of the protocol come from Kafka's own schemas; the small numbers (kinds of access
//! rules, sources of configs, mechanisms) are ours, and each is pinned against independent clients in `tests/it/kafka_admin`.
//!
//! A broker answers reads from its own copy of the metadata: for some 100 ms after a change a read may not show it.
//!
//! | file | subject |
//! |---|---|
//! | `error` | what a call fails with, by what a caller does about it |
//! | `client` | which broker a call goes to, connections kept, what is tried again |
//! | `connection`, `login`, `scram`, `tls` | one connection: frames, versions, SASL, encryption |
//! | `cluster`, `topics`, `offsets`, `configs`, `acls`, `users`, `quotas`, `log_dirs`, `groups` | one kind of call each |
//! | `numbers`, `each` | enums of the wire; results in the order asked |

use std::future::Future;
use std::pin::Pin;

use uuid::Uuid;

mod numbers;
mod each;
pub mod error;
mod client;
mod connection;
mod login;
pub mod scram;
mod tls;
pub mod cluster;
pub mod topics;
pub mod offsets;
pub mod configs;
pub mod acls;
pub mod users;
pub mod quotas;
pub mod log_dirs;
pub mod groups;

pub use client::{KafkaClient, Settings, SetupError, Timeouts};
pub use error::{AdminError, Refusal};

use acls::{AclBinding, AclFilter};
use cluster::ClusterDescription;
use configs::{ConfigChange, ConfigEntry, ConfigResource};
use groups::{CommittedOffset, GroupDescription, GroupListing};
use log_dirs::LogDir;
use offsets::OffsetQuery;
use quotas::{Quota, QuotaChange, QuotaFilter};
use scram::ScramMechanism;
use topics::{CreatedTopic, NewTopic, TopicDescription};
use users::{NewCredential, UserCredentials};

/// The future of a call; it may be dropped, but then a change that was sent has an unknown outcome.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, AdminError>> + Send + 'a>>;

/// One result per item, in the order asked.
pub type Each<T> = Vec<Result<T, AdminError>>;

/// Whether a change is made or only checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Make it.
    Apply,
    /// Let the cluster check it and make nothing (`validate_only`).
    Validate,
}

/// What can be asked of, and done to, a Kafka cluster. A call that fails as a whole is `Err`; otherwise each item has a result
/// of its own, in the order asked.
///
/// Two kinds of clusters implement it: Kafka ([`KafkaClient`]), and the embedded brokers of `iguazu dev`, which answer
/// [`AdminError::NotSupported`] to everything about users, access and quotas.
pub trait KafkaAdmin: Send + Sync {
    /// Id, controller, and the brokers that are up.
    fn describe_cluster(&self) -> Answer<'_, ClusterDescription>;

    /// Every topic that the user may describe, internal ones too.
    fn list_topics(&self) -> Answer<'_, Each<TopicDescription>>;
    /// Topics by name.
    fn describe_topics<'a>(&'a self, names: &'a [String]) -> Answer<'a, Each<TopicDescription>>;
    /// Creates topics.
    fn create_topics<'a>(&'a self, topics: &'a [NewTopic], mode: Mode) -> Answer<'a, Each<CreatedTopic>>;
    /// Deletes topics by id, so that a topic which somebody deleted and made anew is never hit. Irreversible; the records go
    /// some time after the answer.
    fn delete_topics<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Each<()>>;
    /// Raises topics, by name, to so many partitions in all.
    fn create_partitions<'a>(&'a self, topics: &'a [(String, i32)], mode: Mode) -> Answer<'a, Each<()>>;
    /// Offsets of partitions, from their leaders; none when no record is that young.
    fn list_offsets<'a>(&'a self, queries: &'a [OffsetQuery]) -> Answer<'a, Each<Option<i64>>>;

    /// All configs of topics and brokers, with where each value comes from.
    fn describe_configs<'a>(&'a self, resources: &'a [ConfigResource]) -> Answer<'a, Each<Vec<ConfigEntry>>>;
    /// Sets and unsets single configs (`IncrementalAlterConfigs`); all of a resource or none.
    fn alter_configs<'a>(&'a self, changes: &'a [ConfigChange], mode: Mode) -> Answer<'a, Each<()>>;

    /// Adds access rules; one that is there already is fine.
    fn create_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>>;
    /// The access rules that a filter matches.
    fn describe_acls<'a>(&'a self, filter: &'a AclFilter) -> Answer<'a, Vec<AclBinding>>;
    /// Deletes exactly these access rules and never one more; one that is not there is [`AdminError::NotFound`].
    fn delete_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>>;

    /// Every SCRAM user. Needs the right to describe the cluster; without it Kafka may not answer at all, which is
    /// [`AdminError::Timeout`].
    fn list_users(&self) -> Answer<'_, Vec<UserCredentials>>;
    /// SCRAM users by name.
    fn describe_users<'a>(&'a self, users: &'a [String]) -> Answer<'a, Each<UserCredentials>>;
    /// Creates SCRAM credentials or replaces them. The password is salted here and never leaves the process.
    fn upsert_credentials<'a>(&'a self, credentials: &'a [NewCredential]) -> Answer<'a, Each<()>>;
    /// Deletes SCRAM credentials. On Kafka up to 4.3 a restart before the next metadata snapshot may then lock *all* users of the
    /// mechanism out; removing a user's access and giving it a random password is the safe way.
    fn delete_credentials<'a>(&'a self, credentials: &'a [(String, ScramMechanism)]) -> Answer<'a, Each<()>>;

    /// The client quotas that a filter matches.
    fn describe_quotas<'a>(&'a self, filter: &'a QuotaFilter) -> Answer<'a, Vec<Quota>>;
    /// Sets and unsets single values of client quotas.
    fn alter_quotas<'a>(&'a self, changes: &'a [QuotaChange], mode: Mode) -> Answer<'a, Each<()>>;

    /// The log directories of each broker: their size, and that of each replica in them.
    fn describe_log_dirs<'a>(&'a self, brokers: &'a [i32]) -> Answer<'a, Each<Vec<LogDir>>>;

    /// Every group that the user may describe; an error if one broker cannot be asked, since its groups would be missing.
    fn list_groups(&self) -> Answer<'_, Vec<GroupListing>>;
    /// State and members of consumer groups.
    fn describe_groups<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<GroupDescription>>;
    /// What consumer groups have committed.
    fn group_offsets<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<Vec<CommittedOffset>>>;
}

impl KafkaAdmin for KafkaClient {
    fn describe_cluster(&self) -> Answer<'_, ClusterDescription> {
        Box::pin(KafkaClient::describe_cluster(self))
    }

    fn list_topics(&self) -> Answer<'_, Each<TopicDescription>> {
        Box::pin(KafkaClient::list_topics(self))
    }

    fn describe_topics<'a>(&'a self, names: &'a [String]) -> Answer<'a, Each<TopicDescription>> {
        Box::pin(KafkaClient::describe_topics(self, names))
    }

    fn create_topics<'a>(&'a self, topics: &'a [NewTopic], mode: Mode) -> Answer<'a, Each<CreatedTopic>> {
        Box::pin(KafkaClient::create_topics(self, topics, mode))
    }

    fn delete_topics<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::delete_topics(self, ids))
    }

    fn create_partitions<'a>(&'a self, topics: &'a [(String, i32)], mode: Mode) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::create_partitions(self, topics, mode))
    }

    fn list_offsets<'a>(&'a self, queries: &'a [OffsetQuery]) -> Answer<'a, Each<Option<i64>>> {
        Box::pin(KafkaClient::list_offsets(self, queries))
    }

    fn describe_configs<'a>(&'a self, resources: &'a [ConfigResource]) -> Answer<'a, Each<Vec<ConfigEntry>>> {
        Box::pin(KafkaClient::describe_configs(self, resources))
    }

    fn alter_configs<'a>(&'a self, changes: &'a [ConfigChange], mode: Mode) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::alter_configs(self, changes, mode))
    }

    fn create_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::create_acls(self, bindings))
    }

    fn describe_acls<'a>(&'a self, filter: &'a AclFilter) -> Answer<'a, Vec<AclBinding>> {
        Box::pin(KafkaClient::describe_acls(self, filter))
    }

    fn delete_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::delete_acls(self, bindings))
    }

    fn list_users(&self) -> Answer<'_, Vec<UserCredentials>> {
        Box::pin(KafkaClient::list_users(self))
    }

    fn describe_users<'a>(&'a self, users: &'a [String]) -> Answer<'a, Each<UserCredentials>> {
        Box::pin(KafkaClient::describe_users(self, users))
    }

    fn upsert_credentials<'a>(&'a self, credentials: &'a [NewCredential]) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::upsert_credentials(self, credentials))
    }

    fn delete_credentials<'a>(&'a self, credentials: &'a [(String, ScramMechanism)]) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::delete_credentials(self, credentials))
    }

    fn describe_quotas<'a>(&'a self, filter: &'a QuotaFilter) -> Answer<'a, Vec<Quota>> {
        Box::pin(KafkaClient::describe_quotas(self, filter))
    }

    fn alter_quotas<'a>(&'a self, changes: &'a [QuotaChange], mode: Mode) -> Answer<'a, Each<()>> {
        Box::pin(KafkaClient::alter_quotas(self, changes, mode))
    }

    fn describe_log_dirs<'a>(&'a self, brokers: &'a [i32]) -> Answer<'a, Each<Vec<LogDir>>> {
        Box::pin(KafkaClient::describe_log_dirs(self, brokers))
    }

    fn list_groups(&self) -> Answer<'_, Vec<GroupListing>> {
        Box::pin(KafkaClient::list_groups(self))
    }

    fn describe_groups<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<GroupDescription>> {
        Box::pin(KafkaClient::describe_groups(self, groups))
    }

    fn group_offsets<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<Vec<CommittedOffset>>> {
        Box::pin(KafkaClient::group_offsets(self, groups))
    }
}
