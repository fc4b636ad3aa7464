//! `[registries.NAME]`: the schema registries.

use super::reader::{Item, Table};
use super::{Registry, RegistryAuth, names};

pub(super) fn read(root: &mut Table<'_>) -> Vec<Registry> {
    root.children("registries").into_iter().map(|(item, table)| read_one(&item, table)).collect()
}

fn read_one(item: &Item<'_>, mut table: Table<'_>) -> Registry {
    if let Err(message) = names::place(&item.name) {
        item.problem(message);
    }
    let urls: Vec<_> =
        table.need_list("urls", "the registry's base URLs, tried in order").into_iter().filter_map(url).collect();
    let auth = table.table("auth").and_then(read_auth);
    if let Some(clear) = urls.iter().find(|url| auth.is_some() && url.starts_with("http://")) {
        table.warning("auth", format!("`{clear}` is not https, so that the credentials cross the network in clear"));
    }
    let registry = Registry {
        name: item.name.clone(),
        urls,
        auth,
        ca_file: table.file("ca_file"),
        timeout: table.milliseconds("timeout_ms", 5_000, 100..=60_000),
        negative_ttl: table.milliseconds("negative_ttl_ms", 30_000, 1_000..=3_600_000),
    };
    table.finish();
    registry
}

fn read_auth(mut table: Table<'_>) -> Option<RegistryAuth> {
    table.refuse("password", super::NO_SECRETS_HERE);
    table.refuse("token", super::NO_SECRETS_HERE);
    let bearer = table.has("token_file");
    if bearer && (table.has("username") || table.has("password_file")) {
        table.problem("token_file", "stands beside `username` or `password_file`; a registry has one way to log in");
    }
    let auth = if bearer {
        let _ = (table.take("username"), table.take("password_file"));
        RegistryAuth::Bearer(table.need_secret("token_file", ""))
    } else {
        RegistryAuth::Basic {
            username: table.need("username", "the user name, or `token_file` instead").and_then(Item::string)?,
            password: table.need_secret("password_file", "the file with the password"),
        }
    };
    table.finish();
    Some(auth)
}

/// An http or https URL without credentials, query or fragment; a slash at its end is cut off.
pub(super) fn url(item: Item<'_>) -> Option<String> {
    let url = item.clone().string()?;
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return item.wrong("must begin with `http://` or `https://`");
    };
    let host = rest.split('/').next().unwrap_or_default();
    if host.contains('@') {
        return item.wrong("must not hold credentials; name the file they are in");
    }
    if host.is_empty() || url.contains(['?', '#']) || url.contains(char::is_whitespace) {
        return item.wrong("must be a URL with a host and without a query, a fragment or blanks");
    }
    Some(url.trim_end_matches('/').to_owned())
}
