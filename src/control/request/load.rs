//! Everything that the changes of a request are judged with, read in its transaction.
//!
//! In: changes. Out: a [`World`] of the rows that they touch and the clusters that they are on. Never: a row that none of them is
//! judged with.

use std::collections::{BTreeMap, BTreeSet};

use super::{Desk, RequestError};
use crate::control::left;
use crate::control::resource::{Kind, ManagedBy, ResourceId, Spec};
use crate::control::store::{Taken, Tx};
use crate::control::world::{Change, World};

impl Desk {
    /// Everything that these changes are judged with, as of this transaction.
    pub(in crate::control) async fn load(
        &self,
        tx: &mut Tx,
        changes: &[Change],
        requester: &str,
    ) -> Result<World, RequestError> {
        let mut world = World::of(changes, requester);
        let known = self.clusters.load_full();
        let mut wanted: BTreeSet<ResourceId> = BTreeSet::new();
        for change in changes {
            wanted.insert(change.id.clone());
            wanted.extend(self.providers.of(change.id.kind).into_iter().flat_map(|provider| provider.related(change)));
        }
        let rows = tx.resources_of(&wanted.iter().collect::<Vec<_>>()).await?;
        let in_files: Vec<&ResourceId> =
            rows.iter().filter(|row| row.managed_by != ManagedBy::Api).map(|row| &row.id).collect();
        for (id, file) in tx.files_of(&in_files).await? {
            world.add_file(&id, file);
        }
        let owners: BTreeSet<ResourceId> = rows
            .iter()
            .filter(|row| !row.service.is_empty())
            .map(|row| ResourceId::of(Kind::Service, &row.service))
            .filter(|owner| !wanted.contains(owner))
            .collect();
        for row in rows.into_iter().chain(tx.resources_of(&owners.iter().collect::<Vec<_>>()).await?) {
            world.add(row);
        }
        for topic in changes.iter().filter(|change| change.id.kind == Kind::Topic && change.desired.is_none()) {
            // Whoever still sends events to it must be known to whoever deletes it.
            let cluster = topic.id.cluster.as_deref().unwrap_or_default();
            for row in tx.named_after(Kind::EventType, "", &topic.id.name).await? {
                let goes_to_it = matches!(&row.spec, Spec::EventType(event) if event.cluster == cluster);
                if goes_to_it && world.before(&row.id).is_none() {
                    world.add(row);
                }
            }
        }
        left::load(tx, changes, &mut world).await?;
        let clusters: BTreeSet<&str> = wanted.iter().filter_map(|id| id.cluster.as_deref()).collect();
        for cluster in clusters {
            // What is registered counts; what is only in the configuration may not be written to.
            let Some(row) = tx.resource(&ResourceId::of(Kind::Cluster, cluster)).await? else { continue };
            let Spec::Cluster(spec) = row.spec else { continue };
            world.add_cluster(cluster, known.get(cluster).cloned().unwrap_or_default().with_spec(spec));
        }
        let (mut topics, mut services) = (BTreeMap::new(), BTreeMap::new());
        for change in changes.iter().filter(|change| matches!(change.id.kind, Kind::Topic | Kind::Quota)) {
            let cluster = change.id.cluster.as_deref().unwrap_or_default();
            let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id)).unwrap_or_default();
            services.entry(cluster).or_insert_with(BTreeSet::new).insert(service);
            if change.id.kind == Kind::Topic {
                topics.entry(cluster).or_insert_with(Vec::new).push(&change.id);
            }
        }
        for (cluster, topics) in topics {
            let (all, mut own) = (tx.taken_by_all(cluster).await?, tx.taken_by(cluster, &topics).await?);
            for topic in topics {
                let own = own.remove(&topic.to_string()).unwrap_or_default();
                world.add_taken(topic, Taken { all, own });
            }
        }
        for (cluster, services) in services {
            let services: Vec<&str> = services.into_iter().collect();
            for (service, need) in tx.taken_by_services(cluster, &services).await? {
                world.add_service_reserve(&service, cluster, need);
            }
        }
        Ok(world)
    }
}
