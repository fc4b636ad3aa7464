//! Access: who may do what with which topic, as ACLs of Kafka. `publish` is the proxies', and goes out with their snapshot.
//!
//! Never: an ACL that no grant of ours stands for is deleted, nor one that another grant of the same user still needs.

use serde::{Deserialize, Serialize};

use super::{Answer, Comparison, Observed, Provider, Reach, Step, StepError, check_cluster, publish, read_wish};
use crate::control::kafka::AdminError;
use crate::control::kafka::acls::{
    AclBinding, AclFilter, AclNameFilter, AclOperation, AclPattern, AclPermission, AclResource,
};
use crate::control::policy::Facts;
use crate::control::resource::{AccessSpec, Found, Kind, Level, Pattern, ResourceId, Spec, Violation, rule};
use crate::control::snapshot::PublishedGrant;
use crate::control::store::Need;
use crate::control::world::{Change, Operation, World};

/// The provider of access.
pub struct AccessProvider;

/// What a step wishes of a principal's ACLs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "wish", rename_all = "snake_case")]
enum Wish {
    /// It has these.
    Grant { acls: Vec<Acl> },
    /// It has none of these.
    Revoke { acls: Vec<Acl> },
    /// Nobody reads or writes this topic, whatever else is granted.
    Close { topic: String },
    /// That is so no longer.
    Open { topic: String },
}

/// What the name of a closing begins with: it stands where a grant has its principal and level.
const CLOSING: &str = "*:closed:";

/// The step that closes a topic to everybody: a denial wins over whatever is granted, by prefix or by others.
pub(super) fn close(cluster: &str, topic: &str) -> Step {
    let wish = Wish::Close { topic: topic.to_owned() };
    closing(cluster, topic, wish, format!("close topic {topic}: nobody reads or writes it"))
}

/// The step that takes that back, and nothing else.
pub(super) fn open(cluster: &str, topic: &str) -> Step {
    let wish = Wish::Open { topic: topic.to_owned() };
    closing(cluster, topic, wish, format!("take back what closed topic {topic}"))
}

fn closing(cluster: &str, topic: &str, wish: Wish, summary: String) -> Step {
    let target = ResourceId::on(Kind::Access, cluster, &format!("{CLOSING}{topic}"));
    let wish = serde_json::to_value(wish).expect("a wish has string keys");
    Step { target, wish, summary, is_destructive: false }
}

/// The rules that close a topic.
fn denials(topic: &str) -> [AclBinding; 2] {
    [AclOperation::Read, AclOperation::Write].map(|operation| AclBinding {
        resource: AclResource::Topic,
        pattern: AclPattern::Literal,
        name: topic.to_owned(),
        principal: "User:*".to_owned(),
        host: "*".to_owned(),
        operation,
        permission: AclPermission::Deny,
    })
}

/// How many of the rules that close a topic are there.
async fn look_at_denials(topic: &str, id: &ResourceId, reach: &Reach) -> Result<Observed, StepError> {
    let filter = AclFilter {
        resource: Some(AclResource::Topic),
        name: AclNameFilter::Exactly(AclPattern::Literal, topic.to_owned()),
        principal: Some("User:*".to_owned()),
        permission: Some(AclPermission::Deny),
        ..AclFilter::default()
    };
    let found = match reach.cluster(id)?.describe_acls(&filter).await {
        // Where there are no rules there is none.
        Err(AdminError::SecurityDisabled(_) | AdminError::NotSupported { .. }) => return Ok(Observed::Absent),
        found => found?,
    };
    let closed = denials(topic).iter().filter(|rule| found.contains(rule)).count();
    Ok(if closed == 0 { Observed::Absent } else { Observed::Present(serde_json::json!({ "closed": closed })) })
}

