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
        for id in &wanted {
            if let Some(resource) = tx.resource(id).await? {
                wanted_service(&mut world, tx, &resource.service).await?;
                if resource.managed_by != ManagedBy::Api
                    && let Some(file) = tx.file(id).await?
                {
                    world.add_file(id, file);
                }
                world.add(resource);
            }
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
        let (mut taken, mut services) = (BTreeMap::new(), BTreeSet::new());
        for change in changes.iter().filter(|change| change.id.kind == Kind::Topic) {
            let cluster = change.id.cluster.as_deref().unwrap_or_default();
            let all = match taken.get(cluster) {
                Some(all) => *all,
                None => tx.taken_by_all(cluster).await?,
            };
            taken.insert(cluster, all);
            let own = tx.taken_by(cluster, &change.id.to_string()).await?;
            world.add_taken(&change.id, Taken { all, own });
            let service = change.desired.as_ref().and_then(|spec| spec.service(&change.id)).unwrap_or_default();
            if services.insert((service, cluster)) {
                let reserved = tx.disk_of_service(service, cluster).await?;
                world.add_service_reserve(service, cluster, reserved);
            }
        }
        Ok(world)
    }
}

async fn wanted_service(world: &mut World, tx: &mut Tx, service: &str) -> Result<(), RequestError> {
    let id = ResourceId::of(Kind::Service, service);
    if !service.is_empty()
        && world.before(&id).is_none()
        && let Some(resource) = tx.resource(&id).await?
    {
        world.add(resource);
    }
    Ok(())
}
