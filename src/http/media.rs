//! `Content-Type`, `Content-Encoding` and `Accept`.

use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap};

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
    /// `application/avro`, `avro/binary`: one Avro datum, without a container or framing.
    Avro,
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
            ("application/avro", Media::Avro),
            ("avro/binary", Media::Avro),
        ];
        known.into_iter().find(|(name, _)| essence.eq_ignore_ascii_case(name)).map(|(_, media)| media)
    }
}

#[cold]
pub(super) fn unsupported() -> Refusal {
    let message = "`Content-Type` must be `application/json`, `application/x-ndjson` (several events only), \
        `application/x-protobuf` or `application/avro` (one bare payload only); with curl: `-H 'Content-Type: application/json'`";
    Refusal::new(Code::UnsupportedMediaType, message)
}

/// How a reply is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Form {
    /// `application/json`.
    #[default]
    Json,
    /// `iguazu.v1.BatchReply`, under the name that the sender has for it.
    Protobuf(&'static str),
}

impl Form {
    const OFFERED: [Form; 3] =
        [Form::Json, Form::Protobuf("application/x-protobuf"), Form::Protobuf("application/protobuf")];

    /// The form that `Accept` prefers (RFC 9110, section 12.5.1): the one with the highest weight; of equal ones the one that
    /// is named more exactly, then JSON. Where none is acceptable it is JSON all the same, as that section allows: a reply in
    /// a form that nobody reads is better than an event that is refused for it.
    pub(super) fn asked_by(headers: &HeaderMap) -> Form {
        let mut values = headers.get_all(ACCEPT).iter();
        // What nearly every client says, if it says anything.
        let Some(first) = values.next().filter(|value| *value != "*/*" && *value != "application/json") else {
            return Form::Json;
        };
        let values = std::iter::once(first).chain(values).filter_map(|value| value.to_str().ok());
        let ranges: Vec<Range<'_>> = values.flat_map(|value| value.split(',')).filter_map(Range::parse).collect();
        // The most exact range that fits a form says its weight, whatever wider ones say.
        let wanted = |form: &Form| {
            let fitting = ranges.iter().filter_map(|range| Some((range.fits(form.media_type())?, range.weight)));
            let (exactness, weight) = fitting.max()?;
            (weight > 0).then_some((weight, exactness))
        };
        // The first of equal ones: `max_by_key` would take the last.
        let offered = Form::OFFERED.into_iter().rev().filter_map(|form| Some((wanted(&form)?, form)));
        offered.max_by_key(|(wanted, _)| *wanted).map_or(Form::Json, |(_, form)| form)
    }

    /// Its `Content-Type`.
    pub(super) fn media_type(self) -> &'static str {
        match self {
            Form::Json => "application/json",
            Form::Protobuf(name) => name,
        }
    }
}

/// One of the media ranges of an `Accept`.
struct Range<'a> {
    range: &'a str,
    /// In thousandths.
    weight: u16,
}

impl<'a> Range<'a> {
    /// None if it is malformed. Parameters other than the weight are passed over: our forms have none.
    fn parse(text: &'a str) -> Option<Range<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let range = parts.next().filter(|range| !range.is_empty())?;
        let named = |part: &'a str| part.split_once('=').filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        let weight = match parts.find_map(named) {
            None => 1000,
            Some((_, text)) => weight(text.trim())?,
        };
        Some(Range { range, weight })
    }

    /// How exactly the range names a media type, from 0 for `*/*` to 2; none: it does not fit.
    fn fits(&self, media_type: &str) -> Option<u8> {
        match self.range {
            "*/*" => Some(0),
            range if range.eq_ignore_ascii_case("application/*") => Some(1),
            range => range.eq_ignore_ascii_case(media_type).then_some(2),
        }
    }
}

/// `0` to `1` with at most three decimals, in thousandths.
fn weight(text: &str) -> Option<u16> {
    let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
    if !matches!(whole, "0" | "1") || decimals.len() > 3 || !decimals.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let weight: u16 = format!("{whole}{decimals:0<3}").parse().ok()?;
    (weight <= 1000).then_some(weight)
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
        check("application/avro", Some(Media::Avro));
        check("avro/binary", Some(Media::Avro));
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
    fn the_form_of_a_reply_is_the_one_that_is_preferred() {
        let (x_protobuf, protobuf) = (Form::Protobuf("application/x-protobuf"), Form::Protobuf("application/protobuf"));
        let check = |accept: &[&str], expected: Form| {
            assert_eq!(Form::asked_by(&headers(ACCEPT, accept)), expected, "{accept:?}");
        };
        // None fits, or none is understood: JSON.
        check(&["text/html"], Form::Json);
        check(&["application/json;q=0"], Form::Json);
        check(&["*/*;q=0"], Form::Json);
        check(&["application/x-protobuf;q=0"], Form::Json);
        check(&["application/x-protobuf;q=nonsense"], Form::Json);
        check(&["application/x-protobuf;q=1.001"], Form::Json);
        check(&["application/x-protobuf;q=-1"], Form::Json);
        check(&[",;,"], Form::Json);
        check(&[], Form::Json);
        check(&[""], Form::Json);
        // Weights.
        check(&["application/x-protobuf;q=0.9, application/json"], Form::Json);
        check(&["application/x-protobuf;q=0.9, application/json;q=0.899"], x_protobuf);
        check(&["application/json;q=0.1, application/x-protobuf; Q=0.2"], x_protobuf);
        check(&["application/json;q=0.1", "application/protobuf;q=0.2"], protobuf);
        check(&["application/json;q=0, */*"], x_protobuf);
        check(&["*/*, application/json;q=0.5"], x_protobuf);
        check(&["application/*;q=0.5, application/json;q=0.4, */*"], x_protobuf);
        // Equal weights: what is named more exactly, then JSON.
        check(&["*/*"], Form::Json);
        check(&["text/html, */*;q=0.8"], Form::Json);
        check(&["application/*"], Form::Json);
        check(&["application/protobuf, application/json"], Form::Json);
        check(&["application/protobuf, */*"], protobuf);
        check(&["application/protobuf, application/x-protobuf"], x_protobuf);
        // Spellings.
        check(&["text/html, Application/X-Protobuf"], x_protobuf);
        check(&["application/x-protobuf;messageType=\"iguazu.v1.BatchReply\""], x_protobuf);
        check(&["application/protobuf"], protobuf);
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
