//! Cerbos: what an entry says is in a column or in `extra`, whatever its release.

use crate::seen::{Collected, Seen, decode};
use catena_decode::Format;

/// One line for each event: outcome, requester, actors and how they are known, tool; then what else there is.
fn told(seen: &Collected) -> String {
    let event = |e: &Seen| {
        let mut line = format!("{} {}>{}({})>{}", e.outcome, e.requester, e.actors.join(","), e.actors_source, e.tool);
        let lists = [("reasons", &e.reasons), ("resources", &e.resources), ("flags", &e.flags)];
        let lists = lists.map(|(name, list)| (name, list.join(",")));
        let texts = [("request", &e.request), ("version", &e.version), ("params", &e.params), ("extra", &e.extra)];
        for (name, text) in lists.into_iter().chain(texts.map(|(name, text)| (name, text.clone()))) {
            if !text.is_empty() {
                line += &format!(" {name}={text}");
            }
        }
        line
    };
    let refused = |kind: &'static str| {
        move |r: &catena_schemas::rows::Rejection| format!("{kind} {} {}", r.reason, r.detail).trim_end().to_owned()
    };
    let lines = seen.events.iter().map(event);
    let lines = lines.chain(seen.rejections.iter().map(refused("reject")));
    lines.chain(seen.asides.iter().map(refused("aside"))).collect::<Vec<_>>().join("\n")
}

