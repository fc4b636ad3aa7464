//! The sample event types, carried by the binary so that it may be run from anywhere.

/// Import name and text of each file of `proto/examples`.
pub const FILES: &[(&str, &str)] = &[
    ("checkout/v1/page_viewed.proto", include_str!("../../proto/examples/checkout/v1/page_viewed.proto")),
    ("delivery/v1/status_changed.proto", include_str!("../../proto/examples/delivery/v1/status_changed.proto")),
    ("orders/v1/order_placed.proto", include_str!("../../proto/examples/orders/v1/order_placed.proto")),
];

#[cfg(test)]
mod tests {
    use std::path::Path;

    use crate::dev::protos::ProtoFiles;

    #[test]
    fn the_binary_carries_every_example() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/examples");
        let files = ProtoFiles::under(&[folder]).expect("readable");
        // The events of the benches are no samples.
        let names: Vec<_> = files.iter().map(|(name, _)| name).filter(|name| !name.starts_with("bench")).collect();
        assert_eq!(ProtoFiles::samples().iter().map(|(name, _)| name).collect::<Vec<_>>(), names);
    }
}
