//! Envoy: access log in JSON, of a gateway with JWT, RBAC, ext_authz and MCP filters.
//!
//! Guarantees: the outcome is that of the filter that answered, by `response_code_details`, flags, enforced RBAC result and the
//! effect that the authorization service named; never of the status code alone, and never of a shadow result. What was refused
//! before the MCP filter ran has no tool and nobody in it, and none is guessed. Lines that are neither a call nor a refusal are
//! asides. Typed JSON and JSON of strings, where objects are text and `-` is absent, come out equal.

use super::mapped::{Extra, Filling};
use super::opened::Opening;
use crate::json::{Kind, Tape, Value};
use crate::mapping::{Mappings, Roots, Slot};
use crate::redact::{Redactor, Taken, pieces};
use crate::{Context, Decoded, Format};
use catena_schemas::event::{Basis, Enforced, Event, Outcome, Phase};
use std::borrow::Cow;

/// Stands for a value that Envoy did not have.
const ABSENT: &str = "-";

/// Methods of MCP by which something is used.
const CALLS: &[&str] = &["tools/call", "resources/read", "resources/subscribe", "prompts/get"];

/// Rewrites a line in which objects stand as text, as `json_format` has them; `None` when there is none.
pub(crate) fn expand(root: Value<'_>, scratch: &mut Tape) -> Option<String> {
    Opening::json(root.entries().map(|e| e.1), &['{']).of(root, scratch)
}

/// What the line says of the decision.
struct Verdict {
    outcome: Outcome,
    basis: Basis,
    engine: Option<&'static str>,
    enforced: Enforced,
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
    let roots = Roots::record(root);
    let Some(mapping) = mappings.choose(Format::Envoy, &roots) else {
        return Decoded::Rejection("mapping_missing", "no mapping's conditions hold".into());
    };
    taken.clear();
    let dirty = redactor.suspects_record(root);
    let mut fill =
        Filling { mapping, roots, redactor, dirty, taken, flags: Vec::new(), absent: Some(ABSENT), quoted: false };
    let mut e = Event::default();
    let method = fill.peek(Slot::Method);
    let is_call = method.is_some_and(|m| CALLS.contains(&m));
    let verdict = match verdict(&mut fill, is_call) {
        Some(verdict) => verdict,
        None => {
            let (reason, slot) =
                if method.is_some() { ("not_a_call", Slot::Method) } else { ("not_mcp", Slot::EnvoyDetails) };
            return Decoded::Aside(reason, fill.said(slot).unwrap_or_default().into_owned());
        }
    };
    if let Err((reason, detail)) = fill.time(&mut e, None, context) {
        return Decoded::Rejection(reason, detail);
    }
    e.source.kind = Some(Cow::Borrowed("envoy"));
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
    if verdict.outcome != Outcome::Allow
        && let Some(details) = fill.said(Slot::EnvoyDetails)
    {
        d.reasons.extend(reasons(details));
    }
    if let Some(policy) = fill.said(Slot::EnvoyRbacPolicy) {
        if verdict.engine == Some("envoy.rbac") {
            d.policy_id = Some(policy.clone());
        }
        d.rules.push(Cow::Owned(format!("rbac:{policy}")));
        fill.take(Slot::EnvoyRbacPolicy);
    }
    fill.take(Slot::EnvoyRbac);
    fill.take(Slot::EnvoyEffect);
    if verdict.outcome == Outcome::Allow {
        fill.take(Slot::EnvoyDetails);
    }
    fill.apply(&mut e);
    fill.drop();
    for (_, v) in root.entries() {
        if v.as_str() == Some(ABSENT) {
            fill.taken.insert(v);
        }
    }
    fill.finish(&mut e, context);
    let mut extra = Extra::new(redactor, dirty, fill.taken);
    extra.members(root);
    e.extra = extra.finish();
    Decoded::Event(Box::new(e))
}

/// The decision of a line; `None` when it holds none.
fn verdict(fill: &mut Filling<'_, '_>, is_call: bool) -> Option<Verdict> {
    let details = fill.peek(Slot::EnvoyDetails).unwrap_or_default();
    let flags = fill.peek(Slot::EnvoyFlags).unwrap_or_default();
    let effect = fill.peek(Slot::EnvoyEffect).and_then(|word| fill.mapping.outcome.word(word));
    let rbac = fill.peek(Slot::EnvoyRbac);
    let status: Option<i32> = fill.peek(Slot::HttpStatus).and_then(|s| s.parse().ok());
    let blocked =
        |outcome, basis, engine| Some(Verdict { outcome, basis, engine: Some(engine), enforced: Enforced::Blocked });
    if details.starts_with("jwt_authn_access_denied") {
        return blocked(Outcome::Deny, Basis::Explicit, "envoy.jwt_authn");
    }
    if details.starts_with("rbac_access_denied") || rbac == Some("denied") {
        return blocked(Outcome::Deny, Basis::Explicit, "envoy.rbac");
    }
    // Envoy raises the same flag when nobody answered.
    if details.starts_with("ext_authz_error") {
        return blocked(Outcome::Error, Basis::Explicit, "envoy.ext_authz");
    }
    if details.starts_with("ext_authz_denied") || flags.split(',').any(|f| f == "UAEX") {
        // It was refused; the effect only says whether for good.
        return match effect {
            Some(Outcome::StepUp) => blocked(Outcome::StepUp, Basis::Explicit, "envoy.ext_authz"),
            Some(Outcome::Deny) => blocked(Outcome::Deny, Basis::Explicit, "envoy.ext_authz"),
            _ => blocked(Outcome::Deny, Basis::Inferred, "envoy.ext_authz"),
        };
    }
    if details.starts_with("mcp_filter_") {
        return blocked(Outcome::Deny, Basis::Explicit, "envoy.mcp");
    }
    if !is_call {
        return None;
    }
    let engine = match (effect, rbac) {
        (Some(_), _) => Some("envoy.ext_authz"),
        (None, Some(_)) => Some("envoy.rbac"),
        (None, None) => None,
    };
    let forwarded = details.starts_with("via_upstream") || details.starts_with("upstream_");
    let enforced = if forwarded { Enforced::Forwarded } else { Enforced::Unknown };
    let said = |outcome, basis| Some(Verdict { outcome, basis, engine, enforced });
    match effect {
        Some(outcome @ (Outcome::Deny | Outcome::StepUp)) => {
            if forwarded {
                fill.flag("verdict_not_enforced");
            }
            said(outcome, Basis::Explicit)
        }
        Some(Outcome::Allow) => said(Outcome::Allow, Basis::Explicit),
        _ if rbac == Some("allowed") => said(Outcome::Allow, Basis::Explicit),
        _ if forwarded => said(Outcome::Allow, Basis::Inferred),
        _ if matches!(status, Some(401 | 403)) => said(Outcome::Deny, Basis::Inferred),
        _ => said(Outcome::Unknown, Basis::Inferred),
    }
}

/// `jwt_authn_access_denied{Jwt_is_expired}` is two reasons; `[none]` is none.
fn reasons(details: Cow<'_, str>) -> impl Iterator<Item = Cow<'_, str>> {
    pieces(details, &["{", "}", "[", "]"]).into_iter().filter(|part| part != "none")
}
