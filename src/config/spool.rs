//! `[spool]`: the disk beside the producers.

use super::reader::{Item, Table};
use super::{Cluster, Http, Spool};

/// What the spool writes a second at least (measured by `cargo bench --bench spool`: several times as much).
const BYTES_PER_SECOND: usize = 60_000_000;

/// Reads it; none when the table is not there.
pub(super) fn read(root: &mut Table<'_>, http: &Http, http_table: &Table<'_>, clusters: &[Cluster]) -> Option<Spool> {
    let mut table = root.table("spool")?;
    let folder = table.need("folder", "the folder of the events that wait on disk").and_then(Item::string);
    let folder = table.source.folder.join(folder.unwrap_or_default());
    if folder.exists() && !folder.is_dir() {
        table.problem("folder", format!("`{}` is a file; it must be a folder", folder.display()));
    }
    let spool = Spool {
        folder,
        bytes_max: table.size("bytes_max", 10_737_418_240, 16_777_216..=17_592_186_044_416) as u64,
        sync_interval: table.milliseconds("fsync_interval_ms", 0, 0..=10_000),
        is_ephemeral: table.flag("ephemeral"),
    };
    table.finish();
    check_drain(http, http_table, clusters);
    Some(spool)
}

/// What a stop cannot deliver must be on disk before its time is up.
fn check_drain(http: &Http, table: &Table<'_>, clusters: &[Cluster]) {
    let buffers: usize = clusters.iter().map(|cluster| cluster.buffer_bytes_max).sum();
    let seconds = buffers.div_ceil(BYTES_PER_SECOND) as u64;
    if http.drain.as_secs() < 2 * seconds {
        let message = format!(
            "a stop gives half of it to the disk, where full buffers ({buffers} bytes) take about {seconds} s; make it at least {}",
            2 * seconds
        );
        table.warning("drain_seconds", message);
    }
}
