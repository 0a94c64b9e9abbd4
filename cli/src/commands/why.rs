//! `catena why`: one decision explained, from what the lake holds of it.

use super::sql::scope;
use super::{not_found, open_engine};
use crate::args::Why as Args;
use crate::config::Config;
use crate::said;
use anyhow::Result;
use catena_analysis::text::escape;
use catena_engine::Limits;
use catena_schemas::answer::Why;
use catena_schemas::answer::chain::{Authority, Hop};
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, args: &Args) -> Result<ExitCode> {
    let engine = open_engine(config).await?;
    let answers = engine.session(scope(tenant)).why(&args.id, &Limits::local()).await?;
    if answers.is_empty() {
        said::error(
            &format!("no decision `{}`", args.id),
            "`catena chain ls` lists chains, `catena chain show` their decisions",
        );
        return Ok(not_found());
    }
    for answer in &answers {
        if args.json {
            println!("{}", serde_json::to_string(answer)?);
        } else {
            print!("{}", explain(answer));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A value as text; none where no record has it.
trait Shown {
    fn shown(&self) -> Option<String>;
}

impl Shown for String {
    fn shown(&self) -> Option<String> {
        Some(escape(self).into_owned()).filter(|text| !text.is_empty())
    }
}

impl<T: Shown> Shown for Option<T> {
    fn shown(&self) -> Option<String> {
        self.as_ref()?.shown()
    }
}

impl<T: Shown> Shown for Vec<T> {
    fn shown(&self) -> Option<String> {
        let items: Vec<String> = self.iter().filter_map(Shown::shown).collect();
        (!items.is_empty()).then(|| items.join(", "))
    }
}

macro_rules! shown_as_is {
    ($($number:ty)+) => { $(impl Shown for $number {
        fn shown(&self) -> Option<String> {
            Some(self.to_string())
        }
    })+ };
}
shown_as_is!(i32 i64 u64 f64);

/// What the record of a hop allows, or claims.
impl Shown for Authority {
    fn shown(&self) -> Option<String> {
        let atoms = self.capability.iter().flatten().map(|atom| format!("{}/{}", atom.server, atom.action));
        let sets = [self.scope.shown(), self.resource.shown(), self.aud.shown(), atoms.collect::<Vec<_>>().shown()];
        let sets: Vec<String> = sets.into_iter().flatten().collect();
        (!sets.is_empty()).then(|| sets.join(", "))
    }
}

/// The values that are there, each after its label.
fn join(parts: &[(&str, &dyn Shown)]) -> Option<String> {
    let labelled = |(label, value): &(&str, &dyn Shown)| {
        value.shown().map(|text| if label.is_empty() { text } else { format!("{label} {text}") })
    };
    let parts: Vec<String> = parts.iter().filter_map(labelled).collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

/// Evidence in words, with its code and confidence.
fn evidence(words: &str, code: &str, confidence: f64) -> String {
    format!("{words} ({code}, {confidence:.2})")
}

/// A line for a principal of the path, indented by its place.
fn hop(at: usize, hop: &Hop) -> String {
    let name = hop.id.shown().unwrap_or_else(|| "(unknown requester)".into());
    let mut parts = vec![format!("{}{name}", "  ".repeat(at))];
    if at > 0 {
        parts.push(evidence(&hop.evidence, &hop.tier, hop.confidence));
    }
    if let Some(authority) = &hop.authority {
        let recorded = format!("{}:", authority.recorded_by);
        parts.extend(join(&[
            (&recorded, &authority.recorded.as_ref().map(|a| a.scope.clone())),
            ("WIDENED by", &authority.widened_by),
            ("at most:", &authority.bound.as_ref().map(|a| a.scope.clone())),
        ]));
    }
    parts.join(" · ")
}

fn explain(answer: &Why) -> String {
    let Why { decision, grants, executions, place, lake_version } = answer;
    let mut out = String::new();
    let mut line = |label: &str, text: Option<String>| {
        if let Some(text) = text {
            out.push_str(&format!("{label:<13} {text}\n"));
        }
    };
    line(
        "decision",
        join(&[("", &decision.event_id), ("", &decision.time), ("by", &decision.source), ("format", &decision.format)]),
    );
    line("call", join(&[("", &decision.target_server), ("", &decision.tool), ("", &decision.action)]));
    line("verdict", join(&[("", &decision.outcome), ("", &decision.enforced), ("", &decision.basis)]));
    line("reasons", decision.reasons.shown());
    line(
        "policy",
        join(&[
            ("", &decision.policy_engine),
            ("", &decision.policy_id),
            ("version", &decision.policy_version),
            ("rules", &decision.policy_rules),
        ]),
    );
    line("asked for", decision.challenge.shown());
    if let Some(place) = place {
        for (at, principal) in place.event.path.iter().enumerate() {
            line(if at == 0 { "on behalf of" } else { "" }, Some(hop(at, principal)));
        }
        line(
            "within grant?",
            place.event.bound_state.as_deref().map(|state| match state {
                "in" => "yes: the call is within what was delegated".to_owned(),
                "out" => "NO: the call is OUTSIDE what was delegated".to_owned(),
                _ => "unknown: too little is recorded to say".to_owned(),
            }),
        );
    }
    for grant in grants {
        line(
            "grant",
            join(&[
                ("", &grant.grant_id),
                ("from", &grant.grantor),
                ("to", &grant.grantee),
                ("scope", &grant.scope),
                ("valid from", &grant.valid_from),
                ("until", &grant.valid_to),
                ("REVOKED at", &grant.revoked_at),
            ]),
        );
    }
    if grants.is_empty() {
        line("grant", decision.grant_id.shown().map(|id| format!("{id} · the lake has no record of it")));
    }
    line("token", join(&[("", &decision.token_ref), ("", &decision.token_proof), ("scopes", &decision.scopes)]));
    if let Some(place) = place {
        let event = &place.event;
        let by = event.parent_evidence.as_ref().zip(event.parent_tier.as_ref()).zip(event.confidence);
        let by = by.map(|((words, code), confidence)| evidence(words, code, confidence));
        line(
            "caused by",
            place
                .led_to_by
                .as_ref()
                .and_then(|p| join(&[("", &p.event_id), ("", &p.server), ("", &p.tool), ("", &p.outcome), ("", &by)])),
        );
        line("position", event.standing.shown());
        line("anomalies", event.marks.shown());
        if place.attempts.len() > 1 {
            let attempts = place.attempts.iter().filter_map(|a| join(&[("", &a.event_id), ("", &a.outcome)]));
            line("attempts", Some(attempts.collect::<Vec<_>>().join(" → ")));
        }
    }
    for execution in executions {
        line(
            "observed",
            join(&[
                ("", &execution.time),
                ("HTTP", &execution.http_status),
                ("JSON-RPC error", &execution.jsonrpc_error),
                ("", &execution.reasons),
                ("bytes", &execution.result_bytes),
                ("", &execution.user_agent),
                ("by", &execution.execution_source),
                ("same", &execution.tie),
            ]),
        );
    }
    if let Some(place) = place {
        let chain = &place.chain;
        line(
            "chain",
            join(&[("", &chain.chain_id), ("lineage", &chain.lineage), ("", &chain.state), ("calls", &chain.events)]),
        );
    }
    line(
        "stored at",
        join(&[
            ("", &decision.topic),
            ("partition", &decision.partition),
            ("offset", &decision.offset),
            ("redaction", &decision.redaction),
            ("lake version", lake_version),
        ]),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evidence_is_in_words_and_no_value_moves_the_cursor() {
        let principal = Hop {
            id: Some("agent:p\u{1b}[2J".into()),
            issuer: None,
            kind: None,
            tier: "P9".into(),
            evidence: "declared by the caller".into(),
            confidence: 0.3,
            authority: None,
        };
        assert_eq!(hop(1, &principal), "  agent:p\\u{1b}[2J · declared by the caller (P9, 0.30)");
        assert_eq!(hop(0, &Hop { id: None, ..principal }), "(unknown requester)");
    }
}
