//! What `iguazu schema check`, `register` and `diff` work on: Protobuf files, the messages that are events, and where their
//! schemas go.
//!
//! In: `iguazu-schemas.toml`, or a proxy's configuration and folders. Out: a [`Workspace`]; both end as one.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::cli::{Failure, check, with_causes};
use crate::config::{self, Config, EventMessage, SCHEMAS_FILE, Schemas};
use crate::schema::compatibility::Level;
use crate::schema::protos::{ProtoError, ProtoFiles};
use crate::schema::repository::report::Remark;
use crate::schema::repository::{Entry, Repository};
use crate::schema::{Registry, RegistryError};

/// Arguments with which a workspace is found.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WorkspaceArgs {
    /// The file that says what is registered and how
    #[arg(long, value_name = "FILE", default_value = SCHEMAS_FILE, conflicts_with = "config")]
    schemas: PathBuf,
    /// A proxy's configuration instead of that file: its event types say it; with --proto
    #[arg(long, value_name = "FILE", requires = "proto")]
    config: Option<PathBuf>,
    /// Folder with .proto files, the root of their imports, with --config; repeat for more
    #[arg(long, value_name = "DIR", requires = "config")]
    proto: Vec<PathBuf>,
    /// Only this registry, by its name; repeat for more
    #[arg(long = "registry", value_name = "NAME")]
    registries: Vec<String>,
}

/// Files, and what of them goes where.
pub struct Workspace {
    /// The folders with Protobuf files.
    pub folders: Vec<PathBuf>,
    /// The folder that the workspace is in.
    pub root: PathBuf,
    /// What a change must keep to.
    pub level: Level,
    /// Where to write what was registered; none: nowhere.
    pub lock: Option<PathBuf>,
    /// Registries, each with the messages that go there.
    pub places: Vec<Place>,
}

/// A registry and what goes there.
pub struct Place {
    /// Its client.
    pub registry: Registry,
    /// The events.
    pub messages: Vec<EventMessage>,
}

/// Why there is nothing to work with: told as a report, since it is the change that is at fault.
pub type Faults = Vec<Remark>;

impl WorkspaceArgs {
    /// Reads what the arguments name.
    pub fn read(&self) -> Result<Workspace, Failure> {
        let mut workspace = match &self.config {
            Some(path) => of_config(check::load(path)?, &self.proto)?,
            None => of_schemas(load(&self.schemas)?)?,
        };
        let names: Vec<String> = workspace.places.iter().map(|place| place.registry.name().to_owned()).collect();
        if let Some(unknown) = self.registries.iter().find(|name| !names.contains(name)) {
            let known = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
            return Err(Failure::Usage(format!("there is no registry `{unknown}`; there are {known}")));
        }
        if !self.registries.is_empty() {
            workspace.places.retain(|place| self.registries.iter().any(|name| name == place.registry.name()));
        }
        Ok(workspace)
    }

    /// The same file of another state of the repository, and its folders there; without registries.
    pub fn read_base(&self, base: &Path, workspace: &Workspace) -> Result<(Vec<PathBuf>, Vec<EventMessage>), Failure> {
        if self.config.is_some() {
            return Err(Failure::Usage("`--against` needs `--schemas`: a configuration is of one state".to_owned()));
        }
        let file = self.schemas.file_name().unwrap_or_default();
        let here = workspace.root.canonicalize()?;
        let top = std::env::current_dir()?.canonicalize()?;
        // The file may lie below the folder that the command runs in, and then lies there in the base too.
        let below = here.strip_prefix(&top).unwrap_or(Path::new(""));
        let path = base.join(below).join(file);
        if !path.exists() {
            // A base from before the file: the same events, if they are in the same folders there.
            let folders = workspace.folders.iter().map(|folder| {
                let folder = folder.canonicalize()?;
                Ok(base.join(folder.strip_prefix(&top).unwrap_or(&folder)))
            });
            return Ok((folders.collect::<std::io::Result<_>>()?, self.events()?));
        }
        let schemas = load(&path)?;
        Ok((schemas.proto, schemas.messages))
    }

    /// The messages that are events, whatever the registry.
    pub fn events(&self) -> Result<Vec<EventMessage>, Failure> {
        Ok(load(&self.schemas)?.messages)
    }
}

impl Workspace {
    /// The files, with these messages for events.
    pub fn repository(&self, messages: &[EventMessage]) -> Result<Repository, Failure> {
        repository(&self.folders, messages)
    }
}

/// Compiles the files of folders.
pub fn repository(folders: &[PathBuf], messages: &[EventMessage]) -> Result<Repository, Failure> {
    ProtoFiles::under(folders).and_then(|files| Repository::new(files, messages.to_vec())).map_err(protos)
}

/// The entries of a repository, or what keeps it from having any.
pub fn entries(repository: &Repository) -> Result<Vec<Entry>, Faults> {
    repository.entries().map_err(|faults| faults.into_iter().map(Remark::from).collect())
}

/// Reads `iguazu-schemas.toml`.
pub fn load(path: &Path) -> Result<Schemas, Failure> {
    if path == Path::new(SCHEMAS_FILE) && !path.exists() {
        return Err(Failure::Usage(format!(
            "no `{SCHEMAS_FILE}` in this folder; name one with `--schemas FILE`, or a proxy's configuration with \
             `--config FILE --proto DIR`"
        )));
    }
    config::load_schemas(path).map_err(|problems| check::problems(path, problems))
}

pub fn protos(error: ProtoError) -> Failure {
    match error {
        // The files are at fault, not the command.
        ProtoError::Compile { .. } => Failure::Failed(with_causes(&error)),
        error => Failure::Usage(with_causes(&error)),
    }
}

fn of_schemas(schemas: Schemas) -> Result<Workspace, Failure> {
    let Schemas { file, proto, lock, compatibility, registries, messages, .. } = schemas;
    let places = registries.iter().map(|settings| place(settings, messages.clone()));
    Ok(Workspace {
        folders: proto,
        root: file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned(),
        level: compatibility,
        lock: Some(lock),
        places: places.collect::<Result<_, _>>().map_err(Failure::because)?,
    })
}

fn of_config(config: Config, folders: &[PathBuf]) -> Result<Workspace, Failure> {
    let places = config.registries.iter().map(|settings| place(settings, config::events_of(&config, &settings.name)));
    Ok(Workspace {
        folders: folders.to_vec(),
        root: PathBuf::from("."),
        level: Level::None,
        lock: None,
        places: places.collect::<Result<_, _>>().map_err(Failure::because)?,
    })
}

fn place(settings: &config::Registry, messages: Vec<EventMessage>) -> Result<Place, RegistryError> {
    // What is not there yet is made in the next moment.
    let settings = config::Registry { negative_ttl: Duration::ZERO, ..settings.clone() };
    Ok(Place { registry: Registry::new(&settings)?, messages })
}
