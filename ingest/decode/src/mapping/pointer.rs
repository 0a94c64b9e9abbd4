//! Pointers: where in a record something stands.
//!
//! Guarantee: a pointer is split and its start resolved when the file is read, so that following one is a walk over the
//! tape that allocates nothing. One that leads nowhere gives `None`, never a default.

use crate::Format;
use crate::json::{Kind, Value};

/// Which part of a record a pointer starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Root {
    Record,
    Input,
    Output,
    /// The claims of the token that Cerbos has verified.
    Claims,
    /// The value of one rule output.
    Val,
    /// One item of the list that the record fans out over, its key when that is an object, and what it is paired with.
    Item,
    Key,
    Pair,
}

/// How the pointers of a mapping begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// At the record itself.
    Plain,
    /// At a part of a Cerbos entry, named first.
    Cerbos,
    /// At the record or at a part of the item, named first.
    Fan,
}

impl Start {
    pub(super) fn of(format: Format, fans_out: bool) -> Start {
        match format {
            Format::Cerbos => Start::Cerbos,
            _ if fans_out => Start::Fan,
            _ => Start::Plain,
        }
    }

    fn roots(self) -> &'static [(&'static str, Root)] {
        const CERBOS: &[(&str, Root)] = &[
            ("record", Root::Record),
            ("input", Root::Input),
            ("output", Root::Output),
            ("claims", Root::Claims),
            ("val", Root::Val),
        ];
        const FAN: &[(&str, Root)] =
            &[("record", Root::Record), ("item", Root::Item), ("key", Root::Key), ("pair", Root::Pair)];
        match self {
            Start::Plain => &[],
            Start::Cerbos => CERBOS,
            Start::Fan => FAN,
        }
    }
}

/// The parts of a record that pointers start from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Roots<'t> {
    pub(crate) record: Value<'t>,
    pub(crate) input: Option<Value<'t>>,
    pub(crate) output: Option<Value<'t>>,
    pub(crate) claims: Option<Value<'t>>,
    pub(crate) val: Option<Value<'t>>,
    pub(crate) item: Option<Value<'t>>,
    pub(crate) key: Option<Value<'t>>,
    pub(crate) pair: Option<Value<'t>>,
    /// Lists of pointers, from the record on, to what its producer removed and to what it wrote over.
    pub(crate) erased: Option<Value<'t>>,
    pub(crate) masked: Option<Value<'t>>,
}

impl<'t> Roots<'t> {
    pub(crate) fn record(record: Value<'t>) -> Roots<'t> {
        let (input, output, claims, val) = (None, None, None, None);
        let (item, key, pair) = (None, None, None);
        Roots { record, input, output, claims, val, item, key, pair, erased: None, masked: None }
    }

    /// The same for a record that lists what was taken out of it.
    pub(crate) fn with_removed(self, erased: Option<Value<'t>>, masked: Option<Value<'t>>) -> Roots<'t> {
        Roots { erased, masked, ..self }
    }

    /// Whether the record says that something was taken out of it.
    pub(super) fn lists_removed(&self) -> bool {
        self.erased.is_some() || self.masked.is_some()
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Member(String),
    /// A number: an item of an array, or a member so named.
    Item(usize, String),
    /// `*`: the first item, or the member whose name is first in order, so that the order of the record makes no difference.
    First,
}

/// An RFC 6901 pointer, split.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pointer {
    root: Root,
    steps: Box<[Step]>,
    /// As it was written.
    text: Box<str>,
}

impl Step {
    #[inline]
    fn from<'t>(&self, value: Value<'t>) -> Option<Value<'t>> {
        Some(match (self, value.kind()) {
            (Step::Member(name) | Step::Item(_, name), Kind::Object) => value.get(name)?,
            (Step::Item(n, _), Kind::Array) => value.items().nth(*n)?,
            (Step::First, Kind::Object) => value.entries().min_by_key(|member| member.0)?.1,
            (Step::First, Kind::Array) => value.items().next()?,
            _ => return None,
        })
    }
}

