//! What a call fails with: one variant per thing that a caller does about it, with Kafka's own code and words.

use kafka_protocol::error::ResponseError;
use kafka_protocol::protocol::StrBytes;

/// Why a connection that was given its time is not there.
pub(super) const NO_ANSWER: &str = "no answer in time";

/// What Kafka said no with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Kafka's error code (`org.apache.kafka.common.protocol.Errors`).
    pub code: i16,
    /// Kafka's message; empty when it gave none. For operators, not for senders.
    pub message: String,
}

impl Refusal {
    pub(super) fn new(error: ResponseError, message: impl Into<String>) -> Refusal {
        Refusal { code: error.code(), message: message.into() }
    }

    fn error(&self) -> ResponseError {
        ResponseError::try_from_code(self.code).unwrap_or(ResponseError::Unknown(0))
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if !self.message.is_empty() {
            write!(f, ": {}", self.message.trim_end_matches('.'))?;
        }
        write!(f, " (Kafka error {}, {:?})", self.code, self.error())
    }
}

/// Why a call, or one item of it, did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// There is no such topic, group, user, access rule, broker or directory.
    #[error("not found{0}")]
    NotFound(Refusal),
    /// It is there already. Compare it with what was wanted.
    #[error("exists already{0}")]
    AlreadyExists(Refusal),
    /// Our user may not do that on this cluster.
    #[error("the cluster's access rules forbid it{0}")]
    Forbidden(Refusal),
    /// A value that the cluster will never take.
    #[error("the cluster refuses the value{0}")]
    Invalid(Refusal),
    /// The cluster's own policy class says no.
    #[error("the cluster's policy refuses it{0}")]
    Policy(Refusal),
    /// The cluster limits changes, and refused this one before it was made; later it may go.
    #[error("the cluster limits how fast it is changed{0}")]
    Throttled(Refusal),
    /// The cluster has no authorizer, so it has no access rules.
    #[error("the cluster has no authorizer{0}")]
    SecurityDisabled(Refusal),
    /// Wrong name or password, or a mechanism that the broker does not offer.
    #[error("the login was refused{0}")]
    LoginRefused(Refusal),
    /// The cluster, by its kind or its version, cannot do that.
    #[error("not supported: {what}")]
    NotSupported {
        /// What cannot be done, and why.
        what: String,
    },
    /// Nothing was applied, because the cluster is electing or loading; the same call may succeed soon.
    #[error("the cluster cannot do it now{0}")]
    Busy(Refusal),
    /// No broker could be asked; nothing was applied.
    #[error("{broker} cannot be reached: {reason}")]
    Unreachable {
        /// Host and port, or which broker.
        broker: String,
        /// What the network said.
        reason: String,
    },
    /// There is no agreement on TLS: a certificate that is not believed, or a side that does not speak it. Nothing was applied.
    #[error("no TLS with {broker}: {reason}")]
    Untrusted {
        /// Host and port.
        broker: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A question that nobody answered in time. Nothing was changed, nothing is known.
    #[error("no answer: {reason}")]
    Timeout {
        /// What was waited for.
        reason: String,
    },
    /// A change that was sent and not answered: it may be made, now or later, or not. Observe before sending it again.
    #[error("the outcome is unknown: {reason}")]
    Unknown {
        /// What came instead of an answer.
        reason: String,
    },
    /// Anything else that Kafka says. After a change, observe before sending it again.
    #[error("the cluster failed{0}")]
    Failed(Refusal),
}

impl AdminError {
    /// What Kafka would say of something that is not there.
    pub fn absent(what: &str) -> AdminError {
        AdminError::NotFound(Refusal::new(ResponseError::ResourceNotFound, what))
    }

