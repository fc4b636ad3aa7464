use super::*;

fn facts(text: &str) -> Facts {
    serde_json::from_str(text).unwrap()
}

/// One change, the rule that decides on it (or `-`), and who must agree (or `auto`, `reject`).
fn check(text: &str, rule: &str, verdict: &str) {
    let decision = Table::default().decide(facts(text));
    assert_eq!(decision.rule.as_deref().unwrap_or("-"), rule, "{text}");
    let told = match &decision.verdict {
        Verdict::Auto => "auto".to_owned(),
        Verdict::Reject => "reject".to_owned(),
        Verdict::Review { by } => by.iter().map(|who| who.as_str()).collect::<Vec<_>>().join("+"),
    };
    assert_eq!(told, verdict, "{text}");
}

#[test]
fn what_is_wrong_or_too_much_is_refused_whatever_else_is_true() {
    check(r#"{"violations": 2, "kind": "user", "operation": "create", "own_service": true}"#, "invalid", "reject");
    check(r#"{"violations": 0, "over_budget": true, "kind": "topic", "operation": "create"}"#, "over-budget", "reject");
}

#[test]
fn nobody_gives_themselves_more_of_a_cluster() {
    check(
        r#"{"violations": 0, "kind": "service", "operation": "update", "own_service": true, "more_allowance": true}"#,
        "more-allowance",
        "operator",
    );
    check(r#"{"kind": "service", "operation": "update", "own_service": true}"#, "own-service", "auto");
}

#[test]
fn what_cannot_be_undone_is_reviewed_by_owner_and_operator() {
    for (facts, rule) in [
        (r#"{"kind": "topic", "operation": "delete", "own_service": true}"#, "delete"),
        (
            r#"{"kind": "topic", "operation": "update", "retention_cut": true, "own_service": true, "within_allowance": true, "partitions_factor": 1}"#,
            "retention-cut",
        ),
        (
            r#"{"kind": "quota", "operation": "update", "below_use": true, "own_service": true, "within_allowance": true}"#,
            "quota-below-use",
        ),
        (
            r#"{"kind": "topic", "operation": "update", "durability_change": true, "own_service": true}"#,
            "copies-or-cleanup",
        ),
        (
            r#"{"kind": "topic", "operation": "update", "keyed": true, "partitions_factor": 2, "own_service": true, "within_allowance": true}"#,
            "keyed-growth",
        ),
    ] {
        check(facts, rule, "owner+operator");
    }
}

#[test]
fn nobody_gets_what_they_did_not_agree_to_own() {
    check(
        r#"{"kind": "topic", "operation": "update", "gives_away": true, "own_service": false}"#,
        "hand-over",
        "new_owner",
    );
    check(r#"{"kind": "topic", "operation": "delete", "gives_away": true}"#, "delete", "owner+operator");
}

#[test]
fn what_is_safe_is_decided_at_once() {
    for (facts, rule) in [
        (r#"{"kind": "user", "operation": "create", "own_service": true}"#, "own-user"),
        (r#"{"kind": "sender", "operation": "rotate", "own_service": true}"#, "own-user"),
        (
            r#"{"kind": "topic", "operation": "create", "tier": "standard", "own_service": true, "within_allowance": true, "budget_share": 0.01, "over_partitions_max": false}"#,
            "small-topic",
        ),
        (
            r#"{"kind": "access", "operation": "create", "level": "consume", "topic_visibility": "open", "own_service": true, "own_topic": false, "pattern": "literal"}"#,
            "read-open",
        ),
        (
            r#"{"kind": "access", "operation": "create", "level": "produce", "own_service": true, "own_topic": true, "pattern": "literal"}"#,
            "own-topic",
        ),
        (
            r#"{"kind": "topic", "operation": "update", "own_service": true, "within_allowance": true, "partitions_factor": 2, "keyed": false, "over_partitions_max": false}"#,
            "growth",
        ),
        (r#"{"kind": "topic", "operation": "update", "own_service": true, "only_text": true, "keyed": true}"#, "label"),
    ] {
        check(facts, rule, "auto");
    }
}

#[test]
fn what_touches_others_is_theirs_to_decide() {
    let read = r#"{"kind": "access", "operation": "create", "level": "consume", "topic_visibility": "restricted", "own_service": true, "own_topic": false, "pattern": "literal"}"#;
    check(read, "others-topic", "topic_owner");
    let write = r#"{"kind": "access", "operation": "create", "level": "produce", "topic_visibility": "open", "own_service": true, "own_topic": false, "pattern": "literal"}"#;
    check(write, "others-topic", "topic_owner");
    let prefix = r#"{"kind": "access", "operation": "create", "level": "consume", "topic_visibility": "open", "own_service": true, "own_topic": true, "pattern": "prefix"}"#;
    check(prefix, "wide-access", "operator");
    check(
        r#"{"kind": "access", "operation": "create", "own_service": true, "own_topic": true, "first_acl_on_open_cluster": true}"#,
        "first-acl",
        "operator",
    );
    check(
        r#"{"kind": "topic", "operation": "create", "tier": "critical", "own_service": true, "within_allowance": true}"#,
        "strict-tier",
        "operator",
    );
    // Somebody else's service, or more than little: nobody said that this is safe.
    check(r#"{"kind": "user", "operation": "create", "own_service": false}"#, "-", "operator");
    check(
        r#"{"kind": "topic", "operation": "create", "tier": "standard", "own_service": true, "within_allowance": true, "budget_share": 0.02, "over_partitions_max": false}"#,
        "-",
        "operator",
    );
    check("{}", "-", "operator");
}

#[test]
fn the_strictest_decision_is_the_requests_and_all_who_must_agree_add_up() {
    let table = Table::default();
    let decide = |text: &str| table.decide(facts(text));
    let auto = decide(r#"{"kind": "user", "operation": "create", "own_service": true}"#);
    let owner = decide(r#"{"kind": "access", "operation": "create", "own_topic": false, "pattern": "literal"}"#);
    let both = decide(r#"{"kind": "topic", "operation": "delete"}"#);
    let no = decide(r#"{"violations": 1}"#);
    assert_eq!(combine([&auto]), Verdict::Auto);
    let all = [Approver::Owner, Approver::TopicOwner, Approver::Operator];
    assert_eq!(combine([&both, &auto, &owner]), Verdict::Review { by: BTreeSet::from(all) });
    assert_eq!(combine([&no, &auto, &both]), Verdict::Reject);
    assert_eq!(combine([]), Verdict::Auto);
}

#[test]
fn a_table_that_cannot_be_meant_so_is_refused_with_its_rule() {
    let refused = |text: &str| {
        let known = BTreeSet::from(["kind"]);
        Table::parse(text, Some(&known)).unwrap_err().to_string()
    };
    let rule = |id: &str, rest: &str| format!("[[rule]]\nid = {id:?}\nreason = \"\"\n{rest}\n");
    assert_eq!(
        refused(&rule("a", "verdict = \"auto\"\nwhen = [{ fact = \"kidn\", is = \"topic\" }]")),
        "rule `a`: no fact is named `kidn`; there are kind"
    );
    let twice = rule("a", "verdict = \"reject\"\nwhen = [{ fact = \"kind\", is = \"topic\" }]").repeat(2);
    assert_eq!(refused(&twice), "two rules are named `a`");
    let dead = rule("all", "verdict = \"reject\"") + &rule("b", "verdict = \"auto\"");
    assert_eq!(refused(&dead), "rule `b` can never match: `all` above it always does");
    assert_eq!(
        refused(&rule("a", "verdict = \"review\"\nby = []")),
        "rule `a`: a review needs somebody who reviews, `by` is empty"
    );
    assert!(refused(&rule("a", "verdict = \"maybe\"")).starts_with("the policy cannot be read:"));
}

#[test]
fn the_same_facts_and_table_give_the_same_decision() {
    let (one, other) = (Table::default(), Table::default());
    let text = r#"{"kind": "topic", "operation": "create", "tier": "standard", "own_service": true}"#;
    assert_eq!(one.decide(facts(text)), other.decide(facts(text)));
}

#[test]
fn the_default_rules_ask_for_facts_that_there_are() {
    let known = FACTS.iter().map(|(name, _)| *name).collect();
    Table::default().check(Some(&known)).unwrap();
    assert_eq!(known.len(), FACTS.len(), "each is there once");
}

#[test]
fn a_handover_is_no_way_around_what_asks_for_a_person() {
    check(r#"{"kind": "topic", "operation": "update", "own_service": true, "handover": true}"#, "handover", "auto");
    let cut =
        r#"{"kind": "topic", "operation": "update", "own_service": true, "handover": true, "retention_cut": true}"#;
    check(cut, "retention-cut", "owner+operator");
}
