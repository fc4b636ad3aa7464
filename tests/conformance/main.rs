//! The official conformance suite of Protobuf against our plans.
//!
//! ```text
//! cargo test --test conformance               the recorded suite, then the suite itself
//! cargo test --test conformance -- --record   records it again, after a rule or an answer changed
//! ```
//!
//! The recorded suite (`suite.zst`) is every request of the official runner with our answer that the runner took for right; it
//! needs nothing but Rust. The runner itself is fetched by `tests/run.sh --fetch`. What it may find is in `failures.txt`, each
//! line with its reason; a listed test that passes is an error too.
//!
//! Beside it, the inputs of the fuzzer (`tests/fuzz`) are run through its targets, the suite's own payloads among them.

#[path = "../fuzz/inputs.rs"]
mod inputs;
#[path = "../fuzz/oracle.rs"]
mod oracle;
mod protocol;
mod recorded;
mod replay;
mod runner;
#[path = "../fuzz/seeds.rs"]
mod seeds;
#[path = "../fuzz/targets.rs"]
mod targets;
mod testee;

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let result = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // How the runner starts us.
        [runner::TESTEE, ref log @ ..] => runner::serve(log.first().copied()),
        ["--record"] => runner::record(),
        // Arguments of the usual test harness mean nothing here.
        _ => replay::replay().and_then(|()| inputs::run()).and_then(|()| runner::run(None)),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
