//! What handlers take out of a request: parameters and bodies, refused as problems.
//!
//! In: a request that the guard has let through. Out: typed values. Never: a key that nobody knows, taken in silence.

use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Query, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;

use super::problem::{Problem, kinds};
use crate::control::resource::{Kind, ResourceId};

/// Most bytes of a body: five hundred changes of two kilobytes.
pub const BODY_BYTES_MAX: usize = 1 << 20;

/// The parameters behind the `?`.
pub struct Params<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let Query(read) = Query::try_from_uri(&parts.uri)
            .map_err(|error| Problem::new(kinds::MALFORMED, format!("parameters: {}", innermost(&error))))?;
        Ok(Params(read))
    }
}

/// A body of JSON.
pub struct Json<T>(pub T);

impl<S: Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let body = JsonBytes::from_request(request, state).await?.0;
        let mut reader = serde_json::Deserializer::from_slice(&body);
        let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let (path, error) = (error.path().to_string(), error.into_inner());
            let at = if path == "." { String::new() } else { format!("{path}: ") };
            Problem::new(kinds::MALFORMED, format!("body: {at}{error}"))
        })?;
        reader.end().map_err(|error| Problem::new(kinds::MALFORMED, format!("body: {error}")))?;
        Ok(Json(read))
    }
}

/// A body of JSON, or none.
pub struct MaybeJson<T>(pub T);

impl<S: Sync, T: DeserializeOwned + Default> FromRequest<S> for MaybeJson<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let is_empty = http_body::Body::size_hint(request.body()).exact() == Some(0);
        if is_empty && !request.headers().contains_key(header::CONTENT_TYPE) {
            return Ok(MaybeJson(T::default()));
        }
        Ok(MaybeJson(Json::from_request(request, state).await?.0))
    }
}

/// A body that says that it is JSON, unread.
pub struct JsonBytes(pub Bytes);

impl<S: Sync> FromRequest<S> for JsonBytes {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        if !is_json(request.headers()) {
            let detail = "send JSON, and say so: `content-type: application/json`";
            return Err(Problem::new(kinds::MEDIA, detail));
        }
        let body = Bytes::from_request(request, &()).await.map_err(|rejection| {
            let kind = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => kinds::TOO_LARGE,
                _ => kinds::MALFORMED,
            };
            Problem::new(kind, format!("a body has at most {BODY_BYTES_MAX} bytes"))
        })?;
        Ok(JsonBytes(body))
    }
}

fn is_json(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    value.split(';').next().is_some_and(|media| media.trim().eq_ignore_ascii_case("application/json"))
}

/// The resource that a path names.
pub struct Named(pub ResourceId);

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let kind = *parts.extensions.get::<Kind>().expect("rows of the table with a name in their path have a kind");
        let params = path(parts).await?;
        let of = |name: &str| params.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let name = of("name").unwrap_or_default();
        Ok(Named(match of("cluster") {
            Some(cluster) => ResourceId::on(kind, cluster, name),
            None => ResourceId::of(kind, name),
        }))
    }
}

/// The id or name of something else in a path.
pub struct Id(pub String);

impl<S: Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let (_, id) = path(parts).await?.pop().expect("rows of the table with an id in their path");
        Ok(Id(id))
    }
}

/// Most bytes of a name in a path: a grant's is made of three others.
const NAME_BYTES_MAX: usize = 600;

async fn path(parts: &mut Parts) -> Result<Vec<(String, String)>, Problem> {
    let malformed = |detail: String| Problem::new(kinds::MALFORMED, format!("path: {detail}"));
    let params = RawPathParams::from_request_parts(parts, &()).await;
    let params = params.map_err(|rejection| malformed(rejection.body_text()))?;
    let params: Vec<_> = params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
    for (name, value) in &params {
        if value.is_empty() || value.len() > NAME_BYTES_MAX {
            return Err(malformed(format!("`{name}` has {} bytes; it must be 1 to {NAME_BYTES_MAX}", value.len())));
        }
        if value.contains(|c: char| c == '/' || c.is_control()) {
            return Err(malformed(format!("`{name}` has a `/` or a control character, which no name has")));
        }
    }
    Ok(params)
}

/// A header's text.
pub fn text_header<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, Problem> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    let malformed = || Problem::new(kinds::MALFORMED, format!("header `{name}` is not ASCII text"));
    value.to_str().map(Some).map_err(|_| malformed())
}

fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
