//! agentgateway: its access log, as lines of JSON and as OTLP records of the scope `agentgateway.access`, flattened.
//!
//! Guarantees: no line says its verdict, so each is worked out from `reason`, which names the stage of the gateway that answered, and
//! is marked `inferred` unless that stage decides about access and nothing else. A tool that was denied is answered like one
//! that does not exist; it is told apart by having been resolved to its server before. A line without `reason` was answered by
//! the server behind, whatever the answer was: the gateway had let it through. What was forwarded under a method that is known to use
//! nothing or without a sign of MCP, requests to a model that were not refused for access, and other lines of the log are asides;
//! another method, and a sign of a call without a method, are refused with the bytes. The mapping says where the method stands. `time` in lines is read with its fault: see [`instant`].

use super::mapped::{Extra, Filling, VERDICT_UNREAD, removed};
use super::signs;
use crate::claims::numeric_date;
use crate::json::{Kind, Value};
use crate::mapping::removed::{Gone, is_mask};
use crate::mapping::{Mappings, Roots, Slot};
use crate::redact::{Redactor, Taken};
use crate::{Context, Decoded, Format};
use catena_schemas::Micros;
use catena_schemas::event::{Basis, Enforced, Event, Outcome, Phase};
use std::borrow::Cow;

/// Scope of its access log in OTLP.
pub(crate) const SCOPE: &str = "agentgateway.access";

/// Whether an object is a line of its access log.
pub(crate) fn is_line(root: Value<'_>) -> bool {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str());
    text("scope") == Some("request")
        && ["gateway", "listener", "route", "http.status"].iter().any(|k| root.get(k).is_some())
}

/// Whether an object is some other line of its log: those name the part of the program that wrote them.
pub(crate) fn is_of_server(root: Value<'_>) -> bool {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str());
    let of_gateway = text("scope").is_some_and(|s| s.starts_with("agentgateway") || s.starts_with("agent_"));
    of_gateway && text("level").is_some() && text("time").is_some()
}

/// Reads one line or flattened record.
pub(crate) fn decode<'t>(
    root: Value<'t>,
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Decoded<'t> {
    if root.kind() != Kind::Object {
        return Decoded::Rejection("not_an_object", format!("the record is {}", root.kind().as_str()));
    }
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    let exported = root.get("otlp.signal").is_some();
    if !exported && !is_line(root) {
        return match (text("scope").or(text("message")), signs::sign(root, &[])) {
            (Some(_), Some(sign)) => Decoded::Rejection("entry_unknown", sign),
            (Some(what), None) => Decoded::Aside("server_log", what.to_owned()),
            (None, _) => Decoded::Rejection("entry_unknown", "the record is no line of the gateway's log".into()),
        };
    }
    let roots = Roots::record(root);
    let Some(mapping) = mappings.choose(Format::Agentgateway, &roots) else {
        return Decoded::Rejection("mapping_missing", "no mapping's conditions hold".into());
    };
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut fill = Filling { mapping, roots, redactor, dirty, taken, flags: Vec::new(), absent: None, quoted: false };
    let method = fill.peek(Slot::Method);
    let is_call = method.is_some_and(signs::is_call);
    let verdict = verdict(&mut fill, root);
    if let Some(other) = other(root, &verdict, method) {
        return other;
    }
    let mut e = Event::default();
    let given = root.get("time").filter(|_| !exported);
    if let Some(time) = given.and_then(|v| v.as_str()).and_then(instant) {
        e.time = time;
        given.into_iter().for_each(|v| fill.taken.insert(v));
        fill.skew(e.time, context);
    } else if let Err((reason, detail)) = fill.time(&mut e, given, context) {
        return Decoded::Rejection(reason, detail);
    }
    e.source.kind = Some(Cow::Borrowed("agentgateway"));
    e.source.decision_count = 1;
    let d = &mut e.decision;
    d.outcome = verdict.outcome;
    d.basis = Some(verdict.basis);
    d.enforced = Some(verdict.enforced);
    d.policy_engine = verdict.engine.map(Cow::Borrowed);
    d.phase = match method {
        Some(_) if is_call => Some(Phase::Invoke),
        Some(m) if m.ends_with("/list") => Some(Phase::List),
        _ => None,
    };
    if let Some(gone) = verdict.gone {
        removed(d, gone);
    }
    d.reasons.extend(verdict.disguised.then_some(Cow::Borrowed("unknown_tool_disguise")));
    if let Some(v) = root.get("reason")
        && let Some(reason) = v.as_str()
    {
        d.reasons.push(fill.clean(reason));
        fill.taken.insert(v);
    }
    token(root, &mut fill, &mut e);
    e.id = id(root, &e, &fill);
    fill.apply(&mut e);
    fill.drop();
    fill.finish(&mut e, context);
    let mut extra = Extra::new(redactor, dirty, fill.taken);
    extra.members(root);
    e.extra = extra.finish();
    Decoded::Event(Box::new(e))
}

