//! Envoy: access log in JSON, of a gateway with JWT, RBAC, ext_authz and MCP filters.
//!
//! Guarantees: the outcome is that of the filter that answered, by `response_code_details`, flags, enforced RBAC result and the
//! effect that the authorization service named; never of the status code alone, and never of a shadow result. What was refused
//! before the MCP filter ran has no tool and nobody in it, and none is guessed. Lines of methods that are known to use nothing, and
//! requests without a sign of MCP, are asides; a line that has such a sign and no method that is known is refused with its bytes. A
//! verdict that was masked is `unknown`. Typed JSON and JSON of strings, where objects are text and `-` is absent, come out equal.

use super::mapped::{Extra, Filling, removed};
use super::opened::Opening;
use super::signs;
use crate::json::{Kind, Tape, Value};
use crate::mapping::removed::{Gone, is_mask};
use crate::mapping::{Mappings, Roots, Slot};
use crate::redact::{Redactor, Taken, pieces};
use crate::{Context, Decoded, Format};
use catena_schemas::event::{Basis, Enforced, Event, Outcome, Phase};
use std::borrow::Cow;

/// Stands for a value that Envoy did not have.
const ABSENT: &str = "-";

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
    /// Whether what says it was taken out.
    gone: Option<Gone>,
}

/// Marks what the decision tells; a word that is not known stays in `extra`, under a flag.
fn told(fill: &mut Filling<'_, '_>, outcome: Outcome) {
    let is_known = |slot: Slot, word: &str| match slot {
        Slot::EnvoyEffect => fill.mapping.outcome.word(word).is_some(),
        _ => matches!(word, "allowed" | "denied" | "none"),
    };
    let mut unread = Vec::new();
    let mut known = Vec::new();
    for slot in [Slot::EnvoyEffect, Slot::EnvoyRbac] {
        match (fill.peek(slot), fill.value(slot)) {
            (Some(word), _) if is_known(slot, word) => known.push(slot),
            (None, None) => {}
            _ => unread.push(slot),
        }
    }
    known.into_iter().for_each(|slot| fill.take(slot));
    unread.into_iter().for_each(|slot| fill.flag(format!("invalid:{}", slot.name())));
    for slot in [Slot::EnvoyDetails, Slot::EnvoyFlags] {
        if fill.peek(slot).is_none() && fill.value(slot).is_some() {
            fill.flag(format!("invalid:{}", slot.name()));
        }
    }
    // Of what was let through only that it was is told.
    if outcome == Outcome::Allow && fill.peek(Slot::EnvoyDetails) == Some("via_upstream") {
        fill.take(Slot::EnvoyDetails);
    }
}

/// A line that refuses nothing and is no call of a known method.
fn without_call<'t>(fill: &Filling<'t, '_>, method: Option<&'t str>) -> Decoded<'t> {
    let said = |slot| fill.said(slot).unwrap_or_default().into_owned();
    match method {
        Some(method) if signs::is_no_use(method) => Decoded::Aside("not_a_call", said(Slot::Method)),
        Some(_) => Decoded::Rejection("method_unknown", format!("method `{}`", said(Slot::Method))),
        None => {
            // The filter says itself which requests are none of MCP.
            let is_none = fill.roots.record.get("mcp").and_then(|m| m.get("is_mcp_request")).and_then(|v| v.as_bool());
            let carries = is_none != Some(false) && !signs::carries_no_call(fill.peek(Slot::HttpMethod));
            let sign = match carries {
                true => signs::sign_of_call(fill.roots.record),
                false => signs::names_a_call(fill.roots.record),
            };
            match sign {
                Some(sign) => Decoded::Rejection("method_unmapped", sign),
                None => Decoded::Aside("not_mcp", said(Slot::EnvoyDetails)),
            }
        }
    }
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
    let is_call = method.is_some_and(signs::is_call);
    let verdict = match verdict(&mut fill, is_call) {
        Some(verdict) => verdict,
        None => return without_call(&fill, method),
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
    if let Some(gone) = verdict.gone {
        removed(&mut e.decision, gone);
    }
    told(&mut fill, verdict.outcome);
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
    let blocked = |outcome, basis, engine| {
        Some(Verdict { outcome, basis, engine: Some(engine), enforced: Enforced::Blocked, gone: None })
    };
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
            // The flag alone may be raised for another reason than the service's word.
            _ if details.starts_with("ext_authz_denied") => blocked(Outcome::Deny, Basis::Explicit, "envoy.ext_authz"),
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
    let masked =
        [Slot::EnvoyEffect, Slot::EnvoyRbac, Slot::EnvoyDetails].iter().any(|s| fill.peek(*s).is_some_and(is_mask));
    if masked {
        let (outcome, basis, gone) = (Outcome::Unknown, Basis::Inferred, Some(Gone::Masked));
        return Some(Verdict { outcome, basis, engine, enforced, gone });
    }
    let said = |outcome, basis| Some(Verdict { outcome, basis, engine, enforced, gone: None });
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
