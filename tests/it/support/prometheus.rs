//! A real Prometheus that scrapes what a test runs, with the rules of `deploy/prometheus`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::http::{self, Reply};
use super::process::{Process, command};
use super::{folder, ports, wait_until};

/// A running Prometheus; ended when dropped.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    url: String,
    folder: PathBuf,
    started: f64,
}

/// How often it scrapes and evaluates: what takes minutes in production takes seconds here.
pub const EVERY: &str = "1s";

impl Prometheus {
    /// Starts one that scrapes these addresses, each as an instance of its job, and waits until it answers.
    pub async fn start(jobs: &[(&str, &[SocketAddr])]) -> Prometheus {
        let folder = folder("prometheus");
        let scrapes: Vec<_> = jobs
            .iter()
            .map(|(job, addresses)| {
                let targets: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                json!({ "job_name": job, "static_configs": [{ "targets": targets }] })
            })
            .collect();
        let config = json!({
            "global": { "scrape_interval": EVERY, "evaluation_interval": EVERY },
            "rule_files": ["recording.yml", "alerts.yml"],
            "scrape_configs": scrapes,
        });
        // JSON is YAML.
        std::fs::write(folder.join("prometheus.yml"), config.to_string()).expect("the folder is ours");
        for file in ["recording.yml", "alerts.yml"] {
            let rules = std::fs::read_to_string(format!("deploy/prometheus/{file}")).expect("the rules are there");
            let rules = rules.replace("interval: 30s", &format!("interval: {EVERY}"));
            std::fs::write(folder.join(file), rules).expect("the folder is ours");
        }
        let port = ports::free(1)[0];
        let log = std::fs::File::create(folder.join("log")).expect("the folder was just made");
        let mut command = command("prometheus");
        command.current_dir(&folder).args(["--config.file=prometheus.yml", "--storage.tsdb.path=data"]);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        command.stdout(Stdio::null()).stderr(log);
        let process = Process::spawn("prometheus", command);
        let mut prometheus = Prometheus { process, url: format!("http://127.0.0.1:{port}"), folder, started: 0.0 };
        wait_until("prometheus is ready", async || {
            if let Some(status) = prometheus.process.exit_status() {
                panic!("prometheus ended ({status}); its log is {}", prometheus.folder.join("log").display());
            }
            let reply = http::send(http::client().get(format!("{}/-/ready", prometheus.url))).await?;
            if reply.status == 200 { Ok(()) } else { Err(reply.text()) }
        })
        .await;
        prometheus.started = now();
        prometheus
    }

    /// When it began to scrape, seconds since 1970.
    pub fn started(&self) -> f64 {
        self.started
    }

    /// The series of a query at every second since the start, as the API gives them; an error if it is refused.
    pub async fn range(&self, query: &str) -> Result<Vec<Value>, String> {
        let (start, end) = (self.started.to_string(), now().to_string());
        self.series("query_range", &[("query", query), ("start", &start), ("end", &end), ("step", EVERY)]).await
    }

    /// The series of a query as they are now.
    pub async fn instant(&self, query: &str) -> Result<Vec<Value>, String> {
        self.series("query", &[("query", query)]).await
    }

    /// The values that a label has among series.
    pub async fn label_values(&self, series: &str, label: &str) -> Result<Vec<Value>, String> {
        let reply = self.get(&format!("label/{label}/values"), &[("match[]", series)]).await?;
        Ok(reply["data"].as_array().expect("a list of values").clone())
    }

    /// The alerts that wait or fire.
    pub async fn alerts(&self) -> Vec<Value> {
        let reply = self.get("alerts", &[]).await.expect("it answers");
        reply["data"]["alerts"].as_array().expect("a list of alerts").clone()
    }

    async fn series(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Vec<Value>, String> {
        let reply = self.get(path, parameters).await?;
        Ok(reply["data"]["result"].as_array().expect("a list of series").clone())
    }

    async fn get(&self, path: &str, parameters: &[(&str, &str)]) -> Result<Value, String> {
        let mut url = reqwest::Url::parse(&format!("{}/api/v1/{path}", self.url)).expect("our own URL");
        url.query_pairs_mut().extend_pairs(parameters);
        let reply: Reply = http::send(http::client().get(url)).await?;
        if reply.status == 200 { Ok(reply.json()) } else { Err(reply.text()) }
    }
}

fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.expect("the clock is past 1970").as_secs_f64()
}
