//! Access rules: create, describe by filter, delete by exact binding.

use kafka_protocol::ResponseError;
use kafka_protocol::messages::DescribeAclsRequest;
use kafka_protocol::messages::create_acls_request::{AclCreation, CreateAclsRequest};
use kafka_protocol::messages::delete_acls_request::{DeleteAclsFilter, DeleteAclsRequest};
use kafka_protocol::messages::delete_acls_response::DeleteAclsFilterResult;
use kafka_protocol::messages::describe_acls_response::DescribeAclsResource;

use super::client::To;
use super::each::one_each;
use super::error::{AdminError, Refusal, check};
use super::numbers::numbers;
use super::topics::text;
use super::{Each, KafkaClient};

numbers! {
    /// What access is to (`org.apache.kafka.common.resource.ResourceType`).
    AclResource {
        /// A topic.
        Topic = 2,
        /// A consumer group.
        Group = 3,
        /// The cluster itself; its name is `kafka-cluster`.
        Cluster = 4,
        /// A transactional id.
        TransactionalId = 5,
        /// A delegation token.
        DelegationToken = 6,
        /// A user, for its delegation tokens.
        User = 7,
    }
}

numbers! {
    /// How the name of a rule matches resources (`org.apache.kafka.common.resource.PatternType`).
    AclPattern {
        /// The resource of this name; `*` is every one.
        Literal = 3,
        /// Resources whose names begin so.
        Prefixed = 4,
    }
}

numbers! {
    /// What may be done (`org.apache.kafka.common.acl.AclOperation`).
    AclOperation {
        /// Everything.
        All = 2,
        /// Consume, or be in the group.
        Read = 3,
        /// Produce.
        Write = 4,
        /// Create the resource.
        Create = 5,
        /// Delete it.
        Delete = 6,
        /// Change it: partitions of a topic, users and access rules of a cluster.
        Alter = 7,
        /// See that it is there, and its state.
        Describe = 8,
        /// What brokers do among themselves.
        ClusterAction = 9,
        /// See its configs.
        DescribeConfigs = 10,
        /// Change its configs.
        AlterConfigs = 11,
        /// Produce idempotently, on brokers before 3.0.
        IdempotentWrite = 12,
        /// Create delegation tokens of a user.
        CreateTokens = 13,
        /// See delegation tokens of a user.
        DescribeTokens = 14,
    }
}

numbers! {
    /// Whether it is allowed (`org.apache.kafka.common.acl.AclPermissionType`). A denial wins over any allowance.
    AclPermission {
        /// Forbidden.
        Deny = 2,
        /// Allowed.
        Allow = 3,
    }
}

/// An access rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AclBinding {
    /// What access is to.
    pub resource: AclResource,
    /// How the name matches.
    pub pattern: AclPattern,
    /// The resource's name, the beginning of it, or `*`.
    pub name: String,
    /// Who: `User:NAME`, or `User:*` for everyone.
    pub principal: String,
    /// From which host, by address; `*` is any.
    pub host: String,
    /// What may be done.
    pub operation: AclOperation,
    /// Whether it is allowed.
    pub permission: AclPermission,
}

/// Which access rules. The default matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AclFilter {
    /// What access is to; none is anything.
    pub resource: Option<AclResource>,
    /// How the rule's name is compared.
    pub name: AclNameFilter,
    /// Who, exactly; none is anybody.
    pub principal: Option<String>,
    /// From which host, exactly; none is any.
    pub host: Option<String>,
    /// What may be done; none is anything.
    pub operation: Option<AclOperation>,
    /// Whether it is allowed; none is either.
    pub permission: Option<AclPermission>,
}

/// How a filter compares the names of rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AclNameFilter {
    /// Every name.
    #[default]
    Any,
    /// Every rule that bears on the resource of this name: literal, prefixed or `*`.
    BearingOn(String),
    /// Rules of this pattern and exactly this name.
    Exactly(AclPattern, String),
}

impl AclFilter {
    /// Whether a rule is among those that the filter asks for.
    pub fn matches(&self, rule: &AclBinding) -> bool {
        let is_name = match &self.name {
            AclNameFilter::Any => true,
            AclNameFilter::Exactly(pattern, name) => rule.pattern == *pattern && rule.name == *name,
            AclNameFilter::BearingOn(name) => match rule.pattern {
                AclPattern::Literal => rule.name == *name || rule.name == "*",
                AclPattern::Prefixed => name.starts_with(&rule.name),
                AclPattern::Other(_) => false,
            },
        };
        is_name
            && self.resource.is_none_or(|resource| resource == rule.resource)
            && self.principal.as_ref().is_none_or(|principal| *principal == rule.principal)
            && self.host.as_ref().is_none_or(|host| *host == rule.host)
            && self.operation.is_none_or(|operation| operation == rule.operation)
            && self.permission.is_none_or(|permission| permission == rule.permission)
    }
}

/// Matches everything in a filter, of resources, operations and permissions as of patterns.
const ANY: i8 = 1;
/// `PatternType.MATCH`; only for describing. A deletion by it takes rules that merely bear on the name.
const MATCH: i8 = 2;

