//! The query of a request: what its reply is to wait for and to tell.

use std::borrow::Cow;

use super::refusal::Refusal;
use crate::config;
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

/// The names that a query may have.
const NAMES: [&str; 3] = ["reply", "results", "dry_run"];

impl Params {
    /// Reads a query. What is not known, or stands twice, is an error: a request that asks for a wait and misspells it would
    /// otherwise be told less than it relies on.
    pub(super) fn parse(query: Option<&str>) -> Result<Params, Refusal> {
        let mut params = Params::default();
        let mut seen = [false; NAMES.len()];
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let Some(known) = NAMES.iter().position(|known| *known == name) else { return Err(unknown(name)) };
            if std::mem::replace(&mut seen[known], true) {
                return Err(invalid(format!("query parameter `{name}` stands twice")));
            }
            match (name, value) {
                ("reply", value) => match Reply::ALL.into_iter().find(|reply| reply.as_str() == value) {
                    Some(reply) => params.reply = Some(reply),
                    None => {
                        let message = "query parameter `reply` must be `enqueued`, `durable` or `acknowledged`";
                        return Err(invalid(message));
                    }
                },
                ("results", "all") => params.all_results = true,
                ("results", "failed") => params.all_results = false,
                ("dry_run", "true") => params.dry_run = true,
                ("dry_run", "false") => params.dry_run = false,
                ("results", _) => return Err(invalid("query parameter `results` must be `all` or `failed`")),
                _ => return Err(invalid("query parameter `dry_run` must be `true` or `false`")),
            }
        }
        Ok(params)
    }
}

#[cold]
fn invalid(message: impl Into<Cow<'static, str>>) -> Refusal {
    Refusal::new(Code::InvalidParameter, message)
}

/// The name is the sender's: shown up to a length, and only what an unencoded query may hold.
#[cold]
fn unknown(name: &str) -> Refusal {
    let shown: String = name.chars().filter(char::is_ascii_graphic).take(64).collect();
    let nearest = config::nearest(name, NAMES).map(|near| format!(" (did you mean `{near}`?)")).unwrap_or_default();
    let known = NAMES.join("`, `");
    invalid(format!("there is no query parameter `{shown}`{nearest}; there are `{known}`"))
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
        check("reply=safe", "`enqueued`, `durable` or `acknowledged`");
        check("reply", "`enqueued`, `durable` or `acknowledged`");
        check("reply=Enqueued", "`enqueued`, `durable` or `acknowledged`");
        check("results=none", "`all` or `failed`");
        check("dry_run=1", "`true` or `false`");
        check("dry_run=true&x=y", "no query parameter `x`; there are `reply`, `results`, `dry_run`");
        check("=", "no query parameter ``");
        check("dryrun=true", "no query parameter `dryrun` (did you mean `dry_run`?);");
        check("replay", "did you mean `reply`?");
        check(&"n".repeat(9_000), &format!("`{}`;", "n".repeat(64)));
        check("results=all&results=failed", "`results` stands twice");
        check("reply=enqueued&reply=enqueued", "`reply` stands twice");
    }

    #[test]
    fn parameters_are_read() {
        let check = |query: Option<&str>, expected: Params| {
            assert_eq!(Params::parse(query).expect("valid"), expected, "{query:?}");
        };
        check(None, Params::default());
        check(Some(""), Params::default());
        check(Some("reply=durable"), Params { reply: Some(Reply::Durable), ..Params::default() });
        check(Some("&reply=enqueued&"), Params { reply: Some(Reply::Enqueued), ..Params::default() });
        check(
            Some("reply=acknowledged&results=all&dry_run=true"),
            Params { reply: Some(Reply::Acknowledged), all_results: true, dry_run: true },
        );
        check(Some("results=failed&dry_run=false"), Params::default());
    }
}
