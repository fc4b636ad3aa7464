use super::*;
use crate::config::{ClientTls, RegistryAuth, SCHEMAS_FILE, Sasl};
use crate::route::{KeySource, Lane};

use std::fmt::Write as _;
use std::path::PathBuf;

/// A folder of the repository.
fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// Problems or warnings as they are shown, file names relative to the folder.
fn shown(findings: &[Problem], folder: &Path) -> Vec<String> {
    let prefix = format!("{}/", folder.display());
    findings.iter().map(|finding| finding.to_string().replace(&prefix, "")).collect()
}

/// Each file says at its end what is expected of it: `# expect: ` a problem, `# warn: ` a warning.
#[test]
fn every_configuration_of_the_folder_is_refused_or_accepted_in_the_words_that_it_expects() {
    let folder = folder("tests/configs");
    let (mut differences, mut invalid) = (String::new(), 0);
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "toml") {
            // One that another one names.
            continue;
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        let lines = |mark: &str| text.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect();
        let expected: (Vec<String>, Vec<String>) = (lines("# expect: "), lines("# warn: "));
        invalid += usize::from(name.starts_with("invalid_"));
        let found = match load(&path) {
            Ok(config) => (vec![], shown(&config.warnings, &folder)),
            Err(problems) => (shown(&problems, &folder), vec![]),
        };
        if found != expected || name.starts_with("invalid_") == found.0.is_empty() {
            let _ = writeln!(differences, "\n{name}:");
            found.0.iter().for_each(|line| writeln!(differences, "# expect: {line}").unwrap());
            found.1.iter().for_each(|line| writeln!(differences, "# warn: {line}").unwrap());
        }
    }
    assert!(invalid >= 25, "only {invalid} invalid configurations were found in {}", folder.display());
    assert!(differences.is_empty(), "these files find something else than they expect:\n{differences}");
}

#[test]
fn a_file_that_cannot_be_read_is_one_problem_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone.toml");
    let problems = load(&gone).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert!(problems[0].to_string().contains("gone.toml` cannot be read"), "{}", problems[0]);

    std::fs::write(&gone, b"a = \"\xff\"").unwrap();
    assert!(load(&gone).unwrap_err()[0].to_string().ends_with("is not UTF-8 text"));
}

/// The example with every setting in use.
fn example_in_full() -> String {
    super::super::reference::in_full(&std::fs::read_to_string(folder("deploy/iguazu.toml")).unwrap())
}

#[test]
fn the_documented_example_is_accepted_as_it_stands() {
    let config = load(&folder("deploy/iguazu.toml")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(config.warnings, []);
    assert_eq!(config.events.len(), 4);
}

#[test]
fn the_documented_example_shows_the_defaults_of_the_listeners() {
    let config = load(&folder("deploy/iguazu.toml")).unwrap();
    let bare = parse("", Path::new("")).unwrap();
    assert_eq!(format!("{:?}", config.http), format!("{:?}", bare.http));
    assert_eq!(format!("{:?}", config.admin), format!("{:?}", bare.admin));
}

#[test]
fn the_documented_example_is_accepted_with_every_setting_in_use() {
    let folder = tempfile::tempdir().unwrap();
    // Of the sources of routes only one can be in use.
    let of_others = ["url =", "token_file = \"/run/secrets/proxy", "public_key =", "file = \"events.toml"];
    let full: Vec<_> = example_in_full()
        .lines()
        .filter(|line| !of_others.iter().any(|key| line.starts_with(key)) && !line.contains("/control-ca.pem"))
        .map(str::to_owned)
        .collect();
    let text = full.join("\n").replace("/run/secrets", &folder.path().display().to_string());
    for part in text.split('"').filter(|part| Path::new(part).starts_with(folder.path())) {
        std::fs::write(part, "secret\n").unwrap();
        private(Path::new(part));
    }
    std::fs::copy(self::folder("deploy/iguazu-schemas.toml"), folder.path().join(SCHEMAS_FILE)).unwrap();
    let config = parse(&text, folder.path()).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!(config.clusters.len(), 3);
    assert_eq!(config.events[1].failover, ["core-standby"]);
    assert_eq!(config.clusters[2].tls, Some(ClientTls::default()));
    assert!(config.clusters[0].librdkafka.contains(&("socket.keepalive.enable".into(), "true".into())));
    assert_eq!(config.events[1].key, KeySource::Field("delivery_id".into()));
    assert_eq!(config.events[1].lane(), Lane::Standard);
    assert_eq!(config.senders[0].events, ["delivery.*"]);
    let warned: Vec<_> = config.warnings.iter().map(|warning| warning.key.as_str()).collect();
    assert_eq!(warned, ["registries.main.auth"], "the example's registry is not https");
}

/// An unknown key in a table is answered with the known ones: those are all there are.
#[test]
fn the_documented_example_shows_every_key() {
    let full = example_in_full();
    let spoilt: Vec<_> =
        full.lines().flat_map(|line| [line, if line.starts_with('[') { "zzzzzzzzzzzz = 1" } else { "" }]).collect();
    let spoilt = format!("zzzzzzzzzzzz = 1\n{}", spoilt.join("\n"));
    let mut tables = 0;
    for problem in parse(&spoilt, Path::new("")).unwrap_err() {
        let Some((_, known)) = problem.message.split_once("known here: ") else { continue };
        tables += 1;
        for key in known.split(", ").map(|key| key.trim_matches('`')) {
            let header = |line: &str| line.starts_with('[') && line.contains(key);
            // What goes with nothing else in the file stands in a comment.
            let setting = |line: &str| line.trim_start_matches(['#', ' ']).starts_with(&format!("{key} ="));
            let shown = full.lines().any(|line| setting(line) || header(line));
            assert!(shown, "`{key}` ({problem}) is not in deploy/iguazu.toml");
        }
    }
    assert_eq!(tables, 1 + full.lines().filter(|line| line.starts_with('[') && !line.contains("librdkafka")).count());
}

/// Takes a file's rights away from the group and others.
fn private(path: &Path) {
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    #[cfg(not(unix))]
    let _ = path;
}

/// One cluster and one registry whose password is this file's content, and what the file's rights are.
fn check_secret(content: &[u8], check: impl Fn(Result<Config, Vec<Problem>>)) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), content).unwrap();
    private(&folder.path().join("password"));
    let text = r#"
        clusters.core = { brokers = ["a:1"], tls = true, sasl = { mechanism = "PLAIN", username = "u", password_file = "password" } }
        registries.main = { urls = ["https://r/"], auth = { token_file = "password" } }"#;
    check(parse(text, folder.path()));
}

