//! What must hold without a fuzzer: every seed, and every input that a fuzzer ever found, goes through its target.

use std::path::Path;

use crate::{seeds, targets};

/// Runs all inputs; a panic is a failure.
pub fn run() -> Result<(), String> {
    let mut count = 0;
    for name in targets::NAMES {
        let target = targets::find(name).expect("it is one of the names");
        for input in seeds::of(name).iter().chain(&regressions(name)?) {
            target(input);
            count += 1;
        }
    }
    println!("{count} inputs of the fuzzer hold");
    Ok(())
}

fn regressions(target: &str) -> Result<Vec<Vec<u8>>, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/regressions").join(target);
    let broken = |e: std::io::Error| format!("{}: {e}", folder.display());
    let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(Vec::new()) };
    entries.map(|entry| std::fs::read(entry.map_err(broken)?.path()).map_err(broken)).collect()
}
