//! The messages of `proto/iguazu/v1`, as generated: for what is off the path of an event (replies, readers, tools,
//! tests). On the path, `protobuf.rs` reads events borrowed and `headers.rs` writes envelopes by hand.

#![allow(missing_docs, clippy::all, reason = "generated code; the documentation is in the .proto files")]

include!(concat!(env!("OUT_DIR"), "/iguazu.v1.rs"));

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// Every example compiles, lies where its package says, and has one message that is an event.
    #[test]
    fn the_examples_are_event_types() {
        let check = |file: &str, expected: &str| {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto/examples");
            let files = protox::compile([root.join(file)], [root]).expect("the example compiles").file;
            let file = files.iter().find(|f| f.name() == file).expect("the file itself is among the descriptors");
            let fields = file
                .message_type
                .iter()
                .flat_map(|m| m.field.iter().chain(m.nested_type.iter().flat_map(|n| &n.field)));
            let referred: Vec<&str> = fields.map(|field| field.type_name()).collect();
            let full_name = |name: &str| format!("{}.{name}", file.package());
            let events = file.message_type.iter().map(|m| full_name(m.name()));
            let events: Vec<String> = events.filter(|m| !referred.contains(&format!(".{m}").as_str())).collect();
            assert_eq!(events, [expected]);
            assert!(file.name().starts_with(&file.package().replace('.', "/")), "{}", file.name());
        };
        check("delivery/v1/status_changed.proto", "delivery.v1.StatusChanged");
        check("checkout/v1/page_viewed.proto", "checkout.v1.PageViewed");
        check("orders/v1/order_placed.proto", "orders.v1.OrderPlaced");
    }
}
