//! Which fields of an event are about a person, and how rules reach the fields that are not JSON.
//!
//! Guarantees: a field is personal exactly when its column is one of those that the leaf commits to as personal
//! (`catena_schemas::table`, leaf id 250). A rule reaches every field of the event that holds text: the walk is generated from the
//! table of fields.

use super::{Action, Redactor, Rules, Scope};
use catena_schemas::table::{Field, PERSONAL};
use catena_schemas::{Actor, Event};
use std::borrow::Cow;

/// The paths of fields, as rules and pointers name them.
macro_rules! paths {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident { $(
            $(#[doc = $doc:literal])+
            $field:ident: $how:ident [$($object:ident)? $member:literal] => $variant:ident $(, slot $slot:ident)?;
        )+ }
    )+) => {
        /// Members of an event, where the path of a rule begins.
        pub(crate) const ROOTS: &[&str] = &["actors", "actors_source", "extra", $(stringify!($group)),+];

        /// The fields that are members of a native event, with their columns.
        const FIELDS: &[(&str, Field)] = &[
            $($((concat!("/", stringify!($group), "/", $(stringify!($object), "/",)? $member), Field::$variant),)+)+
        ];
    };
}

catena_schemas::event_fields! { groups paths }

/// The columns that are about a person: those that an erasure takes and of which the leaf has one salted commitment.
pub fn columns() -> impl Iterator<Item = Field> {
    Field::ALL.iter().copied().filter(|f| f.leaf() == PERSONAL)
}

/// The personal column that a pointer into a native event leads to, if it is one.
pub fn column(pointer: &str) -> Option<Field> {
    FIELDS
        .iter()
        .filter(|f| f.1.leaf() == PERSONAL)
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
        walk(event, one);
    }
}

/// Shows a field to `one` if it holds text.
macro_rules! show {
    ($one:ident text $target:expr, $path:expr) => { $target.iter_mut().for_each(|t| $one(t, $path)) };
    ($one:ident scalar $target:expr, $path:expr) => { show!($one text $target, $path) };
    ($one:ident digest $target:expr, $path:expr) => { show!($one text $target, $path) };
    ($one:ident texts $target:expr, $path:expr) => { show!($one text $target, $path) };
    ($one:ident scopes $target:expr, $path:expr) => { show!($one text $target, $path) };
    ($one:ident digests $target:expr, $path:expr) => { show!($one text $target, $path) };
    // Numbers, instants and words of a vocabulary hold nothing of the caller's; JSON had the rules while it was written.
    ($one:ident $other:ident $target:expr, $path:expr) => {};
}

macro_rules! walk {
    ($(
        $(#[doc = $group_doc:literal])+
        $group:ident: $Group:ident { $(
            $(#[doc = $doc:literal])+
            $field:ident: $how:ident [$($object:ident)? $member:literal] => $variant:ident $(, slot $slot:ident)?;
        )+ }
    )+) => {
        /// Shows every text of an event to `one`, with its path.
        fn walk<'e>(event: &mut Event<'e>, mut one: impl FnMut(&mut Cow<'e, str>, &[&str])) {
            $($(show!(one $how event.$group.$field, &[stringify!($group), $(stringify!($object),)? $member]);)+)+
            for actor in &mut event.actors {
                let Actor { id, kind, issuer, assurance, name, version, model } = actor;
                one(id, &["actors", "id"]);
                let members = [
                    (kind, "kind"),
                    (issuer, "issuer"),
                    (assurance, "assurance"),
                    (name, "name"),
                    (version, "version"),
                    (model, "model"),
                ];
                for (value, member) in members {
                    show!(one text value, &["actors", member]);
                }
            }
            show!(one text event.actors_source, &["actors_source"]);
        }
    };
}

catena_schemas::event_fields! { groups walk }

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn personal_fields_are_those_of_the_leaf() {
        let mut named: Vec<_> = FIELDS.iter().filter_map(|f| column(f.0)).collect();
        // The body of a record of authority is personal as a whole: it has no members of an event.
        named.push(Field::Body);
        named.sort_unstable();
        assert_eq!(named, columns().collect::<Vec<_>>());
        assert_eq!(column("/call/params/to/0"), Some(Field::Params));
        assert_eq!(column("/call/params_digest"), None);
        assert_eq!(column("/tool/name"), None);
    }
}