/// Claims of the token, which stand apart from one another. Set first: that the requester is the subject of a token that the
/// gateway has validated is what makes its id a verified one.
fn token<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    for (keys, slot) in [
        (["jwt.sub"].as_slice(), &mut e.token.subject),
        (&["jwt.iss"], &mut e.token.issuer),
        (&["jwt.client_id", "jwt.azp"], &mut e.token.client_id),
    ] {
        let found = keys.iter().find_map(|key| root.get(key).filter(|v| v.as_str().is_some_and(|s| !s.is_empty())));
        if let Some(v) = found {
            *slot = v.as_str().map(|s| fill.clean(s));
            fill.taken.insert(v);
        }
    }
    for (key, slot) in [("jwt.exp", &mut e.token.expires_at), ("jwt.iat", &mut e.token.issued_at)] {
        if let Some(v) = root.get(key)
            && let Some(time) = numeric_date(v)
        {
            *slot = Some(time);
            fill.taken.insert(v);
        }
    }
}

/// A request has a span of its own, and an exporter may send it twice. The time is part of the id because a client's span may be
/// written when the gateway makes none, and then several requests share it.
fn id<'t>(root: Value<'t>, e: &Event<'t>, fill: &Filling<'t, '_>) -> Cow<'t, str> {
    let of = |key: &str| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    match (of("trace.id").or(of("otlp.trace_id")), of("span.id").or(of("otlp.span_id"))) {
        (Some(trace), Some(span)) => {
            Cow::Owned(format!("{}/{}/{}", fill.redactor.text(trace), fill.redactor.text(span), e.time.0))
        }
        _ => Cow::Borrowed(""),
    }
}

/// What a line is that is neither a call nor refused for access; `None` when it is one of them.
fn other<'t>(root: Value<'t>, verdict: &Verdict, method: Option<&'t str>) -> Option<Decoded<'t>> {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    let aside = |reason, detail: Option<&str>| Some(Decoded::Aside(reason, detail.unwrap_or_default().to_owned()));
    if verdict.access || verdict.said || method.is_some_and(signs::is_call) {
        return None;
    }
    // What answered is not known, so that the line is kept as a decision whose outcome is not.
    if verdict.unread {
        return None;
    }
    let operation = text("gen_ai.operation.name");
    match (method, operation) {
        // What went to a model used no tool; but that somebody was kept from it was decided, and is a decision.
        (None, Some(operation)) if !signs::is_of_model(operation) => {
            Some(Decoded::Rejection("method_unmapped", format!("operation `{operation}`")))
        }
        (None, Some(_)) => aside("llm_request", text("reason")),
        (None, None) if text("protocol") == Some("llm") => aside("llm_request", text("reason")),
        (Some(method), _) if verdict.enforced == Enforced::Forwarded => Some(match signs::is_no_use(method) {
            true => Decoded::Aside("not_a_call", method.to_owned()),
            false => Decoded::Rejection("method_unknown", format!("method `{method}`")),
        }),
        (Some(_), _) => None,
        // Forwarded, or refused neither for access nor on the way to a tool: no route, a bad request.
        (None, None) => {
            let sign = match signs::carries_no_call(text("http.method")) {
                false if text("protocol") == Some("mcp") => Some("`protocol` is `mcp`".to_owned()),
                false => signs::sign_of_call(root),
                true => signs::names_a_call(root),
            };
            match sign {
                Some(sign) => Some(Decoded::Rejection("method_unmapped", sign)),
                None if verdict.enforced == Enforced::Forwarded => aside("not_mcp", text("http.path")),
                None => aside("not_mcp", text("reason")),
            }
        }
    }
}

/// What the line says of the decision.
struct Verdict {
    outcome: Outcome,
    basis: Basis,
    enforced: Enforced,
    engine: Option<&'static str>,
    /// Whether a denial was answered as an unknown name.
    disguised: bool,
    /// Whether the stage decides about access.
    access: bool,
    /// Whether an attribute that the operator added says the verdict.
    said: bool,
    /// Whether such an attribute, or the stage, was taken out.
    gone: Option<Gone>,
    /// Whether the stage is told in a form that cannot be read.
    unread: bool,
}

