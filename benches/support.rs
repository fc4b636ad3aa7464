//! The events that the benches send: 1,024 distinct ones, the same in every run, as Protobuf and as JSON.

use base64::Engine;
use prost::encoding;
use prost_reflect::{DescriptorPool, MessageDescriptor};
use protox::file::{File, FileResolver};

/// Text of the benches' schema.
pub const PROTO: &str = include_str!("../proto/examples/bench_event.proto");

/// Full name of the benches' message.
pub const MESSAGE: &str = "examples.bench.v1.BenchEvent";

/// How many distinct events there are.
pub const EVENTS: usize = 1_024;

/// One event in both of its forms.
pub struct BenchEvent {
    /// Protobuf on the wire.
    pub protobuf: Vec<u8>,
    /// proto3 JSON, compact, members in the order of declaration.
    pub json: Vec<u8>,
}

/// The descriptor of [`MESSAGE`].
pub fn descriptor() -> MessageDescriptor {
    compile(PROTO).get_message_by_name(MESSAGE).expect("the benches' schema has the message")
}

/// The descriptors of a file that imports nothing.
pub fn compile(text: &str) -> DescriptorPool {
    struct Only(String);
    impl FileResolver for Only {
        fn open_file(&self, name: &str) -> Result<File, protox::Error> {
            File::from_source(name, &self.0)
        }
    }
    let mut compiler = protox::Compiler::with_file_resolver(Only(text.to_owned()));
    compiler.open_file("bench_event.proto").expect("the benches' schema compiles");
    compiler.descriptor_pool()
}

/// A client of a registry.
pub fn registry(url: &str) -> iguazu::schema::Registry {
    let settings = iguazu::config::Registry {
        name: "main".to_owned(),
        urls: vec![url.to_owned()],
        auth: None,
        ca_file: None,
        timeout: std::time::Duration::from_secs(5),
        negative_ttl: std::time::Duration::ZERO,
    };
    iguazu::schema::Registry::new(&settings).expect("valid settings")
}

/// Registers the benches' schema, and the Avro one that is derived from it, at a registry.
pub async fn register(url: &str) {
    use iguazu::schema::protos::ProtoFiles;
    use iguazu::schema::repository::{Repository, merge};
    let client = registry(url);
    let event = iguazu::config::EventMessage::named(MESSAGE, iguazu::route::Mapping::default());
    let repository =
        Repository::new(ProtoFiles::of([("bench_event.proto", PROTO)]), vec![event]).expect("the schema compiles");
    let entries = repository.entries().expect("it can be derived");
    merge::merge(&client, &entries, None, |_| Ok(())).await.expect("the benches' schema is registered");
}

/// All events.
pub fn events() -> Vec<BenchEvent> {
    (0..EVENTS as u64).map(event).collect()
}

const STATUSES: [&str; 6] = [
    "STATUS_UNSPECIFIED",
    "STATUS_CREATED",
    "STATUS_ASSIGNED",
    "STATUS_PICKED_UP",
    "STATUS_DELIVERED",
    "STATUS_CANCELLED",
];
const STORES: [&str; 5] =
    ["Café de la Gare", "Noodle House 21", "Pizzeria Il Forno", "Green Bowl Company", "Burger & Co"];
const CITIES: [&str; 5] = ["San Francisco", "München", "Oakland", "New York", "Seattle"];
const TAGS: [&str; 6] = ["alcohol", "contactless", "fragile", "scheduled", "cold-chain", "gift"];

