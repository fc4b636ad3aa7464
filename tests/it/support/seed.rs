//! A store with very many resources, and the cluster that has them all: for what must stay quick when there are many.

use std::collections::BTreeMap;

use iguazu::control::kafka::acls::{AclBinding, AclOperation, AclPattern, AclPermission, AclResource};
use iguazu::control::kafka::cluster::{Broker, ClusterDescription};
use iguazu::control::kafka::configs::{ConfigEntry, ConfigSource};
use iguazu::control::kafka::scram::ScramMechanism;
use iguazu::control::kafka::topics::{PartitionDescription, TopicDescription};
use iguazu::control::kafka::users::UserCredentials;
use iguazu::control::provider::resolve;
use iguazu::control::reconcile::snapshot::{Parts, Snapshot};
use iguazu::control::resource::{ResourceId, Spec};
use iguazu::control::store::{Need, Reservation, Resource, Secret, Store};
use iguazu::control::world::World;
use serde_json::{Value, json};
use uuid::Uuid;

/// Rows of one transaction.
const ROWS: usize = 1_000;

/// How many there are of each.
#[derive(Clone, Copy, Debug)]
pub struct Seed {
    /// Services.
    pub services: usize,
    /// Topics, in turn of each service.
    pub topics: usize,
    /// Users, in turn of each service.
    pub users: usize,
    /// Grants: each user may produce to some topics of its service.
    pub grants: usize,
}

impl Seed {
    /// 25,000 resources, as many as the largest installations that are told of.
    pub const LARGE: Seed = Seed { services: 500, topics: 10_000, users: 5_000, grants: 9_500 };

    /// Every resource, ready.
    pub fn resources(&self) -> Vec<Resource> {
        let cluster = json!({ "mode": "shared", "shares_disks": true, "operators": ["platform"] });
        let mut all = vec![resource("cluster/core", "", cluster)];
        for service in 0..self.services {
            let spec = json!({ "group": format!("team-{service}"), "description": "it does something" });
            all.push(resource(&format!("service/service-{service}"), &format!("service-{service}"), spec));
        }
        let service = |number: usize| format!("service-{}", number % self.services);
        for topic in 0..self.topics {
            let spec =
                json!({ "service": service(topic), "capacity": { "mb_per_second": 0.001 }, "description": "events" });
            all.push(resource(&format!("topic/core/{}", self.topic(topic)), &service(topic), spec));
        }
        for user in 0..self.users {
            let spec = json!({ "service": service(user) });
            all.push(resource(&format!("user/core/{}", self.user(user)), &service(user), spec));
        }
        for (user, topic) in self.granted() {
            let (principal, target) = (self.user(user), self.topic(topic));
            let spec =
                json!({ "service": service(user), "level": "produce", "target": target, "principal": principal });
            all.push(resource(&format!("access/core/{principal}:produce:{target}"), &service(user), spec));
        }
        all
    }

    fn topic(&self, number: usize) -> String {
        format!("domain.service-{}.event-{number:05}.v1", number % self.services)
    }

    fn user(&self, number: usize) -> String {
        format!("service-{}-app-{number}", number % self.services)
    }

    /// User and topic of each grant, of the same service.
    fn granted(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        (0..self.grants).map(|grant| {
            let user = grant % self.users;
            let nth = (user / self.services + grant / self.users) * self.services;
            (user, (user % self.services + nth) % self.topics)
        })
    }

    /// Writes them all into a store, with what each has reserved, and what is known of each user's password.
    pub async fn write(&self, store: &Store) {
        let resources = self.resources();
        let world = world(&resources);
        for rows in resources.chunks(ROWS) {
            let mut tx = store.begin().await.unwrap();
            for row in rows {
                tx.put_resource(row).await.unwrap();
                match &row.spec {
                    Spec::Topic(spec) => {
                        let resolved = resolve(spec, &world, "core").unwrap();
                        let need = Need {
                            disk_bytes: resolved.reserve_bytes,
                            partitions: u64::from(resolved.partitions * resolved.replicas),
                            ingress_bytes_per_second: resolved.ingress_bytes_per_second,
                        };
                        let (cluster, resource) = ("core".to_owned(), row.id.to_string());
                        tx.reserve(&Reservation { cluster, resource, request: String::new(), need }).await.unwrap();
                    }
                    Spec::User(_) => {
                        let resource = row.id.to_string();
                        let secret = Secret {
                            resource: resource.clone(),
                            generation: 1,
                            sealed: None,
                            digest: None,
                            reader: "ann".into(),
                            expires_ms: None,
                        };
                        tx.put_secret(&secret).await.unwrap();
                        tx.verify_secret(&resource, 1).await.unwrap();
                    }
                    _ => {}
                }
            }
            tx.commit().await.unwrap();
        }
    }

