//! `[telemetry]`: how much is shown, and where traces go.
//!
//! In: the table. Out: bounds, and how a collector is reached. Never: what is shown; the catalogue of metrics is fixed.

use super::reader::Table;
use super::{Telemetry, Traces, registries};

/// Reads the table.
pub(super) fn read(root: &mut Table<'_>) -> Telemetry {
    let mut table = root.section("telemetry");
    let telemetry = Telemetry {
        event_types_max: table.size("event_types_max", 1_000, 1..=100_000),
        traces: table.table("traces").and_then(read_traces),
    };
    table.finish();
    telemetry
}

fn read_traces(mut table: Table<'_>) -> Option<Traces> {
    table.refuse("token", super::NO_SECRETS_HERE);
    let what = "the URL that takes OTLP, such as `http://collector:4318/v1/traces`";
    let endpoint = table.need("endpoint", what).and_then(registries::url);
    let token = table.has("token_file").then(|| table.need_secret("token_file", ""));
    if let Some(endpoint) = endpoint.as_ref().filter(|url| token.is_some() && url.starts_with("http://")) {
        table.warning(
            "token_file",
            format!("`{endpoint}` is not https, so that the token crosses the network in clear"),
        );
    }
    let sample_ratio = match table.take("sample_ratio") {
        None => 0.0,
        Some(item) => item.ratio().unwrap_or(0.0),
    };
    let traces = Traces {
        endpoint: endpoint.unwrap_or_default(),
        sample_ratio,
        service_name: table.string("service_name").unwrap_or_else(|| "iguazu".to_owned()),
        token,
        ca_file: table.file("ca_file"),
    };
    table.finish();
    Some(traces)
}
