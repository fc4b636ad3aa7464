//! librdkafka's errors of a record in our codes.
//!
//! In: the error of a delivery report. Out: a [`Failure`], and by it the [`Code`] that replies, ledger and metrics use.

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Kafka};

use crate::outcome::Code;

/// Why a record was given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Failure {
    /// No acknowledgement before the record's time was up; it may have been written.
    TimedOut,
    /// The connection or the replicas failed after it was sent; it may have been written.
    Unconfirmed,
    /// Dropped from the queue at a stop, before it was sent.
    Purged,
    /// Dropped at a stop while it was on its way; it may have been written.
    PurgedInFlight,
    /// Larger than the topic or the broker takes.
    TooLarge,
    /// The broker finds the record itself invalid: no key on a compacted topic, a timestamp out of range, a policy.
    Invalid,
    /// Another record of its batch was invalid, again and again.
    Neighbour,
    /// We may not write to the topic.
    Forbidden,
    /// The topic or the partition is gone.
    UnknownTopic,
    /// The client is beyond repair and must be replaced.
    Fatal,
    /// The brokers could not take it, again and again, until the client stopped trying.
    Exhausted,
    /// Anything else.
    Other,
}

impl Failure {
    /// Every failure.
    pub const ALL: [Failure; 12] = [
        Failure::TimedOut,
        Failure::Unconfirmed,
        Failure::Purged,
        Failure::PurgedInFlight,
        Failure::TooLarge,
        Failure::Invalid,
        Failure::Neighbour,
        Failure::Forbidden,
        Failure::UnknownTopic,
        Failure::Fatal,
        Failure::Exhausted,
        Failure::Other,
    ];

    /// The label in metrics and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Failure::TimedOut => "timed_out",
            Failure::Unconfirmed => "unconfirmed",
            Failure::Purged => "purged",
            Failure::PurgedInFlight => "purged_in_flight",
            Failure::TooLarge => "too_large",
            Failure::Invalid => "invalid",
            Failure::Neighbour => "neighbour_invalid",
            Failure::Forbidden => "forbidden",
            Failure::UnknownTopic => "unknown_topic",
            Failure::Fatal => "fatal",
            Failure::Exhausted => "retries_exhausted",
            Failure::Other => "other",
        }
    }

    /// What the record's request and the ledger are told. [`Code::Unknown`] wherever the record may have been written:
    /// of six timed-out records behind a partition without quorum the leader had appended all (measured).
    pub const fn code(self) -> Code {
        match self {
            Failure::TimedOut | Failure::Unconfirmed | Failure::PurgedInFlight => Code::Unknown,
            Failure::TooLarge | Failure::Invalid => Code::RecordRefused,
            Failure::Purged
            | Failure::Neighbour
            | Failure::Forbidden
            | Failure::UnknownTopic
            | Failure::Fatal
            | Failure::Exhausted
            | Failure::Other => Code::DeliveryFailed,
        }
    }

    /// Whether the record may be in Kafka all the same.
    pub const fn may_be_written(self) -> bool {
        matches!(self.code(), Code::Unknown)
    }

    /// Whether the cluster has answered: it found something wrong with the record or its topic, and is well itself.
    pub const fn is_answer(self) -> bool {
        matches!(
            self,
            Failure::TooLarge | Failure::Invalid | Failure::Neighbour | Failure::Forbidden | Failure::UnknownTopic
        )
    }

    /// Whether it is the topic on this cluster that takes no record.
    pub const fn is_of_the_topic(self) -> bool {
        matches!(self, Failure::Forbidden | Failure::UnknownTopic)
    }

    /// Whether the same record may be taken later, because nothing is wrong with it or with its topic.
    pub const fn is_worth_another_try(self) -> bool {
        match self {
            Failure::TimedOut
            | Failure::Unconfirmed
            | Failure::Purged
            | Failure::PurgedInFlight
            | Failure::Exhausted
            // The client's end, not the record's: the one that replaces it delivers it.
            | Failure::Fatal => true,
            Failure::TooLarge
            | Failure::Invalid
            | Failure::Neighbour
            | Failure::Forbidden
            | Failure::UnknownTopic
            | Failure::Other => false,
        }
    }
}

