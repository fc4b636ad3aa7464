//! The rules that every wish is judged by, each with what is good practice where it applies.
//!
//! In: nothing. Out: the one table that the validator takes its rules from, that `GET /v1/rules`, `iguazu ctl rules` and
//! `deploy/docs/rules.md` show. Never: a decision; what is right by these rules is decided on by those of the policy.

use serde::Serialize;

/// A rule. Its id is what a violation names; ids never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
// The policy has rules, too, and both are in one description of the API.
#[schema(as = ValidationRule)]
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// Fields that it is about, as `KIND.FIELD`; `KIND` alone is the whole resource, `*` every kind.
    pub about: &'static [&'static str],
    /// What it asks for.
    pub asks: &'static str,
    /// What to do, before anything is wrong.
    pub practice: &'static str,
}

impl Rule {
    /// Whether it is about a field, its parts, or what the field is a part of.
    pub fn is_about(&self, field: &str) -> bool {
        let kind = field.split('.').next().unwrap_or_default();
        let is_part = |whole: &str, part: &str| {
            part.strip_prefix(whole).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.about.iter().any(|about| match about.strip_prefix("*") {
            Some(rest) => rest.is_empty() || is_part(&format!("{kind}{rest}"), field),
            None => is_part(about, field) || is_part(field, about),
        })
    }
}

macro_rules! rules {
    ($($name:ident: $id:literal, [$($about:literal),+], $asks:literal, $practice:literal;)+) => {
        $(pub(crate) const $name: Rule = Rule { id: $id, about: &[$($about),+], asks: $asks, practice: $practice };)+

        /// Every rule, in the order of their ids.
        pub const RULES: &[Rule] = &[$($name),+];
    };
}

rules! {
    BUSY: "busy", ["*"],
        "nothing else is being done to the resource",
        "ask for what belongs together in one request: it has one plan, one decision and one order";
    CAPACITY: "capacity", ["topic.capacity", "topic.tier"],
        "numbers that a topic can be made for",
        "declare the average of compressed bytes in the busiest week, the retention that consumers need to catch up after a weekend, and \
         how many consumers read side by side; partitions, segments and disk follow, and `iguazu ctl explain` shows how";
    ELSEWHERE: "elsewhere", ["event_type.settings"],
        "what has a field of its own is said there and not among the settings",
        "say cluster, topic, subject and service in their fields, and only what else a proxy's `[events.NAME]` takes under `settings`";
    EVENT_TYPE: "event-type", ["event_type.settings", "event_type"],
        "what a proxy would take as `[events.NAME]`",
        "begin with the defaults: CloudEvents headers, `reply = \"enqueued\"`, a key only where order matters";
    IN_USE: "in-use", ["topic", "service", "cluster"],
        "nothing needs it any more when it goes",
        "delete a service's resources in one request (`iguazu ctl service decommission`): what needs others goes first";
    MALFORMED: "malformed", ["*"],
        "a document that can be read",
        "take the names and types of fields from /v1/openapi.json, or begin with what `iguazu ctl export` writes";
    MANAGED_ELSEWHERE: "managed-elsewhere", ["*"],
        "a change from the side that manages the resource",
        "manage a service's resources either by files of one repository or by hand, not by both";
    NAME: "name", ["*"],
        "a name that Kafka, metrics and files can have",
        "name topics and events `service.thing.what_happened`, in lower case, and put no version or environment into the name";
    NEEDS_ROTATION: "needs-rotation", ["user.mechanism"],
        "a new password with a new mechanism",
        "choose SCRAM-SHA-512 at the start";
    NO_LIMIT: "no-limit", ["topic.expert.configs.retention.bytes"],
        "a limit on what a partition keeps",
        "leave retention to the capacity: what is declared is reserved, and a topic without a limit fills the disk of all";
    NO_PREFIX: "no-prefix", ["access.pattern"],
        "publishing that is granted by event type",
        "grant each event type by its name; prefixes are for topics that Kafka's own clients read";
    NO_RECOPYING: "no-recopying", ["topic.tier"],
        "the number of copies that the topic has",
        "choose `standard` for events that can be lost with a broker's disk, `critical` for what must survive any one broker, at the start";
    NO_SHRINKING: "no-shrinking", ["topic.capacity"],
        "no fewer partitions than there are",
        "begin small: a topic grows in seconds, and never shrinks but by a new topic";
    NO_WAY_BACK: "no-way-back", ["user.generation", "sender.generation"],
        "a generation that is greater than before",
        "rotate with `iguazu ctl rotate`: the old secret goes on working until the overlap is over";
    NOT_AN_EXPERT: "not-an-expert", ["topic.expert"],
        "the role `expert` for settings of Kafka's own",
        "say what the topic is for; what the resolver cannot express is worth telling those who keep it";
    NOT_BY_KAFKA: "not-by-kafka", ["quota.events_per_second"],
        "a limit in bytes where Kafka itself limits",
        "limit the event type where events are counted, the user where bytes are";
    NOT_BY_PROXY: "not-by-proxy", ["quota.consume_bytes_per_second"],
        "a limit on reading for a user of Kafka",
        "limit the user that reads";
    NOT_YOURS: "not-yours", ["*", "access.principal", "event_type.settings.dead_letter", "quota.user", "quota.event_type"],
        "that it belongs to a service of the caller's groups",
        "let the service that owns a topic grant access to it; ask for it with `iguazu ctl create access`, and its owner is asked";
    OBSERVED_CLUSTER: "observed-cluster", ["*"],
        "a cluster that may be written to",
        "register a cluster as `observe` first, look at what is found, and change its mode when nothing surprises";
    RANGE: "range", ["topic.quiet_hours", "cluster.quiet_hours", "service.quiet_hours"],
        "a number in its range",
        "keep a quiet period of at least a weekend: a deletion can be called off in it";
    REQUIRED: "required", ["service.group", "topic.expert.reason", "quota"],
        "what cannot be left out",
        "name the team's group of the identity provider, not a person: people leave";
    SERVICE_GOES: "service-goes", ["*.service"],
        "a service that stays",
        "hand its resources over before a service is deleted (`iguazu ctl service hand-over`)";
    SHARE: "share", ["sender.sample", "event_type.sample"],
        "a share between nothing and all",
        "use `sample` for seconds of an incident, and `disabled` to let nothing through";
    STALE: "stale", ["*"],
        "a change of what is there now",
        "send `If-Match` with the ETag that was read, so that nobody's change is lost";
    TWICE: "twice", ["*"],
        "one change of a resource in a request",
        "put everything that is to change of a resource into one change";
    UNKNOWN: "unknown", ["*", "quota.user", "quota.event_type"],
        "a resource that is there",
        "create what others need in the same request: it is made first";
    UNKNOWN_CLUSTER: "unknown-cluster", ["*"],
        "a cluster that is registered",
        "look at `iguazu ctl list clusters`: environment, mode and room are there";
    UNKNOWN_PRINCIPAL: "unknown-principal", ["access.principal"],
        "a user or sender that is there",
        "create it in the same request";
    UNKNOWN_SERVICE: "unknown-service", ["*.service"],
        "a service that is there",
        "create the service first: it names the group that owns everything of it";
    UNKNOWN_SINK: "unknown-sink", ["user.sink"],
        "a sink of the plane's configuration",
        "let passwords go straight into the vault that the service reads: nobody sees them";
    UNKNOWN_TARGET: "unknown-target", ["access.target"],
        "a topic, event type or group prefix that is there",
        "grant by prefix only within a service's own names";
    UNKNOWN_TOPIC: "unknown-topic", ["event_type.topic", "event_type.settings.dead_letter"],
        "a topic that is there",
        "onboard an event in one call (`iguazu ctl onboard`): its topic, event type and sender are made together";
    UNMANAGED_KIND: "unmanaged-kind", ["*"],
        "a kind that this plane manages",
        "look at /v1/clusters for what is supported where";
    UNSUPPORTED: "unsupported", ["*"],
        "a kind that the cluster supports",
        "look at the cluster: each kind that it does not support is there with the reason";
    ZERO: "zero", ["sender.events_per_second", "sender.bytes_per_second", "quota"],
        "a limit that lets something through",
        "limit to twice the usual peak: a limit is for what went wrong, not for every day";
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The page of the documentation.
    fn page() -> String {
        let mut page = "# Rules\n\nWhat wishes are judged by: a violation names its rule. Beside each is what to do before anything is wrong. Whether a wish that \
                        breaks none\nof them is granted at once, or by whom, is the [policy's](self-serve.md) to say. `iguazu ctl rules topic.capacity` \
                        shows those about a field,\n`GET /v1/rules` says them to programs. This page is made from the table that the validator uses.\n\n\
                        | rule | about | asks for | good practice |\n|---|---|---|---|\n"
            .to_owned();
        for Rule { id, about, asks, practice } in RULES {
            let about: Vec<_> = about.iter().map(|field| format!("`{field}`")).collect();
            page += &format!("| `{id}` | {} | {asks} | {practice} |\n", about.join(", "));
        }
        page
    }

    #[test]
    fn the_page_of_the_documentation_is_this_table() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let written = std::fs::read_to_string(root.join("deploy/docs/rules.md")).unwrap_or_default();
        if written != page() {
            let made = root.join("target/docs/rules.md");
            std::fs::create_dir_all(made.parent().unwrap()).unwrap();
            std::fs::write(made, page()).unwrap();
            panic!("deploy/docs/rules.md is not what the code says; run\n  cp target/docs/rules.md deploy/docs/");
        }
    }

    #[test]
    fn ids_are_in_order_and_each_is_there_once() {
        assert!(RULES.is_sorted_by(|one, next| one.id < next.id), "{RULES:#?}");
    }

    #[test]
    fn a_rule_is_found_by_the_field_it_is_about() {
        let about =
            |field: &str| RULES.iter().filter(|rule| rule.is_about(field)).map(|rule| rule.id).collect::<Vec<_>>();
        assert!(about("topic.capacity.mb_per_second").contains(&"no-shrinking"));
        assert!(about("topic").contains(&"no-recopying") && about("topic.tier").contains(&"no-recopying"));
        assert!(!about("user.sink").contains(&"capacity"));
        assert!(about("user.service").contains(&"unknown-service") && !about("user.sink").contains(&"unknown-service"));
        assert!(about("topic").contains(&"busy"), "what is about everything");
    }
}
