//! What a release is made of: the archive, the list of parts, the checksums; and the workflows that make one.

use std::path::Path;

use serde_json::Value;

use super::docs;
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
    let checked = "mkdir archive && cd dist && sha256sum --check --quiet SHA256SUMS && \
                   tar -xzf *.tar.gz --strip-components=1 --directory=../archive";
    assert_eq!(shell(&place, checked).printed(), "");
    let archive = place.join("archive");
    let kept = ["deploy/kafka/first-run.sh", "deploy/systemd/iguazu.service", "deploy/prometheus/alerts.yml"];
    for file in ["iguazu", "LICENSE", "deploy/iguazu.toml", "deploy/examples/sender.py"].iter().chain(&kept) {
        assert!(archive.join(file).exists(), "{file} is missing");
    }
    let mut pages = Vec::new();
    docs::collect(&archive, &mut pages);
    assert!(pages.len() > 20, "{pages:?}");
    let read = |page: &Path| std::fs::read_to_string(page).expect("a page is text");
    let broken: Vec<_> = pages.iter().map(|page| (page, docs::broken_links(page, &read(page)))).collect();
    let broken: Vec<_> = broken.iter().filter(|(_, links)| !links.is_empty()).collect();
    assert!(broken.is_empty(), "{broken:#?}");
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

/// Both workflows do nothing that the repository does not have, and each job has what its steps need.
#[test]
fn the_workflows_are_yaml_and_provide_what_they_call() {
    for (file, count) in [("github.yml", 2), ("gitlab.yml", 3)] {
        let text =
            std::fs::read_to_string(Path::new("deploy/ci").join(file)).expect("tests run in the package's folder");
        let workflow: Value = serde_saphyr::from_str(&text).unwrap_or_else(|e| panic!("{file}: {e}"));
        let jobs = jobs(&workflow);
        assert_eq!(jobs.len(), count, "{file}");
        let mut called = 0;
        for (name, lines) in &jobs {
            let wrong = missing(lines, image(&workflow, name));
            assert!(wrong.is_empty(), "{file}, job {name}: {wrong:?}");
            called += lines.iter().filter(|line| line.starts_with("./")).count();
        }
        assert!(called >= 2, "{file} tests and releases nothing");
    }
}

#[test]
fn a_job_that_lacks_what_its_steps_need_is_found() {
    let check = |lines: &[&str], image: &str, expected: &str| {
        let lines: Vec<String> = lines.iter().map(|line| (*line).to_owned()).collect();
        let found = missing(&lines, image);
        assert!(found.len() == 1 && found[0].contains(expected), "{lines:?}: {found:?}");
    };
    let release = "./deploy/ci/release.sh v1 dist";
    check(&[release], "", "helm");
    check(&[release, "go build -C tests/helm -o /usr/local/bin/helm helm.sh/helm/v4/cmd/helm"], "", "helm");
    check(&["./tests/run.sh"], "rust:1.95-trixie", "rustfmt");
    check(&["docker build --build-arg VERSION=1 ."], "", "REVISION");
    check(&["./tests/no-such.sh"], "", "no-such.sh");
}

/// The lines of shell of each job, in order.
fn jobs(workflow: &Value) -> Vec<(String, Vec<String>)> {
    let jobs = workflow["jobs"].as_object().or(workflow.as_object()).expect("a map");
    let words = |value: &Value| -> Vec<String> {
        let all = value.as_array().cloned().unwrap_or_default();
        all.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let lines = |job: &Value| -> Vec<String> {
        let steps = job["steps"].as_array().cloned().unwrap_or_default();
        let steps = steps.iter().filter_map(|step| step["run"].as_str()).map(str::to_owned);
        let all: Vec<String> =
            words(&job["before_script"]).into_iter().chain(words(&job["script"])).chain(steps).collect();
        all.iter().flat_map(|text| text.lines()).map(str::to_owned).collect()
    };
    let all = jobs.iter().map(|(name, job)| (name.clone(), lines(job)));
    all.filter(|(_, lines)| !lines.is_empty()).collect()
}

/// The image that a job runs in, where it is one.
fn image<'a>(workflow: &'a Value, job: &str) -> &'a str {
    workflow[job]["image"].as_str().or(workflow["default"]["image"].as_str()).unwrap_or_default()
}

/// What a job's lines call and nobody provides.
fn missing(lines: &[String], image: &str) -> Vec<String> {
    let mut missing = Vec::new();
    for (position, line) in lines.iter().enumerate() {
        let has_before = |what: &str| lines[..position].iter().any(|line| line.contains(what));
        let script = line.split_whitespace().find_map(|word| word.strip_prefix("./"));
        missing.extend(script.filter(|script| !Path::new(script).exists()).map(str::to_owned));
        if line.contains("release.sh") && !line.contains("--no-chart") && !has_before("go build -C tests/helm") {
            missing.push("release.sh packs the chart with helm, and no line before it builds helm".to_owned());
        }
        // Images of Rust have its minimal profile.
        if line.contains("tests/run.sh")
            && image.starts_with("rust:")
            && !has_before("rustup component add rustfmt clippy")
        {
            missing.push("rustfmt and clippy".to_owned());
        }
        if line.contains("docker build") {
            let arguments = ["VERSION", "REVISION"].into_iter();
            let unsaid = arguments.filter(|name| !line.contains(&format!("--build-arg {name}=")));
            missing.extend(unsaid.map(|name| format!("the image is not told its {name}")));
        }
    }
    missing
}

#[test]
fn a_rust_without_formatter_and_linter_is_told_what_to_install() {
    let place = folder("minimal-rust");
    // As the proxies of rustup that have no such component.
    let cargo = "#!/bin/sh\necho \"error: 'cargo-$1' is not installed\" >&2\nexit 1\n";
    std::fs::write(place.join("cargo"), cargo).expect("the folder is ours");
    let run = format!("chmod +x cargo && PATH=\"$PWD:$PATH\" {}/tests/run.sh --fetch", env!("CARGO_MANIFEST_DIR"));
    let ended = shell(&place, &run);
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(69), ""), "{}", ended.stderr);
    assert!(ended.stderr.ends_with("run: rustup component add rustfmt clippy\n"), "{}", ended.stderr);
}
