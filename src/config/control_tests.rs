//! `[control]`: what is read of it, and what is refused.

use super::super::check::parse_as;
use super::*;

const CLUSTER: &str = "[clusters.core]\nbrokers = [\"a:1\"]\n";

fn parse(text: &str, folder: &Path) -> Result<(ControlConfig, Vec<Problem>), Vec<Problem>> {
    parse_as(&format!("{text}\n{CLUSTER}"), folder, read).0
}

#[track_caller]
fn refused(text: &str, key: &str, message: &str) {
    let problems = parse(text, Path::new("")).expect_err(text);
    let found = problems.iter().any(|problem| problem.key == key && problem.message.contains(message));
    assert!(found, "{text}: {problems:?}");
}

#[test]
fn the_least_is_a_folder_for_what_a_node_keeps() {
    let (config, warnings) = parse("[control]\nstate_dir = \"kept\"\n", Path::new("here")).unwrap();
    assert_eq!(warnings, []);
    let control = config.control;
    assert_eq!(control.listen.to_string(), "127.0.0.1:8090");
    assert_eq!(control.state_dir, Path::new("here/kept"));
    assert_eq!(control.store.expose(), "sqlite:here/kept/control.db");
    assert!(control.seal_key.is_none() && control.tls.is_none() && control.oidc.is_none());
    assert_eq!(config.clusters[0].name, "core");
}

#[test]
fn what_the_proxy_reads_in_the_same_file_is_left_to_it() {
    let text = "[control]\nstate_dir = \"kept\"\n[http]\nlisten = 7\n[events.x]\nnonsense = 1\n";
    assert!(parse(text, Path::new("")).is_ok());
}

#[test]
fn what_would_be_unsafe_is_refused() {
    refused("", "control", "missing");
    refused("[control]\n", "control.state_dir", "missing");
    refused("[control]\nstate_dir = \"s\"\nlisten = \"0.0.0.0:1\"", "control.listen", "in clear");
    refused("[control]\nstate_dir = \"s\"\nseal_key = \"x\"", "control.seal_key", "must not stand here");
    refused("[control]\nstate_dir = \"s\"\nstore = \"postgres://u@h/d\"", "control.seal_key_file", "missing");
    refused("[control]\nstate_dir = \"s\"\nstore = \"postgres://u:p@h/d\"", "control.store", "must not stand here");
    refused("[control]\nstate_dir = \"s\"\nstore = \"mysql://h\"", "control.store", "must be");
    refused("[control]\nstate_dir = \"s\"\n[control.clusters.cor]", "control.clusters.cor", "did you mean `core`");
    refused(
        "[control]\nstate_dir = \"s\"\n[control.clusters.core]\nmode = \"x\"",
        "control.clusters.core.mode",
        "none",
    );
    refused("[control]\nstate_dir = \"s\"\n[control.oidc]\naudience = \"a\"", "control.oidc.issuer", "missing");
    let oidc = "[control]\nstate_dir = \"s\"\n[control.oidc]\naudience = \"a\"\nissuer = \"http://id.example\"";
    refused(oidc, "control.oidc.issuer", "https");
    refused("[control]\nstate_dir = \"s\"\nlistn = 1", "control.listn", "did you mean `listen`");
}

#[test]
fn how_postgres_is_reached_is_said_in_its_address_and_its_files_are_beside_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    for file in ["ca.pem", "key"] {
        std::fs::write(folder.path().join(file), "k").unwrap();
    }
    let check = |said: &str| {
        let store = format!("store = \"postgres://u@h/d{said}\"\nseal_key_file = \"key\"");
        let read = parse(&format!("[control]\nstate_dir = \"s\"\n{store}"), folder.path());
        read.map(|(config, _)| config.control.store.expose().to_owned()).map_err(|all| all[0].message.clone())
    };
    let ca = folder.path().join("ca.pem").display().to_string();
    let full = format!("postgres://u@h/d?sslmode=verify-full&sslrootcert={ca}&application_name=x");
    assert_eq!(check("?sslmode=verify-full&sslrootcert=ca.pem&application_name=x"), Ok(full));
    assert!(
        check("?sslmode=verify_full").unwrap_err().contains("none of disable, prefer, require, verify-ca, verify-full")
    );
    assert!(check("?sslrootcert=other.pem").unwrap_err().contains("other.pem` cannot be read"));
}

