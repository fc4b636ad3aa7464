//! Where the management API is, and the token for it.
//!
//! In: flags, two variables of the environment (CI jobs have no files of their own), files. Out: a [`Place`]. Never: a token that was
//! meant for another place, a token over a connection that others can read.

use std::fmt;
use std::path::{Path, PathBuf};

use reqwest::Url;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::cli::Failure;
use crate::dev::site::CTL_SITE_FILE;

const URL_VARIABLE: &str = "IGUAZU_CONTROL_URL";
const TOKEN_VARIABLE: &str = "IGUAZU_CONTROL_TOKEN_FILE";

/// Arguments of every command of `iguazu ctl`.
#[derive(Debug, Default, clap::Args)]
pub struct PlaceArgs {
    /// Where the management API is, such as https://iguazu.example [default: see `iguazu ctl --help`]
    #[arg(long, global = true, value_name = "URL", help_heading = "Where")]
    url: Option<String>,
    /// File with an API token, or with the identity token of a CI job
    #[arg(long, global = true, value_name = "FILE", help_heading = "Where")]
    token_file: Option<PathBuf>,
    /// PEM file with the authority of the API's certificate [default: those of this system]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Where")]
    ca: Option<PathBuf>,
}

/// Where the API is.
pub struct Place {
    /// Its base address.
    pub url: Url,
    /// The value of `Authorization`; none: only what anybody may see.
    pub authorization: Option<HeaderValue>,
    /// File with the authority of its certificate.
    pub ca: Option<PathBuf>,
    /// Which setting named the address, for messages.
    pub named_by: String,
    /// File that the token is from, for messages.
    pub token_file: Option<PathBuf>,
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place")
            .field("url", &self.url.as_str())
            .field("named_by", &self.named_by)
            .finish_non_exhaustive()
    }
}

/// A file that says where a plane is.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    url: String,
    token_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// What the environment says: read here and nowhere else.
#[derive(Debug, Default)]
struct Surroundings {
    url: Option<String>,
    token_file: Option<PathBuf>,
    /// Files that may say it, the first that is there does.
    files: Vec<PathBuf>,
}

impl PlaceArgs {
    /// Finds the place: what flags say, else the environment, else a file.
    pub fn find(&self) -> Result<Place, Failure> {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        let text = |name: &str| {
            let value = variable(name);
            let told = || Failure::Usage(format!("{name} is no text"));
            value.map(|value| value.into_string().map_err(|_| told())).transpose()
        };
        let home = variable("XDG_CONFIG_HOME").map(PathBuf::from);
        let home = home.or_else(|| Some(PathBuf::from(variable("HOME")?).join(".config")));
        let mut files = vec![PathBuf::from(CTL_SITE_FILE)];
        files.extend(home.map(|home| home.join("iguazu/ctl.toml")));
        self.find_in(Surroundings {
            url: text(URL_VARIABLE)?,
            token_file: text(TOKEN_VARIABLE)?.map(PathBuf::from),
            files,
        })
    }

    fn find_in(&self, around: Surroundings) -> Result<Place, Failure> {
        let file = around.files.iter().find(|file| file.exists());
        let settings = file.map(|file| read(file)).transpose()?;
        let of_file =
            |settings: &Settings| (settings.url.clone(), file.map(|f| f.display().to_string()).unwrap_or_default());
        let given = self.url.clone().map(|url| (url, "--url".to_owned()));
        let given = given.or_else(|| around.url.clone().map(|url| (url, URL_VARIABLE.to_owned())));
        let Some((url, named_by)) = given.or_else(|| settings.as_ref().map(of_file)) else {
            let files: Vec<_> = around.files.iter().map(|file| format!("`{}`", file.display())).collect();
            return Err(Failure::Usage(format!(
                "where is the management API? Say it by `--url`, {URL_VARIABLE}, or `url = \"…\"` in {}",
                files.join(" or ")
            )));
        };
        let url = address(&url).map_err(|why| Failure::Usage(format!("{named_by}: {why}")))?;
        // A file's token is for the file's place: sent anywhere else it would be given away.
        let settings =
            settings.filter(|settings| address(&settings.url).is_ok_and(|theirs| theirs.origin() == url.origin()));
        let token_file = self.token_file.clone().or(around.token_file);
        let token_file = token_file.or_else(|| settings.as_ref().and_then(|settings| settings.token_file.clone()));
        let authorization = token_file.as_deref().map(authorization).transpose()?;
        if authorization.is_some() && url.scheme() == "http" && !is_loopback(&url) {
            return Err(Failure::Usage(format!(
                "{named_by}: {url} is not encrypted, and whoever reads along would have the token; use https"
            )));
        }
        let ca = self.ca.clone().or_else(|| settings.and_then(|settings| settings.ca_file));
        Ok(Place { url, authorization, ca, named_by, token_file })
    }
}

