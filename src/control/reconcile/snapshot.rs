//! A cluster as it is at one moment: all topics, configs, access rules, users, quotas and log directories, by a few large calls.
//!
//! In: a cluster. Out: a [`Snapshot`], which answers every question of a provider as the cluster would have, so that ten thousand
//! resources are looked at without ten thousand calls. Never: an *absent* for what was not seen whole: a part that could not be
//! read answers with the error of that reading; a change.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use uuid::Uuid;

use crate::control::kafka::acls::{AclBinding, AclFilter};
use crate::control::kafka::cluster::ClusterDescription;
use crate::control::kafka::configs::{ConfigChange, ConfigEntry, ConfigResource, ConfigSource};
use crate::control::kafka::groups::{CommittedOffset, GroupDescription, GroupListing};
use crate::control::kafka::log_dirs::{LogDir, Replica};
use crate::control::kafka::offsets::OffsetQuery;
use crate::control::kafka::quotas::{Quota, QuotaChange, QuotaFilter, QuotaMatch, QuotaName};
use crate::control::kafka::scram::ScramMechanism;
use crate::control::kafka::topics::{CreatedTopic, NewTopic, TopicDescription};
use crate::control::kafka::users::{NewCredential, UserCredentials};
use crate::control::kafka::{AdminError, Answer, Each, KafkaAdmin, Mode};
use crate::control::store::now_ms;

/// Topics whose configs are asked for at a time: what comes back of 500 is some 1 MB, of which little is kept.
const TOPICS_PER_CALL: usize = 500;
/// Users asked for by name at a time.
const USERS_PER_CALL: usize = 500;
/// Configs that are kept although the topic does not set them: what a topic may take, and who may write to it.
pub(super) const EFFECTIVE: [&str; 7] = [
    "cleanup.policy",
    "max.message.bytes",
    "min.insync.replicas",
    "retention.bytes",
    "retention.ms",
    "segment.bytes",
    "segment.ms",
];

/// What was there.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// When the first question was asked, milliseconds since 1970: what was made since then may be missing.
    pub begun_ms: i64,
    /// The cluster.
    pub cluster: ClusterDescription,
    topics: Result<BTreeMap<String, TopicDescription>, AdminError>,
    /// Why some topics may be missing.
    partial: Option<AdminError>,
    /// Topics that may be there or not, and why that is not known.
    hidden: HashMap<String, AdminError>,
    configs: HashMap<String, Result<Vec<ConfigEntry>, AdminError>>,
    /// By principal.
    acls: Result<HashMap<String, Vec<AclBinding>>, AdminError>,
    users: Result<BTreeMap<String, UserCredentials>, AdminError>,
    /// By user; those that are about no user under the empty name.
    quotas: Result<BTreeMap<String, Vec<Quota>>, AdminError>,
    log_dirs: BTreeMap<i32, Result<Vec<LogDir>, AdminError>>,
}

/// The parts of a snapshot, as a cluster answers them.
#[derive(Clone, Debug)]
pub struct Parts {
    /// The cluster.
    pub cluster: ClusterDescription,
    /// Its topics.
    pub topics: Result<Each<TopicDescription>, AdminError>,
    /// Its access rules.
    pub acls: Result<Vec<AclBinding>, AdminError>,
    /// Its users.
    pub users: Result<Vec<UserCredentials>, AdminError>,
    /// Its quotas.
    pub quotas: Result<Vec<Quota>, AdminError>,
    /// Its log directories, by broker.
    pub log_dirs: BTreeMap<i32, Result<Vec<LogDir>, AdminError>>,
}

impl Snapshot {
    /// Takes one. Of users that cannot be listed, and of topics that are missing in the list, those of these names are asked for. An
    /// error: nothing was seen.
    pub async fn take(admin: &dyn KafkaAdmin, topics: &[String], users: &[String]) -> Result<Snapshot, AdminError> {
        let known = topics;
        let begun_ms = now_ms();
        let cluster = admin.describe_cluster().await?;
        let ids: Vec<i32> = cluster.brokers.iter().map(|broker| broker.id).collect();
        let (rules, limits) = (AclFilter::default(), QuotaFilter::default());
        let (topics, acls, users, quotas, dirs) = tokio::join!(
            admin.list_topics(),
            admin.describe_acls(&rules),
            list_users(admin, users),
            admin.describe_quotas(&limits),
            admin.describe_log_dirs(&ids),
        );
        let log_dirs = match dirs {
            Ok(each) => ids.into_iter().zip(each).collect(),
            Err(error) => ids.into_iter().map(|id| (id, Err(error.clone()))).collect(),
        };
        let mut snapshot = Snapshot::of(begun_ms, Parts { cluster, topics, acls, users, quotas, log_dirs });
        snapshot.ask_for(admin, known).await;
        let names: Vec<String> = snapshot.topics().map(|topic| topic.name.clone()).collect();
        for names in names.chunks(TOPICS_PER_CALL) {
            let resources: Vec<_> = names.iter().cloned().map(ConfigResource::Topic).collect();
            let described = admin.describe_configs(&resources).await;
            let described = described.unwrap_or_else(|error| names.iter().map(|_| Err(error.clone())).collect());
            for (name, configs) in names.iter().zip(described) {
                snapshot.add_configs(name, configs);
            }
        }
        Ok(snapshot)
    }

