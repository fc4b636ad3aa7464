//! Where tools find an event: its topic, brokers, registry and proxy.
//!
//! In: `--config`, or `--brokers` and `--registry`, or nothing, which means the file that a running `iguazu dev` left in
//! the current folder. Out: a [`Target`]. All three end as a configuration, so that there is one way to read one.

use std::path::{Path, PathBuf};

use prost_reflect::MessageDescriptor;

use super::{Failure, with_causes};
use crate::config::{self, Config};
use crate::dev;
use crate::dev::example::Example;
use crate::dev::example_schema;
use crate::route::{EventType, SchemaType, Version};
use crate::schema::source::Family;
use crate::schema::{Registry, compile};

/// Arguments with which a tool finds an event.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct TargetArgs {
    /// Configuration of the proxy [default: `.iguazu-dev.toml`, which a running `iguazu dev` leaves in its folder]
    #[arg(long, value_name = "FILE", conflicts_with_all = ["brokers", "registry"])]
    pub config: Option<PathBuf>,
    /// Brokers to start from, instead of a configuration
    #[arg(long, value_name = "HOST:PORT,…", value_delimiter = ',')]
    pub brokers: Vec<String>,
    /// Schema registry, with `--brokers`
    #[arg(long, value_name = "URL", requires = "brokers")]
    pub registry: Option<String>,
    /// The event's topic [default: the configuration's, or the event's name]
    #[arg(long)]
    pub topic: Option<String>,
}

/// An event type and what it takes to read it.
#[derive(Debug)]
pub struct Target {
    /// Its settings.
    pub event_type: EventType,
    /// The cluster it is on.
    pub cluster: config::Cluster,
    /// The registry of its schema.
    pub registry: Option<config::Registry>,
    /// The configuration that it comes from: a file, or flags.
    pub origin: String,
}

impl TargetArgs {
    /// The event type of this name.
    pub fn find(&self, event: &str) -> Result<Target, Failure> {
        let (config, origin) = match self.read()? {
            Some(found) => found,
            None => (self.flags_only(event)?, "the command line".to_owned()),
        };
        let mut target = target(config, origin, event)?;
        if let Some(topic) = &self.topic {
            target.event_type.topic.clone_from(topic);
        }
        Ok(target)
    }

    /// The configuration and what it is called; none when the command line names brokers.
    pub fn read(&self) -> Result<Option<(Config, String)>, Failure> {
        if !self.brokers.is_empty() {
            return Ok(None);
        }
        if let Some(path) = &self.config {
            return Ok(Some((super::check::load_with_routes(path)?, path.display().to_string())));
        }
        let path = Path::new(dev::SITE_FILE);
        if !path.exists() {
            return Err(Failure::Usage(format!(
                "no `{}` in this folder: run `iguazu dev` here, or name `--config FILE`, or `--brokers HOST:PORT`",
                dev::SITE_FILE
            )));
        }
        Ok(Some((super::check::load_with_routes(path)?, dev::SITE_FILE.to_owned())))
    }

    /// Whether there is anything to find an event by.
    pub fn is_given(&self) -> bool {
        self.config.is_some() || !self.brokers.is_empty() || Path::new(dev::SITE_FILE).exists()
    }

    /// A configuration with just this event type, of which nothing is known but its name.
    fn flags_only(&self, event: &str) -> Result<Config, Failure> {
        let text = |text: &str| toml::Value::String(text.to_owned()).to_string();
        let mut written = format!("[clusters.flags]\nbrokers = {}\n", toml::Value::from(self.brokers.clone()));
        if let Some(url) = &self.registry {
            written.push_str(&format!("registry = \"flags\"\n[registries.flags]\nurls = [{}]\n", text(url)));
        }
        let topic = self.topic.as_deref().unwrap_or(event);
        written.push_str(&format!("[events.{}]\ncluster = \"flags\"\ntopic = {}\n", text(event), text(topic)));
        written.push_str(&match self.registry {
            Some(_) => format!("encoding = \"avro\"\nsubject = {}\n", text(event)),
            None => "encoding = \"raw_json\"\n".to_owned(),
        });
        config::parse(&written, Path::new("")).map_err(|problems| {
            let problems: Vec<_> = problems.into_iter().map(|problem| problem.message).collect();
            Failure::Usage(problems.join("; "))
        })
    }
}

fn target(config: Config, origin: String, event: &str) -> Result<Target, Failure> {
    let Some(event_type) = config.events.iter().find(|known| known.name == event) else {
        let names: Vec<_> = config.events.iter().map(|known| known.name.as_str()).collect();
        let near = config::nearest(event, names.iter().copied());
        let hint = match near {
            Some(near) => format!("did you mean `{near}`?"),
            None if names.is_empty() => "it has none".to_owned(),
            None => format!("it has {}", names.join(", ")),
        };
        return Err(Failure::Usage(format!("{origin} has no event type `{event}`; {hint}")));
    };
    let event_type = event_type.clone();
    let cluster = config.clusters.into_iter().find(|cluster| cluster.name == event_type.cluster);
    let cluster = cluster.expect("a checked configuration has the clusters that its event types name");
    let registry = config.registries.into_iter().find(|registry| cluster.registry.as_ref() == Some(&registry.name));
    Ok(Target { event_type, cluster, registry, origin })
}

