//! The last door before a cluster: no write gets through to one that is not registered, or that is only looked at.
//!
//! In: everything that is asked of a cluster. Out: reads as they are; writes if the cluster's mode, as the store has it at that
//! moment, allows them. Never: a write because somebody above forgot to look.

use std::sync::Arc;

use uuid::Uuid;

use super::kafka::acls::{AclBinding, AclFilter};
use super::kafka::cluster::ClusterDescription;
use super::kafka::configs::{ConfigChange, ConfigEntry, ConfigResource};
use super::kafka::groups::{CommittedOffset, GroupDescription, GroupListing};
use super::kafka::log_dirs::LogDir;
use super::kafka::offsets::OffsetQuery;
use super::kafka::quotas::{Quota, QuotaChange, QuotaFilter};
use super::kafka::scram::ScramMechanism;
use super::kafka::topics::{CreatedTopic, NewTopic, TopicDescription};
use super::kafka::users::{NewCredential, UserCredentials};
use super::kafka::{AdminError, Answer, Each, KafkaAdmin, Mode};
use super::resource::{ClusterMode, Kind, ResourceId, Spec};
use super::store::Store;

/// A cluster behind the door.
pub struct Gate {
    cluster: ResourceId,
    store: Store,
    inner: Arc<dyn KafkaAdmin>,
}

impl Gate {
    /// Puts the door before a cluster of this name.
    pub fn new(cluster: &str, store: Store, inner: Arc<dyn KafkaAdmin>) -> Gate {
        Gate { cluster: ResourceId::of(Kind::Cluster, cluster), store, inner }
    }

    /// Whether a write may pass now.
    async fn open(&self) -> Result<(), AdminError> {
        let name = &self.cluster.name;
        let row = self.store.resource(&self.cluster).await.map_err(|error| AdminError::Unreachable {
            broker: format!("cluster `{name}`"),
            reason: format!("whether it may be written to is not known: {error}"),
        })?;
        let refuse = |why: &str| Err(AdminError::NotSupported { what: format!("a change of cluster `{name}`: {why}") });
        match row.map(|row| row.spec) {
            Some(Spec::Cluster(spec)) if spec.mode != ClusterMode::Observe => Ok(()),
            Some(_) => refuse("it is only looked at (mode `observe`)"),
            None => refuse("it is not registered"),
        }
    }

    fn write<'a, T: Send + 'a>(
        &'a self,
        change: impl FnOnce(&'a dyn KafkaAdmin) -> Answer<'a, T> + Send + 'a,
    ) -> Answer<'a, T> {
        Box::pin(async move {
            self.open().await?;
            change(&*self.inner).await
        })
    }
}

impl KafkaAdmin for Gate {
    fn describe_cluster(&self) -> Answer<'_, ClusterDescription> {
        self.inner.describe_cluster()
    }

    fn list_topics(&self) -> Answer<'_, Each<TopicDescription>> {
        self.inner.list_topics()
    }

    fn describe_topics<'a>(&'a self, names: &'a [String]) -> Answer<'a, Each<TopicDescription>> {
        self.inner.describe_topics(names)
    }

    fn create_topics<'a>(&'a self, topics: &'a [NewTopic], mode: Mode) -> Answer<'a, Each<CreatedTopic>> {
        self.write(move |inner| inner.create_topics(topics, mode))
    }

    fn delete_topics<'a>(&'a self, ids: &'a [Uuid]) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.delete_topics(ids))
    }

    fn create_partitions<'a>(&'a self, topics: &'a [(String, i32)], mode: Mode) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.create_partitions(topics, mode))
    }

    fn list_offsets<'a>(&'a self, queries: &'a [OffsetQuery]) -> Answer<'a, Each<Option<i64>>> {
        self.inner.list_offsets(queries)
    }

    fn describe_configs<'a>(&'a self, resources: &'a [ConfigResource]) -> Answer<'a, Each<Vec<ConfigEntry>>> {
        self.inner.describe_configs(resources)
    }

    fn alter_configs<'a>(&'a self, changes: &'a [ConfigChange], mode: Mode) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.alter_configs(changes, mode))
    }

    fn create_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.create_acls(bindings))
    }

    fn describe_acls<'a>(&'a self, filter: &'a AclFilter) -> Answer<'a, Vec<AclBinding>> {
        self.inner.describe_acls(filter)
    }

    fn delete_acls<'a>(&'a self, bindings: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.delete_acls(bindings))
    }

    fn list_users(&self) -> Answer<'_, Vec<UserCredentials>> {
        self.inner.list_users()
    }

    fn describe_users<'a>(&'a self, users: &'a [String]) -> Answer<'a, Each<UserCredentials>> {
        self.inner.describe_users(users)
    }

    fn upsert_credentials<'a>(&'a self, credentials: &'a [NewCredential]) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.upsert_credentials(credentials))
    }

    fn delete_credentials<'a>(&'a self, credentials: &'a [(String, ScramMechanism)]) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.delete_credentials(credentials))
    }

    fn describe_quotas<'a>(&'a self, filter: &'a QuotaFilter) -> Answer<'a, Vec<Quota>> {
        self.inner.describe_quotas(filter)
    }

    fn alter_quotas<'a>(&'a self, changes: &'a [QuotaChange], mode: Mode) -> Answer<'a, Each<()>> {
        self.write(move |inner| inner.alter_quotas(changes, mode))
    }

    fn describe_log_dirs<'a>(&'a self, brokers: &'a [i32]) -> Answer<'a, Each<Vec<LogDir>>> {
        self.inner.describe_log_dirs(brokers)
    }

    fn list_groups(&self) -> Answer<'_, Vec<GroupListing>> {
        self.inner.list_groups()
    }

    fn describe_groups<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<GroupDescription>> {
        self.inner.describe_groups(groups)
    }

    fn group_offsets<'a>(&'a self, groups: &'a [String]) -> Answer<'a, Each<Vec<CommittedOffset>>> {
        self.inner.group_offsets(groups)
    }
}
