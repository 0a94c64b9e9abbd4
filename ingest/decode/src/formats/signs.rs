//! Signs that a record tells of a call or of a verdict, whatever its producer calls things.
//!
//! Guarantee: a record is set aside only for what is listed here or in a mapping as no use of anything, or when it is a line of a kind
//! that is known and has no sign of a call or of a verdict. A record with such a sign that nothing could read is refused with its
//! bytes, so that a mapping can read it later. The look is bounded: [`VALUES_MAX`] values, [`DEPTH_MAX`] levels.

use crate::json::{Kind, Value};

/// Values that one look visits.
const VALUES_MAX: usize = 2000;
/// Levels of objects and lists that it goes into.
const DEPTH_MAX: usize = 6;

/// Methods by which something is used, of MCP and of A2A.
pub(crate) const CALLS: &[&str] = &[
    "tools/call",
    "resources/read",
    "resources/subscribe",
    "prompts/get",
    "message/send",
    "message/stream",
    "tasks/send",
    "tasks/sendSubscribe",
    "SendMessage",
    "SendStreamingMessage",
];

/// Methods of MCP and A2A that use nothing: greetings, lists, questions about what runs.
const NO_USE: &[&str] = &[
    "initialize",
    "server/discover",
    "ping",
    "completion/complete",
    "logging/setLevel",
    "resources/unsubscribe",
    "sampling/createMessage",
    "elicitation/create",
    "subscriptions/listen",
    "tasks/get",
    "tasks/result",
    "tasks/cancel",
    "tasks/update",
    "tasks/resubscribe",
    "agent/getAuthenticatedExtendedCard",
    "agent/authenticatedExtendedCard",
    "GetTask",
    "ListTasks",
    "CancelTask",
    "SubscribeToTask",
    "GetExtendedAgentCard",
    "CreateTaskPushNotificationConfig",
    "GetTaskPushNotificationConfig",
    "ListTaskPushNotificationConfigs",
    "DeleteTaskPushNotificationConfig",
];

/// Operations on a model, which use no tool (conventions for generative AI).
const OF_MODEL: &[&str] = &[
    "chat",
    "completion",
    "text_completion",
    "generate_content",
    "embeddings",
    "retrieval",
    "rerank",
    "count_tokens",
    "response",
    "responses",
    "messages",
];

/// Words in the name of a member that tells of a call, and of one that tells of a verdict.
const OF_CALLS: &[&str] = &["mcp", "tool", "tools", "toolname", "a2a", "jsonrpc"];
const OF_VERDICTS: &[&str] =
    &["decision", "decisions", "verdict", "effect", "outcome", "allow", "allowed", "deny", "denied", "authz"];
/// Last words of names that tell only where or in what session something was.
const PLACES: &[&str] =
    &["session", "sessionid", "version", "target", "server", "transport", "backend", "route", "cache", "hit"];

/// Whether a method uses something.
pub(crate) fn is_call(method: &str) -> bool {
    CALLS.contains(&method)
}

/// Whether a method is known to use nothing.
pub(crate) fn is_no_use(method: &str) -> bool {
    NO_USE.contains(&method)
        || method.ends_with("/list")
        || method.starts_with("notifications/")
        || method.starts_with("tasks/pushNotificationConfig/")
}

/// Whether an operation is known to be one on a model.
pub(crate) fn is_of_model(operation: &str) -> bool {
    OF_MODEL.contains(&operation)
}

/// Whether a method of HTTP carries no call: MCP and A2A send theirs with POST.
pub(crate) fn carries_no_call(http_method: Option<&str>) -> bool {
    matches!(http_method, Some("GET" | "HEAD" | "OPTIONS" | "DELETE"))
}

/// The first sign of a call or of a verdict in a record, as text for the detail of a rejection. Members of these names are not looked at.
pub(crate) fn sign(root: Value<'_>, except: &[&str]) -> Option<String> {
    let mut look = Look { left: VALUES_MAX, except, names: &[OF_CALLS, OF_VERDICTS] };
    look.at(root, "", 0)
}

