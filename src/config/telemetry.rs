//! `[telemetry]`: how much is shown.
//!
//! In: the table. Out: bounds. Never: what is shown; the catalogue of metrics is fixed.

use super::Telemetry;
use super::reader::Table;

/// Reads the table.
pub(super) fn read(root: &mut Table<'_>) -> Telemetry {
    let mut table = root.section("telemetry");
    let telemetry = Telemetry { event_types_max: table.size("event_types_max", 1_000, 1..=100_000) };
    table.finish();
    telemetry
}
