//! Compiles `proto/iguazu/v1` into Rust. protox does protoc's part, so no machine needs one installed.

use std::error::Error;
use std::path::Path;

const INCLUDE: &str = "proto";
const FILES: [&str; 1] = ["proto/iguazu/v1/events.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES.iter().chain(&["proto/build.rs"]) {
        println!("cargo::rerun-if-changed={file}");
    }
    let descriptors = protox::compile(FILES, [INCLUDE]).map_err(|e| format!("{e:?}"))?;
    prost_build::Config::new()
        // prost-build would name the crate `prost-types`, which this one does not depend on; prost-reflect re-exports it.
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::prost_reflect::prost_types")
        .compile_fds(descriptors)?;
    let generated = Path::new(&std::env::var("OUT_DIR")?).join("iguazu.v1.rs");
    match generated.exists() {
        true => Ok(()),
        false => Err(format!("{} was not generated", generated.display()).into()),
    }
}