/// What an error of a delivery report means. Retriable errors appear here only when librdkafka gave up retrying.
pub fn classify(error: &KafkaError) -> Failure {
    let Some(code) = error.rdkafka_error_code() else { return Failure::Other };
    match code {
        Kafka::MessageTimedOut | Kafka::RequestTimedOut => Failure::TimedOut,
        Kafka::BrokerTransportFailure
        | Kafka::NetworkException
        | Kafka::TimedOutQueue
        | Kafka::OperationTimedOut
        | Kafka::NotEnoughReplicasAfterAppend => Failure::Unconfirmed,
        Kafka::PurgeQueue => Failure::Purged,
        Kafka::PurgeInflight => Failure::PurgedInFlight,
        Kafka::MessageSizeTooLarge | Kafka::MessageBatchTooLarge => Failure::TooLarge,
        Kafka::InvalidRecord | Kafka::InvalidTimestamp | Kafka::InvalidMessageSize | Kafka::PolicyViolation => {
            Failure::Invalid
        }
        Kafka::InvalidDifferentRecord => Failure::Neighbour,
        Kafka::TopicAuthorizationFailed
        | Kafka::ClusterAuthorizationFailed
        | Kafka::TransactionalIdAuthorizationFailed => Failure::Forbidden,
        Kafka::UnknownTopicOrPartition
        | Kafka::UnknownTopic
        | Kafka::UnknownPartition
        | Kafka::UnknownTopicId
        | Kafka::InvalidTopic => Failure::UnknownTopic,
        Kafka::Fatal
        | Kafka::Fenced
        | Kafka::ProducerFenced
        | Kafka::InvalidProducerEpoch
        | Kafka::OutOfOrderSequenceNumber
        | Kafka::UnknownProducerId
        | Kafka::Inconsistent => Failure::Fatal,
        // What Kafka's protocol calls retriable, where it is not told above.
        Kafka::NotEnoughReplicas
        | Kafka::LeaderNotAvailable
        | Kafka::NotLeaderForPartition
        | Kafka::BrokerNotAvailable
        | Kafka::ReplicaNotAvailable
        | Kafka::FencedLeaderEpoch
        | Kafka::UnknownLeaderEpoch
        | Kafka::KafkaStorageError
        | Kafka::ThrottlingQuotaExceeded => Failure::Exhausted,
        _ => Failure::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(code: Kafka, failure: Failure, reply: &str) {
        let error = KafkaError::MessageProduction(code);
        assert_eq!(classify(&error), failure, "{code:?}");
        assert_eq!(classify(&error).code().as_str(), reply, "{code:?}");
    }

    #[test]
    fn an_error_of_a_report_tells_whether_the_record_may_have_been_written() {
        check(Kafka::MessageTimedOut, Failure::TimedOut, "unknown");
        check(Kafka::RequestTimedOut, Failure::TimedOut, "unknown");
        check(Kafka::PurgeInflight, Failure::PurgedInFlight, "unknown");
        check(Kafka::BrokerTransportFailure, Failure::Unconfirmed, "unknown");
        check(Kafka::NetworkException, Failure::Unconfirmed, "unknown");
        check(Kafka::NotEnoughReplicasAfterAppend, Failure::Unconfirmed, "unknown");
        check(Kafka::NotEnoughReplicas, Failure::Exhausted, "delivery_failed");
        check(Kafka::PurgeQueue, Failure::Purged, "delivery_failed");
        check(Kafka::TopicAuthorizationFailed, Failure::Forbidden, "delivery_failed");
        check(Kafka::UnknownTopicOrPartition, Failure::UnknownTopic, "delivery_failed");
        check(Kafka::UnknownPartition, Failure::UnknownTopic, "delivery_failed");
        check(Kafka::Fatal, Failure::Fatal, "delivery_failed");
        check(Kafka::OutOfOrderSequenceNumber, Failure::Fatal, "delivery_failed");
        check(Kafka::InvalidDifferentRecord, Failure::Neighbour, "delivery_failed");
        check(Kafka::KafkaStorageError, Failure::Exhausted, "delivery_failed");
        check(Kafka::MessageSizeTooLarge, Failure::TooLarge, "record_refused");
        check(Kafka::MessageBatchTooLarge, Failure::TooLarge, "record_refused");
        check(Kafka::InvalidRecord, Failure::Invalid, "record_refused");
        check(Kafka::InvalidTimestamp, Failure::Invalid, "record_refused");
        check(Kafka::PolicyViolation, Failure::Invalid, "record_refused");
    }

    #[test]
    fn what_is_wrong_with_the_record_or_its_topic_is_not_tried_again() {
        let again = Failure::ALL.into_iter().filter(|failure| failure.is_worth_another_try());
        let again: Vec<_> = again.map(Failure::as_str).collect();
        let expected = ["timed_out", "unconfirmed", "purged", "purged_in_flight", "fatal", "retries_exhausted"];
        assert_eq!(again, expected);
    }

    #[test]
    fn an_error_without_a_code_of_kafka_is_some_other_failure() {
        assert_eq!(classify(&KafkaError::Canceled), Failure::Other);
    }

    #[test]
    fn every_failure_has_a_label_and_a_place_of_its_own() {
        let mut labels: Vec<_> = Failure::ALL.iter().map(|failure| failure.as_str()).collect();
        labels.sort_unstable();
        labels.dedup();
        assert_eq!(labels.len(), Failure::ALL.len());
        assert!(Failure::ALL.iter().enumerate().all(|(i, failure)| *failure as usize == i));
    }
}