#[test]
fn an_empty_or_a_huge_secret_is_refused_and_never_shown() {
    for (content, expected) in [(&b"\n"[..], "is empty"), (&[b'x'; 65_537], "is over 65536 bytes"), (b"\xff", "UTF-8")]
    {
        check_secret(content, |found| {
            let problems = found.unwrap_err();
            assert_eq!(problems.len(), 2, "{problems:?}");
            assert!(problems.iter().all(|problem| problem.message.contains(expected)), "{problems:?}");
        });
    }
}

#[test]
fn a_secret_is_the_file_without_its_line_break_and_is_not_in_a_debug_form() {
    check_secret(b"hunter2 \r\n", |found| {
        let config = found.unwrap();
        let Some(Sasl::Password { password, .. }) = &config.clusters[0].sasl else { panic!("no password") };
        assert_eq!(password.expose(), "hunter2 ");
        let Some(RegistryAuth::Bearer(token)) = &config.registries[0].auth else { panic!("no token") };
        assert_eq!(token.expose(), "hunter2 ");
        assert_eq!(config.registries[0].urls, ["https://r"]);
        assert!(!format!("{config:?}").contains("hunter2"));
    });
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "t").unwrap();
    let text = r#"registries.main = { urls = ["https://r"], auth = { token_file = "token" } }"#;
    for (mode, warned) in [(0o604, true), (0o640, false)] {
        std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
        let warnings = parse(text, folder.path()).unwrap().warnings;
        let found =
            warnings.iter().any(|warning| warning.message.contains("everybody on this machine may read the secret"));
        assert_eq!(found, warned, "{mode:o}");
    }
}

proptest::proptest! {
    #[test]
    fn no_text_panics(text in "([a-z]{1,8}(\\.[a-z\"]{1,4})?|\\[clusters\\.a\\]|\\[events\\.a\\]|=|\\[|\\]|\\{|\\}|\"|[0-9]{1,3}|\n| ){0,40}") {
        let _ = parse(&text, Path::new(""));
    }
}

#[test]
fn event_types_in_a_file_of_their_own_are_the_same_and_its_changes_are_seen() {
    let folder = tempfile::tempdir().unwrap();
    let (own, beside) = (folder.path().join("iguazu.toml"), folder.path().join("events.toml"));
    let rest = "[routes]\nfile = \"events.toml\"\n[clusters.core]\nbrokers = [\"b:1\"]\n";
    let event = "[events.e]\ncluster = \"core\"\ntopic = \"t\"\nencoding = \"raw_json\"\n";
    std::fs::write(&own, rest).unwrap();
    std::fs::write(&beside, event).unwrap();
    let config = load(&own).unwrap();
    let together = parse(&rest.replace("file = \"events.toml\"", ""), folder.path()).unwrap();
    assert!(together.events.is_empty() && !together.warnings.is_empty(), "{:?}", together.warnings);
    let together = parse(&(rest.replace("file = \"events.toml\"", "") + event), folder.path()).unwrap();
    assert_eq!((config.events, config.warnings), (together.events, together.warnings));

    assert_eq!(config.files.read_again(), config.files);
    std::fs::write(&beside, event.replace("\"t\"", "\"other\"")).unwrap();
    assert_ne!(config.files.read_again(), config.files);
    std::fs::remove_file(&beside).unwrap();
    assert!(load(&own).unwrap_err()[0].to_string().contains("events.toml` cannot be read"));
}