    /// A stable name, for replies and metrics.
    pub const fn code(&self) -> &'static str {
        match self {
            AdminError::NotFound(_) => "not_found",
            AdminError::AlreadyExists(_) => "already_exists",
            AdminError::Forbidden(_) => "forbidden",
            AdminError::Invalid(_) => "invalid",
            AdminError::Policy(_) => "policy",
            AdminError::Throttled(_) => "throttled",
            AdminError::SecurityDisabled(_) => "security_disabled",
            AdminError::LoginRefused(_) => "login_refused",
            AdminError::NotSupported { .. } => "not_supported",
            AdminError::Busy(_) => "busy",
            AdminError::Unreachable { .. } => "unreachable",
            AdminError::Untrusted { .. } => "untrusted",
            AdminError::Timeout { .. } => "timeout",
            AdminError::Unknown { .. } => "unknown",
            AdminError::Failed(_) => "failed",
        }
    }

    /// Kafka's code and message, when it was Kafka that said no.
    pub const fn refusal(&self) -> Option<&Refusal> {
        match self {
            AdminError::NotFound(refusal)
            | AdminError::AlreadyExists(refusal)
            | AdminError::Forbidden(refusal)
            | AdminError::Invalid(refusal)
            | AdminError::Policy(refusal)
            | AdminError::Throttled(refusal)
            | AdminError::SecurityDisabled(refusal)
            | AdminError::LoginRefused(refusal)
            | AdminError::Busy(refusal)
            | AdminError::Failed(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// Whether a question may be answered when it is asked again at once.
    pub(super) const fn is_transient(&self) -> bool {
        matches!(
            self,
            AdminError::Busy(_)
                | AdminError::Unreachable { .. }
                | AdminError::Timeout { .. }
                | AdminError::Unknown { .. }
        )
    }

    /// The one of two tries' errors that says more. A last try has little time left, and that it ran out says nothing.
    pub(super) fn or_earlier(self, earlier: Option<AdminError>) -> AdminError {
        let ran_out = matches!(&self, AdminError::Unreachable { reason, .. } if reason == NO_ANSWER);
        if ran_out { earlier.unwrap_or(self) } else { self }
    }

    /// The same of a call that changes nothing: what has no answer changed nothing.
    pub(super) fn of_read(self) -> AdminError {
        match self {
            AdminError::Unknown { reason } => AdminError::Timeout { reason },
            other => other,
        }
    }

    /// A broker that left an item out, or said what cannot be.
    pub(super) fn nonsense(what: impl Into<String>) -> AdminError {
        AdminError::Failed(Refusal::new(ResponseError::UnknownServerError, what))
    }
}

/// The error that a code in a response stands for; 0 is none.
pub(super) fn check(code: i16, message: Option<&StrBytes>) -> Result<(), AdminError> {
    use ResponseError as E;
    let Some(error) = E::try_from_code(code) else { return Ok(()) };
    let refusal = Refusal::new(error, message.map(|message| message.to_string()).unwrap_or_default());
    Err(match error {
        E::UnknownTopicOrPartition
        | E::UnknownTopicId
        | E::InconsistentTopicId
        | E::GroupIdNotFound
        | E::ResourceNotFound
        | E::LogDirNotFound
        | E::BrokerIdNotRegistered => AdminError::NotFound(refusal),
        E::TopicAlreadyExists => AdminError::AlreadyExists(refusal),
        E::TopicAuthorizationFailed
        | E::GroupAuthorizationFailed
        | E::ClusterAuthorizationFailed
        | E::TransactionalIdAuthorizationFailed
        | E::DelegationTokenAuthorizationFailed => AdminError::Forbidden(refusal),
        E::InvalidTopicException
        | E::InvalidGroupId
        | E::InvalidPartitions
        | E::InvalidReplicationFactor
        | E::InvalidReplicaAssignment
        | E::InvalidConfig
        | E::InvalidRequest
        | E::InvalidPrincipalType
        | E::DuplicateResource
        | E::UnacceptableCredential => AdminError::Invalid(refusal),
        E::PolicyViolation => AdminError::Policy(refusal),
        E::ThrottlingQuotaExceeded => AdminError::Throttled(refusal),
        E::SecurityDisabled => AdminError::SecurityDisabled(refusal),
        E::SaslAuthenticationFailed | E::UnsupportedSaslMechanism | E::IllegalSaslState => {
            AdminError::LoginRefused(refusal)
        }
        E::UnsupportedVersion
        | E::UnsupportedForMessageFormat
        | E::TopicDeletionDisabled
        | E::UnsupportedEndpointType => AdminError::NotSupported { what: format!("the cluster says no{refusal}") },
        // The broker that forwarded the change to the controller had no answer from it, which says nothing about the change.
        E::RequestTimedOut | E::NetworkException => {
            AdminError::Unknown { reason: format!("the broker had no answer from the controller{refusal}") }
        }
        other if other.is_retriable() => AdminError::Busy(refusal),
        _ => AdminError::Failed(refusal),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_becomes_what_a_caller_does_about_it_and_keeps_kafkas_words() {
        for (code, name) in [
            (3, "not_found"),
            (36, "already_exists"),
            (29, "forbidden"),
            (31, "forbidden"),
            (40, "invalid"),
            (38, "invalid"),
            (44, "policy"),
            (89, "throttled"),
            (54, "security_disabled"),
            (58, "login_refused"),
            (35, "not_supported"),
            (41, "busy"),
            (15, "busy"),
            (7, "unknown"),
            (-1, "failed"),
            (9_999, "failed"),
        ] {
            let error = check(code, Some(&StrBytes::from_static_str("because"))).expect_err("not 0");
            assert_eq!(error.code(), name, "{code}");
            assert!(error.to_string().contains("because"), "{error}");
            assert!(error.to_string().contains(&code.to_string()), "{error}");
        }
        assert_eq!(check(0, None), Ok(()));
    }

    #[test]
    fn a_question_without_an_answer_has_changed_nothing() {
        let unanswered = check(7, None).expect_err("not 0");
        assert!(unanswered.is_transient());
        assert_eq!(unanswered.of_read().code(), "timeout");
    }
}
