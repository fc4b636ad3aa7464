//! What goes through topics, and how far groups are behind: offsets and sizes, looked at from time to time.
//!
//! In: topics, and a cluster. Out: [`Measured`], kept in the store from one look to the next. Never: a record; a look at more topics
//! at a time than one answer holds well.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::diagnose::Reader;
use super::history::{Look, Series, Traffic};
use super::room::Room;
use super::snapshot::Snapshot;
use super::{MEASURE_KEPT_MS, ROWS, ReconcileError, Reconciler, SPACING_MS};
use crate::control::kafka::offsets::{OffsetQuery, Which};
use crate::control::kafka::topics::TopicDescription;
use crate::control::kafka::{AdminError, KafkaAdmin};
use crate::control::probe::Probe;
use crate::control::resource::Kind;
use crate::control::store::{Lease, now_ms};
use crate::control::world::World;

/// Topics whose offsets are asked for at a time.
const TOPICS_PER_LOOK: usize = 500;
/// Groups whose offsets are asked for at a time.
const GROUPS_PER_LOOK: usize = 200;
/// What says when a cluster was measured last.
const MEASURED: &str = "measured";

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// What goes through each topic.
    pub traffic: HashMap<String, Traffic>,
    /// Who reads each topic; none when nobody looked this time.
    pub readers: Option<HashMap<String, Vec<Reader>>>,
}

/// First offsets and ends of a topic's partitions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ends(BTreeMap<i32, (i64, i64)>);

impl Ends {
    /// The sum of the first offsets.
    pub fn begin(&self) -> i64 {
        self.0.values().map(|(begin, _)| begin).sum()
    }

    /// The sum of the ends.
    pub fn end(&self) -> i64 {
        self.0.values().map(|(_, end)| end).sum()
    }
}

impl Reconciler {
    /// What is known of a cluster's topics; looked at anew when that is long ago.
    pub(super) async fn measure(
        &self,
        lease: &Lease,
        cluster: &str,
        world: &World,
        snapshot: &Arc<Snapshot>,
        seen: &Probe,
        room: &Room,
    ) -> Result<Measured, ReconcileError> {
        let traffic = self.store.measures::<Traffic>(cluster, "topic/").await?;
        let mut measured = Measured { traffic: traffic.into_iter().collect(), readers: None };
        let last: Option<i64> = self.store.measure(cluster, MEASURED).await?;
        let due = self.settings.measure_every.as_millis() as i64;
        let Some(admin) = self.reach.clusters.get(cluster) else { return Ok(measured) };
        if last.is_some_and(|last| now_ms() - last < due) {
            return Ok(measured);
        }
        let managed =
            world.resources().filter(|row| row.id.kind == Kind::Topic && row.id.cluster.as_deref() == Some(cluster));
        let topics: Vec<&TopicDescription> = managed.filter_map(|row| snapshot.topic(&row.id.name)).collect();
        let looked = look(admin.as_ref(), &topics).await;
        let looked = match looked {
            Ok(looked) => looked,
            // What cannot be measured now is measured the next time.
            Err(_) => return Ok(measured),
        };
        let at_ms = now_ms();
        measured.traffic.retain(|topic, _| looked.contains_key(topic));
        for topic in &topics {
            let Some(ends) = looked.get(&topic.name) else { continue };
            let copies = topic.partitions.first().map_or(1, |partition| partition.replicas.len().max(1)) as u64;
            let bytes = room.held.get(&topic.name).copied().unwrap_or(0) / copies;
            let look = Look { at_ms, begin: ends.begin(), end: ends.end(), bytes };
            measured.traffic.entry(topic.name.clone()).or_default().add(look);
        }
        if let Ok(mut readers) = readers(admin.as_ref(), &looked).await {
            let known: HashMap<String, Reader> = self.store.measures(cluster, "reader/").await?.into_iter().collect();
            for (topic, readers) in &mut readers {
                for reader in readers {
                    let before = known.get(&format!("{topic}/{}", reader.group));
                    reader.history = before.map(|before| before.history.clone()).unwrap_or_default();
                    reader.history.add(at_ms, reader.lag as f64, 1);
                    reader.history.keep(READER_POINTS);
                }
            }
            measured.readers = Some(readers);
        }
        self.keep(lease, cluster, seen, &measured, at_ms).await?;
        Ok(measured)
    }

