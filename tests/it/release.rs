//! What a release is made of: the archive, the list of parts, the checksums; and the workflows that make one.

use std::path::Path;

use serde_json::Value;

use super::support::tool::{Ended, shell};
use super::support::{fetched, folder, long};

/// Runs the script of a release on a program that says its version as the real one does, and is small.
fn release(place: &Path, tag: &str) -> Ended {
    let root = env!("CARGO_MANIFEST_DIR");
    let program = place.join("iguazu");
    // Helm is there in the long form only.
    let (chart, helm) = if long() { ("", fetched("helm")) } else { ("--no-chart", place.to_owned()) };
    std::fs::write(&program, format!("#!/bin/sh\nexec {} \"$@\"\n", env!("CARGO_BIN_EXE_iguazu")))
        .expect("the folder is ours");
    shell(
        place,
        &format!(
            "chmod +x iguazu && PATH=\"{}:$PATH\" {root}/deploy/ci/release.sh --binary iguazu {chart} {tag} {}/dist",
            helm.display(),
            place.display()
        ),
    )
}

#[test]
fn a_release_has_an_archive_a_list_of_all_parts_and_checksums_that_fit() {
    let place = folder("release");
    let version = env!("CARGO_PKG_VERSION");
    let ended = release(&place, &format!("v{version}"));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let checked =
        shell(&place, "cd dist && sha256sum --check --quiet SHA256SUMS && tar -tzf *.tar.gz | cut -d/ -f2- | sort");
    let files = checked.printed();
    for file in ["iguazu", "LICENSE", "iguazu.toml", "docs/settings.md", "examples/sender.py"] {
        assert!(files.lines().any(|line| line == file), "{file} is missing in {files}");
    }
    assert_eq!(place.join(format!("dist/iguazu-{version}.tgz")).exists(), long());
    let parts = std::fs::read_to_string(place.join(format!("dist/iguazu-{version}.cdx.json"))).expect("it was made");
    let parts: Value = serde_json::from_str(&parts).expect("it is JSON");
    assert_eq!((&parts["bomFormat"], &parts["metadata"]["component"]["name"]), (&"CycloneDX".into(), &"iguazu".into()));
    let names: Vec<&str> =
        parts["components"].as_array().expect("a list").iter().filter_map(|part| part["name"].as_str()).collect();
    assert!(names.len() > 200 && names.contains(&"rdkafka") && names.contains(&"ring"), "{names:?}");
    assert!(!names.contains(&"proptest"), "what only tests use is in no release");
    assert!(
        parts["components"]
            .as_array()
            .expect("a list")
            .iter()
            .all(|part| part["licenses"][0]["expression"].is_string())
    );
}

#[test]
fn a_tag_that_is_not_the_version_makes_no_release() {
    let place = folder("release");
    let ended = release(&place, "v99.0.0");
    assert_eq!(ended.code, Some(64), "{}", ended.stderr);
    assert!(ended.stderr.contains("the tag is v99.0.0"), "{}", ended.stderr);
    assert!(!place.join("dist").exists());
}

/// Both workflows do nothing that the repository does not have.
#[test]
fn the_workflows_are_yaml_and_call_what_there_is() {
    for (file, jobs) in [("github.yml", 2), ("gitlab.yml", 3)] {
        let text =
            std::fs::read_to_string(Path::new("deploy/ci").join(file)).expect("tests run in the package's folder");
        let workflow: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let found = match &workflow["jobs"] {
            Value::Object(jobs) => jobs.len(),
            _ => workflow.as_object().expect("a map").values().filter(|job| job["script"].is_array()).count(),
        };
        assert_eq!(found, jobs, "{file}");
        let calls = text.split_whitespace().filter_map(|word| word.strip_prefix("./"));
        let missing: Vec<_> = calls.clone().filter(|script| !Path::new(script).exists()).collect();
        assert!(missing.is_empty() && calls.count() >= 2, "{file}: {missing:?}");
    }
}
