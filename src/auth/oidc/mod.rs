//! Tokens of an identity provider (OpenID Connect): signed JSON that says who somebody is.
//!
//! In: a token. Out: the name and the groups that it vouches for, or that it does not. Never: a token whose signature was not
//! checked with a key of the issuer, a shared secret taken for a public key, a question to the issuer for each request, or none
//! ever again because it was down once.
//!
//! Keys are fetched ahead of their use, kept, and fetched anew when they are old or when a token names one that is not known; they
//! are used on while the issuer does not answer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey, Validation};
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::Mutex;
use tracing::{debug, warn};

use crate::config;
use crate::outbound;

mod signatures;

/// Longest token that is looked at: the longest real ones list some hundred groups.
const TOKEN_BYTES_MAX: usize = 32 * 1024;
/// Largest answer of an issuer that is read, and most keys of it.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const KEYS_MAX: usize = 100;
/// How long an issuer may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// When keys are old: a key that was taken back is believed so long at most, while the issuer answers.
const OLD_AFTER: Duration = Duration::from_secs(600);
/// The least time between two fetches: a token with an invented key must not make us ask each time.
const ASK_EVERY: Duration = Duration::from_secs(10);
/// Most groups of one caller, and most characters of a name.
const GROUPS_MAX: usize = 1_000;
const NAME_CHARS_MAX: usize = 200;

/// Who a token vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Their name.
    pub name: String,
    /// The groups that they are in.
    pub groups: BTreeSet<String>,
}

/// Why a token is not believed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum OidcError {
    #[error("the token is not valid here: {0}")]
    Refused(String),
    #[error("the keys of the issuer are not known, because it does not answer: {0}")]
    Unavailable(String),
}

/// An issuer that is believed, and its keys.
pub struct Issuer {
    settings: config::Oidc,
    http: reqwest::Client,
    keys: ArcSwapOption<Keys>,
    /// When it was asked last; held while it is.
    asked: Mutex<Option<Instant>>,
}

struct Keys {
    by_id: HashMap<String, Key>,
    fetched: Instant,
}

struct Key {
    key: DecodingKey,
    /// The algorithms that it is for.
    algorithms: Vec<Algorithm>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Issuer({})", self.settings.issuer)
    }
}

impl Issuer {
    /// An issuer by its settings. Reads the authorities' file; asks nobody.
    pub fn new(settings: config::Oidc) -> Result<Issuer, String> {
        signatures::install();
        let builder = outbound::builder(settings.ca_file.as_deref(), settings.issuer.starts_with("http:"))?;
        let http = outbound::build(builder.timeout(TIMEOUT))?;
        Ok(Issuer { settings, http, keys: ArcSwapOption::empty(), asked: Mutex::new(None) })
    }

