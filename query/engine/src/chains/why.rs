//! Why a decision fell as it did: verdict, policy, who stood behind the call, by which grant, and what was seen to be done.
//!
//! Guarantee: everything is quoted from the lake at one version; what no record says is null, and not made up.

use crate::engine::Session;
use crate::error::QueryError;
use crate::limits::Limits;
use serde_json::{Map, Value, json};

/// Executions that are shown of one decision: a request answered in parts has many.
const EXECUTIONS_MAX: usize = 20;

/// The answer for one event.
#[derive(Clone, Debug, PartialEq)]
pub struct Why(pub Value);

/// Columns of the decision that the answer quotes.
const DECISION: &str = "tenant, event_id, time, ingest_time, source, format, outcome, basis, enforced, phase, policy_engine, policy_id, \
    policy_version, policy_digest, policy_rules, reasons, obligations, challenge, requester, agent, actors, server, tool, action, \
    params_digest, session, token_ref, token_proof, scopes, audience, token_resource, token_expires, grant_id, redaction, \
    topic, \"partition\", \"offset\", decision_index";

impl Session {
    /// Why each decision of this id fell as it did: one answer for each tenant and source that has the id.
    pub async fn why(&self, event_id: &str, limits: &Limits) -> Result<Vec<Why>, QueryError> {
        let pinned = self.pin().await?;
        let limits = Session::within(limits);
        let quoted = event_id.replace('\'', "''");
        let asked =
            format!("SELECT {DECISION} FROM decisions WHERE event_id = '{quoted}' ORDER BY tenant, source, time");
        let (decisions, version) = pinned.values(&asked, &limits).await?;
        let mut answers = Vec::with_capacity(decisions.len());
        for decision in decisions {
            let text = |name: &str| decision[name].as_str().unwrap_or_default().to_owned();
            let (tenant, source) = (text("tenant"), text("source"));
            let grants = match decision["grant_id"].as_str() {
                None => Vec::new(),
                Some(grant) => pinned.grant(&tenant, grant, &limits).await?,
            };
            let mut answer = Map::new();
            answer.insert("executions".into(), pinned.executions(&tenant, event_id, &source, &limits).await?.into());
            for shown in pinned.chain(event_id, &limits).await?.iter().filter(|s| s.of.tenant.as_ref() == tenant) {
                let chain = shown.chain();
                let whole = shown.to_json();
                let events = whole["calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                let same =
                    |e: &&Value| e["event_id"] == event_id && (source.is_empty() || e["source"] == source.as_str());
                let Some(event) = events.iter().find(same) else { continue };
                let operations = whole["logical_calls"].as_array().map(Vec::as_slice).unwrap_or_default();
                answer.insert("event".into(), event.clone());
                let operation = operations.iter().find(|o| o["operation_id"] == event["operation_id"]);
                answer.insert("operation".into(), operation.cloned().unwrap_or_default());
                let attempts = events.iter().filter(|e| e["operation_id"] == event["operation_id"]);
                let attempts =
                    attempts.map(|e| json!({"event_id": e["event_id"], "time": e["time"], "outcome": e["outcome"]}));
                answer.insert("attempts".into(), attempts.collect());
                let parent =
                    events.iter().find(|e| !event["parent_event"].is_null() && e["event_id"] == event["parent_event"]);
                let parent = parent.map(|e| json!({"event_id": e["event_id"], "server": e["server"], "tool": e["tool"], "outcome": e["outcome"]}));
                answer.insert("led_to_by".into(), parent.unwrap_or_default());
                answer.insert("chain".into(), json!({
                    "chain_id": chain.id, "lineage": whole["lineage"], "state": whole["state"], "events": whole["events"],
                    "requesters": whole["requesters"], "missing": whole["missing"],
                }));
            }
            answer.insert("decision".into(), decision);
            answer.insert("grants".into(), grants.into());
            answer.insert("lake_version".into(), version.into());
            answers.push(Why(answer.into()));
        }
        Ok(answers)
    }

    /// What was seen to be done of what was decided.
    async fn executions(
        &self,
        tenant: &str,
        event_id: &str,
        source: &str,
        limits: &Limits,
    ) -> Result<Vec<Value>, QueryError> {
        let [tenant, event_id, source] = [tenant, event_id, source].map(|t| t.replace('\'', "''"));
        let asked = format!(
            "SELECT execution_id, execution_source, tie, time, server, tool, http_status, jsonrpc_error, reasons, result_class, result_bytes, \
             user_agent FROM decision_executions WHERE tenant = '{tenant}' AND event_id = '{event_id}' AND coalesce(source, '') = '{source}' \
             ORDER BY time, execution_id LIMIT {EXECUTIONS_MAX}"
        );
        Ok(self.values(&asked, limits).await?.0)
    }

    /// Every version of a grant.
    async fn grant(&self, tenant: &str, grant: &str, limits: &Limits) -> Result<Vec<Value>, QueryError> {
        let [tenant, grant] = [tenant, grant].map(|t| t.replace('\'', "''"));
        let asked = format!(
            "SELECT grant_id, grantor, grantee, scope, resource, capability, basis, valid_from, valid_to, revoked_at, version, time, source \
             FROM grants WHERE tenant = '{tenant}' AND grant_id = '{grant}' ORDER BY version, time"
        );
        Ok(self.values(&asked, limits).await?.0)
    }
}
