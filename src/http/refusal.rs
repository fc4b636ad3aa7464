//! A request that is refused as a whole: nothing of it was taken.

use std::borrow::Cow;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;
use hyper::header::{ALLOW, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE};

use super::media::Form;
use super::reply;
use crate::outcome::{Code, EventError};

/// Why a request is refused, and the header that goes with it.
#[derive(Debug)]
pub(super) struct Refusal {
    code: Code,
    message: Cow<'static, str>,
    header: Option<(HeaderName, &'static str)>,
}

impl Refusal {
    #[cold]
    pub(super) fn new(code: Code, message: impl Into<Cow<'static, str>>) -> Self {
        Refusal { code, message: message.into(), header: None }
    }

    /// 401, with the challenge that RFC 9110, section 11.6.1 asks for.
    #[cold]
    pub(super) fn unauthenticated() -> Self {
        let message = "no API key, or one that no sender has; send `Authorization: Bearer <key>` or `X-Api-Key: <key>`";
        Refusal { header: Some((WWW_AUTHENTICATE, "Bearer")), ..Refusal::new(Code::Unauthenticated, message) }
    }

    /// 405, with the methods that the path has.
    #[cold]
    pub(super) fn method_not_allowed(allowed: &'static str) -> Self {
        let message = format!("this path takes {allowed} only");
        Refusal { header: Some((ALLOW, allowed)), ..Refusal::new(Code::MethodNotAllowed, message) }
    }

    /// 503: the bytes of bodies in flight are at their limit.
    #[cold]
    pub(super) fn overloaded() -> Self {
        let message = "too many bytes in flight (`http.in_flight_bytes_max`); wait 1 s";
        Refusal { header: Some((RETRY_AFTER, "1")), ..Refusal::new(Code::Overloaded, message) }
    }

    /// Its code.
    pub(super) fn code(&self) -> Code {
        self.code
    }

    /// Its message.
    #[cfg(test)]
    pub(super) fn message(&self) -> &str {
        &self.message
    }

    /// The response that says so.
    pub(super) fn reply(self, form: Form) -> Response<Full<Bytes>> {
        tracing::debug!(code = self.code.as_str(), message = %self.message, "request refused");
        let mut response = reply::refusal(self.code, &self.message, form);
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl From<EventError> for Refusal {
    fn from(error: EventError) -> Self {
        Refusal::new(error.code, error.message)
    }
}
