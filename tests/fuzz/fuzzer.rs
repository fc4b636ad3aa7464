//! The fuzzer: libFuzzer over the targets of `targets.rs`.
//!
//! It needs no nightly Rust: coverage comes from LLVM's own pass, which `tests/fuzz/rustc` switches on for this crate alone. What it
//! finds goes to `tests/fuzz/regressions/TARGET/`, which `cargo test --test conformance` runs through the targets for ever after.
//!
//! ```text
//! tests/fuzz/run.sh 30            thirty seconds, shared by all targets
//! tests/fuzz/run.sh 600 json      ten minutes of one
//! ```
//!
//! This is an example and not a test, because libFuzzer brings a `main` of its own, which would fuzz for ever.

#![no_main]

#[path = "../conformance/protocol.rs"]
#[allow(dead_code, reason = "the fuzzer reads a part of what the conformance test reads and writes")]
mod protocol;
#[path = "../conformance/recorded.rs"]
#[allow(dead_code, reason = "the fuzzer reads a part of what the conformance test reads and writes")]
mod recorded;
mod oracle;
mod seeds;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

static TARGET: OnceLock<fn(&[u8])> = OnceLock::new();

fuzz_target!(
    // The name of the target, and the folder that its seeds are written to.
    init: {
        // libFuzzer's hook aborts at once; this way what is caught is no finding.
        drop(std::panic::take_hook());
        let [name, corpus] = ["IGUAZU_FUZZ_TARGET", "IGUAZU_FUZZ_CORPUS"].map(|name| std::env::var(name).unwrap_or_default());
        let target = targets::find(&name);
        let target = target.unwrap_or_else(|| panic!("IGUAZU_FUZZ_TARGET is to be one of {:?}", targets::NAMES));
        TARGET.get_or_init(|| target);
        for (n, seed) in seeds::of(&name).iter().enumerate() {
            std::fs::write(format!("{corpus}/seed-{n}"), seed).expect("IGUAZU_FUZZ_CORPUS is to be a folder");
        }
    },
    |input: &[u8]| TARGET.get().expect("`init` has set it")(input)
);
