//! What changes a registry, and what asks whether a change would be taken.
//!
//! In: schemas and where they go. Out: what the registry made of them. For `iguazu dev` and `iguazu schema`; the proxy never
//! registers. Every request asks for normalisation, so that a text that differs in blanks is no new version.

use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::{Answer, Registry, RegistryError, Wanted, encode, shorten};
use super::compatibility::Level;
use super::source::{Schema, SubjectVersion};

/// What a registry says to a schema that it was not asked to keep.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// It would take it.
    Taken,
    /// It would not, for these reasons, if it gives any.
    Refused(Vec<String>),
    /// It could not say, for this reason.
    Unknown(String),
}

impl Registry {
    /// Registers a schema and gives its id; the same schema again gives the same id.
    pub async fn register(&self, subject: &str, schema: &Schema) -> Result<u32, RegistryError> {
        #[derive(Deserialize)]
        struct Id {
            id: u32,
        }
        let wanted = Wanted::Subject(subject.to_owned());
        let path = format!("/subjects/{}/versions?normalize=true", encode(subject));
        let answer = self.ask(Method::POST, &path, &wanted, Some(posted(schema))).await?;
        Ok(self.parse::<Id>(&answer, &wanted)?.id)
    }

    /// The version under which a subject has exactly this schema.
    pub async fn find(&self, subject: &str, schema: &Schema) -> Result<SubjectVersion, RegistryError> {
        let wanted = Wanted::Subject(subject.to_owned());
        let path = format!("/subjects/{}?normalize=true", encode(subject));
        let answer = self.ask(Method::POST, &path, &wanted, Some(posted(schema))).await?;
        let version = self.parse::<Answer>(&answer, &wanted)?.version;
        let version = version.ok_or_else(|| self.invalid(&wanted, "answered without a version"))?;
        let registered = self.parse_registered(&answer, &wanted, None)?;
        Ok(SubjectVersion { subject: subject.to_owned(), version, registered })
    }

    /// The versions of a subject, those that are deleted softly too, ascending.
    pub async fn versions_with_deleted(&self, subject: &str) -> Result<Vec<u32>, RegistryError> {
        let wanted = Wanted::Subject(subject.to_owned());
        let path = format!("/subjects/{}/versions?deleted=true", encode(subject));
        let mut versions: Vec<u32> = self.parse(&self.ask(Method::GET, &path, &wanted, None).await?, &wanted)?;
        versions.sort_unstable();
        Ok(versions)
    }

    /// One version of a subject, deleted softly or not.
    pub async fn version_with_deleted(&self, subject: &str, version: u32) -> Result<SubjectVersion, RegistryError> {
        let wanted = Wanted::Version(subject.to_owned(), Some(version));
        let path = format!("/subjects/{}/versions/{version}?deleted=true", encode(subject));
        let answer = self.ask(Method::GET, &path, &wanted, None).await?;
        let registered = self.parse_registered(&answer, &wanted, None)?;
        Ok(SubjectVersion { subject: subject.to_owned(), version, registered })
    }

    /// Deletes a version softly: it can still be read, and is out of use.
    pub async fn delete_version(&self, subject: &str, version: u32) -> Result<(), RegistryError> {
        let wanted = Wanted::Version(subject.to_owned(), Some(version));
        let path = format!("/subjects/{}/versions/{version}", encode(subject));
        self.ask(Method::DELETE, &path, &wanted, None).await.map(drop)
    }

    /// Deletes a version for good that is deleted softly.
    pub async fn purge_version(&self, subject: &str, version: u32) -> Result<(), RegistryError> {
        let wanted = Wanted::Version(subject.to_owned(), Some(version));
        let path = format!("/subjects/{}/versions/{version}?permanent=true", encode(subject));
        self.ask(Method::DELETE, &path, &wanted, None).await.map(drop)
    }

    /// The compatibility level that holds for a subject, its own or the registry's.
    pub async fn level(&self, subject: &str) -> Result<Level, RegistryError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Config {
            compatibility_level: String,
        }
        let wanted = Wanted::Subject(subject.to_owned());
        let own = format!("/config/{}?defaultToGlobal=true", encode(subject));
        let answer = match self.ask(Method::GET, &own, &wanted, None).await {
            // A registry that does not know the parameter says that the subject has none of its own.
            Err(RegistryError::NotFound { .. }) => self.ask(Method::GET, "/config", &wanted, None).await?,
            answer => answer?,
        };
        let name = self.parse::<Config>(&answer, &wanted)?.compatibility_level;
        Level::parse(&name)
            .ok_or_else(|| self.invalid(&wanted, format!("answered with the compatibility level `{}`", shorten(&name))))
    }

    /// Asks whether a schema would be taken, at the level that holds for the subject. A registry that cannot tell, or that
    /// does not have the subject, is no error.
    pub async fn dry_run(&self, subject: &str, schema: &Schema) -> Result<DryRun, RegistryError> {
        #[derive(Deserialize)]
        struct Verdict {
            is_compatible: bool,
            messages: Option<Vec<String>>,
        }
        let wanted = Wanted::Subject(subject.to_owned());
        let path = format!("/compatibility/subjects/{}/versions?verbose=true&normalize=true", encode(subject));
        match self.ask(Method::POST, &path, &wanted, Some(posted(schema))).await {
            Ok(answer) => {
                let verdict: Verdict = self.parse(&answer, &wanted)?;
                let messages = verdict.messages.unwrap_or_default().iter().map(|message| shorten(message)).collect();
                Ok(if verdict.is_compatible { DryRun::Taken } else { DryRun::Refused(messages) })
            }
            Err(RegistryError::NotFound { .. }) => Ok(DryRun::Taken),
            Err(RegistryError::Rejected { code, message, .. }) => {
                Ok(DryRun::Unknown(format!("{message} (error {code})")))
            }
            Err(error) => Err(error),
        }
    }
}

fn posted(schema: &Schema) -> String {
    let Schema { kind, text, references } = schema;
    json!({"schemaType": kind.as_str(), "schema": text, "references": references}).to_string()
}