    /// Asks for topics by name that are missing in the list: a list leaves out what our user may not see, and says nothing of it.
    async fn ask_for(&mut self, admin: &dyn KafkaAdmin, known: &[String]) {
        let Ok(topics) = &mut self.topics else { return };
        let missing: Vec<String> = known.iter().filter(|name| !topics.contains_key(*name)).cloned().collect();
        for names in missing.chunks(TOPICS_PER_CALL) {
            let described = admin.describe_topics(names).await;
            let described = described.unwrap_or_else(|error| names.iter().map(|_| Err(error.clone())).collect());
            for (name, topic) in names.iter().zip(described) {
                match topic {
                    Ok(topic) => drop(topics.insert(name.clone(), topic)),
                    Err(AdminError::NotFound(_)) => {}
                    Err(error) => drop(self.hidden.insert(name.clone(), error)),
                }
            }
        }
    }

    /// One of these parts, without configs.
    pub fn of(begun_ms: i64, parts: Parts) -> Snapshot {
        let Parts { cluster, topics, acls, users, quotas, log_dirs } = parts;
        let mut partial = None;
        let topics = topics.map(|each| {
            let seen = each.into_iter().filter_map(|topic| match topic {
                Ok(topic) => Some((topic.name.clone(), topic)),
                Err(error) => {
                    // Which topic it is about is not told.
                    partial = Some(error);
                    None
                }
            });
            seen.collect()
        });
        let by_principal = |acls: Vec<AclBinding>| {
            let mut map: HashMap<String, Vec<AclBinding>> = HashMap::new();
            acls.into_iter().for_each(|acl| map.entry(acl.principal.clone()).or_default().push(acl));
            map
        };
        let by_user = |quotas: Vec<Quota>| {
            let mut map: BTreeMap<String, Vec<Quota>> = BTreeMap::new();
            quotas.into_iter().for_each(|quota| map.entry(user_of(&quota)).or_default().push(quota));
            map
        };
        Snapshot {
            begun_ms,
            cluster,
            topics,
            partial,
            hidden: HashMap::new(),
            configs: HashMap::new(),
            acls: acls.map(by_principal),
            users: users.map(|users| users.into_iter().map(|user| (user.user.clone(), user)).collect()),
            quotas: quotas.map(by_user),
            log_dirs,
        }
    }

    /// Adds what a topic's configs are; kept is what the topic sets itself, and those few whose defaults matter.
    pub fn add_configs(&mut self, topic: &str, configs: Result<Vec<ConfigEntry>, AdminError>) {
        let is_kept = |entry: &ConfigEntry| {
            entry.source == ConfigSource::Topic || EFFECTIVE.binary_search(&entry.name.as_str()).is_ok()
        };
        let kept = configs.map(|entries| entries.into_iter().filter(is_kept).collect());
        self.configs.insert(topic.to_owned(), kept);
    }

    /// Topics that were seen.
    pub fn topics(&self) -> impl Iterator<Item = &TopicDescription> {
        self.topics.iter().flat_map(BTreeMap::values)
    }

    /// A topic that was seen.
    pub fn topic(&self, name: &str) -> Option<&TopicDescription> {
        self.topics.as_ref().ok()?.get(name)
    }

    /// The value of one of a topic's configs, wherever it comes from.
    pub fn config(&self, topic: &str, key: &str) -> Option<&str> {
        let entries = self.configs.get(topic)?.as_ref().ok()?;
        entries.iter().find(|entry| entry.name == key)?.value.as_deref()
    }

    /// Users that were seen.
    pub fn users(&self) -> impl Iterator<Item = &UserCredentials> {
        self.users.iter().flat_map(BTreeMap::values)
    }

