//! The management plane of a dev: a node over the dev's Kafka, and the tokens of whoever tries it.
//!
//! In: the dev's configuration and its Kafka. Out: an API on loopback, the token of an admin, and that of somebody else, since nobody
//! agrees to a request of their own. Never: users, access and quotas on embedded brokers: they are refused when they are asked for.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use toml::Table;

use super::admin::NOT_SUPPORTED;
use super::client::{Address, Connection, Post};
use super::cluster::Cluster;
use super::{DevError, kafka};
use crate::config;
use crate::control::kafka::KafkaAdmin;
use crate::control::node::{Given, Node};
use crate::control::resource::Kind;

/// The group that operates the dev's clusters; both tokens are in it.
pub const GROUP: &str = "dev";
/// Bytes of disk that topics may reserve: nobody counts them on one's own machine, and a hundredth of it is a service's.
const DISK_BYTES: i64 = 100_000_000_000_000;
/// How long making a token may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The management plane of a dev. End it with [`DevControl::stop`].
#[derive(Debug)]
pub struct DevControl {
    /// Where the API is.
    pub address: SocketAddr,
    /// File with the token of an admin.
    pub token_file: PathBuf,
    /// File with the token of somebody who agrees to what the first one asks for.
    pub reviewer_file: PathBuf,
    /// File with the token of the dev's proxy.
    proxy_file: PathBuf,
    node: Node,
}

impl DevControl {
    /// Starts a node for the clusters of a dev's configuration. Blocking.
    pub fn start(
        port: SocketAddr,
        config: &Table,
        cluster: &Cluster,
        admins: BTreeMap<String, Arc<dyn KafkaAdmin>>,
        folder: &Path,
        runtime: &tokio::runtime::Runtime,
    ) -> Result<DevControl, DevError> {
        let file = folder.join("control.toml");
        let text = configuration(port, config, folder).to_string();
        kafka::write_private(&file, &text).map_err(|source| DevError::Write { path: file.clone(), source })?;
        let checked = config::load_control(&file).map_err(|problems| {
            let told: Vec<_> = problems.iter().map(|problem| problem.to_string()).collect();
            DevError::Config { text: told.join("\n") }
        })?;
        let given = match cluster {
            Cluster::Real(_) => Given::default(),
            Cluster::Embedded(_) => {
                let missing = [Kind::User, Kind::Access, Kind::Quota, Kind::Group];
                let unsupported = missing.map(|kind| (kind, NOT_SUPPORTED.to_owned())).into();
                Given { admins, unsupported }
            }
        };
        let node = Node::start_with(&checked, given)?;
        let file = |name: &str| folder.join(name);
        let address = node.address();
        let (token_file, reviewer_file, proxy_file) =
            (file("control-token"), file("reviewer-token"), file("proxy-token"));
        let made = runtime.block_on(make_tokens(&node, &token_file, &reviewer_file, &proxy_file));
        match made {
            Ok(()) => Ok(DevControl { address, token_file, reviewer_file, proxy_file, node }),
            Err(error) => {
                node.stop();
                Err(error)
            }
        }
    }

    /// `[routes]` of a proxy that serves what this plane has.
    pub fn routes(&self) -> Table {
        let keys: Vec<toml::Value> = self.node.public_keys().iter().map(|key| key.as_str().into()).collect();
        Table::from_iter([
            ("source".to_owned(), "control".into()),
            ("url".to_owned(), format!("http://{}", self.address).into()),
            ("token_file".to_owned(), self.proxy_file.display().to_string().into()),
            ("public_key".to_owned(), keys.into()),
        ])
    }

    /// Stops it in order. Blocking.
    pub fn stop(self) {
        self.node.stop();
    }
}

/// The dev's clusters, managed.
fn configuration(listen: SocketAddr, config: &Table, folder: &Path) -> Table {
    let mut clusters = Table::new();
    for name in config.get("clusters").and_then(toml::Value::as_table).into_iter().flat_map(Table::keys) {
        let said = Table::from_iter([
            ("mode".to_owned(), "shared".into()),
            ("environment".to_owned(), "dev".into()),
            ("operators".to_owned(), vec![toml::Value::from(GROUP)].into()),
            ("disk_bytes".to_owned(), DISK_BYTES.into()),
            ("shares_disks".to_owned(), true.into()),
            // There is one broker.
            ("replicas_max".to_owned(), 1.into()),
        ]);
        clusters.insert(name.clone(), said.into());
    }
    let control = Table::from_iter([
        ("listen".to_owned(), listen.to_string().into()),
        ("state_dir".to_owned(), folder.join("control").display().to_string().into()),
        ("clusters".to_owned(), clusters.into()),
    ]);
    let parts = ["clusters", "registries"].into_iter();
    let kept = parts.filter_map(|part| Some((part.to_owned(), config.get(part)?.clone())));
    Table::from_iter(kept.chain([("control".to_owned(), control.into())]))
}

/// Comes in with the token that is made for the first admin, as anybody would.
async fn make_tokens(node: &Node, token_file: &Path, reviewer_file: &Path, proxy_file: &Path) -> Result<(), DevError> {
    let first = read(node.bootstrap_file().expect("the configuration made here says no token"))?;
    let roles = ["admin"];
    let admin =
        make_token(node, &first, json!({ "name": "dev", "roles": roles, "groups": [GROUP], "expires_hours": 0 }))
            .await?;
    write(token_file, &admin)?;
    let reviewer =
        make_token(node, &admin, json!({ "name": "reviewer", "groups": [GROUP], "expires_hours": 0 })).await?;
    write(reviewer_file, &reviewer)?;
    let proxy = make_token(node, &admin, json!({ "name": "proxy", "roles": ["proxy"], "expires_hours": 0 })).await?;
    write(proxy_file, &proxy)
}

async fn make_token(node: &Node, by: &str, new: Value) -> Result<String, DevError> {
    let failed = |what: String| DevError::Control { what };
    let url = format!("http://{}", node.address());
    let address = Address::parse(&url, None).map_err(|error| failed(error.to_string()))?;
    let headers = [("content-type", "application/json".to_owned()), ("authorization", format!("Bearer {by}"))];
    let headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
    let post = Post { path: "/v1/tokens".to_owned(), headers, body: new.to_string().into() };
    let mut connection = Connection::open(&address, TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
    let answer = connection.post(&post, TIMEOUT).await.map_err(|error| failed(error.to_string()))?;
    let mut reply: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    match reply["token"].take() {
        Value::String(token) => Ok(token),
        _ => Err(failed(format!("it answered {} when a token was to be made: {reply}", answer.status))),
    }
}

fn read(file: &Path) -> Result<String, DevError> {
    let text = std::fs::read_to_string(file);
    text.map(|text| text.trim().to_owned())
        .map_err(|error| DevError::Control { what: format!("{}: {error}", file.display()) })
}

fn write(file: &Path, token: &str) -> Result<(), DevError> {
    let path = file.to_owned();
    kafka::write_private(file, &format!("{token}\n")).map_err(|source| DevError::Write { path, source })
}