impl KafkaClient {
    pub(super) async fn create_acls(&self, bindings: &[AclBinding]) -> Result<Each<()>, AdminError> {
        if bindings.is_empty() {
            return Ok(Vec::new());
        }
        let creation = |binding: &AclBinding| {
            AclCreation::default()
                .with_resource_type(binding.resource.number())
                .with_resource_name(text(&binding.name))
                .with_resource_pattern_type(binding.pattern.number())
                .with_principal(text(&binding.principal))
                .with_host(text(&binding.host))
                .with_operation(binding.operation.number())
                .with_permission_type(binding.permission.number())
        };
        let request = CreateAclsRequest::default().with_creations(bindings.iter().map(creation).collect());
        self.write(To::Any, &request, |response| {
            let results = response.results.iter();
            let results = results.map(|result| check(result.error_code, result.error_message.as_ref()));
            one_each(bindings.len(), results.collect())
        })
        .await
    }

    pub(super) async fn describe_acls(&self, filter: &AclFilter) -> Result<Vec<AclBinding>, AdminError> {
        let (pattern, name) = match &filter.name {
            AclNameFilter::Any => (ANY, None),
            AclNameFilter::BearingOn(name) => (MATCH, Some(text(name))),
            AclNameFilter::Exactly(pattern, name) => (pattern.number(), Some(text(name))),
        };
        let request = DescribeAclsRequest::default()
            .with_resource_type_filter(filter.resource.map_or(ANY, AclResource::number))
            .with_resource_name_filter(name)
            .with_pattern_type_filter(pattern)
            .with_principal_filter(filter.principal.as_deref().map(text))
            .with_host_filter(filter.host.as_deref().map(text))
            .with_operation(filter.operation.map_or(ANY, AclOperation::number))
            .with_permission_type(filter.permission.map_or(ANY, AclPermission::number));
        self.read(To::Any, &request, |response| {
            check(response.error_code, response.error_message.as_ref())?;
            Ok(response.resources.iter().flat_map(bindings).collect())
        })
        .await
    }

    pub(super) async fn delete_acls(&self, bindings: &[AclBinding]) -> Result<Each<()>, AdminError> {
        if bindings.is_empty() {
            return Ok(Vec::new());
        }
        // Every field is given, so that a filter matches one rule at most.
        let filter = |binding: &AclBinding| {
            DeleteAclsFilter::default()
                .with_resource_type_filter(binding.resource.number())
                .with_resource_name_filter(Some(text(&binding.name)))
                .with_pattern_type_filter(binding.pattern.number())
                .with_principal_filter(Some(text(&binding.principal)))
                .with_host_filter(Some(text(&binding.host)))
                .with_operation(binding.operation.number())
                .with_permission_type(binding.permission.number())
        };
        if let Some(binding) = bindings.iter().find(|binding| !binding.is_exact()) {
            return Err(AdminError::Invalid(Refusal::new(
                ResponseError::InvalidRequest,
                format!("the access rule on `{}` has a kind that means more than one rule", binding.name),
            )));
        }
        let request = DeleteAclsRequest::default().with_filters(bindings.iter().map(filter).collect());
        self.write(To::Any, &request, |response| {
            one_each(bindings.len(), response.filter_results.iter().map(deleted).collect())
        })
        .await
    }
}

impl AclBinding {
    /// Whether it names one rule. The numbers of "any" and "match" do not.
    fn is_exact(&self) -> bool {
        let numbers =
            [self.resource.number(), self.operation.number(), self.permission.number(), self.pattern.number()];
        numbers.iter().all(|number| *number > ANY) && self.pattern.number() != MATCH
    }
}

fn bindings(resource: &DescribeAclsResource) -> impl Iterator<Item = AclBinding> {
    resource.acls.iter().map(|acl| AclBinding {
        resource: AclResource::of_number(resource.resource_type),
        pattern: AclPattern::of_number(resource.pattern_type),
        name: resource.resource_name.to_string(),
        principal: acl.principal.to_string(),
        host: acl.host.to_string(),
        operation: AclOperation::of_number(acl.operation),
        permission: AclPermission::of_number(acl.permission_type),
    })
}

fn deleted(result: &DeleteAclsFilterResult) -> Result<(), AdminError> {
    check(result.error_code, result.error_message.as_ref())?;
    if result.matching_acls.is_empty() {
        return Err(AdminError::NotFound(Refusal::new(ResponseError::ResourceNotFound, "no such access rule")));
    }
    result.matching_acls.iter().try_for_each(|acl| check(acl.error_code, acl.error_message.as_ref()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_whose_numbers_mean_any_or_match_names_more_than_one() {
        let rule = AclBinding {
            resource: AclResource::Topic,
            pattern: AclPattern::Literal,
            name: "t".to_owned(),
            principal: "User:u".to_owned(),
            host: "*".to_owned(),
            operation: AclOperation::Read,
            permission: AclPermission::Allow,
        };
        assert!(rule.is_exact());
        assert!(AclBinding { operation: AclOperation::Other(15), ..rule.clone() }.is_exact());
        for wide in [
            AclBinding { pattern: AclPattern::Other(MATCH), ..rule.clone() },
            AclBinding { pattern: AclPattern::Other(ANY), ..rule.clone() },
            AclBinding { resource: AclResource::Other(ANY), ..rule.clone() },
            AclBinding { operation: AclOperation::Other(0), ..rule.clone() },
            AclBinding { permission: AclPermission::Other(ANY), ..rule },
        ] {
            assert!(!wide.is_exact(), "{wide:?}");
        }
    }
}