    /// Who this token vouches for.
    pub async fn identify(&self, token: &str) -> Result<Identity, OidcError> {
        let refused = |why: &str| OidcError::Refused(why.to_owned());
        if token.len() > TOKEN_BYTES_MAX {
            return Err(refused("it is too long"));
        }
        let header = jsonwebtoken::decode_header(token).map_err(|error| OidcError::Refused(error.to_string()))?;
        let keys = self.keys_for(header.kid.as_deref()).await?;
        let key =
            keys.find(header.kid.as_deref()).ok_or_else(|| refused("it names a key that its issuer does not have"))?;
        if !key.algorithms.contains(&header.alg) {
            return Err(refused("it is signed in a way that its key is not for"));
        }
        let mut validation = Validation::new(header.alg);
        validation.algorithms = vec![header.alg];
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_audience(&[&self.settings.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.validate_nbf = true;
        let decoded = jsonwebtoken::decode::<Map<String, Value>>(token, &key.key, &validation);
        let claims = decoded.map_err(|error| OidcError::Refused(error.to_string()))?.claims;
        self.identity(&claims).map_err(OidcError::Refused)
    }

    fn identity(&self, claims: &Map<String, Value>) -> Result<Identity, String> {
        let config::Oidc { name_claim, groups_claim, .. } = &self.settings;
        let name = find(claims, name_claim).and_then(Value::as_str).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| format!("it has no claim `{name_claim}` with a name"))?;
        if name.chars().count() > NAME_CHARS_MAX || name.contains(char::is_control) {
            return Err(format!(
                "the name in `{name_claim}` is over {NAME_CHARS_MAX} characters or has control characters"
            ));
        }
        let groups: BTreeSet<String> = match find(claims, groups_claim) {
            None | Some(Value::Null) => BTreeSet::new(),
            Some(Value::String(group)) => BTreeSet::from([group.clone()]),
            Some(Value::Array(groups)) => {
                let texts: Option<_> = groups.iter().map(|group| group.as_str().map(str::to_owned)).collect();
                texts.ok_or_else(|| format!("`{groups_claim}` is no list of texts"))?
            }
            Some(_) => return Err(format!("`{groups_claim}` is no list of texts")),
        };
        if groups.len() > GROUPS_MAX {
            return Err(format!("`{groups_claim}` has over {GROUPS_MAX} groups"));
        }
        Ok(Identity { name: name.to_owned(), groups })
    }

    /// The keys, with this one among them if the issuer has it.
    async fn keys_for(&self, id: Option<&str>) -> Result<Arc<Keys>, OidcError> {
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let mut asked = self.asked.lock().await;
        // Somebody else may have asked meanwhile.
        if let Some(keys) = self.fresh(id) {
            return Ok(keys);
        }
        let may_ask = asked.is_none_or(|last| last.elapsed() >= ASK_EVERY);
        let mut failure = "it was asked a moment ago".to_owned();
        if may_ask {
            *asked = Some(Instant::now());
            match self.fetch().await {
                Ok(keys) => self.keys.store(Some(Arc::new(keys))),
                Err(error) => {
                    warn!(issuer = self.settings.issuer, error, "the issuer's keys could not be fetched");
                    failure = error;
                }
            }
        }
        self.keys.load_full().ok_or(OidcError::Unavailable(failure))
    }

    fn fresh(&self, id: Option<&str>) -> Option<Arc<Keys>> {
        self.keys.load_full().filter(|keys| keys.fetched.elapsed() < OLD_AFTER && keys.find(id).is_some())
    }

    async fn fetch(&self) -> Result<Keys, String> {
        #[derive(Deserialize)]
        struct Discovery {
            issuer: String,
            jwks_uri: String,
        }
        let url = match &self.settings.jwks_url {
            Some(url) => url.clone(),
            None => {
                let url = format!("{}/.well-known/openid-configuration", self.settings.issuer);
                let found: Discovery = self.get(&url).await?;
                if found.issuer.trim_end_matches('/') != self.settings.issuer.trim_end_matches('/') {
                    return Err(format!("it says that it is `{}`", found.issuer));
                }
                // Discovery over TLS must not lead to keys that came in clear.
                if self.settings.issuer.starts_with("https:") && !found.jwks_uri.starts_with("https:") {
                    return Err("its keys are not at an https URL".to_owned());
                }
                found.jwks_uri
            }
        };
        let set: JwkSet = self.get(&url).await?;
        let keys = Keys::of(set);
        debug!(keys = keys.by_id.len(), "fetched the issuer's keys");
        if keys.by_id.is_empty() { Err("it has no key that can be used".to_owned()) } else { Ok(keys) }
    }

    async fn get<T: serde::de::DeserializeOwned>(&self, url: &str) -> Result<T, String> {
        let text = |error: reqwest::Error| with_causes(&error.without_url());
        let mut response = self.http.get(url).send().await.map_err(text)?;
        if !response.status().is_success() {
            return Err(format!("it answered {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(text)? {
            if body.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(format!("its answer is over {ANSWER_BYTES_MAX} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|error| format!("its answer cannot be read: {error}"))
    }
}

impl Keys {
    fn of(set: JwkSet) -> Keys {
        let mut by_id = HashMap::new();
        for jwk in set.keys.into_iter().take(KEYS_MAX) {
            let is_for_signatures = !matches!(jwk.common.public_key_use, Some(PublicKeyUse::Encryption));
            if let Some(key) = Key::of(&jwk).filter(|_| is_for_signatures) {
                by_id.insert(jwk.common.key_id.unwrap_or_default(), key);
            }
        }
        Keys { by_id, fetched: Instant::now() }
    }

    /// The key of this id; of a token that names none, the only one.
    fn find(&self, id: Option<&str>) -> Option<&Key> {
        match id {
            Some(id) => self.by_id.get(id),
            None if self.by_id.len() == 1 => self.by_id.values().next(),
            None => None,
        }
    }
}

impl Key {
    /// A key that can check signatures; none for what is of no use, shared secrets first of all.
    fn of(jwk: &Jwk) -> Option<Key> {
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let said = jwk.common.key_algorithm.map(|said| said.to_string().parse::<Algorithm>());
        let said = said.transpose().ok()?;
        let all: &[Algorithm] = match key.family() {
            AlgorithmFamily::Hmac => return None,
            AlgorithmFamily::Rsa => &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ],
            AlgorithmFamily::Ec => &[Algorithm::ES256, Algorithm::ES384],
            AlgorithmFamily::Ed => &[Algorithm::EdDSA],
        };
        let algorithms: Vec<_> =
            all.iter().copied().filter(|algorithm| said.is_none_or(|said| said == *algorithm)).collect();
        (!algorithms.is_empty()).then_some(Key { key, algorithms })
    }
}

/// A claim by its name, or by a path with dots (`realm_access.roles`).
fn find<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c Value> {
    if let Some(value) = claims.get(name) {
        return Some(value);
    }
    let (first, rest) = name.split_once('.')?;
    find(claims.get(first)?.as_object()?, rest)
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
