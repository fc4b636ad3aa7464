//! `Content-Type` and `Content-Encoding`.

use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

use super::refusal::Refusal;
use crate::outcome::Code;

/// What a body is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Media {
    /// `application/json`.
    Json,
    /// `application/x-ndjson`.
    Ndjson,
    /// `application/x-protobuf`, `application/protobuf` (draft-ietf-dispatch-mime-protobuf).
    Protobuf,
}

impl Media {
    /// What the request says that its body is; none when it says nothing. Parameters (`charset`) are passed over: JSON is
    /// UTF-8 whatever they say (RFC 8259, section 8.1).
    pub(super) fn declared(headers: &HeaderMap) -> Result<Option<Media>, Refusal> {
        let Some(value) = headers.get(CONTENT_TYPE) else { return Ok(None) };
        let text = value.to_str().unwrap_or_default();
        // Most requests say the name and nothing else.
        let named = Media::named(text).or_else(|| Media::named(text.split(';').next().unwrap_or_default().trim()));
        named.map(Some).ok_or_else(unsupported)
    }

    /// What a body is whose request did not say: JSON when it looks so. Anything may be a Protobuf message, so that needs
    /// the header.
    pub(super) fn sniffed(body: &[u8]) -> Result<Media, Refusal> {
        match body.trim_ascii_start().first() {
            Some(b'{' | b'[') => Ok(Media::Json),
            _ => Err(unsupported()),
        }
    }

    pub(super) fn named(essence: &str) -> Option<Media> {
        let known = [
            ("application/json", Media::Json),
            ("application/x-ndjson", Media::Ndjson),
            ("application/x-protobuf", Media::Protobuf),
            ("application/protobuf", Media::Protobuf),
        ];
        known.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, media)| media)
    }
}

#[cold]
pub(super) fn unsupported() -> Refusal {
    let message = "`Content-Type` must be `application/json`, `application/x-ndjson` (several events only) or `application/x-protobuf`";
    Refusal::new(Code::UnsupportedMediaType, message)
}

/// What a body is compressed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    /// Nothing.
    Identity,
    /// gzip, RFC 1952; several members are one body.
    Gzip,
    /// Zstandard, RFC 8878; several frames are one body.
    Zstd,
}

impl Coding {
    /// The coding that the request declares. More than one is refused.
    pub(super) fn declared(headers: &HeaderMap) -> Result<Coding, Refusal> {
        let mut values = headers.get_all(CONTENT_ENCODING).iter();
        let Some(value) = values.next() else { return Ok(Coding::Identity) };
        let name = value.to_str().unwrap_or_default().trim();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        match () {
            () if values.next().is_some() => Err(unsupported_coding()),
            () if is("identity") || name.is_empty() => Ok(Coding::Identity),
            () if is("gzip") || is("x-gzip") => Ok(Coding::Gzip),
            () if is("zstd") => Ok(Coding::Zstd),
            () => Err(unsupported_coding()),
        }
    }
}

#[cold]
fn unsupported_coding() -> Refusal {
    Refusal::new(Code::UnsupportedMediaType, "`Content-Encoding` must be one of `gzip`, `zstd`, `identity`")
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(name: HeaderName, values: &[&str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn a_media_type_is_known_by_its_name_alone() {
        let check = |value: &str, expected: Option<Media>| {
            let declared = Media::declared(&headers(CONTENT_TYPE, &[value]));
            assert_eq!(declared.ok().flatten(), expected, "{value:?}");
        };
        check("", None);
        check("text/plain", None);
        check("application/x-www-form-urlencoded", None);
        check("application/jsonp", None);
        check("application/json", Some(Media::Json));
        check("Application/JSON ; charset=utf-8", Some(Media::Json));
        check("application/x-ndjson", Some(Media::Ndjson));
        check("application/x-protobuf; messageType=\"a.B\"", Some(Media::Protobuf));
        check("application/protobuf", Some(Media::Protobuf));
        assert_eq!(Media::declared(&HeaderMap::new()).unwrap(), None);
    }

    #[test]
    fn a_body_that_says_nothing_of_itself_must_look_like_json() {
        let check = |body: &[u8], expected: Option<Media>| {
            assert_eq!(Media::sniffed(body).ok(), expected, "{body:?}");
        };
        check(b"", None);
        check(b"\x0a\x02", None);
        check(b"event=a", None);
        check(b" \n{", Some(Media::Json));
        check(b"[]", Some(Media::Json));
    }

    #[test]
    fn one_known_coding_is_taken() {
        let check = |values: &[&str], expected: Option<Coding>| {
            assert_eq!(Coding::declared(&headers(CONTENT_ENCODING, values)).ok(), expected, "{values:?}");
        };
        check(&["br"], None);
        check(&["gzip, zstd"], None);
        check(&["gzip", "gzip"], None);
        check(&[], Some(Coding::Identity));
        check(&["identity"], Some(Coding::Identity));
        check(&["GZIP"], Some(Coding::Gzip));
        check(&["x-gzip"], Some(Coding::Gzip));
        check(&["zstd"], Some(Coding::Zstd));
    }
}
