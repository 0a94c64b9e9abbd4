//! Which fields of an event are about a person, and how rules reach the fields that are not JSON.
//!
//! Guarantee: a field is personal exactly when its column is one of those that the leaf commits to as personal
//! (`catena_schemas::table`, leaf id 250); a test fails when one list has a field that the other has not.

use super::{Action, Redactor, Rules, Scope};
use catena_schemas::Event;
use catena_schemas::table::{Field, PERSONAL};
use std::borrow::Cow;

/// Members of an event, where the path of a rule begins.
pub(crate) const ROOTS: &[&str] = &[
    "decision",
    "requester",
    "actors",
    "session",
    "server",
    "tool",
    "call",
    "token",
    "grant",
    "links",
    "network",
    "source",
    "extra",
];

/// The fields of the native event that are personal, with their columns.
const FIELDS: &[(&str, Field)] = &[
    ("/requester/id", Field::Requester),
    ("/requester/email", Field::RequesterEmail),
    ("/call/params", Field::Params),
    ("/token/subject", Field::TokenSubject),
    ("/network/ip", Field::Ip),
];

/// The columns that are about a person: those that an erasure takes and of which the leaf has one salted commitment.
pub fn columns() -> impl Iterator<Item = Field> {
    Field::ALL.iter().copied().filter(|f| f.leaf() == PERSONAL)
}

/// The personal column that a pointer into a native event leads to, if it is one.
pub fn column(pointer: &str) -> Option<Field> {
    FIELDS
        .iter()
        .find(|(at, _)| pointer.strip_prefix(at).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')))
        .map(|f| f.1)
}

impl Redactor {
    /// Applies the rules to the fields that hold text. Those that hold JSON have had them while they were written.
    pub(crate) fn apply<'e>(&self, event: &mut Event<'e>) {
        let (rules, scope): (&Rules, &Scope) = (&self.rules, &self.scope);
        let one = |text: &mut Cow<'e, str>, path: &[&str]| {
            let replaced = match rules.action(path, scope) {
                Some(Action::Always) if !super::names::is_marker(text.as_bytes()) => {
                    self.marker("rule", text.as_bytes())
                }
                Some(Action::Digest) => self.digest(text),
                _ => return,
            };
            *text = Cow::Owned(replaced);
        };
        macro_rules! fields {
            ($($($name:ident).+ => $path:expr;)+) => { $(if let Some(t) = &mut event.$($name).+ { one(t, $path); })+ };
        }
        macro_rules! lists {
            ($($($name:ident).+ => $path:expr;)+) => { $(event.$($name).+.iter_mut().for_each(|t| one(t, $path));)+ };
        }
        fields! {
            requester.id => &["requester", "id"];
            requester.email => &["requester", "email"];
            requester.issuer => &["requester", "issuer"];
            session.id => &["session", "id"];
            session.run => &["session", "run"];
            session.conversation => &["session", "conversation"];
            session.mcp => &["session", "mcp"];
            session.task => &["session", "task"];
            server.id => &["server", "id"];
            server.name => &["server", "name"];
            call.destination => &["call", "destination"];
            call.http_host => &["call", "http", "host"];
            call.http_path => &["call", "http", "path"];
            token.subject => &["token", "subject"];
            token.client_id => &["token", "client_id"];
            token.txn => &["token", "txn"];
            links.request => &["links", "request"];
            network.ip => &["network", "ip"];
            network.user_agent => &["network", "user_agent"];
            network.spiffe => &["network", "spiffe"];
        }
        lists! {
            requester.roles => &["requester", "roles"];
            call.resources => &["call", "resources"];
            decision.reasons => &["decision", "reasons"];
        }
        for actor in &mut event.actors {
            one(&mut actor.id, &["actors", "id"]);
            if let Some(name) = &mut actor.name {
                one(name, &["actors", "name"]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_one() {
        let mut named: Vec<_> = FIELDS.iter().map(|f| f.1).collect();
        // The body of a record of authority is personal as a whole: it has no members of an event.
        named.push(Field::Body);
        named.sort_unstable();
        assert_eq!(named, columns().collect::<Vec<_>>());
        assert_eq!(column("/call/params/to/0"), Some(Field::Params));
        assert_eq!(column("/call/params_digest"), None);
    }
}
