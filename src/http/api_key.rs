//! Where a request carries its API key.

use hyper::header::{AUTHORIZATION, HeaderMap};

/// The key of `Authorization: Bearer KEY`, else of `X-Api-Key: KEY`. The second is for clients behind a gateway that uses
/// `Authorization` for itself.
pub(super) fn find(headers: &HeaderMap) -> Option<&str> {
    bearer(headers).or_else(|| headers.get("x-api-key")?.to_str().ok()).map(str::trim)
}

/// RFC 6750, section 2.1; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key)
}

#[cfg(test)]
mod tests {
    use hyper::header::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn a_key_is_found_where_clients_put_it() {
        let check = |headers: &[(&'static str, &'static [u8])], expected: Option<&str>| {
            let mut map = HeaderMap::new();
            for (name, value) in headers {
                map.append(HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap());
            }
            assert_eq!(find(&map), expected, "{headers:?}");
        };
        check(&[], None);
        check(&[("authorization", b"igz_a")], None);
        check(&[("authorization", b"Basic aWd6")], None);
        check(&[("authorization", b"Bearer \xff")], None);
        check(&[("x-api-key", b"\xff")], None);
        check(&[("authorization", b"Bearer igz_a")], Some("igz_a"));
        check(&[("authorization", b"bearer  igz_a ")], Some("igz_a"));
        check(&[("x-api-key", b"igz_b")], Some("igz_b"));
        check(&[("authorization", b"Basic aWd6"), ("x-api-key", b"igz_b")], Some("igz_b"));
        check(&[("authorization", b"Bearer igz_a"), ("x-api-key", b"igz_b")], Some("igz_a"));
    }
}
