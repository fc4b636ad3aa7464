//! Method and path -> door.

use std::borrow::Cow;

use hyper::Method;

use super::refusal::Refusal;
use crate::outcome::Code;

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Route<'a> {
    /// `GET /`.
    Help,
    /// `POST /v1/events`.
    Events,
    /// `POST /v1/events/{event}`, with the name percent-decoded.
    Event(Cow<'a, str>),
}

/// The door of a request.
pub(super) fn find<'a>(method: &Method, path: &'a str) -> Result<Route<'a>, Refusal> {
    match path {
        "/" => allow(method, &[Method::GET, Method::HEAD], "GET, HEAD").map(|()| Route::Help),
        "/v1/events" => allow(method, &[Method::POST], "POST").map(|()| Route::Events),
        _ => match path.strip_prefix("/v1/events/") {
            Some(name) if !name.is_empty() && !name.contains('/') => {
                allow(method, &[Method::POST], "POST")?;
                percent_decode(name).map(Route::Event)
            }
            _ => Err(not_found()),
        },
    }
}

fn allow(method: &Method, allowed: &[Method], names: &'static str) -> Result<(), Refusal> {
    if allowed.contains(method) { Ok(()) } else { Err(Refusal::method_not_allowed(names)) }
}

#[cold]
fn not_found() -> Refusal {
    Refusal::new(Code::NotFound, "no such path; events go to `POST /v1/events` or `POST /v1/events/{event}`")
}

/// RFC 3986, section 2.1; what is decoded must be UTF-8.
fn percent_decode(text: &str) -> Result<Cow<'_, str>, Refusal> {
    if !text.contains('%') {
        return Ok(Cow::Borrowed(text));
    }
    let broken = || Refusal::new(Code::InvalidParameter, "the event name in the path is not valid percent-encoded UTF-8");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let decoded = if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(broken);
            (digit()? * 16 + digit()?) as u8
        } else {
            byte
        };
        bytes.push(decoded);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| broken())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_without_a_door_is_refused() {
        let check = |method: Method, path: &str, expected: Code| {
            assert_eq!(find(&method, path).unwrap_err().code(), expected, "{method} {path}");
        };
        check(Method::POST, "", Code::NotFound);
        check(Method::POST, "/v1", Code::NotFound);
        check(Method::POST, "/v1/event", Code::NotFound);
        check(Method::POST, "/v1/events/", Code::NotFound);
        check(Method::POST, "/v1/events/a/b", Code::NotFound);
        check(Method::POST, "/V1/events", Code::NotFound);
        check(Method::POST, "/", Code::MethodNotAllowed);
        check(Method::GET, "/v1/events", Code::MethodNotAllowed);
        check(Method::PUT, "/v1/events/a", Code::MethodNotAllowed);
        check(Method::POST, "/v1/events/%", Code::InvalidParameter);
        check(Method::POST, "/v1/events/%4", Code::InvalidParameter);
        check(Method::POST, "/v1/events/%zz", Code::InvalidParameter);
        check(Method::POST, "/v1/events/%+1", Code::InvalidParameter);
        check(Method::POST, "/v1/events/%ff", Code::InvalidParameter);
    }

    #[test]
    fn each_door_has_its_path() {
        let check = |method: Method, path: &str, expected: Route<'_>| {
            assert_eq!(find(&method, path).expect(path), expected, "{method} {path}");
        };
        check(Method::GET, "/", Route::Help);
        check(Method::HEAD, "/", Route::Help);
        check(Method::POST, "/v1/events", Route::Events);
        check(Method::POST, "/v1/events/delivery.status_changed", Route::Event("delivery.status_changed".into()));
        check(Method::POST, "/v1/events/a%2fb", Route::Event("a/b".into()));
        check(Method::POST, "/v1/events/%C3%BC", Route::Event("ü".into()));
    }
}
