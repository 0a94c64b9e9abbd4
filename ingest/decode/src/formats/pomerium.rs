//! Pomerium: authorize lines are decisions, access lines are executions, joined by request id.
//!
//! Guarantees: the outcome is the effective one, worked out in Pomerium's own order (a client certificate, then a missing login or
//! device, then `deny`, then `allow`, and denial when neither said yes); a line that has no result at all, or one that was masked or
//! cannot be read, is `unknown`. Lines of its services without a sign of a call or a verdict are asides. The ID token
//! never gets through, and its claims say nothing of the token that an agent presented. While somebody impersonates, the party
//! impersonated is the requester and the one who does it the actor. Checksums keep all their digits. An access line is never a
//! decision, also when it says `ext_authz_denied`: the authorize line is, and where that is missing a query can tell.

use super::mapped::{Extra, Filling, VERDICT_UNREAD, removed};
use super::signs;
use crate::json::{Kind, Value};
use crate::mapping::removed::{Gone, masked};
use crate::mapping::{Mappings, Roots};
use crate::redact::{Redactor, Taken};
use crate::{Context, Decoded, Format};
use catena_schemas::event::{Actor, Basis, Enforced, Event, EventKind, Outcome, Phase};
use std::borrow::Cow;

/// Components of Pomerium that write lines.
const SERVICES: &[&str] = &[
    "authorize",
    "envoy",
    "proxy",
    "authenticate",
    "databroker",
    "controlplane",
    "identity_manager",
    "autocert",
    "all",
    "mcp",
    "pomerium",
];
const CERTIFICATE: &[&str] = &["client-certificate-required", "invalid-client-certificate"];
/// The lists of reasons: of the deny side and of the allow side, of which one each is there.
const DENIED: &str = "deny-why-true";
const ALLOWED: &str = "allow-why-true";
const LISTS: &[&str] = &[DENIED, "deny-why-false", ALLOWED, "allow-why-false"];
const DENY_SIDE: [&str; 2] = [DENIED, "deny-why-false"];

/// Whether an object is a line of Pomerium's.
pub(crate) fn is_line(root: Value<'_>) -> bool {
    let text = |key: &str| root.get(key).and_then(|v| v.as_str());
    text("message").is_some()
        && text("level").is_some()
        && (text("service").is_some_and(|s| SERVICES.contains(&s))
            || text("message") == Some("listener connection failure"))
}

/// Reads one line.
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
    let Some(message) = root.get("message").and_then(|m| m.as_str()) else {
        return Decoded::Rejection("message_missing", "a line of Pomerium has a `message`".into());
    };
    let roots = Roots::record(root);
    let authorize = message == "authorize check";
    let Some(mapping) = mappings.choose(Format::Pomerium, &roots) else {
        return match message {
            "listener connection failure" => Decoded::Aside("listener_failure", failure(root)),
            other => match signs::sign(root, &[]).or_else(|| told_of(root)) {
                Some(sign) => Decoded::Rejection("message_unknown", format!("`{other}`: {sign}")),
                None => Decoded::Aside("service_line", other.to_owned()),
            },
        };
    };
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut fill = Filling { mapping, roots, redactor, dirty, taken, flags: Vec::new(), absent: None, quoted: false };
    let mut e = Event::default();
    e.source.kind = Some(Cow::Borrowed("pomerium"));
    e.source.decision_count = 1;
    if let Err((reason, detail)) = fill.time(&mut e, None, context) {
        return Decoded::Rejection(reason, detail);
    }
    for v in ["level", "service", "message"].iter().filter_map(|key| root.get(key)).filter(|v| v.as_str().is_some()) {
        fill.taken.insert(v);
    }
    let same = root.get("check-request-id").filter(|v| v.as_str() == root.get("request-id").and_then(|r| r.as_str()));
    same.into_iter().for_each(|v| fill.taken.insert(v));
    if authorize {
        verdict(root, &mut fill, &mut e);
        who(root, &mut fill, &mut e);
    } else {
        access(root, &mut fill, &mut e);
    }
    fill.apply(&mut e);
    if authorize {
        e.decision.phase = match e.call.method.as_deref() {
            Some("tools/call" | "resources/read" | "prompts/get") => Some(Phase::Invoke),
            Some(method) if method.ends_with("/list") => Some(Phase::List),
            _ => e.decision.phase,
        };
    }
    fill.drop();
    fill.finish(&mut e, context);
    let mut extra = Extra::new(redactor, dirty, fill.taken);
    extra.members(root);
    e.extra = extra.finish();
    Decoded::Event(Box::new(e))
}

/// A member by which lines of requests and of verdicts tell, in a line that is known as neither.
fn told_of(root: Value<'_>) -> Option<String> {
    const TELLING: &[&str] = &["check-request-id", "response-code", "response-code-details", "impersonate-user-id"];
    let found = TELLING.iter().chain(LISTS).find(|key| root.get(key).is_some_and(|v| !v.is_null()))?;
    Some(format!("it has a member `{found}`"))
}

/// Why a connection failed, and to whom it was meant.
fn failure(root: Value<'_>) -> String {
    let text = |key| root.get(key).and_then(|v| v.as_str()).filter(|s| !s.is_empty());
    let reason = text("downstream-transport-failure-reason").unwrap_or_default();
    text("tls-sni-hostname").map_or_else(|| reason.to_owned(), |host| format!("{reason} for {host}"))
}

