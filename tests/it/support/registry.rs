//! A real schema registry: Apicurio, by its Confluent-compatible API.

use std::process::Stdio;
use std::sync::LazyLock;

use serde_json::{Value, json};

use super::http::{self, block_on};
use super::kafka::java;
use super::process::{Process, command};
use super::{fetched, folder, ports, wait_for};

/// A running Apicurio. Schemas are kept in its memory only.
#[derive(Debug)]
pub struct Registry {
    process: Process,
    port: u16,
}

/// The registry that all tests share, started at first use. Tests tell their subjects apart by `unique` names.
pub fn shared() -> &'static Registry {
    static SHARED: LazyLock<Registry> = LazyLock::new(Registry::start);
    &SHARED
}

impl Registry {
    /// Starts one and waits until it answers.
    pub fn start() -> Registry {
        let folder = folder("apicurio");
        let port = ports::free(1)[0];
        let log = std::fs::File::create(folder.join("log")).expect("the folder was just made");
        let mut command = command(java());
        command.current_dir(fetched("apicurio")).args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]);
        for setting in [
            "quarkus.http.host=127.0.0.1",
            &format!("quarkus.http.port={port}"),
            // Without this it listens on all addresses, port 9000.
            "quarkus.management.enabled=false",
            "quarkus.management.host=127.0.0.1",
            "quarkus.management.port=0",
            "quarkus.log.level=WARN",
            // Without rules anything registers, compatible or not.
            "apicurio.rules.global.compatibility=BACKWARD",
            "apicurio.rules.global.validity=FULL",
            "apicurio.rules.global.integrity=ALL_REFS_MAPPED",
        ] {
            command.arg(format!("-D{setting}"));
        }
        command.args(["-jar", "quarkus-run.jar"]);
        command.stdout(log.try_clone().expect("a file handle can be duplicated")).stderr(Stdio::from(log));
        let mut registry = Registry { process: Process::spawn("apicurio", command), port };
        wait_for("schema registry", || {
            if let Some(status) = registry.process.exit_status() {
                panic!("the schema registry ended ({status}); its log is {}", folder.join("log").display());
            }
            registry.call("GET", "/subjects", None).map(drop)
        });
        registry
    }

    /// Base URL of the Confluent API.
    pub fn url(&self) -> String {
        format!("http://{}{API}", self.address())
    }

    /// `host:port`, for a gate in front of it.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The URL of the same API behind another address, such as a gate's.
    pub fn url_behind(&self, address: impl std::fmt::Display) -> String {
        format!("http://{address}{API}")
    }

    /// Registers a Protobuf text under a subject; its id.
    pub fn register_protobuf(&self, subject: &str, text: &str) -> u32 {
        self.register(subject, &json!({"schemaType": "PROTOBUF", "schema": text}))
    }

    /// Registers an Avro schema under a subject; its id.
    pub fn register_avro(&self, subject: &str, schema: &Value) -> u32 {
        self.register(subject, &json!({"schemaType": "AVRO", "schema": schema.to_string()}))
    }

    /// Registers a schema as the API takes it, for references and other types; its id.
    pub fn register(&self, subject: &str, request: &Value) -> u32 {
        let reply = self.call("POST", &format!("/subjects/{subject}/versions"), Some(request));
        let reply = reply.unwrap_or_else(|e| panic!("subject {subject} cannot be registered: {e}"));
        reply["id"].as_u64().expect("the registry answers with an id") as u32
    }

    /// Sets a rule of one subject, over the registry's own: `VALIDITY`, `COMPATIBILITY` or `INTEGRITY`. By Apicurio's own
    /// API: Confluent's has only some of them.
    pub fn set_rule(&self, subject: &str, rule: &str, value: &str) {
        let url = format!("http://{}/apis/registry/v3/groups/default/artifacts/{subject}/rules", self.address());
        let body = json!({"ruleType": rule, "config": value}).to_string();
        let request = http::client().post(url).header("content-type", "application/json").body(body);
        let reply = block_on(http::send(request)).unwrap_or_else(|e| panic!("rule {rule} of {subject}: {e}"));
        assert!(reply.status < 300, "rule {rule} of {subject}: {} {}", reply.status, reply.text());
    }

    /// One call; an answer of 400 or more is an error.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let method = method.parse().map_err(|e| format!("{method}: {e}"))?;
        let mut request = http::client().request(method, format!("{}{path}", self.url()));
        if let Some(body) = body {
            request = request.header("content-type", "application/vnd.schemaregistry.v1+json").body(body.to_string());
        }
        let reply = block_on(http::send(request))?;
        let (status, body) = (reply.status, reply.text());
        if status >= 400 {
            return Err(format!("{status}: {body}"));
        }
        serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))
    }
}

const API: &str = "/apis/ccompat/v7";
