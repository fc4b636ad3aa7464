//! A machine without containers: the units of systemd, and the limits that a process meets there.

use std::process::Stdio;

use super::support::process::{Process, Signal, command};
use super::support::tool::shell;
use super::support::{folder, wait_for};

const IGUAZU: &str = env!("CARGO_BIN_EXE_iguazu");
const CONFIG: &str = "[http]\nlisten = \"127.0.0.1:0\"\nconnections_max = 1_000\n[admin]\nlisten = \"127.0.0.1:0\"\n\
                      [clusters.core]\nbrokers = [\"127.0.0.1:1\"]\n";

// systemd is Linux', and so is what it limits.
#[cfg(target_os = "linux")]
#[test]
fn systemd_takes_the_units_as_they_are() {
    let place = folder("units");
    for unit in ["iguazu.service", "iguazu-control.service"] {
        let text = std::fs::read_to_string(format!("deploy/systemd/{unit}")).expect("it is there");
        // The only thing that is not where the unit says: nothing is installed here.
        let here = text.replace("/usr/local/bin/iguazu", IGUAZU);
        assert_ne!(here, text, "{unit} starts something else");
        std::fs::write(place.join(unit), here).expect("the folder is ours");
        let said = shell(&place, &format!("systemd-analyze verify --man=no ./{unit}"));
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{unit}: {said:?}");

        let number = |key: &str| -> u64 {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
            line.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{unit} has no {key}"))
        };
        // What `http` and `drain` default to, on other than loopback.
        assert!(number("LimitNOFILE") > 10_000 + 512 && number("TimeoutStopSec") > 5 + 30, "{unit}");
        assert_eq!(number("RestartPreventExitStatus"), 64, "{unit} tries a wrong configuration again for ever");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_soft_limit_of_open_files_becomes_the_hard_one_and_a_low_one_is_told() {
    let enough = start("512:4096");
    assert_eq!(enough.0, "4096");
    assert!(!enough.1.contains("fewer files may be open"), "{}", enough.1);
    let low = start("512:1024");
    assert_eq!(low.0, "1024");
    let told = low.1.lines().find(|line| line.contains("fewer files may be open")).expect("it warns");
    assert!(told.contains("\"files\":1024") && told.contains("\"needed\":1512"), "{told}");
}

/// The soft limit of a proxy that was started with these limits, and its log.
#[cfg(target_os = "linux")]
fn start(limits: &str) -> (String, String) {
    let place = folder("open-files");
    std::fs::write(place.join("iguazu.toml"), CONFIG).expect("the folder is ours");
    let ready = place.join("ready.json");
    let mut command = command("prlimit");
    command.arg(format!("--nofile={limits}")).args([IGUAZU, "proxy", "iguazu.toml", "--ready-file"]).arg(&ready);
    let log = std::fs::File::create(place.join("log")).expect("the folder is ours");
    command.current_dir(&place).stdout(Stdio::null()).stderr(Stdio::from(log));
    let mut proxy = Process::spawn("iguazu proxy", command);
    let read = || std::fs::read_to_string(place.join("log")).expect("it logs UTF-8");
    wait_for("the proxy listens", || match proxy.exit_status() {
        Some(status) => panic!("the proxy ended with {status}: {}", read()),
        None if ready.exists() => Ok(()),
        None => Err("not yet".to_owned()),
    });
    let shown = std::fs::read_to_string(format!("/proc/{}/limits", proxy.pid())).expect("it runs");
    let files = shown.lines().find_map(|line| line.strip_prefix("Max open files")).expect("the kernel knows it");
    proxy.signal(Signal::TERM);
    let status = proxy.wait();
    assert!(status.success(), "{status}: {}", read());
    (files.split_whitespace().next().expect("the soft limit").to_owned(), read())
}