    /// Access rules that were seen.
    pub fn acls(&self) -> impl Iterator<Item = &AclBinding> {
        self.acls.iter().flat_map(HashMap::values).flatten()
    }

    /// Whether access rules were seen: not where there is no authorizer.
    pub fn has_acls(&self) -> bool {
        self.acls.is_ok()
    }

    /// Quotas that were seen.
    pub fn quotas(&self) -> impl Iterator<Item = &Quota> {
        self.quotas.iter().flat_map(BTreeMap::values).flatten()
    }

    /// Replicas on disk, with their broker.
    pub fn replicas(&self) -> impl Iterator<Item = (i32, &Replica)> {
        let dirs = self.log_dirs.iter().filter_map(|(broker, dirs)| Some((*broker, dirs.as_ref().ok()?)));
        dirs.flat_map(|(broker, dirs)| dirs.iter().flat_map(move |dir| dir.replicas.iter().map(move |r| (broker, r))))
    }

    /// Brokers that should have a replica of something, whether they are up or not.
    pub fn brokers_with_replicas(&self) -> BTreeSet<i32> {
        self.topics().flat_map(|topic| &topic.partitions).flat_map(|partition| &partition.replicas).copied().collect()
    }

    /// What of it could not be read whole, by what it is.
    pub fn unknown(&self) -> BTreeMap<&'static str, &AdminError> {
        let parts = [
            ("topics", self.topics.as_ref().err().or(self.partial.as_ref()).or_else(|| self.hidden.values().next())),
            ("configs", self.configs.values().find_map(|configs| configs.as_ref().err())),
            ("access rules", self.acls.as_ref().err()),
            ("users", self.users.as_ref().err()),
            ("quotas", self.quotas.as_ref().err()),
            ("log directories", self.log_dirs.values().find_map(|dirs| dirs.as_ref().err())),
        ];
        parts.into_iter().filter_map(|(what, error)| Some((what, error?))).collect()
    }

    fn describe_one(&self, name: &str) -> Result<TopicDescription, AdminError> {
        let topics = self.topics.as_ref().map_err(Clone::clone)?;
        match (topics.get(name), self.hidden.get(name).or(self.partial.as_ref())) {
            (Some(topic), _) => Ok(topic.clone()),
            (None, Some(error)) => Err(error.clone()),
            (None, None) => Err(AdminError::absent("no such topic")),
        }
    }
}

/// Every user; of a cluster that does not list them to us, those of these names.
async fn list_users(admin: &dyn KafkaAdmin, names: &[String]) -> Result<Vec<UserCredentials>, AdminError> {
    let refused = match admin.list_users().await {
        Err(error @ (AdminError::Timeout { .. } | AdminError::Forbidden(_))) => error,
        listed => return listed,
    };
    let mut users = Vec::new();
    for names in names.chunks(USERS_PER_CALL) {
        for user in admin.describe_users(names).await? {
            match user {
                Ok(user) => users.push(user),
                Err(AdminError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    // Nobody was asked for, so that nothing was seen.
    if names.is_empty() { Err(refused) } else { Ok(users) }
}

fn user_of(quota: &Quota) -> String {
    match &quota.entity.user {
        Some(QuotaName::Name(user)) => user.clone(),
        Some(QuotaName::Default) | None => String::new(),
    }
}

/// A change of what was: nobody can.
fn refuse<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(AdminError::NotSupported { what: "a snapshot is not changed".to_owned() }) })
}

/// What a snapshot does not have.
fn not_kept<'a, T: Send + 'a>() -> Answer<'a, T> {
    Box::pin(async { Err(AdminError::NotSupported { what: "a snapshot has no groups and no offsets".to_owned() }) })
}

fn now<'a, T: Send + 'a>(answer: Result<T, AdminError>) -> Answer<'a, T> {
    Box::pin(std::future::ready(answer))
}

