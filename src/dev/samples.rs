//! The sample event types, carried by the binary so that it may be run from anywhere.

use crate::schema::protos::ProtoFiles;

/// Import name and text of each file of `proto/examples`.
const FILES: &[(&str, &str)] = &[
    ("checkout/v1/page_viewed.proto", include_str!("../../proto/examples/checkout/v1/page_viewed.proto")),
    ("delivery/v1/status_changed.proto", include_str!("../../proto/examples/delivery/v1/status_changed.proto")),
    ("orders/v1/order_placed.proto", include_str!("../../proto/examples/orders/v1/order_placed.proto")),
];

/// The sample files.
pub fn files() -> ProtoFiles {
    ProtoFiles::of(FILES.iter().copied())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn the_samples_compile_and_hold_events() {
        let pool = files().compile().expect("the samples are ours");
        assert!(files().events(&pool).expect("events").len() > 1);
    }

    #[test]
    fn the_binary_carries_every_example() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/examples");
        let files = ProtoFiles::under(&[folder]).expect("readable");
        // The events of the benches are no samples.
        let names: Vec<_> = files.iter().map(|(name, _)| name).filter(|name| !name.starts_with("bench")).collect();
        assert_eq!(super::files().iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    }
}
