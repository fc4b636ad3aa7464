//! The query of a request: what its reply is to wait for and to tell.

use super::refusal::Refusal;
use crate::outcome::Code;
use crate::route::Reply;

/// The parameters of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Params {
    /// `reply`: what to wait for at least.
    pub(super) reply: Option<Reply>,
    /// `results=all`: a result for every event, and not only for those with something to say.
    pub(super) all_results: bool,
    /// `dry_run=true`: say what would be produced, produce nothing.
    pub(super) dry_run: bool,
}

impl Params {
    /// Reads a query. A parameter or value that is not known is an error: a request that asks for a wait and misspells it
    /// would otherwise be told less than it relies on. The last one of a name counts.
    pub(super) fn parse(query: Option<&str>) -> Result<Params, Refusal> {
        let mut params = Params::default();
        let Some(query) = query else { return Ok(params) };
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (name, value) {
                ("reply", "enqueued") => params.reply = Some(Reply::Enqueued),
                ("reply", "acknowledged") => params.reply = Some(Reply::Acknowledged),
                ("results", "all") => params.all_results = true,
                ("results", "failed") => params.all_results = false,
                ("dry_run", "true") => params.dry_run = true,
                ("dry_run", "false") => params.dry_run = false,
                ("reply", _) => return Err(invalid("`reply` must be `enqueued` or `acknowledged`")),
                ("results", _) => return Err(invalid("`results` must be `all` or `failed`")),
                ("dry_run", _) => return Err(invalid("`dry_run` must be `true` or `false`")),
                _ => {
                    return Err(invalid("unknown query parameter; there are `reply`, `results` and `dry_run`"));
                }
            }
        }
        Ok(params)
    }
}

#[cold]
fn invalid(message: &'static str) -> Refusal {
    Refusal::new(Code::InvalidParameter, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_allowed_is_named_with_what_is() {
        let check = |query: &str, expected: &str| {
            let refusal = Params::parse(Some(query)).expect_err(query);
            assert_eq!(refusal.code(), Code::InvalidParameter);
            assert!(refusal.message().contains(expected), "{query}: {}", refusal.message());
        };
        check("reply=durable", "`enqueued` or `acknowledged`");
        check("reply", "`enqueued` or `acknowledged`");
        check("reply=Enqueued", "`enqueued` or `acknowledged`");
        check("results=none", "`all` or `failed`");
        check("dry_run=1", "`true` or `false`");
        check("dry_run=true&x=y", "`reply`, `results` and `dry_run`");
        check("=", "`reply`, `results` and `dry_run`");
    }

    #[test]
    fn parameters_are_read() {
        let check = |query: Option<&str>, expected: Params| {
            assert_eq!(Params::parse(query).expect("valid"), expected, "{query:?}");
        };
        check(None, Params::default());
        check(Some(""), Params::default());
        check(Some("&reply=enqueued&"), Params { reply: Some(Reply::Enqueued), ..Params::default() });
        check(
            Some("reply=acknowledged&results=all&dry_run=true"),
            Params { reply: Some(Reply::Acknowledged), all_results: true, dry_run: true },
        );
        check(Some("results=all&results=failed&dry_run=true&dry_run=false"), Params::default());
    }
}