/// An entry with these members besides call and time.
fn check(members: &str, expected: &str) {
    let record = format!(r#"{{"callId":"c1","timestamp":"2026-11-21T00:19:07Z",{members}}}"#);
    assert_eq!(told(&decode(Format::Cerbos, record.as_bytes())), expected, "{record}");
}

/// Both actions of one input answered, with what rules put out.
fn with_outputs(actions: &str, answers: &str, outputs: &str) -> String {
    format!(
        r#""checkResources":{{"inputs":[{{"principal":{{"id":"a"}},"resource":{{"kind":"t"}},"actions":{actions}}}],"outputs":[{{"actions":{answers},"outputs":{outputs}}}]}}"#
    )
}

#[test]
fn outputs_without_an_action_stay() {
    let two = |outputs: &str| {
        with_outputs(r#"["x","y"]"#, r#"{"x":{"effect":"EFFECT_ALLOW"},"y":{"effect":"EFFECT_DENY"}}"#, outputs)
    };
    let one = |outputs: &str| with_outputs(r#"["y"]"#, r#"{"y":{"effect":"EFFECT_DENY"}}"#, outputs);
    // Alone, it is the action's.
    check(&one(r#"[{"src":"r#1","val":{"reason":"late"}}]"#), "deny >a(declared)>t reasons=late");
    // Of two, nobody knows whose it is: both keep it, and neither has it as its reason.
    let nobodys = r#"{"src":"r#1","val":{"reason":"late"}}"#;
    let kept = format!(r#"extra={{"output":{{"outputs":[{nobodys}]}}}}"#);
    check(&two(&format!("[{nobodys}]")), &format!("allow >a(declared)>t {kept}\ndeny >a(declared)>t {kept}"));
    // What has the name of an action is told with it, and with no other.
    let named = r#"{"src":"r#2","action":"y","val":"no"}"#;
    check(
        &two(&format!("[{named},{nobodys}]")),
        &format!("allow >a(declared)>t {kept}\ndeny >a(declared)>t reasons=no {kept}"),
    );
    check(&two(&format!("[{named}]")), "allow >a(declared)>t\ndeny >a(declared)>t reasons=no");
    // Nobody asked about this one.
    let other = r#"{"action":"z","val":"no"}"#;
    check(&one(&format!("[{other}]")), &format!(r#"deny >a(declared)>t extra={{"output":{{"outputs":[{other}]}}}}"#));
    // A rule that failed says so where it would have put something out.
    check(
        &one(r#"[{"action":"y","error":"no such key","src":"r#1"}]"#),
        r#"deny >a(declared)>t extra={"output":{"outputs":[{"error":"no such key"}]}}"#,
    );
    check(&one(r#"["odd"]"#), r#"deny >a(declared)>t extra={"output":{"outputs":["odd"]}}"#);
}

#[test]
fn what_an_answer_says_besides_its_effect_stays() {
    let answers = r#"{"x":{"effect":"EFFECT_ALLOW","policy":"p","scope":"acme.eu"},"y":{"effect":"EFFECT_DENY","policy":"p"},"z":{"effect":"EFFECT_MAYBE"}}"#;
    check(
        &with_outputs(r#"["x","y","z"]"#, answers, "[]"),
        r#"allow >a(declared)>t extra={"output":{"actions":{"x":{"scope":"acme.eu"}}}}
deny >a(declared)>t
unknown >a(declared)>t reasons=effect_unknown flags=invalid:decision.verdict extra={"output":{"actions":{"z":{"effect":"EFFECT_MAYBE"}}}}"#,
    );
    // An answer that is no object says something, whatever it is.
    check(
        &with_outputs(r#"["x"]"#, r#"{"x":"EFFECT_ALLOW"}"#, "[]"),
        r#"unknown >a(declared)>t reasons=effect_missing extra={"output":{"actions":{"x":"EFFECT_ALLOW"}}}"#,
    );
}

/// One input of principal `a` with this member, allowed.
fn with_aux(aux: &str) -> String {
    format!(
        r#""checkResources":{{"inputs":[{{"principal":{{"id":"a"}},"resource":{{"kind":"t"}},"actions":["x"],"auxData":{aux}}}],"outputs":[{{"actions":{{"x":{{"effect":"EFFECT_ALLOW"}}}}}}]}}"#
    )
}

#[test]
fn one_token_of_several_is_used_whatever_their_order() {
    let extra = |left: &str| format!(r#" extra={{"input":{{"auxData":{{"jwts":{left}}}}}}}"#);
    let (plain, other) = (r#""b":{"claims":{"sub":"u"}}"#, r#""c":{"claims":{"sub":"w"}}"#);
    let left = extra(r#"{"c":{"claims":{"sub":"w"}}}"#);
    for order in [[plain, other], [other, plain]] {
        let jwts = order.join(",");
        check(&with_aux(&format!(r#"{{"jwts":{{{jwts}}}}}"#)), &format!("allow u>a(declared)>t{left}"));
    }
    // One that says who acts says more than one that does not.
    let acting = r#""d":{"claims":{"sub":"v","act":{"sub":"a","act":{"sub":"root"}}}}"#;
    let left = extra(&format!("{{{plain}}}"));
    for order in [[plain, acting], [acting, plain]] {
        let jwts = order.join(",");
        check(&with_aux(&format!(r#"{{"jwts":{{{jwts}}}}}"#)), &format!("allow v>root,a(act_claim)>t{left}"));
    }
    check(&with_aux(r#"{"jwts":{}}"#), "allow >a(declared)>t");
}

/// A mapping of one's own that follows `*` is no more at the mercy of the order than those that ship.
#[test]
fn any_member_is_the_first_by_name() {
    let own = "format = 'cerbos'\n[fields]\nrequester.id = '/input/auxData/jwts/*/claims/sub'";
    let mappings = catena_decode::mapping::Mappings::shipped().with(own, "own").expect("it is well written");
    let redactor = std::sync::Arc::new(catena_decode::Redactor::new(crate::seen::KEY));
    let mut decoder = catena_decode::Decoder::with_mappings(redactor, std::sync::Arc::new(mappings));
    let (one, other) = (r#""b":{"claims":{"sub":"u"}}"#, r#""c":{"claims":{"sub":"w"}}"#);
    for jwts in [[one, other].join(","), [other, one].join(",")] {
        let members = with_aux(&format!(r#"{{"jwts":{{{jwts}}}}}"#));
        let mut seen = Collected::default();
        decoder.record(
            Format::Cerbos,
            format!(r#"{{"callId":"c1",{members}}}"#).as_bytes(),
            &crate::seen::context(),
            &mut seen,
        );
        assert_eq!(seen.events[0].requester, "u", "{jwts}");
    }
}

#[test]
fn a_principal_for_whom_the_token_says_somebody_acts_is_the_human() {
    let entry = |principal: &str, claims: &str| {
        format!(
            r#""checkResources":{{"inputs":[{{"principal":{principal},"resource":{{"kind":"t"}},"actions":["x"],"auxData":{{"jwt":{claims}}}}}],"outputs":[{{"actions":{{"x":{{"effect":"EFFECT_ALLOW"}}}}}}]}}"#
        )
    };
    let dana = r#"{"id":"dana"}"#;
    let act = r#"{"sub":"dana","act":{"sub":"agent:claude-code"}}"#;
    check(&entry(dana, act), "allow dana>agent:claude-code(act_claim)>t");
    let deep = r#"{"sub":"dana","act":{"sub":"b","act":{"sub":"a"}}}"#;
    check(&entry(dana, deep), "allow dana>a,b(act_claim)>t");
    // The name that the caller gives the agent is beside the verified one, and is nobody's contradiction.
    check(
        &entry(r#"{"id":"dana","attr":{"agent":"claude-code"}}"#, act),
        r#"allow dana>agent:claude-code(act_claim)>t extra={"input":{"principal":{"attr":{"agent":"claude-code"}}}}"#,
    );
    // Where the token does not say who acts, the caller does.
    check(
        &entry(r#"{"id":"dana","attr":{"agent":"claude-code"}}"#, r#"{"sub":"dana"}"#),
        "allow dana>claude-code(declared)>t",
    );
    // An agent with a token of its own, and one that somebody is named behind.
    check(&entry(r#"{"id":"a"}"#, r#"{"sub":"a"}"#), "allow a>a(declared)>t");
    check(
        &entry(r#"{"id":"a","attr":{"on_behalf_of":"dana"}}"#, r#"{"sub":"a","act":{"sub":"a"}}"#),
        "allow dana>a(act_claim)>t",
    );
    // The principal is neither the subject nor who acts for it: the claim is about others.
    check(
        &entry(r#"{"id":"a"}"#, r#"{"sub":"dana","act":{"sub":"b"}}"#),
        r#"allow dana>a(declared)>t flags=actors_contradicted extra={"input":{"auxData":{"jwt":{"act":{"sub":"b"}}}}}"#,
    );
}

/// Attributes as they are, and as older releases wrote them.
#[test]
fn attributes_in_texts_are_read_as_what_they_hold() {
    let entry = |principal: &str, resource: &str| {
        format!(
            r#""checkResources":{{"inputs":[{{"principal":{{"id":"ag","attr":{principal}}},"resource":{{"kind":"t","attr":{resource}}},"actions":["x"]}}],"outputs":[{{"actions":{{"x":{{"effect":"EFFECT_ALLOW"}}}}}}]}}"#
        )
    };
    let new = entry(
        r#"{"on_behalf_of":"a<b","chain":["root","ag"],"roles":["r1","r2"],"level":3,"note":"[not JSON"}"#,
        r#"{"args":{"n":9007199254740993,"q":"\"x\""},"server":"s","odd":[{}]}"#,
    );
    let old = entry(
        r#"{"on_behalf_of":"\"a\\u003cb\"","chain":"[\"root\",\"ag\"]","roles":"[\"r1\",\"r2\"]","level":3,"note":"[not JSON"}"#,
        r#"{"args":"{\"n\":9007199254740993,\"q\":\"\\\"x\\\"\"}","server":"\"s\"","odd":"[{}]"}"#,
    );
    let expected = r#"allow a<b>root,ag(declared)>t params={"n":9007199254740993,"q":"\"x\""} extra={"input":{"principal":{"attr":{"level":3,"note":"[not JSON"}}}}"#;
    check(&new, expected);
    check(&old, expected);
    let whole = |members: &str| decode(Format::Auto, format!(r#"{{"callId":"c",{members}}}"#).as_bytes()).events;
    assert_eq!(whole(&old), whole(&new));
    // Too deep where it stands, it stays the text that it is.
    let deep = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    let seen = decode(
        Format::Cerbos,
        format!(r#"{{"callId":"c",{}}}"#, entry("{}", &format!(r#"{{"d":"{deep}"}}"#))).as_bytes(),
    );
    assert!(seen.events[0].extra.contains(&format!(r#""d":"{deep}""#)), "{}", told(&seen));
}

#[test]
fn a_chain_of_another_shape_stays() {
    for chain in [r#""root>ag""#, r#"{"0":"root"}"#, r#"[{"id":"root"},"ag"]"#, "7"] {
        let principal = format!(r#"{{"id":"ag","attr":{{"chain":{chain}}}}}"#);
        let answers = r#"{"actions":{"x":{"effect":"EFFECT_ALLOW"}}}"#;
        check(
            &format!(
                r#""checkResources":{{"inputs":[{{"principal":{principal},"resource":{{"kind":"k"}},"actions":["x"]}}],"outputs":[{answers}]}}"#
            ),
            &format!(
                r#"allow >ag(declared)>k flags=invalid:actors.list extra={{"input":{{"principal":{{"attr":{{"chain":{chain}}}}}}}}}"#
            ),
        );
    }
}

#[test]
fn what_is_left_out_is_empty() {
    let asked = |inputs: &str| format!(r#""checkResources":{{"inputs":[{inputs}]}}"#);
    check(r#""checkResources":{}"#, "aside actions_none c1");
    check(&asked(r#"{"principal":{"id":"a"}}"#), "aside actions_none c1");
    check(&asked(r#"{"principal":{"id":"a"},"actions":[]}"#), "aside actions_none c1");
    check(r#""checkResources":{"inputs":[{}],"outputs":[{"actions":{}}]}"#, "aside actions_none c1");
    check(r#""log.kind":"decision""#, "aside actions_none c1");
    // Empty is one thing, unreadable another.
    let unreadable = "reject decisions_missing the entry holds no action that can be read";
    check(&asked("7"), unreadable);
    check(&asked(r#"{"actions":"x"}"#), unreadable);
    check(&asked(r#"{"actions":[7]}"#), unreadable);
    check(r#""checkResources":{"inputs":7}"#, unreadable);
    let unknown =
        "reject entry_unknown the record is neither a decision nor an access entry nor a line of the server's log";
    check(r#""log.kind":"decision","checkResources":7"#, unknown);
    check(r#""peer":{}"#, unknown);
}

#[test]
fn an_error_alone_is_an_error() {
    let boom = r#"error >()> reasons=check_error extra={"error":"boom"}"#;
    check(r#""log.kind":"decision","error":"boom""#, boom);
    check(r#""checkResources":{},"error":"boom""#, boom);
    check(r#""checkResources":{"error":"boom"}"#, boom);
}

#[test]
fn an_entry_that_was_too_big_is_counted() {
    check(r#""log.kind":"decision","oversized":true"#, "reject entry_oversized call `c1`");
    check(r#""checkResources":{},"oversized":true"#, "reject entry_oversized call `c1`");
    check(
        r#""method":"/cerbos.svc.v1/CheckResources","oversized":true"#,
        "aside access_entry /cerbos.svc.v1/CheckResources answered 0",
    );
    let seen = decode(Format::Auto, br#"{"callId":"c","timestamp":"2026-11-21T00:19:07Z","oversized":true}"#);
    assert_eq!(told(&seen), "reject entry_oversized call `c`");
}

#[test]
fn answers_without_their_questions_say_what_they_are_about() {
    let answer = r#"{"requestId":"rq","resourceId":"d","actions":{"x":{"effect":"EFFECT_DENY"}}}"#;
    check(
        &format!(r#""oversized":true,"checkResources":{{"outputs":[{answer}]}}"#),
        r#"deny >()> resources=d request=rq extra={"oversized":true}"#,
    );
    let with = |input: &str| format!(r#""checkResources":{{"inputs":[{input}],"outputs":[{answer}]}}"#);
    check(
        &with(r#"{"requestId":"rq","resource":{"kind":"mcp_tool","id":"d"},"actions":["x"]}"#),
        r#"deny >()>d request=rq extra={"input":{"resource":{"kind":"mcp_tool"}}}"#,
    );
    // Ids that differ are kept, both.
    check(
        &with(r#"{"requestId":"r2","resource":{"kind":"doc","id":"e"},"actions":["x"]}"#),
        r#"deny >()>doc resources=e request=r2 extra={"output":{"requestId":"rq","resourceId":"d"}}"#,
    );
}

#[test]
fn the_hash_or_the_bundle_is_the_version() {
    let source = |of: &str| {
        format!(r#""policySource":{of},{}"#, with_outputs(r#"["x"]"#, r#"{"x":{"effect":"EFFECT_DENY"}}"#, "[]"))
    };
    for (of, version) in [
        (r#"{"git":{"hash":"9f3c"}}"#, "9f3c"),
        (r#"{"hub":{"bundleId":"B1"}}"#, "B1"),
        (r#"{"hub":{"remoteBundle":{"bundleId":"B1"}}}"#, "B1"),
    ] {
        let expected = format!(r#"deny >a(declared)>t version={version} extra={{"policySource":{of}}}"#);
        check(&source(of), &expected);
    }
}
