//! Every route, with the right that it needs: the one list from which the API is made.
//!
//! In: nothing. Out: rows. Never: a route without a right; [`super::router`] takes rows only, and puts the guard before each.

use std::fmt;
use std::time::Duration;

use axum::handler::Handler;
use axum::http::Method;
use axum::routing::{MethodFilter, MethodRouter, on};
use utoipa::{IntoParams, ToSchema};

use super::openapi::Says;
use super::requests::{ChangeParams, RequestView};
use super::resources::ResourceView;
use super::{
    Api, audit, brakes, events, explain, findings, health, onboardings, openapi, policies, requests, resources, rules,
    secrets, services, tokens,
};
use crate::control::actor::Role;
use crate::control::brake::Brake;
use crate::control::policy::Table;
use crate::control::reconcile::Finding;
use crate::control::reconcile::topic::Diagnosis;
use crate::control::request::Request;
use crate::control::resource::rule::Rule;
use crate::control::resource::{
    AccessSpec, ClusterSpec, EventTypeSpec, GroupSpec, Kind, QuotaSpec, SenderSpec, ServiceSpec, TopicSpec, UserSpec,
};
use crate::control::snapshot;
use crate::control::store::AuditLine;

/// What a token may be used for. A person's own login may do all of it.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Look at resources and requests.
    Read,
    /// Ask for changes.
    Write,
    /// Agree to others' requests, or not.
    Approve,
    /// Read secrets that are meant for the caller.
    Secrets,
    /// Make and take away tokens.
    Tokens,
    /// Change policies.
    Admin,
    /// Read the snapshot that proxies live by.
    Snapshot,
}

impl Scope {
    /// All of them.
    pub const ALL: [Scope; 7] =
        [Scope::Read, Scope::Write, Scope::Approve, Scope::Secrets, Scope::Tokens, Scope::Admin, Scope::Snapshot];

    /// The name in replies.
    pub const fn as_str(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Write => "write",
            Scope::Approve => "approve",
            Scope::Secrets => "secrets",
            Scope::Tokens => "tokens",
            Scope::Admin => "admin",
            Scope::Snapshot => "snapshot",
        }
    }
}

/// What a caller must have for a route. Whether they may do what they ask for with *this* resource is the desk's to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Right {
    /// Nothing: it tells nothing that is not for everybody.
    Anyone,
    /// To be known, whatever for.
    Known,
    /// This scope.
    Scoped(Scope),
    /// This scope, and one of these roles.
    Role(Scope, &'static [Role]),
}

impl Right {
    const READ: Right = Right::Scoped(Scope::Read);
    const WRITE: Right = Right::Scoped(Scope::Write);
    const APPROVE: Right = Right::Scoped(Scope::Approve);
    const SECRETS: Right = Right::Scoped(Scope::Secrets);
    const TOKENS: Right = Right::Scoped(Scope::Tokens);
    /// Who reads the audit log.
    pub const AUDIT: Right = Right::Role(Scope::Read, &[Role::Admin, Role::Auditor]);
    /// Who changes the rules.
    pub const ADMIN: Right = Right::Role(Scope::Admin, &[Role::Admin]);
    /// Who lives by the snapshot.
    pub const SNAPSHOT: Right = Right::Role(Scope::Snapshot, &[Role::Proxy, Role::Admin]);
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Right::Anyone => f.write_str("For everybody."),
            Right::Known => f.write_str("For whoever is known."),
            Right::Scoped(scope) => write!(f, "Needs the scope `{}`.", scope.as_str()),
            Right::Role(scope, roles) => {
                let roles: Vec<_> = roles.iter().map(|role| format!("`{}`", role.as_str())).collect();
                write!(f, "Needs the scope `{}` and the role {}.", scope.as_str(), roles.join(" or "))
            }
        }
    }
}

/// One route.
#[derive(Clone)]
pub struct Route {
    /// The method.
    pub method: Method,
    /// The path, with its parameters in braces.
    pub path: String,
    /// What it needs.
    pub right: Right,
    /// How long its handler may take.
    pub time_max: Duration,
    /// The kind of resource that it is about, where it is about one.
    pub kind: Option<Kind>,
    pub(super) says: Says,
    pub(super) handler: MethodRouter<Api>,
}

