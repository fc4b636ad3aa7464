//! The official runner: it starts us again as its testee, and judges what we answer.

use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use prost::Message;

use crate::protocol::{self, Answer, FAILURE_SET, Request, Response};
use crate::recorded::{self, Suite};
use crate::testee::Testee;

/// The argument that makes us the runner's testee; a file's name may follow, to which every exchange is appended.
pub const TESTEE: &str = "--testee";

/// The newest edition that is tested.
const MAXIMUM_EDITION: &str = "2024";

const FAILURES: &str = "tests/conformance/failures.txt";

/// Where `tests/run.sh --fetch` puts the runner.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("tmp is in target").join("tests/conformance")
}

/// Answers the runner on standard input and output until it closes them.
pub fn serve(log: Option<&str>) -> Result<(), String> {
    let suite = Suite::load()?;
    let log = log.map(|path| std::fs::OpenOptions::new().create(true).append(true).open(path)).transpose();
    let log = log.map_err(|e| e.to_string())?;
    converse(&mut Testee::new(suite.pool()?), log).map_err(|e| format!("testee: {e}"))
}

fn converse(testee: &mut Testee, mut log: Option<impl Write>) -> io::Result<()> {
    let mut input = BufReader::new(io::stdin().lock());
    let mut output = BufWriter::new(io::stdout().lock());
    while let Some(bytes) = protocol::read(&mut input)? {
        let request = Request::decode(&bytes[..]).map_err(io::Error::other)?;
        // Nothing is expected to fail, says an empty `FailureSet`.
        let is_test = request.message_type != FAILURE_SET;
        let answer = if is_test { testee.answer(&request) } else { Answer::Protobuf(Vec::new()) };
        let response = Response { answer: Some(answer) }.encode_to_vec();
        protocol::write(&mut output, &response)?;
        output.flush()?;
        if let Some(log) = log.as_mut().filter(|_| is_test) {
            // In one piece, for the runner ends us when it likes.
            let mut exchange = Vec::new();
            protocol::write(&mut exchange, &bytes)?;
            protocol::write(&mut exchange, &response)?;
            log.write_all(&exchange)?;
        }
    }
    Ok(())
}

/// Has the runner test us; `log` gets every exchange.
pub fn run(log: Option<&Path>) -> Result<(), String> {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        println!("there is no official runner for this system");
        return Ok(());
    }
    let runner = folder().join("runner");
    if !runner.exists() {
        return Err(format!("{} is not there; `tests/run.sh --fetch` fetches it", runner.display()));
    }
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let listed = folder.path().join("failures");
    std::fs::write(&listed, failures()?.join("\n") + "\n").map_err(|e| e.to_string())?;
    let us = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut command = Command::new(&runner);
    command.args(["--enforce_recommended", "--maximum_edition", MAXIMUM_EDITION, "--failure_list"]).arg(&listed);
    command.arg("--output_dir").arg(folder.path()).arg(us).arg(TESTEE).args(log);
    let done = command.output().map_err(|e| format!("{}: {e}", runner.display()))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let verdicts: Vec<_> = said.lines().filter(|line| line.starts_with("CONFORMANCE SUITE")).collect();
    println!("{}", verdicts.join("\n"));
    // The second suite is that of the text format, which we skip.
    let skips_nothing = verdicts.first().is_some_and(|verdict| verdict.contains(" 0 skipped,"));
    match (done.status.success(), skips_nothing) {
        (true, true) => Ok(()),
        (true, false) => Err("the official runner skipped tests".to_owned()),
        (false, _) => Err(format!("{said}\nthe official runner does not agree; see {FAILURES} for what it may find")),
    }
}

/// Names of the tests that may fail.
fn failures() -> Result<Vec<String>, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FAILURES);
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let name = |line: &str| match line.split_once(": ") {
        Some((name, reason)) if !reason.trim().is_empty() => Ok(name.to_owned()),
        _ => Err(format!("{FAILURES}: `{line}` gives no reason")),
    };
    lines.map(name).collect()
}

/// Records the suite: the runner's protos, every request, and our answers, which the runner must find right.
pub fn record() -> Result<(), String> {
    let descriptors = compile()?;
    // The testee that the runner starts reads the descriptors from the file.
    Suite { descriptors: descriptors.clone(), exchanges: Vec::new() }.store()?;
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let log = folder.path().join("log");
    let verdict = run(Some(&log));
    let bytes = std::fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut exchanges = recorded::exchanges(&bytes).map_err(|e| e.to_string())?;
    exchanges.retain(|exchange| {
        let response = Response::decode(&exchange.response[..]);
        !matches!(response, Ok(Response { answer: None | Some(Answer::Skipped(_)) }) | Err(_))
    });
    let count = exchanges.len();
    let size = Suite { descriptors, exchanges }.store()?;
    println!("{count} tests recorded in {size} bytes");
    verdict
}

/// The descriptors of the test messages, by a compiler that knows editions: ours does not.
fn compile() -> Result<Vec<u8>, String> {
    let (include, buf) = (folder().join("include"), folder().with_file_name("buf").join("bin/buf"));
    if !buf.exists() {
        return Err(format!("{} is not there; `tests/run.sh --long --fetch` fetches it", buf.display()));
    }
    let folder = tempfile::tempdir().map_err(|e| e.to_string())?;
    let image = folder.path().join("image.binpb");
    let mut command = Command::new(&buf);
    command.args(["build", "--as-file-descriptor-set"]).arg(&include).arg("--output").arg(&image);
    command.arg("--path").arg(include.join("google/protobuf")).env("HOME", folder.path());
    let done = command.output().map_err(|e| format!("{}: {e}", buf.display()))?;
    if !done.status.success() {
        return Err(String::from_utf8_lossy(&done.stderr).into_owned());
    }
    std::fs::read(&image).map_err(|e| format!("{}: {e}", image.display()))
}