fn verdict(fill: &mut Filling<'_, '_>, root: Value<'_>) -> Verdict {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    let status: Option<i32> = fill.peek(Slot::HttpStatus).and_then(|s| s.parse().ok());
    let reason = text("reason");
    let blocked = |outcome, basis, engine, access| Verdict {
        outcome,
        basis,
        enforced: Enforced::Blocked,
        engine,
        disguised: false,
        access,
        said: false,
        gone: None,
        unread: false,
    };
    let let_through =
        Verdict { enforced: Enforced::Forwarded, ..blocked(Outcome::Allow, Basis::Inferred, None, false) };
    let denied = |engine| blocked(Outcome::Deny, Basis::Explicit, Some(engine), true);
    let failed = |engine| blocked(Outcome::Error, Basis::Inferred, engine, false);
    let unknown = || Verdict { enforced: Enforced::Unknown, ..blocked(Outcome::Unknown, Basis::Inferred, None, false) };
    // Something answered, and what it was stands there in a form that is not known.
    let unread = root.get("reason").is_some_and(|v| !v.is_null() && v.as_str().is_none());
    if unread {
        fill.flag("invalid:decision.reasons");
    }
    let worked_out = match reason {
        None if unread => Verdict { unread, ..unknown() },
        None => let_through,
        Some(mark) if is_mask(mark) => Verdict { gone: Some(Gone::Masked), access: true, ..unknown() },
        Some("Authorization") => denied("agentgateway.authorization"),
        // An authorization service that did not answer has decided nothing.
        Some("ExtAuth") if status.is_some_and(|s| s >= 500) => {
            Verdict { access: true, ..failed(Some("agentgateway.ext_auth")) }
        }
        Some("ExtAuth") => denied("agentgateway.ext_auth"),
        Some("JwtAuth") => denied("agentgateway.jwt_auth"),
        // A redirect asks somebody to log in, which is neither.
        Some("Oidc") if status.is_some_and(|s| s < 400) => {
            blocked(Outcome::Unknown, Basis::Inferred, Some("agentgateway.oidc"), true)
        }
        Some("Oidc") => denied("agentgateway.oidc"),
        Some("BasicAuth") => denied("agentgateway.basic_auth"),
        Some("APIKeyAuth") => denied("agentgateway.api_key_auth"),
        Some("Guardrail") => denied("agentgateway.guardrail"),
        Some("RateLimit") => blocked(Outcome::Deny, Basis::Inferred, Some("agentgateway.rate_limit"), true),
        Some("MCP") => {
            let unknown = text("error").is_some_and(|e| e.starts_with("mcp: Unknown"));
            let item = ["gen_ai.tool.name", "gen_ai.prompt.name", "mcp.resource.uri"].iter().any(|k| text(k).is_some());
            if unknown && item && text("mcp.target").is_some() {
                let engine = Some("agentgateway.mcp_authorization");
                Verdict { disguised: true, ..blocked(Outcome::Deny, Basis::Inferred, engine, true) }
            } else {
                failed(None)
            }
        }
        // It had been let through; what failed was behind.
        Some("Timeout" | "UpstreamFailure") => let_through,
        Some("ExtProc" | "InvalidRequest" | "NotFound" | "NoHealthyBackend" | "Internal") => failed(None),
        Some(_) => unknown(),
    };
    // An attribute that the operator added in CEL and the mapping knows.
    match fill.mapping.outcome.read(&fill.roots) {
        Some(Err(gone)) if worked_out.enforced == Enforced::Forwarded => {
            Verdict { outcome: Outcome::Unknown, basis: Basis::Inferred, access: true, gone: Some(gone), ..worked_out }
        }
        Some(Ok((outcome, v))) => {
            fill.taken.insert(v);
            if outcome != Outcome::Allow && worked_out.enforced == Enforced::Forwarded {
                fill.flag("verdict_not_enforced");
            }
            let basis = fill.mapping.outcome.basis.unwrap_or(Basis::Explicit);
            Verdict { outcome, basis, access: true, said: true, ..worked_out }
        }
        Some(Err(_)) => worked_out,
        None => {
            if fill.mapping.outcome.named(&fill.roots) {
                fill.flag(VERDICT_UNREAD);
            }
            worked_out
        }
    }
}

/// The time of a line. Its microseconds are written without leading zeros: `...11.42Z` is 42 microseconds after the second, so a
/// fraction of fewer than six digits is their number; one of six means the same either way.
fn instant(written: &str) -> Option<Micros> {
    let (seconds, rest) = written.split_once('.')?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    if !(1..6).contains(&digits) {
        return None;
    }
    let micros: i64 = rest[..digits].parse().ok()?;
    let whole = Micros::parse_rfc3339(&format!("{seconds}{}", &rest[digits..]))?;
    Some(Micros(whole.0 + micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn microseconds_without_zeros() {
        for (written, expected) in [
            ("2026-08-20T14:03:11.42Z", "2026-08-20T14:03:11.000042Z"),
            ("2026-08-20T14:03:11.5Z", "2026-08-20T14:03:11.000005Z"),
            ("2026-08-20T14:03:11.99999Z", "2026-08-20T14:03:11.099999Z"),
            ("2026-08-20T14:03:11.482913Z", "2026-08-20T14:03:11.482913Z"),
            ("2026-08-20T14:03:11Z", "2026-08-20T14:03:11Z"),
        ] {
            let read = instant(written).or_else(|| Micros::parse_rfc3339(written));
            assert_eq!(read, Micros::parse_rfc3339(expected), "{written}");
        }
        assert_eq!(instant("2026-08-20T14:03:11.4x"), None);
        assert_eq!(instant(".4"), None);
    }
}