/// A revision in quotes, as `ETag` has it; that of a policy may be 0.
const REVISION: &str = "^\"[1-9][0-9]{0,17}\"$";
const REVISION_OR_NONE: &str = "^\"[0-9]{1,18}\"$";
/// How long a handler may take that waits for nothing but the store.
const TIME_MAX: Duration = Duration::from_secs(30);
/// How long a proxy's poll may take: longer than it waits for news.
const POLL_TIME_MAX: Duration = Duration::from_secs(40);

impl Route {
    /// A row of the table; the summary is for people.
    pub fn new<H, T>(method: Method, path: &str, right: Right, handler: H, summary: &'static str) -> Route
    where
        H: Handler<T, Api>,
        T: 'static,
    {
        let filter = MethodFilter::try_from(method.clone()).expect("the table has methods that axum knows");
        let mut says = Says::default();
        says.summary(summary);
        let handler = on(filter, handler);
        Route { method, path: path.to_owned(), right, time_max: TIME_MAX, kind: None, says, handler }
    }

    /// A row about one kind.
    pub fn of(self, kind: Kind) -> Route {
        Route { kind: Some(kind), ..self }
    }

    /// A row whose handler waits for something to happen, for so long at most. What waits is bounded by its handler.
    pub fn waits(self, time_max: Duration) -> Route {
        Route { time_max, ..self }
    }

    /// Whether its handler waits for something to happen.
    pub(super) fn is_waiting(&self) -> bool {
        self.time_max > TIME_MAX
    }
}

/// The table.
pub fn table() -> Vec<Route> {
    let mut rows = vec![
        get("/health", Right::Anyone, health::health, "Whether the process answers").gives::<health::Health>(200),
        get("/ready", Right::Anyone, health::ready, "Whether the store answers and nobody stops this node")
            .gives::<health::Ready>(200),
        get("/metrics", Right::Anyone, health::metrics, "Metrics, for Prometheus").gives_text("text/plain"),
        get("/v1/openapi.json", Right::Anyone, openapi::read, "This description").gives_text("application/json"),
        get("/v1/me", Right::Known, tokens::me, "Who is asking, as they are known").gives::<tokens::Me>(200),
        get("/v1/tokens", Right::TOKENS, tokens::list, "Tokens: one's own, an admin all").lists::<tokens::TokenView>(),
        post("/v1/tokens", Right::TOKENS, tokens::create, "Make a token; it is shown this once")
            .takes::<tokens::NewToken>()
            .gives::<tokens::MadeToken>(201),
        delete("/v1/tokens/{name}", Right::TOKENS, tokens::delete, "Take a token away").gives_nothing(),
        get("/v1/requests", Right::READ, requests::list, "Requests, the newest first")
            .asks::<requests::ListParams>()
            .lists::<RequestView>(),
        post("/v1/requests", Right::WRITE, requests::create, "Ask for changes, all of them or none")
            .takes::<requests::NewRequest>()
            .wishes(),
        get("/v1/requests/{id}", Right::READ, requests::read, "A request and its steps").gives::<RequestView>(200),
        post("/v1/requests/{id}/approve", Right::APPROVE, requests::approve, "Agree to a request of somebody else")
            .may_take::<requests::Judgement>()
            .gives::<Request>(200),
        post("/v1/requests/{id}/deny", Right::APPROVE, requests::deny, "Say no to a request, or take one's own back")
            .may_take::<requests::Judgement>()
            .gives::<Request>(200),
        post(
            "/v1/requests/{id}/call_off",
            Right::WRITE,
            requests::call_off,
            "Keep the topics that a request deletes, while its quiet period lasts",
        )
        .may_take::<requests::Judgement>()
        .gives::<Request>(200),
        get("/v1/requests/{id}/events", Right::READ, events::follow, "A request as it goes on (server-sent events)")
            .gives_text("text/event-stream"),
        post("/v1/onboardings", Right::WRITE, onboardings::create, "Everything that an event needs, in one request")
            .takes::<onboardings::Onboarding>()
            .wishes(),
        post("/v1/explain", Right::READ, explain::explain, "What a topic would become, step by step, and its cost")
            .takes::<explain::Question>()
            .gives::<explain::Explanation>(200),
        get("/v1/budgets", Right::READ, findings::budgets, "What of each cluster is spoken for")
            .lists::<findings::Budget>(),
        get("/v1/findings", Right::READ, findings::list, "What is not as it should be, with evidence and a fix")
            .asks::<findings::ListParams>()
            .lists::<Finding>(),
        post("/v1/findings/{id}/accept", Right::WRITE, findings::accept, "Ask for what is there to be desired")
            .wishes(),
        post("/v1/findings/{id}/restore", Right::WRITE, findings::restore, "Ask for what is desired to be there again")
            .wishes(),
        get("/v1/brakes", Right::READ, brakes::list, "What is held back for now, by whom and why").lists::<Brake>(),
        get("/v1/search", Right::READ, resources::search, "Resources of every kind")
            .asks::<resources::ListParams>()
            .lists::<ResourceView>(),
        get("/v1/rules", Right::READ, rules::list, "What wishes are judged by, and good practice for each field")
            .asks::<rules::RuleParams>()
            .lists::<Rule>(),
        get("/v1/policy", Right::READ, policies::read, "The rules in force").gives::<Table>(200),
        put("/v1/policy", Right::ADMIN, policies::put, "Put other rules in force")
            .takes::<Table>()
            .asks::<policies::PutParams>()
            .says_header("if-match", "the revision that was read, in quotes", REVISION_OR_NONE)
            .gives::<Table>(200),
        post("/v1/policy:simulate", Right::READ, policies::simulate, "What would become of changes under other rules")
            .takes::<policies::Simulation>()
            .gives::<Request>(200),
        post("/v1/policy:replay", Right::AUDIT, policies::replay, "What other rules would have made of past requests")
            .takes::<policies::Replay>()
            .gives::<policies::Replayed>(200),
        get("/v1/audit", Right::AUDIT, audit::list, "The audit log, a page or all of it as JSON lines")
            .asks::<audit::ListParams>()
            .lists::<AuditLine>(),
        get("/v1/audit/verify", Right::AUDIT, audit::verify, "Whether the audit log is as it was written")
            .gives::<audit::Verified>(200),
        get(
            "/v1/snapshot",
            Right::SNAPSHOT,
            snapshot::wait_for_snapshot,
            "What a proxy lives by, as soon as it is another (long poll)",
        )
        .asks::<snapshot::Poll>()
        .gives_text("application/json")
        .waits(POLL_TIME_MAX),
        get("/v1/snapshot/keys", Right::Known, snapshot::show_keys, "The keys that snapshots are signed with")
            .gives::<snapshot::PublicKeys>(200),
        get("/v1/proxies", Right::READ, snapshot::show_proxies, "Which proxies there are, and which routes each has")
            .gives::<snapshot::Proxies>(200),
    ];
    rows.extend(Kind::ALL.into_iter().flat_map(collection));
    rows
}

/// The rows of one kind.
fn collection(kind: Kind) -> Vec<Route> {
    let path = format!("/v1/{}", kind.plural());
    let item = format!("{path}{}", if kind.is_on_cluster() { "/{cluster}/{name}" } else { "/{name}" });
    let mut rows = vec![
        get(&path, Right::READ, resources::list, "Resources of this kind, by name")
            .asks::<resources::ListParams>()
            .lists::<ResourceView>(),
        get(&item, Right::READ, resources::read, "One resource").gives::<ResourceView>(200),
        put(&item, Right::WRITE, resources::put, "Ask for a resource to be so").takes_spec(kind).conditional().wishes(),
        delete(&item, Right::WRITE, resources::delete, "Ask for a resource to go").conditional().wishes(),
    ];
    if kind == Kind::Service {
        let resources = format!("{item}/resources");
        rows.push(
            patch(&resources, Right::WRITE, services::change, "Ask for one change over what a service owns")
                .takes::<services::ServiceChange>()
                .wishes(),
        );
    }
    if kind == Kind::Topic {
        let diagnosis = format!("{item}/diagnosis");
        rows.push(
            get(&diagnosis, Right::READ, findings::diagnose, "Look at a topic now, and say what is wrong with it")
                .gives::<Diagnosis>(200),
        );
    }
    if kind == Kind::EventType {
        let brake = format!("{item}/brake");
        rows.extend([
            put(
                &brake,
                Right::WRITE,
                brakes::put,
                "Let less of an event type through for now: its owner, or an operator",
            )
            .takes::<brakes::NewBrake>()
            .gives::<Brake>(200),
            delete(&brake, Right::WRITE, brakes::lift, "Let through again what its owner lets through").gives_nothing(),
        ]);
    }
    if matches!(kind, Kind::User | Kind::Sender) {
        let (rotate, secret) = (format!("{item}/rotate"), format!("{item}/secret"));
        rows.extend([
            post(&rotate, Right::WRITE, resources::rotate, "Ask for a new password or key")
                .asks::<resources::RotateParams>()
                .conditional()
                .asked_once(),
            post(&secret, Right::SECRETS, secrets::reveal, "The password or key, once, to whoever asked for it")
                .gives::<secrets::Revealed>(200),
        ]);
    }
    rows.into_iter().map(|row| row.of(kind)).collect()
}

impl Route {
    /// Takes a body of this type.
    pub fn takes<T: ToSchema>(mut self) -> Route {
        self.says.body::<T>(true);
        self
    }

