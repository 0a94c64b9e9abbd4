//! `catena why`: one decision explained, by what the lake holds of it.

use super::sql::scope;
use super::{not_found, open_engine};
use crate::args::Why;
use crate::config::Config;
use crate::said;
use anyhow::Result;
use catena_analysis::text::escape;
use catena_engine::Limits;
use serde_json::Value;
use std::process::ExitCode;

pub(crate) async fn run(config: &Config, tenant: Option<&str>, args: &Why) -> Result<ExitCode> {
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
            println!("{}", answer.0);
        } else {
            print!("{}", tell(&answer.0));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// A value as a person reads it: nothing for what nobody said.
fn said(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(escape(text).into_owned()).filter(|t| !t.is_empty()),
        Value::Array(items) => {
            let items: Vec<String> = items.iter().filter_map(said).collect();
            (!items.is_empty()).then(|| items.join(", "))
        }
        other => Some(escape(&other.to_string()).into_owned()),
    }
}

fn join<'v>(parts: impl IntoIterator<Item = (&'static str, &'v Value)>) -> Option<String> {
    let parts: Vec<String> = parts
        .into_iter()
        .filter_map(|(label, v)| said(v).map(|v| if label.is_empty() { v } else { format!("{label} {v}") }))
        .collect();
    (!parts.is_empty()).then(|| parts.join(" · "))
}

fn tell(answer: &Value) -> String {
    let (decision, event, chain) = (&answer["decision"], &answer["event"], &answer["chain"]);
    let mut out = String::new();
    let mut line = |label: &str, text: Option<String>| {
        if let Some(text) = text {
            out.push_str(&format!("{label:<10} {text}\n"));
        }
    };
    line(
        "decision",
        join([
            ("", &decision["event_id"]),
            ("", &decision["time"]),
            ("by", &decision["source"]),
            ("as", &decision["format"]),
        ]),
    );
    // Many producers know a server by its name alone.
    let server = Some(&decision["server"]).filter(|id| !id.is_null()).unwrap_or(&decision["server_name"]);
    line("call", join([("", server), ("", &decision["tool"]), ("", &decision["action"])]));
    line("verdict", join([("", &decision["outcome"]), ("", &decision["enforced"]), ("", &decision["basis"])]));
    line("reasons", said(&decision["reasons"]));
    line(
        "policy",
        join([
            ("", &decision["policy_engine"]),
            ("", &decision["policy_id"]),
            ("version", &decision["policy_version"]),
            ("rules", &decision["policy_rules"]),
        ]),
    );
    line("asked for", said(&decision["challenge"]));
    for (at, hop) in event["path"].as_array().into_iter().flatten().enumerate() {
        let authority = &hop["authority"];
        let name = said(&hop["id"]).unwrap_or_else(|| "(unknown requester)".into());
        let mut parts = vec![format!("{}{name}", "  ".repeat(at))];
        if at > 0 {
            parts.extend(join([("", &hop["tier"]), ("", &hop["confidence"])]));
        }
        let recorded = authority["recorded_by"].as_str().unwrap_or_default();
        parts.extend(said(&authority["recorded"]["scope"]).map(|scope| format!("{recorded}: {scope}")));
        parts.extend(authority["widened_by"].as_object().map(|by| {
            let all: Vec<String> = by.values().filter_map(said).collect();
            format!("WIDENED by {}", all.join(", "))
        }));
        parts.extend(said(&authority["bound"]["scope"]).map(|scope| format!("bound: {scope}")));
        line(if at == 0 { "on behalf" } else { "" }, Some(parts.join(" · ")));
    }
    line(
        "bound",
        said(&event["bound_state"]).map(|state| match state.as_str() {
            "in" => "the call lies within what was delegated".to_owned(),
            "out" => "the call lies OUTSIDE what was delegated".to_owned(),
            _ => "unknown: nobody recorded enough to say".to_owned(),
        }),
    );
    let grants = answer["grants"].as_array().map(Vec::as_slice).unwrap_or_default();
    for grant in grants {
        line(
            "grant",
            join([
                ("", &grant["grant_id"]),
                ("from", &grant["grantor"]),
                ("to", &grant["grantee"]),
                ("scope", &grant["scope"]),
                ("valid from", &grant["valid_from"]),
                ("to", &grant["valid_to"]),
                ("REVOKED at", &grant["revoked_at"]),
            ]),
        );
    }
    if grants.is_empty() {
        line("grant", said(&decision["grant_id"]).map(|id| format!("{id} · no record of it is here")));
    }
    line(
        "token",
        join([("", &decision["token_ref"]), ("", &decision["token_proof"]), ("scopes", &decision["scopes"])]),
    );
    let parent = &answer["led_to_by"];
    let parent =
        join([("", &parent["event_id"]), ("", &parent["server"]), ("", &parent["tool"]), ("", &parent["outcome"])]);
    let by = join([("by", &event["parent_tier"]), ("", &event["confidence"])]).unwrap_or_default();
    line("led to by", parent.map(|p| format!("{p} · {by}")));
    line("standing", said(&event["standing"]));
    line("odd", said(&event["marks"]));
    if let Some(attempts) = answer["attempts"].as_array().filter(|a| a.len() > 1) {
        let all: Vec<String> =
            attempts.iter().filter_map(|a| join([("", &a["event_id"]), ("", &a["outcome"])])).collect();
        line("attempts", Some(all.join(" → ")));
    }
    for done in answer["executions"].as_array().into_iter().flatten() {
        let how = join([
            ("", &done["time"]),
            ("HTTP", &done["http_status"]),
            ("JSON-RPC error", &done["jsonrpc_error"]),
            ("", &done["reasons"]),
            ("bytes", &done["result_bytes"]),
            ("", &done["user_agent"]),
            ("seen by", &done["execution_source"]),
            ("same", &done["tie"]),
        ]);
        line("done", how);
    }
    line(
        "chain",
        join([
            ("", &chain["chain_id"]),
            ("lineage", &chain["lineage"]),
            ("", &chain["state"]),
            ("events", &chain["events"]),
        ]),
    );
    line(
        "recorded",
        join([
            ("", &decision["topic"]),
            ("partition", &decision["partition"]),
            ("offset", &decision["offset"]),
            ("redaction", &decision["redaction"]),
            ("lake version", &answer["lake_version"]),
        ]),
    );
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn check(decision: Value, expected: &str) {
        assert_eq!(tell(&json!({"decision": decision})), expected);
    }

    #[test]
    fn a_server_is_told_by_its_id_or_else_by_its_name() {
        let named = json!({"server": null, "server_name": "tickets-mcp.corp.example", "tool": "read_ticket"});
        check(named, "call       tickets-mcp.corp.example · read_ticket\n");
        let known = json!({"server": "https://tickets", "server_name": "tickets", "tool": "read_ticket"});
        check(known, "call       https://tickets · read_ticket\n");
        check(json!({"tool": "read\u{1b}[2Jticket"}), "call       read\\u{1b}[2Jticket\n");
    }
}