fn event(n: u64) -> BenchEvent {
    let mut random = Random(n);
    let delivery_id = random.uuid();
    let order_id = random.uuid();
    let courier_id = format!("courier-{:09}", random.below(1_000_000_000));
    let store_name = STORES[random.below(5)];
    let app_version = format!("{}.{}.{}", random.below(20), random.below(100), random.below(10));
    let created_ms = 1_735_689_600_000 + random.below(86_400_000) as i64;
    let attempt = 1 + random.below(4) as i32;
    let total_cents = 500 + random.below(20_000) as u32;
    let latitude = 37.0 + random.below(10_000_000) as f64 / 1e7;
    let longitude = -122.0 - random.below(10_000_000) as f64 / 1e7;
    let speed = random.below(2_000) as f32 / 64.0;
    let is_priority = random.below(2) == 1;
    let status = 1 + random.below(5);
    let signature: Vec<u8> = (0..3).flat_map(|_| random.next().to_le_bytes()).collect();
    let tags: Vec<String> = (0..1 + random.below(3)).map(|_| TAGS[random.below(6)].to_owned()).collect();
    let item_counts: Vec<i32> = (0..2 + random.below(5)).map(|_| random.below(200) as i32).collect();
    let city = CITIES[random.below(5)];
    let street = format!("{} Market Street", random.below(3_000));
    let floor = 1 + random.below(30) as i32;
    let platform = ["android-14", "ios-18.1", "web"][random.below(3)];
    let experiment = format!("checkout-{}", random.below(50));

    let list = |items: Vec<String>| items.join(",");
    let json = format!(
        "{{\"deliveryId\":\"{delivery_id}\",\"orderId\":\"{order_id}\",\"courierId\":\"{courier_id}\",\
         \"storeName\":\"{store_name}\",\"appVersion\":\"{app_version}\",\"createdMs\":\"{created_ms}\",\
         \"attempt\":{attempt},\"totalCents\":{total_cents},\"latitude\":{latitude},\"longitude\":{longitude},\
         \"speed\":{speed},{}\"status\":\"{}\",\"signature\":\"{}\",\"tags\":[{}],\"itemCounts\":[{}],\
         \"dropoff\":{{\"city\":\"{city}\",\"street\":\"{street}\",\"floor\":{floor}}},\
         \"attributes\":{{\"platform\":\"{platform}\",\"experiment\":\"{experiment}\"}}}}",
        if is_priority { "\"isPriority\":true," } else { "" },
        STATUSES[status],
        base64::engine::general_purpose::STANDARD.encode(&signature),
        list(tags.iter().map(|tag| format!("\"{tag}\"")).collect()),
        list(item_counts.iter().map(i32::to_string).collect()),
    );

    let mut wire = Vec::new();
    let texts = [&delivery_id, &order_id, &courier_id, store_name, &app_version];
    for (number, text) in (1..).zip(texts) {
        encoding::string::encode(number, &text.to_owned(), &mut wire);
    }
    encoding::int64::encode(6, &created_ms, &mut wire);
    encoding::int32::encode(7, &attempt, &mut wire);
    encoding::uint32::encode(8, &total_cents, &mut wire);
    encoding::double::encode(9, &latitude, &mut wire);
    encoding::double::encode(10, &longitude, &mut wire);
    if speed != 0.0 {
        encoding::float::encode(11, &speed, &mut wire);
    }
    if is_priority {
        encoding::bool::encode(12, &true, &mut wire);
    }
    encoding::int32::encode(13, &(status as i32), &mut wire);
    encoding::bytes::encode(14, &signature, &mut wire);
    encoding::string::encode_repeated(15, &tags, &mut wire);
    encoding::int32::encode_packed(16, &item_counts, &mut wire);
    let mut dropoff = Vec::new();
    encoding::string::encode(1, &city.to_owned(), &mut dropoff);
    encoding::string::encode(2, &street, &mut dropoff);
    encoding::int32::encode(3, &floor, &mut dropoff);
    encoding::bytes::encode(17, &dropoff, &mut wire);
    for (key, value) in [("platform", platform), ("experiment", &experiment)] {
        let mut entry = Vec::new();
        encoding::string::encode(1, &key.to_owned(), &mut entry);
        encoding::string::encode(2, &value.to_owned(), &mut entry);
        encoding::bytes::encode(18, &entry, &mut wire);
    }
    BenchEvent { protobuf: wire, json: json.into_bytes() }
}

/// SplitMix64: the same numbers everywhere, from the seed alone.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn uuid(&mut self) -> String {
        uuid::Uuid::from_u64_pair(self.next(), self.next()).to_string()
    }
}