impl Target {
    /// A payload that the event type takes, in JSON.
    pub async fn example(&self, number: u32) -> Result<String, Failure> {
        let example = match self.event_type.schema_type {
            SchemaType::Protobuf => match self.message().await? {
                Some(message) => return Ok(Example::payload(number, &message)),
                None => return Ok(r#"{"any":"JSON"}"#.to_owned()),
            },
            SchemaType::Avro => {
                let family = self.family().await?;
                let references: Vec<_> = family.imports.into_iter().map(|(_, schema)| schema.text).collect();
                example_schema::avro(number, &family.root.text, &references)
            }
            SchemaType::Json => {
                let family = self.family().await?;
                let references: Vec<_> = family.imports.into_iter().map(|(name, schema)| (name, schema.text)).collect();
                example_schema::json_schema(number, &family.root.text, &references)
            }
        };
        example.map_err(|error| Failure::Failed(format!("the schema of event `{}`: {error}", self.event_type.name)))
    }

    /// Fetches and compiles the message of the event's payloads. None for an event type without a schema of Protobuf.
    pub async fn message(&self) -> Result<Option<MessageDescriptor>, Failure> {
        let Some(subject) = &self.event_type.subject else { return Ok(None) };
        if self.event_type.schema_type != SchemaType::Protobuf {
            return Ok(None);
        }
        let family = self.family().await?;
        let compiled = compile::compile(subject, &family).map_err(Failure::because)?;
        let message = compiled.message(subject, self.event_type.message.as_deref()).map_err(Failure::because)?;
        Ok(Some(message.descriptor))
    }

    /// Fetches the event's schema, with what it refers to.
    async fn family(&self) -> Result<Family, Failure> {
        let subject = self.event_type.subject.as_deref().unwrap_or_default();
        let registry = self.registry()?;
        let registry = Registry::new(registry).map_err(Failure::because)?;
        let found = match self.event_type.version {
            Version::Latest => registry.latest(subject).await,
            Version::Number(number) => registry.version(subject, number).await,
        };
        let found = found.map_err(|error| self.unreached(&error))?;
        let schema = &found.registered.schema;
        let family = registry.family(subject, schema).await.map_err(|error| self.unreached(&error))?;
        match schema.kind == self.event_type.schema_type {
            true => Ok(family),
            false => {
                let (found, name) = (schema.kind.setting(), &self.event_type.name);
                let message = format!(
                    "subject `{subject}` is of type {}: event `{name}` needs `schema_type = \"{found}\"`",
                    schema.kind.as_str()
                );
                Err(Failure::Usage(message))
            }
        }
    }

    /// The registry of its schema.
    pub fn registry(&self) -> Result<&config::Registry, Failure> {
        self.registry
            .as_ref()
            .ok_or_else(|| Failure::Usage("no registry is known; name it with `--registry URL`".into()))
    }

    /// A failure to reach what the configuration names, with a hint where a dev that is gone may be the cause.
    pub fn unreached(&self, error: &dyn std::error::Error) -> Failure {
        Failure::Failed(format!("{}{}", with_causes(error), self.hint()))
    }

    /// For messages of what does not answer.
    pub fn hint(&self) -> &'static str {
        if self.origin == dev::SITE_FILE { " (from `.iguazu-dev.toml`: does that `iguazu dev` still run?)" } else { "" }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(brokers: &str, registry: Option<&str>) -> TargetArgs {
        TargetArgs { brokers: vec![brokers.to_owned()], registry: registry.map(str::to_owned), ..Default::default() }
    }

    #[test]
    fn an_event_by_flags_needs_no_configuration() {
        let target = flags("127.0.0.1:9", Some("http://127.0.0.1:8")).find("a.B").expect("a target");
        assert_eq!((target.event_type.topic.as_str(), target.event_type.subject.as_deref()), ("a.B", Some("a.B")));
        assert_eq!(target.cluster.brokers, ["127.0.0.1:9"]);
        assert!(target.registry.is_some());
        let args = TargetArgs { topic: Some("t".to_owned()), ..flags("127.0.0.1:9", None) };
        assert_eq!(args.find("a b").map(|t| t.event_type.topic).map_err(|e| e.exit_code()), Err(64));
        assert_eq!(args.find("a").expect("a target").event_type.topic, "t");
    }

    #[test]
    fn an_unknown_event_names_the_nearest_one() {
        let config = r#"
            [clusters.c]
            brokers = ["b:1"]
            [events."orders.placed"]
            cluster = "c"
            topic = "orders"
            encoding = "raw_json"
        "#;
        let config = config::parse(config, Path::new("")).expect("a configuration");
        let error = target(config, "x.toml".to_owned(), "orders.place").expect_err("not there");
        assert_eq!(error.to_string(), "x.toml has no event type `orders.place`; did you mean `orders.placed`?");
    }
}