    async fn keep(
        &self,
        lease: &Lease,
        cluster: &str,
        seen: &Probe,
        measured: &Measured,
        at_ms: i64,
    ) -> Result<(), ReconcileError> {
        let topics: Vec<_> = measured.traffic.iter().collect();
        for topics in topics.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for (topic, traffic) in topics {
                tx.put_measure(cluster, &format!("topic/{topic}"), traffic).await?;
            }
            tx.commit().await?;
        }
        let readers = measured.readers.iter().flatten();
        let readers: Vec<_> =
            readers.flat_map(|(topic, readers)| readers.iter().map(move |one| (topic, one))).collect();
        for readers in readers.chunks(ROWS as usize) {
            let mut tx = self.store.begin().await?;
            tx.fenced(lease).await?;
            for (topic, reader) in readers {
                tx.put_measure(cluster, &reader_subject(topic, &reader.group), reader).await?;
            }
            tx.commit().await?;
        }
        let mut disks: HashMap<String, Series> = self.store.measures(cluster, "broker/").await?.into_iter().collect();
        let mut tx = self.store.begin().await?;
        tx.fenced(lease).await?;
        for broker in seen.brokers.iter().filter(|broker| broker.is_up) {
            let Some((total, usable)) = broker.total_bytes.zip(broker.usable_bytes) else { continue };
            let id = broker.id.to_string();
            let series = disks.entry(id.clone()).or_default();
            series.add(at_ms, total.saturating_sub(usable) as f64, SPACING_MS);
            tx.put_measure(cluster, &format!("broker/{id}"), series).await?;
        }
        tx.put_measure(cluster, MEASURED, &at_ms).await?;
        tx.drop_measures(cluster, at_ms - MEASURE_KEPT_MS).await?;
        tx.commit().await?;
        Ok(())
    }
}

/// Points that are kept of how far a group is behind: an hour's, at a look every ten minutes.
const READER_POINTS: usize = 6;

/// Under which name it is kept how far a group is behind on a topic.
pub(super) fn reader_subject(topic: &str, group: &str) -> String {
    format!("reader/{topic}/{group}")
}

/// First offsets and ends of topics. A topic with a partition that did not answer is left out: half of it would look like a loss.
pub(super) async fn look(
    admin: &dyn KafkaAdmin,
    topics: &[&TopicDescription],
) -> Result<HashMap<String, Ends>, AdminError> {
    let mut looked = HashMap::new();
    for topics in topics.chunks(TOPICS_PER_LOOK) {
        let query = |which: Which| {
            let partitions = topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p.partition)));
            partitions.map(move |(topic, partition)| OffsetQuery { topic: topic.name.clone(), partition, which })
        };
        let queries: Vec<OffsetQuery> = query(Which::Earliest).chain(query(Which::Latest)).collect();
        let answers = admin.list_offsets(&queries).await?;
        let half = queries.len() / 2;
        let mut ends: HashMap<&str, Option<Ends>> = HashMap::new();
        for (at, query) in queries[..half].iter().enumerate() {
            let of_topic = ends.entry(&query.topic).or_insert_with(|| Some(Ends::default()));
            match (&answers[at], &answers[half + at]) {
                (Ok(begin), Ok(end)) => {
                    if let Some(ends) = of_topic {
                        ends.0.insert(query.partition, (begin.unwrap_or(0), end.unwrap_or(0)));
                    }
                }
                _ => *of_topic = None,
            }
        }
        looked.extend(ends.into_iter().filter_map(|(topic, ends)| Some((topic.to_owned(), ends?))));
    }
    Ok(looked)
}

/// Who reads these topics. An error: not all could be asked.
pub(super) async fn readers(
    admin: &dyn KafkaAdmin,
    looked: &HashMap<String, Ends>,
) -> Result<HashMap<String, Vec<Reader>>, AdminError> {
    let listed = admin.list_groups().await?;
    let groups: Vec<String> = listed.into_iter().map(|group| group.group).collect();
    let mut readers: HashMap<String, Vec<Reader>> = HashMap::new();
    for groups in groups.chunks(GROUPS_PER_LOOK) {
        let (described, offsets) = tokio::join!(admin.describe_groups(groups), admin.group_offsets(groups));
        for (described, offsets) in described?.into_iter().zip(offsets?) {
            // A group that went meanwhile, or is none of consumers, reads nothing.
            let (Ok(described), Ok(offsets)) = (described, offsets) else { continue };
            let mut by_topic: BTreeMap<&str, Reader> = BTreeMap::new();
            for offset in &offsets {
                let ends = looked.get(&offset.topic).and_then(|ends| ends.0.get(&offset.partition));
                let Some((begin, end)) = ends else { continue };
                let reader = by_topic.entry(&offset.topic).or_insert_with(|| Reader::of(&described));
                reader.lag += (end - offset.offset.max(*begin)).max(0);
                reader.lost += (begin - offset.offset).max(0);
            }
            for (topic, reader) in by_topic {
                readers.entry(topic.to_owned()).or_default().push(reader);
            }
        }
    }
    Ok(readers)
}