#[test]
fn a_first_token_that_could_be_guessed_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let check = |token: &str, is_taken: bool| {
        std::fs::write(folder.path().join("first"), token).unwrap();
        let text = "[control]\nstate_dir = \"s\"\nbootstrap_token_file = \"first\"";
        let keys =
            parse(text, folder.path()).map_or_else(|all| all.into_iter().map(|one| one.key).collect(), |_| vec![]);
        let expected: &[&str] = if is_taken { &[] } else { &["control.bootstrap_token_file"] };
        assert_eq!(keys, expected, "{token}");
    };
    check("0123456789abcdef0123456789abcde", false);
    check("0123456789abcdef0123456789abcdef\n", true);
    check("0123456789abcdef.0123456789abcdef", false);
    check("0123456789abcdef 0123456789abcdef", false);
    check(&"x".repeat(513), false);
    check("bWVhbnQgZm9yIHRoZSBmaXJzdCBhZG1pbiBhbG9uZQ==", true);
}

#[test]
fn a_login_that_others_on_the_network_could_hear_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "secret\n").unwrap();
    let check = |broker: &str, more: &str, expected: Option<&str>| {
        let sasl = "sasl = { mechanism = \"SCRAM-SHA-512\", username = \"u\", password_file = \"password\" }";
        let text = format!(
            "[control]\nstate_dir = \"s\"\n{more}\n[clusters.far]\nbrokers = [\"127.0.0.1:1\", {broker:?}]\n{sasl}"
        );
        let keys =
            parse(&text, folder.path()).map_or_else(|all| all.into_iter().map(|one| one.key).collect(), |_| vec![]);
        assert_eq!(keys.first().map(String::as_str), expected, "{text}: {keys:?}");
    };
    check("127.0.0.2:1", "", None);
    check("[::1]:1", "", None);
    check("localhost:1", "", None);
    check("kafka-1:9092", "", Some("control.clusters"));
    check("192.0.2.1:9092", "[control.clusters.far]\nmode = \"shared\"", Some("control.clusters.far.tls_elsewhere"));
    check("kafka-1:9092", "[control.clusters.far]\ntls_elsewhere = true", None);
}

#[test]
fn a_password_goes_into_the_address_as_a_url_has_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("password"), "p@ss:word/ä\n").unwrap();
    std::fs::write(folder.path().join("key"), "k").unwrap();
    let text = "[control]\nstate_dir = \"s\"\nstore = \"postgres://u@h:5432/d\"\nstore_password_file = \"password\"\nseal_key_file = \"key\"";
    let (config, _) = parse(text, folder.path()).unwrap();
    assert_eq!(config.control.store.expose(), "postgres://u:p%40ss%3Aword%2F%C3%A4@h:5432/d");
}

#[test]
fn the_documented_example_is_accepted_as_it_stands_and_shows_every_key() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let config =
        load_control(&root.join("deploy/iguazu-control.toml")).unwrap_or_else(|problems| panic!("{problems:#?}"));
    assert_eq!((config.warnings, config.control.clusters.len()), (vec![], 1));
    let text = std::fs::read_to_string(root.join("deploy/iguazu-control.toml")).unwrap();
    // An unknown key is answered with the known ones: those are all there are.
    let tables = [
        "control",
        "control.tls",
        "control.oidc",
        "control.certificates.x",
        "control.roles",
        "control.sinks.files",
        "control.sinks.vault",
        "control.clusters.core",
    ];
    for table in tables {
        let kind = match table {
            "control.sinks.files" => "kind = \"file\"\n",
            "control.sinks.vault" => "kind = \"vault\"\n",
            _ => "",
        };
        let problems = parse(&format!("[{table}]\nzzzzzzzz = 1\n{kind}"), Path::new("")).unwrap_err();
        let told = problems.iter().find_map(|problem| problem.message.split_once("known here: "));
        let (_, known) = told.unwrap_or_else(|| panic!("{table}: {problems:?}"));
        for key in known.split(", ").map(|key| key.trim_matches('`')) {
            let shown = text
                .lines()
                .map(|line| line.trim_start_matches('#'))
                .any(|line| line.starts_with(&format!("{key} =")) || line.starts_with(&format!("[control.{key}")));
            assert!(shown, "`{key}` of [{table}] is not in deploy/iguazu-control.toml");
        }
    }
}