/// The same of a call alone, for logs of which verdicts are of every request.
pub(crate) fn sign_of_call(root: Value<'_>) -> Option<String> {
    let mut look = Look { left: VALUES_MAX, except: &[], names: &[OF_CALLS] };
    look.at(root, "", 0)
}

/// The same by values alone: a text that is the method of a call.
pub(crate) fn names_a_call(root: Value<'_>) -> Option<String> {
    let mut look = Look { left: VALUES_MAX, except: &[], names: &[] };
    look.at(root, "", 0)
}

struct Look<'e> {
    left: usize,
    except: &'e [&'e str],
    names: &'e [&'e [&'e str]],
}

impl Look<'_> {
    fn at(&mut self, v: Value<'_>, name: &str, depth: usize) -> Option<String> {
        self.left = self.left.checked_sub(1)?;
        match v.kind() {
            Kind::String => {
                let s = v.as_str()?;
                is_call(s).then(|| format!("`{name}` is `{s}`"))
            }
            Kind::Object if depth < DEPTH_MAX => v.entries().find_map(|(key, member)| {
                if self.except.contains(&key) {
                    return None;
                }
                if !self.names.is_empty() && tells(key, self.names) && !is_nothing(member) {
                    return Some(format!("it has a member `{key}`"));
                }
                self.at(member, key, depth + 1)
            }),
            Kind::Array if depth < DEPTH_MAX => v.items().find_map(|item| self.at(item, name, depth + 1)),
            _ => None,
        }
    }
}

/// Whether the words of a name tell of a call or of a verdict.
fn tells(name: &str, lists: &[&[&str]]) -> bool {
    let words = words(name);
    words.iter().any(|w| lists.iter().any(|list| list.contains(&w.as_str())))
        && !words.last().is_some_and(|last| PLACES.contains(&last.as_str()))
        && !(words.last().is_some_and(|last| last == "id") && words.iter().any(|w| w == "session"))
}

/// `mcp.toolName` is `mcp`, `tool`, `name`.
fn words(name: &str) -> Vec<String> {
    let (mut words, mut word) = (Vec::new(), String::new());
    let mut lower = false;
    for c in name.chars().take(100) {
        if !c.is_alphanumeric() || (c.is_uppercase() && lower) {
            words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
        }
        if c.is_alphanumeric() {
            word.extend(c.to_lowercase());
        }
        lower = c.is_lowercase();
    }
    words.extend((!word.is_empty()).then_some(word));
    words
}

/// Whether a value says that there is none.
fn is_nothing(v: Value<'_>) -> bool {
    match v.kind() {
        Kind::Null => true,
        Kind::String => matches!(v.as_str(), Some("" | "-")),
        Kind::Array => v.items().next().is_none(),
        Kind::Object => v.entries().all(|(_, member)| is_nothing(member)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Tape;

    #[test]
    fn signs_of_calls_and_verdicts() {
        for (json, seen) in [
            (r#"{"x":"tools/call"}"#, true),
            (r#"{"x":{"y":["message/send"]}}"#, true),
            (r#"{"mcp_tool":"t"}"#, true),
            (r#"{"toolName":"t"}"#, true),
            (r#"{"a":{"authzDecision":false}}"#, true),
            (r#"{"mcp_tool":null,"tool":"-","decision":""}"#, false),
            (r#"{"mcp.session.id":"s","mcp-protocol-version":"1","mcpSessionId":"s"}"#, false),
            (r#"{"stool":"x","retool":1,"http.method":"POST","msg":"allowed"}"#, false),
        ] {
            let mut tape = Tape::default();
            let root = tape.parse(json.as_bytes()).expect("the test writes JSON");
            assert_eq!(sign(root, &[]).is_some(), seen, "{json}");
        }
    }

    #[test]
    fn no_method_is_of_both_kinds() {
        assert!(CALLS.iter().all(|m| !is_no_use(m)));
        assert!(is_no_use("resources/templates/list") && is_no_use("notifications/x") && !is_no_use("tools/run"));
    }
}