    /// A cluster of three brokers on which all of it is as desired. It began to be looked at after everything was written.
    pub fn snapshot(&self) -> Snapshot {
        let resources = self.resources();
        let world = world(&resources);
        let (mut topics, mut users, mut acls, mut configs) = (vec![], vec![], vec![], vec![]);
        for row in &resources {
            match &row.spec {
                Spec::Topic(spec) => {
                    let resolved = resolve(spec, &world, "core").unwrap();
                    let partition = |number: u32| {
                        let replicas: Vec<i32> =
                            (0..resolved.replicas).map(|copy| ((number + copy) % 3) as i32 + 1).collect();
                        PartitionDescription {
                            partition: number as i32,
                            leader: replicas.first().copied(),
                            in_sync: replicas.clone(),
                            replicas,
                            offline: vec![],
                        }
                    };
                    topics.push(Ok(TopicDescription {
                        name: row.id.name.clone(),
                        id: kafka_id(&row.id),
                        internal: false,
                        partitions: (0..resolved.partitions).map(partition).collect(),
                    }));
                    let entry = |(name, value): (&String, &String)| ConfigEntry {
                        name: name.clone(),
                        value: Some(value.clone()),
                        source: ConfigSource::Topic,
                        is_sensitive: false,
                        is_read_only: false,
                    };
                    configs.push((row.id.name.clone(), resolved.configs.iter().map(entry).collect()));
                }
                Spec::User(_) => {
                    let credentials = vec![(ScramMechanism::Sha512, 8_192)];
                    users.push(UserCredentials { user: row.id.name.clone(), credentials });
                }
                Spec::Access(access) => {
                    for operation in [AclOperation::Write, AclOperation::Describe] {
                        acls.push(AclBinding {
                            resource: AclResource::Topic,
                            pattern: AclPattern::Literal,
                            name: access.target.clone(),
                            principal: format!("User:{}", access.principal),
                            host: "*".into(),
                            operation,
                            permission: AclPermission::Allow,
                        });
                    }
                }
                _ => {}
            }
        }
        let broker = |id: i32| Broker { id, host: "kafka".into(), port: 9_092, rack: None };
        let cluster = ClusterDescription {
            id: "seeded".into(),
            controller: Some(1),
            brokers: (1..=3).map(broker).collect(),
            may: None,
        };
        let parts = Parts {
            cluster,
            topics: Ok(topics),
            acls: Ok(acls),
            users: Ok(users),
            quotas: Ok(vec![]),
            log_dirs: BTreeMap::new(),
        };
        let mut snapshot = Snapshot::of(i64::MAX, parts);
        for (topic, entries) in configs {
            snapshot.add_configs(&topic, Ok(entries));
        }
        snapshot
    }
}

/// The id that Kafka gave a topic.
fn kafka_id(id: &ResourceId) -> Uuid {
    let mut bytes = [0; 16];
    id.name.bytes().enumerate().for_each(|(at, byte)| bytes[at % 16] ^= byte.rotate_left((at / 16) as u32));
    Uuid::from_bytes(bytes)
}

fn world(resources: &[Resource]) -> World {
    let mut world = World::of(&[], "seed");
    resources.iter().cloned().for_each(|row| world.add(row));
    world
}

fn resource(id: &str, service: &str, spec: Value) -> Resource {
    let id: ResourceId = id.parse().unwrap();
    let spec = Spec::read(id.kind, spec).unwrap();
    let kafka_id = matches!(spec, Spec::Topic(_)).then(|| kafka_id(&id).to_string());
    Resource { kafka_id, ..Resource::new(id, service.to_owned(), spec) }
}