    /// Takes a body of this type, or none.
    pub fn may_take<T: ToSchema>(mut self) -> Route {
        self.says.body::<T>(false);
        self
    }

    /// Takes the spec of a kind.
    fn takes_spec(self, kind: Kind) -> Route {
        match kind {
            Kind::Service => self.takes::<ServiceSpec>(),
            Kind::Cluster => self.takes::<ClusterSpec>(),
            Kind::Topic => self.takes::<TopicSpec>(),
            Kind::User => self.takes::<UserSpec>(),
            Kind::Sender => self.takes::<SenderSpec>(),
            Kind::Group => self.takes::<GroupSpec>(),
            Kind::EventType => self.takes::<EventTypeSpec>(),
            Kind::Access => self.takes::<AccessSpec>(),
            Kind::Quota => self.takes::<QuotaSpec>(),
        }
    }

    /// Takes these parameters behind the `?`.
    pub fn asks<T: IntoParams>(mut self) -> Route {
        self.says.parameters::<T>();
        self
    }

    /// Answers with this type.
    pub fn gives<T: ToSchema>(mut self, status: u16) -> Route {
        self.says.reply::<T>(status);
        self
    }

    /// Answers with a page of these.
    pub fn lists<T: ToSchema>(mut self) -> Route {
        self.says.reply_page::<T>();
        self
    }

