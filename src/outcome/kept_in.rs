//! Where a record is kept that has failed for good: the label of a metric, and of a log line.

/// Where a record is kept that was accepted and then given up for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum KeptIn {
    /// In the dead-letter topic of its event type, acknowledged.
    DeadLetterTopic,
    /// In the failed log, on disk.
    FailedLog,
    /// Nowhere: there is no such place, or none that took it.
    Nowhere,
}

impl KeptIn {
    /// Every place.
    pub const ALL: [KeptIn; 3] = [KeptIn::DeadLetterTopic, KeptIn::FailedLog, KeptIn::Nowhere];

    /// The label in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            KeptIn::DeadLetterTopic => "dead_letter_topic",
            KeptIn::FailedLog => "failed_log",
            KeptIn::Nowhere => "nowhere",
        }
    }
}