/// The effective outcome, and the reasons of the side that made it.
fn verdict<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    let side = |name: &str| root.get(name).into_iter().flat_map(|l| l.items()).filter_map(|v| v.as_str());
    let anywhere = |reason: &str| LISTS.iter().any(|list| side(list).any(|r| r == reason));
    let flag = |name: &str| root.get(name).and_then(|v| v.as_bool());
    let (allow, deny) = (flag("allow"), flag("deny"));
    let unread = |name: &&str| root.get(name).is_some_and(|v| !v.is_null() && v.as_bool().is_none());
    let odd = ["allow", "deny"].into_iter().find(unread).and_then(|name| root.get(name));
    let login = anywhere("user-unauthenticated");
    // Of the deny side both lists count: Pomerium asks for the reason before it asks whether the rule matched.
    let certificate = DENY_SIDE.iter().copied().find(|list| side(list).any(|r| CERTIFICATE.contains(&r)));
    let outcome = if certificate.is_some() {
        Outcome::Deny
    } else if login || anywhere("device-unauthenticated") {
        Outcome::StepUp
    } else if deny == Some(true) {
        Outcome::Deny
    } else if odd.is_some() {
        // What is there and cannot be read says neither yes nor no.
        Outcome::Unknown
    } else if allow == Some(true) {
        Outcome::Allow
    } else if allow.is_none() && deny.is_none() {
        // The fields are not logged, or there was no result: nobody said no.
        Outcome::Unknown
    } else {
        Outcome::Deny
    };
    let d = &mut e.decision;
    d.outcome = outcome;
    d.policy_engine = Some(Cow::Borrowed("pomerium"));
    d.basis = Some(if outcome == Outcome::Unknown { Basis::Inferred } else { Basis::Explicit });
    d.enforced = match outcome {
        Outcome::Deny | Outcome::StepUp => Some(Enforced::Blocked),
        _ => None,
    };
    if outcome == Outcome::StepUp {
        let asked = if login { r#"{"kind":"user_authentication"}"# } else { r#"{"kind":"device_authentication"}"# };
        d.challenge = Some(Cow::Borrowed(asked));
    }
    let told: &[&str] = if outcome == Outcome::Allow { &[ALLOWED] } else { &[DENIED, "allow-why-false"] };
    // A step-up may have been asked for by either side.
    let told = if outcome == Outcome::StepUp { LISTS } else { told };
    let told = if certificate.is_some() { &[DENIED, "deny-why-false", "allow-why-false"] } else { told };
    for v in told.iter().filter_map(|list| root.get(list)).flat_map(|l| l.items()) {
        let Some(reason) = v.as_str() else { continue };
        let reason = fill.clean(reason);
        if !d.reasons.contains(&reason) {
            d.reasons.push(reason);
        }
        fill.taken.insert(v);
    }
    match odd {
        Some(v) if masked(v) && outcome == Outcome::Unknown => removed(d, Gone::Masked),
        Some(_) => fill.flag(VERDICT_UNREAD),
        None => {}
    }
    let read = |v: &Value<'t>| v.is_null() || v.as_bool().is_some();
    ["allow", "deny"].iter().filter_map(|name| root.get(name)).filter(read).for_each(|v| fill.taken.insert(v));
    let lists = LISTS.iter().filter_map(|name| Some((name, root.get(name)?)));
    for (name, _) in
        lists.filter(|(_, v)| !v.is_null() && (v.kind() != Kind::Array || v.items().any(|i| i.as_str().is_none())))
    {
        fill.flag(format!("invalid:{name}"));
    }
}

/// Who asks, and who acts for whom.
fn who<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    let mut text = |name: &str| {
        let v = root.get(name).filter(|v| !v.is_null())?;
        let Some(s) = v.as_str() else {
            fill.flag(format!("invalid:{name}"));
            return None;
        };
        if s.is_empty() {
            return None;
        }
        fill.taken.insert(v);
        Some(if fill.dirty { fill.redactor.text(s) } else { Cow::Borrowed(s) })
    };
    let (user, email) = (text("user"), text("email"));
    let (as_user, as_email) = (text("impersonate-user-id"), text("impersonate-email"));
    let account = text("service-account-id");
    let impersonated = as_user.is_some() || as_email.is_some();
    let actor = |id: Cow<'t, str>| Actor { assurance: Some(Cow::Borrowed("verified")), ..Actor::named(id) };
    let r = &mut e.requester;
    if impersonated {
        let by = user.or_else(|| email.clone());
        e.actors.extend(by.map(|id| Actor { name: email.filter(|email| *email != id), ..actor(id) }));
        r.id = as_user.or_else(|| as_email.clone());
        r.email = as_email;
        e.actors_source = Some(Cow::Borrowed("impersonation"));
    } else {
        r.id = user.or_else(|| email.clone());
        r.email = email;
    }
    if r.id.is_some() {
        // A proxy that knows identities has checked the session itself.
        r.assurance = Some(Cow::Borrowed("verified"));
    }
    if let Some(account) = account {
        e.actors.push(Actor { kind: Some(Cow::Borrowed("workload")), ..actor(account) });
        e.actors_source.get_or_insert(Cow::Borrowed("declared"));
    }
}

/// What became of a request.
fn access<'t>(root: Value<'t>, fill: &mut Filling<'t, '_>, e: &mut Event<'t>) {
    e.kind = EventKind::Execution;
    match root.get("size").map(|v| (v, v.as_i64())) {
        Some((v, Some(bytes))) => {
            e.call.result_bytes = Some(bytes);
            fill.taken.insert(v);
        }
        Some((v, None)) if !v.is_null() => fill.flag("invalid:call.result.bytes"),
        _ => {}
    }
    match root.get("response-code-details").map(|v| (v, v.as_str())) {
        Some((_, Some(""))) | None => {}
        Some((v, Some(details))) => {
            fill.taken.insert(v);
            if details != "via_upstream" {
                e.decision.reasons.push(fill.clean(details));
            }
        }
        Some((v, None)) if !v.is_null() => fill.flag("invalid:decision.reasons"),
        Some(_) => {}
    }
}