    /// Answers with text.
    pub fn gives_text(mut self, media_type: &'static str) -> Route {
        self.says.reply_text(media_type);
        self
    }

    /// Answers with nothing.
    pub fn gives_nothing(mut self) -> Route {
        self.says.reply_nothing();
        self
    }

    /// Looks at a header.
    pub fn says_header(mut self, name: &str, what: &str, pattern: &str) -> Route {
        self.says.header(name, what, pattern);
        self
    }

    /// Makes a request of what is asked for.
    fn wishes(self) -> Route {
        self.asks::<ChangeParams>().asked_once()
    }

    /// Makes a request, and the same with the same key.
    fn asked_once(self) -> Route {
        let key = "the caller's name of the request: a second one with the same key is the first one";
        self.says_header("idempotency-key", key, "^[!-~]{1,200}$").gives::<Request>(202).gives::<Request>(200)
    }

    /// May be told which revision it is about.
    fn conditional(self) -> Route {
        self.says_header("if-match", "the revision that was read, in quotes", REVISION).says_header(
            "if-none-match",
            "`*`: only if there is none yet",
            "^\\*$",
        )
    }
}

fn get<H: Handler<T, Api>, T: 'static>(path: &str, right: Right, handler: H, summary: &'static str) -> Route {
    Route::new(Method::GET, path, right, handler, summary)
}

fn post<H: Handler<T, Api>, T: 'static>(path: &str, right: Right, handler: H, summary: &'static str) -> Route {
    Route::new(Method::POST, path, right, handler, summary)
}

fn put<H: Handler<T, Api>, T: 'static>(path: &str, right: Right, handler: H, summary: &'static str) -> Route {
    Route::new(Method::PUT, path, right, handler, summary)
}

fn patch<H: Handler<T, Api>, T: 'static>(path: &str, right: Right, handler: H, summary: &'static str) -> Route {
    Route::new(Method::PATCH, path, right, handler, summary)
}

fn delete<H: Handler<T, Api>, T: 'static>(path: &str, right: Right, handler: H, summary: &'static str) -> Route {
    Route::new(Method::DELETE, path, right, handler, summary)
}