/// An ACL in words; always from any host, always allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Acl {
    /// `topic` or `group`.
    resource: On,
    /// Its name, or what its name begins with.
    name: String,
    /// How the name is meant.
    prefix: bool,
    /// The user.
    user: String,
    /// What may be done.
    operation: May,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum On {
    Topic,
    Group,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum May {
    Read,
    Write,
    Describe,
    DescribeConfigs,
}

impl Acl {
    fn binding(&self) -> AclBinding {
        AclBinding {
            resource: match self.resource {
                On::Topic => AclResource::Topic,
                On::Group => AclResource::Group,
            },
            pattern: if self.prefix { AclPattern::Prefixed } else { AclPattern::Literal },
            name: self.name.clone(),
            principal: format!("User:{}", self.user),
            host: "*".to_owned(),
            operation: match self.operation {
                May::Read => AclOperation::Read,
                May::Write => AclOperation::Write,
                May::Describe => AclOperation::Describe,
                May::DescribeConfigs => AclOperation::DescribeConfigs,
            },
            permission: AclPermission::Allow,
        }
    }

    /// An ACL of Kafka in our words; none for one that is none of ours.
    fn of(binding: &AclBinding) -> Option<Acl> {
        let resource = match binding.resource {
            AclResource::Topic => On::Topic,
            AclResource::Group => On::Group,
            _ => return None,
        };
        let operation = match binding.operation {
            AclOperation::Read => May::Read,
            AclOperation::Write => May::Write,
            AclOperation::Describe => May::Describe,
            AclOperation::DescribeConfigs => May::DescribeConfigs,
            _ => return None,
        };
        let is_ours = binding.host == "*" && binding.permission == AclPermission::Allow;
        let user = binding.principal.strip_prefix("User:").filter(|_| is_ours)?.to_owned();
        let prefix = binding.pattern == AclPattern::Prefixed;
        Some(Acl { resource, name: binding.name.clone(), prefix, user, operation })
    }
}

/// The ACLs that a grant stands for: nothing that its level does not need.
fn acls(access: &AccessSpec) -> Vec<Acl> {
    let topic = |operation| Acl {
        resource: On::Topic,
        name: access.target.clone(),
        prefix: access.pattern == Pattern::Prefix,
        user: access.principal.clone(),
        operation,
    };
    match access.level {
        Level::Publish => vec![],
        Level::Produce => vec![topic(May::Write), topic(May::Describe)],
        Level::Consume => {
            // Its groups are those whose names begin with the service's, so that no service can stand in another's group.
            let group = Acl {
                resource: On::Group,
                name: format!("{}.", access.service),
                prefix: true,
                user: access.principal.clone(),
                operation: May::Read,
            };
            vec![topic(May::Read), topic(May::Describe), group]
        }
        Level::Describe => vec![topic(May::Describe), topic(May::DescribeConfigs)],
    }
}

impl AccessProvider {
    fn spec<'c>(change: &'c Change, world: &'c World) -> Option<&'c AccessSpec> {
        let spec = change.desired.as_ref().or_else(|| world.before(&change.id).map(|resource| &resource.spec));
        match spec {
            Some(Spec::Access(access)) => Some(access),
            _ => None,
        }
    }

    /// Other grants of the same user that may stand for some of the same ACLs: those of another level on the same target.
    fn siblings(access: &AccessSpec, cluster: &str) -> impl Iterator<Item = ResourceId> {
        let levels = [Level::Produce, Level::Consume, Level::Describe];
        let others = levels.into_iter().filter(|level| *level != access.level);
        let names: Vec<String> = others.map(|level| AccessSpec { level, ..access.clone() }.name()).collect();
        let cluster = cluster.to_owned();
        names.into_iter().map(move |name| ResourceId::on(Kind::Access, &cluster, &name))
    }
}

impl Provider for AccessProvider {
    fn kind(&self) -> Kind {
        Kind::Access
    }

    fn related(&self, change: &Change) -> Vec<ResourceId> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        // Of a grant that goes only the name is known; it says who, what and which topic.
        let named = match &change.desired {
            Some(Spec::Access(access)) => Some(access.clone()),
            _ => parse_name(&change.id.name),
        };
        let Some(access) = named else { return vec![] };
        let mut related = vec![ResourceId::on(Kind::Topic, cluster, &access.target)];
        if !access.service.is_empty() {
            related.push(ResourceId::of(Kind::Service, &access.service));
        }
        related.push(match access.level {
            Level::Publish => ResourceId::of(Kind::Sender, &access.principal),
            _ => ResourceId::on(Kind::User, cluster, &access.principal),
        });
        if access.level == Level::Publish {
            related.push(ResourceId::of(Kind::EventType, &access.target));
        }
        related.extend(Self::siblings(&access, cluster));
        related
    }

    fn violations(&self, change: &Change, world: &World) -> Vec<Violation> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        let mut found = Found::of(&change.id);
        // The right to publish is the proxies' alone, whatever the cluster can do.
        let before = world.before(&change.id).map(|resource| &resource.spec);
        let publishes = |spec: &Spec| matches!(spec, Spec::Access(AccessSpec { level: Level::Publish, .. }));
        if !change.desired.iter().chain(before).all(publishes) {
            check_cluster(&mut found, world, "access");
        } else if world.cluster(cluster).is_none() {
            let problem = format!("there is no cluster `{cluster}`");
            found.add("", rule::UNKNOWN_CLUSTER, problem, "name one that is registered");
        }
        let Some(Spec::Access(access)) = &change.desired else { return found.violations() };
        let (principal, what) = match access.level {
            Level::Publish => (ResourceId::of(Kind::Sender, &access.principal), "sender"),
            _ => (ResourceId::on(Kind::User, cluster, &access.principal), "user"),
        };
        match world.after(&principal) {
            None => found.add(
                "principal",
                rule::UNKNOWN_PRINCIPAL,
                format!("there is no {what} `{}`", access.principal),
                "create it first, or in the same request",
            ),
            Some(spec) if spec.service(&principal) != Some(&access.service) => {
                let problem = format!("{what} `{}` is not of service `{}`", access.principal, access.service);
                found.add(
                    "principal",
                    rule::NOT_YOURS,
                    problem,
                    "grant access to a principal of the service that asks",
                );
            }
            Some(_) => {}
        }
        let target = match access.level {
            Level::Publish => ResourceId::of(Kind::EventType, &access.target),
            _ => ResourceId::on(Kind::Topic, cluster, &access.target),
        };
        if access.pattern == Pattern::Literal && world.after(&target).is_none() {
            found.add(
                "target",
                rule::UNKNOWN_TARGET,
                format!("there is no {}", target),
                "create it first, or in the same request",
            );
        }
        found.violations()
    }

    fn facts(&self, change: &Change, world: &World, facts: &mut Facts) {
        let Some(access) = Self::spec(change, world) else { return };
        facts.set("level", access.level.as_str());
        facts.set("pattern", if access.pattern == Pattern::Prefix { "prefix" } else { "literal" });
        let cluster = change.id.cluster.as_deref().and_then(|name| world.cluster(name));
        let is_open = cluster.and_then(|view| view.is_open) == Some(true);
        let grants = world.operation(change) == Operation::Create && access.level != Level::Publish;
        facts.set("first_acl_on_open_cluster", is_open && grants);
    }

    fn need(&self, _: &Change, _: &World) -> Option<Need> {
        None
    }

    fn steps(&self, change: &Change, world: &World, observed: &Observed) -> Vec<Step> {
        let cluster = change.id.cluster.as_deref().unwrap_or_default();
        if let Some(access) = Self::spec(change, world).filter(|access| access.level == Level::Publish) {
            let grant = PublishedGrant { sender: access.principal.clone(), event: access.target.clone() };
            let grant = serde_json::to_value(grant).expect("texts are JSON");
            let (sender, event) = (&access.principal, &access.target);
            let (wanted, summary) = match change.desired {
                Some(_) => (Some(grant), format!("let {sender} publish {event}")),
                None => (None, format!("let {sender} publish {event} no more")),
            };
            return publish::step(&change.id, wanted, observed, summary).into_iter().collect();
        }
        let has = read(observed);
        let before = match world.before(&change.id).map(|resource| &resource.spec) {
            Some(Spec::Access(access)) => acls(access),
            _ => vec![],
        };
        let (wanted, spec) = match &change.desired {
            Some(Spec::Access(access)) => (acls(access), Some(access)),
            _ => (vec![], Self::spec(change, world)),
        };
        let others: Vec<Acl> = spec
            .into_iter()
            .flat_map(|access| Self::siblings(access, cluster))
            .filter_map(|id| match world.after(&id) {
                Some(Spec::Access(access)) => Some(acls(access)),
                _ => None,
            })
            .flatten()
            .collect();
        // Of the groups nothing is taken away while the user is there: they are the service's, whatever topics it reads.
        let principal = spec.map(|access| ResourceId::on(Kind::User, cluster, &access.principal));
        let user_goes = principal.is_some_and(|user| world.after(&user).is_none());
        let gone = before
            .into_iter()
            .filter(|acl| !wanted.contains(acl) && !others.contains(acl) && (acl.resource == On::Topic || user_goes));
        let gone: Vec<Acl> = gone.filter(|acl| has.contains(acl)).collect();
        let missing: Vec<Acl> = wanted.into_iter().filter(|acl| !has.contains(acl)).collect();
        let step = |wish: Wish, summary: String| Step {
            target: change.id.clone(),
            wish: serde_json::to_value(wish).expect("a wish has string keys"),
            summary,
            is_destructive: false,
        };
        let said =
            spec.map(|access| format!("{} on {} for {}", access.level.as_str(), access.target, access.principal));
        let said = said.unwrap_or_default();
        let mut steps = Vec::new();
        if !missing.is_empty() {
            steps.push(step(Wish::Grant { acls: missing }, format!("grant {said}")));
        }
        if !gone.is_empty() {
            steps.push(step(Wish::Revoke { acls: gone }, format!("revoke {said}")));
        }
        steps
    }

    fn observe<'a>(&'a self, id: &'a ResourceId, reach: &'a Reach) -> Answer<'a, Observed> {
        Box::pin(async move {
            if let Some(topic) = id.name.strip_prefix(CLOSING) {
                return look_at_denials(topic, id, reach).await;
            }
            let Some(access) = parse_name(&id.name) else { return Ok(Observed::Absent) };
            if access.level == Level::Publish {
                return publish::observe(id, reach, serde_json::Map::new()).await;
            }
            let filter = AclFilter { principal: Some(format!("User:{}", access.principal)), ..AclFilter::default() };
            let mut acls: Vec<Acl> =
                reach.cluster(id)?.describe_acls(&filter).await?.iter().filter_map(Acl::of).collect();
            acls.sort();
            Ok(match acls.is_empty() {
                true => Observed::Absent,
                false => Observed::Present(serde_json::json!({ "acls": acls })),
            })
        })
    }

    fn compare(&self, step: &Step, observed: &Observed) -> Comparison {
        if let Some(comparison) = publish::compare(step, observed) {
            return comparison;
        }
        let has = read(observed);
        let same = |is_same: bool| if is_same { Comparison::Same } else { Comparison::Different };
        match read_wish(step) {
            Ok(Wish::Grant { acls }) => same(acls.iter().all(|acl| has.contains(acl))),
            Ok(Wish::Revoke { acls }) => same(!acls.iter().any(|acl| has.contains(acl))),
            Ok(Wish::Close { topic }) => same(closed(observed) == denials(&topic).len() as u64),
            Ok(Wish::Open { .. }) => same(closed(observed) == 0),
            Err(problem) => Comparison::Conflict(problem),
        }
    }

    fn act<'a>(&'a self, step: &'a Step, reach: &'a Reach) -> Answer<'a, ()> {
        Box::pin(async move {
            if publish::act(step, reach).await? {
                return Ok(());
            }
            let admin = reach.cluster(&step.target)?;
            let bindings = |acls: Vec<Acl>| acls.iter().map(Acl::binding).collect::<Vec<_>>();
            let results = match read_wish(step).map_err(StepError::Conflict)? {
                Wish::Grant { acls } => admin.create_acls(&bindings(acls)).await?,
                Wish::Revoke { acls } => admin.delete_acls(&bindings(acls)).await?,
                Wish::Close { topic } => admin.create_acls(&denials(&topic)).await?,
                Wish::Open { topic } => admin.delete_acls(&denials(&topic)).await?,
            };
            for result in results {
                match result {
                    // Gone is what was wished.
                    Ok(()) | Err(AdminError::NotFound(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })
    }
}

fn closed(observed: &Observed) -> u64 {
    match observed {
        Observed::Absent => 0,
        Observed::Present(value) => value.get("closed").and_then(serde_json::Value::as_u64).unwrap_or(0),
    }
}

fn read(observed: &Observed) -> Vec<Acl> {
    let Observed::Present(value) = observed else { return vec![] };
    value.get("acls").and_then(|acls| serde_json::from_value(acls.clone()).ok()).unwrap_or_default()
}

/// What the name of a grant says; the service is not among it.
fn parse_name(name: &str) -> Option<AccessSpec> {
    let (principal, rest) = name.split_once(':')?;
    let (level, target) = rest.split_once(':')?;
    let levels = [Level::Publish, Level::Produce, Level::Consume, Level::Describe];
    let level = levels.into_iter().find(|known| known.as_str() == level)?;
    let (target, pattern) = match target.strip_suffix('*') {
        Some(prefix) => (prefix, Pattern::Prefix),
        None => (target, Pattern::Literal),
    };
    Some(AccessSpec {
        service: String::new(),
        level,
        target: target.to_owned(),
        pattern,
        principal: principal.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access(level: Level, pattern: Pattern) -> AccessSpec {
        AccessSpec {
            service: "orders".into(),
            level,
            target: "orders.placed".into(),
            pattern,
            principal: "orders-app".into(),
        }
    }

    #[test]
    fn a_grant_is_read_back_from_its_name() {
        for level in [Level::Publish, Level::Produce, Level::Consume, Level::Describe] {
            for pattern in [Pattern::Literal, Pattern::Prefix] {
                let granted = access(level, pattern);
                let read = parse_name(&granted.name()).unwrap();
                assert_eq!(AccessSpec { service: "orders".into(), ..read }, granted);
            }
        }
        for name in ["", "a", "a:b", "a:steal:c"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
    }

    #[test]
    fn a_level_stands_for_what_it_needs_and_nothing_more() {
        let words = |level| {
            let acls = acls(&access(level, Pattern::Literal));
            acls.iter().map(|acl| format!("{:?} {:?} {}", acl.operation, acl.resource, acl.name)).collect::<Vec<_>>()
        };
        assert_eq!(words(Level::Publish), Vec::<String>::new());
        assert_eq!(words(Level::Produce), ["Write Topic orders.placed", "Describe Topic orders.placed"]);
        let consume = ["Read Topic orders.placed", "Describe Topic orders.placed", "Read Group orders."];
        assert_eq!(words(Level::Consume), consume);
        assert_eq!(words(Level::Describe), ["Describe Topic orders.placed", "DescribeConfigs Topic orders.placed"]);
    }

    #[test]
    fn an_acl_that_is_not_in_our_words_is_not_ours() {
        let ours = acls(&access(Level::Produce, Pattern::Prefix))[0].binding();
        assert!(Acl::of(&ours).is_some());
        for other in [
            AclBinding { host: "10.0.0.1".into(), ..ours.clone() },
            AclBinding { permission: AclPermission::Deny, ..ours.clone() },
            AclBinding { operation: AclOperation::All, ..ours.clone() },
            AclBinding { resource: AclResource::Cluster, ..ours.clone() },
            AclBinding { principal: "Group:x".into(), ..ours },
        ] {
            assert_eq!(Acl::of(&other), None, "{other:?}");
        }
    }
}