fn read(file: &Path) -> Result<Settings, Failure> {
    let wrong = |what: String| Failure::Usage(format!("{}: {what}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut settings: Settings =
        toml::from_str(&text).map_err(|error| wrong(error.to_string().trim_end().to_owned()))?;
    let folder = file.parent().unwrap_or(Path::new(""));
    for path in [&mut settings.token_file, &mut settings.ca_file].into_iter().flatten() {
        *path = folder.join(&*path);
    }
    Ok(settings)
}

fn address(text: &str) -> Result<Url, String> {
    let url =
        Url::parse(text).map_err(|error| format!("`{text}` is no URL such as https://iguazu.example: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("`{text}` is no URL such as https://iguazu.example"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "a URL with a user or a password in it is kept in histories and logs; name a file with `--token-file`"
                .to_owned(),
        );
    }
    Ok(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str().map(|host| host.trim_start_matches('[').trim_end_matches(']')) {
        Some("localhost") => true,
        Some(host) => host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        None => false,
    }
}

fn authorization(file: &Path) -> Result<HeaderValue, Failure> {
    let wrong = |what: &dyn fmt::Display| Failure::Usage(format!("token file {}: {what}", file.display()));
    let text =
        Zeroizing::new(std::fs::read_to_string(file).map_err(|error| wrong(&format!("cannot be read: {error}")))?);
    let token = text.trim();
    if token.is_empty() {
        return Err(wrong(&"it is empty"));
    }
    let value = Zeroizing::new(format!("Bearer {token}"));
    let mut value = HeaderValue::from_str(&value).map_err(|_| wrong(&"it holds more than one line, or no text"))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    #[test]
    fn a_token_goes_only_to_the_place_that_it_is_for() {
        let folder = tempfile::tempdir().expect("a folder");
        write(folder.path(), "token", "secret\n");
        let file = write(folder.path(), "ctl.toml", "url = \"https://one.example\"\ntoken_file = \"token\"\n");
        let find = |url: Option<&str>, token_file: Option<PathBuf>| {
            let args = PlaceArgs { url: url.map(str::to_owned), token_file, ca: None };
            args.find_in(Surroundings { files: vec![file.clone()], ..Surroundings::default() })
        };
        let has_token = |url| find(url, None).expect("a place").authorization.is_some();
        assert!(has_token(None), "the file's own");
        assert!(has_token(Some("https://one.example/")), "the same");
        assert!(!has_token(Some("https://two.example")), "another host");
        assert!(!has_token(Some("http://one.example")), "another protocol");
        let named = folder.path().join("token");
        assert!(find(Some("https://two.example"), Some(named.clone())).expect("a place").authorization.is_some());
        let error = find(Some("http://two.example"), Some(named.clone())).expect_err("readable by others").to_string();
        assert!(error.contains("not encrypted"), "{error}");
        assert!(find(Some("http://127.0.0.1:8090"), Some(named.clone())).is_ok());
        assert!(find(Some("http://[::1]:8090"), Some(named)).is_ok());
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let check = |args: PlaceArgs, files: Vec<PathBuf>, expected: &str| {
            let error = args.find_in(Surroundings { files, ..Surroundings::default() }).expect_err("wrong").to_string();
            assert!(error.contains(expected), "{expected:?} is not in {error:?}");
        };
        let url = |url: &str| PlaceArgs { url: Some(url.to_owned()), ..PlaceArgs::default() };
        check(PlaceArgs::default(), vec![folder.path().join("none.toml")], "--url");
        check(url("iguazu.example"), vec![], "no URL");
        check(url("ftp://iguazu.example"), vec![], "no URL");
        check(url("https://ann:pw@iguazu.example"), vec![], "--token-file");
        let unknown = write(folder.path(), "unknown.toml", "url = \"https://a.example\"\ntoken = \"x\"\n");
        check(PlaceArgs::default(), vec![unknown], "unknown field `token`");
        let empty = write(folder.path(), "empty", "\n");
        check(PlaceArgs { token_file: Some(empty), ..url("https://a.example") }, vec![], "it is empty");
        let lines = write(folder.path(), "lines", "a\nb");
        check(PlaceArgs { token_file: Some(lines), ..url("https://a.example") }, vec![], "more than one line");
        check(PlaceArgs { token_file: Some("absent".into()), ..url("https://a.example") }, vec![], "absent");
    }
}