impl KafkaAdmin for Snapshot {
    fn describe_cluster(&self) -> Answer<'_, ClusterDescription> {
        now(Ok(self.cluster.clone()))
    }

    fn list_topics(&self) -> Answer<'_, Each<TopicDescription>> {
        let listed = self.topics.as_ref().map_err(Clone::clone);
        now(listed.map(|topics| topics.values().cloned().map(Ok).collect()))
    }

    fn describe_topics<'a>(&'a self, names: &'a [String]) -> Answer<'a, Each<TopicDescription>> {
        now(Ok(names.iter().map(|name| self.describe_one(name)).collect()))
    }

    fn describe_configs<'a>(&'a self, resources: &'a [ConfigResource]) -> Answer<'a, Each<Vec<ConfigEntry>>> {
        let one = |resource: &ConfigResource| match resource {
            ConfigResource::Topic(name) => {
                let absent = || Err(AdminError::absent("no such topic"));
                self.configs.get(name).cloned().unwrap_or_else(absent)
            }
            _ => Err(AdminError::NotSupported { what: "a snapshot has configs of topics only".to_owned() }),
        };
        now(Ok(resources.iter().map(one).collect()))
    }

    fn describe_acls<'a>(&'a self, filter: &'a AclFilter) -> Answer<'a, Vec<AclBinding>> {
        let matching = self.acls.as_ref().map_err(Clone::clone).map(|acls| match &filter.principal {
            Some(principal) => {
                let own = acls.get(principal).into_iter().flatten();
                own.filter(|acl| filter.matches(acl)).cloned().collect()
            }
            None => acls.values().flatten().filter(|acl| filter.matches(acl)).cloned().collect(),
        });
        now(matching)
    }

    fn list_users(&self) -> Answer<'_, Vec<UserCredentials>> {
        now(self.users.as_ref().map_err(Clone::clone).map(|users| users.values().cloned().collect()))
    }

    fn describe_users<'a>(&'a self, users: &'a [String]) -> Answer<'a, Each<UserCredentials>> {
        let known = self.users.as_ref().map_err(Clone::clone);
        let absent = || AdminError::absent("no such user");
        now(known.map(|known| users.iter().map(|user| known.get(user).cloned().ok_or_else(absent)).collect()))
    }

    fn describe_quotas<'a>(&'a self, filter: &'a QuotaFilter) -> Answer<'a, Vec<Quota>> {
        let is_alone = |quota: &&Quota| !filter.strict || quota.entity.client_id.is_none() && quota.entity.ip.is_none();
        now(match (&self.quotas, filter) {
            (Err(error), _) => Err(error.clone()),
            (Ok(quotas), QuotaFilter { user: Some(QuotaMatch::Exactly(user)), client_id: None, ip: None, .. }) => {
                Ok(quotas.get(user).into_iter().flatten().filter(is_alone).cloned().collect())
            }
            (Ok(quotas), filter) if *filter == QuotaFilter::default() => {
                Ok(quotas.values().flatten().cloned().collect())
            }
            _ => Err(AdminError::NotSupported { what: "a snapshot has quotas by user".to_owned() }),
        })
    }

    fn describe_log_dirs<'a>(&'a self, brokers: &'a [i32]) -> Answer<'a, Each<Vec<LogDir>>> {
        let one = |broker: &i32| {
            let absent = || Err(AdminError::absent("no such broker"));
            self.log_dirs.get(broker).cloned().unwrap_or_else(absent)
        };
        now(Ok(brokers.iter().map(one).collect()))
    }

    fn list_offsets<'a>(&'a self, _: &'a [OffsetQuery]) -> Answer<'a, Each<Option<i64>>> {
        not_kept()
    }

    fn list_groups(&self) -> Answer<'_, Vec<GroupListing>> {
        not_kept()
    }

    fn describe_groups<'a>(&'a self, _: &'a [String]) -> Answer<'a, Each<GroupDescription>> {
        not_kept()
    }

    fn group_offsets<'a>(&'a self, _: &'a [String]) -> Answer<'a, Each<Vec<CommittedOffset>>> {
        not_kept()
    }

    fn create_topics<'a>(&'a self, _: &'a [NewTopic], _: Mode) -> Answer<'a, Each<CreatedTopic>> {
        refuse()
    }

    fn delete_topics<'a>(&'a self, _: &'a [Uuid]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn create_partitions<'a>(&'a self, _: &'a [(String, i32)], _: Mode) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn alter_configs<'a>(&'a self, _: &'a [ConfigChange], _: Mode) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn create_acls<'a>(&'a self, _: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn delete_acls<'a>(&'a self, _: &'a [AclBinding]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn upsert_credentials<'a>(&'a self, _: &'a [NewCredential]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn delete_credentials<'a>(&'a self, _: &'a [(String, ScramMechanism)]) -> Answer<'a, Each<()>> {
        refuse()
    }

    fn alter_quotas<'a>(&'a self, _: &'a [QuotaChange], _: Mode) -> Answer<'a, Each<()>> {
        refuse()
    }
}
