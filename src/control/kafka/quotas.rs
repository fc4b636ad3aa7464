//! Client quotas: rates and shares that Kafka holds users, clients and addresses to.

use kafka_protocol::messages::alter_client_quotas_request::{self as alter, AlterClientQuotasRequest, OpData};
use kafka_protocol::messages::alter_client_quotas_response as altered;
use kafka_protocol::messages::describe_client_quotas_request::{ComponentData, DescribeClientQuotasRequest};
use kafka_protocol::messages::describe_client_quotas_response::EntryData;
use kafka_protocol::protocol::StrBytes;

use super::client::To;
use super::each::in_order;
use super::error::{AdminError, check};
use super::topics::text;
use super::{Each, KafkaClient, Mode};

/// Whom a quota is for: a user, a client id, both, or an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QuotaEntity {
    /// The user, without `User:`.
    pub user: Option<QuotaName>,
    /// The client id.
    pub client_id: Option<QuotaName>,
    /// The address that connects.
    pub ip: Option<QuotaName>,
}

/// A name in a [`QuotaEntity`].
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QuotaName {
    /// Everyone who has no quota of their own.
    Default,
    /// This one.
    Name(String),
}

/// A quota and its values.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Whom it is for.
    pub entity: QuotaEntity,
    /// Keys such as `producer_byte_rate` (bytes a second on each broker) and their values.
    pub values: Vec<(String, f64)>,
}

/// A change of a quota: all of it is made or none.
#[derive(Clone, Debug, PartialEq)]
pub struct QuotaChange {
    /// Whom it is for.
    pub entity: QuotaEntity,
    /// Keys with the value to set; none removes the key.
    pub values: Vec<(String, Option<f64>)>,
}

/// Which quotas: those whose entity matches all that is given. The default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QuotaFilter {
    /// What the user must be.
    pub user: Option<QuotaMatch>,
    /// What the client id must be.
    pub client_id: Option<QuotaMatch>,
    /// What the address must be.
    pub ip: Option<QuotaMatch>,
    /// Whether an entity with more parts than are given here is left out.
    pub strict: bool,
}

/// What a part of an entity must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuotaMatch {
    /// This name.
    Exactly(String),
    /// The default of those without a quota of their own.
    Default,
    /// Any, the default too.
    Any,
}

impl QuotaMatch {
    /// `DescribeClientQuotasRequest` match types, and the name to match.
    fn to_wire(&self) -> (i8, Option<StrBytes>) {
        match self {
            QuotaMatch::Exactly(name) => (0, Some(text(name))),
            QuotaMatch::Default => (1, None),
            QuotaMatch::Any => (2, None),
        }
    }
}

const USER: &str = "user";
const CLIENT_ID: &str = "client-id";
const IP: &str = "ip";

impl KafkaClient {
    pub(super) async fn describe_quotas(&self, filter: &QuotaFilter) -> Result<Vec<Quota>, AdminError> {
        let parts = [(USER, &filter.user), (CLIENT_ID, &filter.client_id), (IP, &filter.ip)];
        let components = parts.into_iter().filter_map(|(kind, part)| {
            let (match_type, name) = part.as_ref()?.to_wire();
            Some(ComponentData::default().with_entity_type(text(kind)).with_match_type(match_type).with_match(name))
        });
        let request =
            DescribeClientQuotasRequest::default().with_components(components.collect()).with_strict(filter.strict);
        self.read(To::Any, &request, |response| {
            check(response.error_code, response.error_message.as_ref())?;
            response.entries.iter().flatten().map(quota).collect()
        })
        .await
    }

    pub(super) async fn alter_quotas(&self, changes: &[QuotaChange], mode: Mode) -> Result<Each<()>, AdminError> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let request = AlterClientQuotasRequest::default()
            .with_entries(changes.iter().map(QuotaChange::to_wire).collect())
            .with_validate_only(mode == Mode::Validate);
        self.write(To::Any, &request, |response| {
            let answered = response.entries.iter().filter_map(|entry| {
                let result = check(entry.error_code, entry.error_message.as_ref());
                Some((entity_of_alteration(&entry.entity).ok()?, result))
            });
            in_order(changes.iter().map(|change| change.entity.clone()), answered)
        })
        .await
    }
}

impl QuotaEntity {
    fn parts(&self) -> impl Iterator<Item = (&'static str, &QuotaName)> {
        let parts = [(USER, &self.user), (CLIENT_ID, &self.client_id), (IP, &self.ip)];
        parts.into_iter().filter_map(|(kind, name)| Some((kind, name.as_ref()?)))
    }

    fn of_parts<'p>(
        parts: impl Iterator<Item = (&'p StrBytes, Option<&'p StrBytes>)>,
    ) -> Result<QuotaEntity, AdminError> {
        let mut entity = QuotaEntity::default();
        for (kind, name) in parts {
            let part = match kind.as_str() {
                USER => &mut entity.user,
                CLIENT_ID => &mut entity.client_id,
                IP => &mut entity.ip,
                // To leave it out would show the quota as one of somebody else.
                other => {
                    return Err(AdminError::NotSupported { what: format!("quotas of `{other}`") });
                }
            };
            *part = Some(name.map_or(QuotaName::Default, |name| QuotaName::Name(name.to_string())));
        }
        Ok(entity)
    }
}

impl QuotaChange {
    fn to_wire(&self) -> alter::EntryData {
        let entity = self.entity.parts().map(|(kind, name)| {
            let name = match name {
                QuotaName::Default => None,
                QuotaName::Name(name) => Some(text(name)),
            };
            alter::EntityData::default().with_entity_type(text(kind)).with_entity_name(name)
        });
        let ops = self.values.iter().map(|(key, value)| {
            OpData::default().with_key(text(key)).with_value(value.unwrap_or_default()).with_remove(value.is_none())
        });
        alter::EntryData::default().with_entity(entity.collect()).with_ops(ops.collect())
    }
}

fn quota(entry: &EntryData) -> Result<Quota, AdminError> {
    let parts = entry.entity.iter().map(|part| (&part.entity_type, part.entity_name.as_ref()));
    Ok(Quota {
        entity: QuotaEntity::of_parts(parts)?,
        values: entry.values.iter().map(|value| (value.key.to_string(), value.value)).collect(),
    })
}

fn entity_of_alteration(parts: &[altered::EntityData]) -> Result<QuotaEntity, AdminError> {
    QuotaEntity::of_parts(parts.iter().map(|part| (&part.entity_type, part.entity_name.as_ref())))
}
