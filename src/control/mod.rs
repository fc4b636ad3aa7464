//! The management plane: what makes topics, users, access and quotas on Kafka, and tells the proxy what to route.
//!
//! In: what somebody wants of a cluster. Out: the calls that make it so, and what the cluster says it has. Never: is named by the
//! path of an event, carries an event, guesses what an unanswered change came to.
//!
//! | module | subject |
//! |---|---|
//! | [`kafka`] | administration of a Kafka cluster: one trait, and the client that speaks Kafka's protocol |

pub mod kafka;