impl std::fmt::Display for Pointer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl Pointer {
    /// The name of the last member that it leads through: what its value is called.
    pub(crate) fn name(&self) -> &str {
        let named = self.steps.iter().rev().find_map(|step| match step {
            Step::Member(name) => Some(name.as_str()),
            Step::Item(..) | Step::First => None,
        });
        named.unwrap_or_default()
    }

    /// Whether it leads to the record's member of this name.
    pub(super) fn is_member(&self, name: &str) -> bool {
        matches!((&self.root, &*self.steps), (Root::Record, [Step::Member(member)]) if member == name)
    }

    pub(super) fn parse(text: &str, start: Start) -> Result<Pointer, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}` is not a pointer: it must start with `/`"));
        }
        let mut steps: Vec<Step> = text
            .split('/')
            .skip(1)
            .map(|token| match token.parse() {
                _ if token == "*" => Step::First,
                Ok(n) => Step::Item(n, token.to_owned()),
                Err(_) => Step::Member(token.replace("~1", "/").replace("~0", "~")),
            })
            .collect();
        let mut root = Root::Record;
        if start != Start::Plain {
            let known = start.roots();
            let first = steps.remove(0);
            let Some(found) = known.iter().find(|(name, _)| matches!(&first, Step::Member(m) if m == name)) else {
                let names: Vec<_> = known.iter().map(|(name, _)| format!("`/{name}`")).collect();
                return Err(format!("`{text}` starts at none of {}", names.join(", ")));
            };
            root = found.1;
        }
        Ok(Pointer { root, steps: steps.into(), text: text.into() })
    }

    /// Whether it looks at a part of the record that only an item has.
    pub(super) fn is_of_item(&self) -> bool {
        matches!(self.root, Root::Item | Root::Key | Root::Pair)
    }

    /// Whether it starts at the record itself.
    pub(super) fn is_of_record(&self) -> bool {
        self.root == Root::Record
    }

    pub(super) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn follow<'t>(&self, roots: &Roots<'t>) -> Option<Value<'t>> {
        self.from(self.start(roots)?)
    }

    /// The same, with a look at each value on the way.
    pub(super) fn walk<'t>(&self, roots: &Roots<'t>, visit: &mut dyn FnMut(Value<'t>)) -> Option<Value<'t>> {
        let mut value = self.start(roots)?;
        for step in &self.steps {
            visit(value);
            value = step.from(value)?;
        }
        Some(value)
    }

    fn start<'t>(&self, roots: &Roots<'t>) -> Option<Value<'t>> {
        Some(match self.root {
            Root::Record => roots.record,
            Root::Input => roots.input?,
            Root::Output => roots.output?,
            Root::Claims => roots.claims?,
            Root::Val => roots.val?,
            Root::Item => roots.item?,
            Root::Key => roots.key?,
            Root::Pair => roots.pair?,
        })
    }

    pub(crate) fn from<'t>(&self, mut value: Value<'t>) -> Option<Value<'t>> {
        for step in &self.steps {
            value = step.from(value)?;
        }
        Some(value)
    }

    /// Every value that it leads to when `*` stands for each member or item.
    pub(crate) fn each<'t>(&self, value: Value<'t>) -> Vec<Value<'t>> {
        let mut values = vec![value];
        for step in &self.steps {
            values = values
                .into_iter()
                .flat_map(|v| match (step, v.kind()) {
                    (Step::Member(name) | Step::Item(_, name), Kind::Object) => v.get(name).into_iter().collect(),
                    (Step::Item(n, _), Kind::Array) => v.items().nth(*n).into_iter().collect(),
                    (Step::First, Kind::Object) => v.entries().map(|e| e.1).collect(),
                    (Step::First, Kind::Array) => v.items().collect::<Vec<_>>(),
                    _ => Vec::new(),
                })
                .collect();
        }
        values
    }
}
