//! The rule file: what a site knows about its own fields and tools.
//!
//! Guarantee: a mistake in it is refused when it is read, with line and column, naming the nearest known word; an empty file
//! changes nothing. The first rule that fits a field decides. Where the tool is not known (a rejected record), rules for a
//! tool that remove apply and rules for a tool that spare do not. `docs/redaction.md` is the manual.

use super::{names, tokens};
use crate::mapping::nearest;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// Why a rule file was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {problem}")]
pub struct RulesError {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong, naming the key.
    pub problem: String,
}

/// What becomes of a field that a rule fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Always a marker, whatever it holds.
    Always,
    /// Always a keyed digest: equal values stay comparable.
    Digest,
    /// Its name tells nothing; known shapes are still removed.
    Keep,
    /// Never looked at.
    Never,
}

impl Action {
    const ALL: &[Action] = &[Action::Always, Action::Digest, Action::Keep, Action::Never];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Always => "always",
            Action::Digest => "digest",
            Action::Keep => "keep",
            Action::Never => "never",
        }
    }

    fn removes(self) -> bool {
        matches!(self, Action::Always | Action::Digest)
    }
}

/// One segment of a field's path.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Segment {
    /// A name, in which `*` stands for any characters.
    Name(String),
    /// `**`: any number of names.
    Any,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    path: Vec<Segment>,
    tool: Option<String>,
    action: Action,
}

/// What is known of the tool of a record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Nothing.
    #[default]
    Unknown,
    /// The tools of its decisions.
    Tools(Vec<String>),
}

/// A rule file, read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// Kinds of token that are not looked for.
    off: Vec<String>,
    /// Ends of further telling names, folded.
    telling: Vec<String>,
    /// Ends of names that are not telling, folded.
    plain: Vec<String>,
    rules: Vec<Rule>,
}

impl Rules {
    /// Reads a rule file; `name` is for messages.
    pub fn parse(text: &str, name: &str) -> Result<Rules, RulesError> {
        let reader = Reader { text, file: name };
        let root = DeTable::parse(text)
            .map_err(|e| reader.error(e.span().unwrap_or_default(), e.message().to_owned()))?
            .into_inner();
        reader.known(&root, &["kinds", "names", "rule"])?;
        let mut rules = Rules::default();
        if let Some(v) = root.get("kinds") {
            let table = reader.table(v, "kinds")?;
            reader.known(table, &["off"])?;
            for (kind, span) in reader.strings(table.get("off"), "kinds.off")? {
                if !tokens::kinds().any(|k| k == kind) {
                    let near = nearest(&kind, tokens::kinds());
                    return Err(reader.error(span, format!("`kinds.off` does not know `{kind}`{near}")));
                }
                rules.off.push(kind);
            }
        }
        if let Some(v) = root.get("names") {
            let table = reader.table(v, "names")?;
            reader.known(table, &["telling", "plain"])?;
            for (key, into) in [("telling", &mut rules.telling), ("plain", &mut rules.plain)] {
                for (name, span) in reader.strings(table.get(key), &format!("names.{key}"))? {
                    let folded = names::Folded::new(name.as_bytes());
                    if folded.as_bytes().is_empty() {
                        return Err(reader.error(span, format!("`names.{key}` has an empty name")));
                    }
                    into.push(String::from_utf8_lossy(folded.as_bytes()).into_owned());
                }
            }
        }
        if let Some(v) = root.get("rule") {
            let list = v
                .get_ref()
                .as_array()
                .ok_or_else(|| reader.error(v.span(), "rules are written as `[[rule]]`".into()))?;
            rules.rules = list.iter().map(|v| reader.rule(v)).collect::<Result<_, _>>()?;
        }
        Ok(rules)
    }

    /// What the rules say and which fields they reach, for the policy's version: two files with the same rules say the same.
    pub(crate) fn describe(&self) -> String {
        if *self == Rules::default() { String::new() } else { format!("{self:?}, on every text") }
    }

    /// Whether a kind is looked for.
    #[inline]
    pub(crate) fn wants(&self, kind: &str) -> bool {
        self.off.is_empty() || !self.off.iter().any(|k| k == kind)
    }

    /// Whether names or fields are judged otherwise than without a rule file.
    #[inline]
    pub(crate) fn touches_fields(&self) -> bool {
        !(self.rules.is_empty() && self.telling.is_empty() && self.plain.is_empty())
    }

    /// Whether a rule is for certain tools only.
    #[inline]
    pub(crate) fn asks_for_tool(&self) -> bool {
        self.rules.iter().any(|r| r.tool.is_some())
    }

    /// Whether there are rules for fields.
    #[inline]
    pub(crate) fn has_rules(&self) -> bool {
        !self.rules.is_empty()
    }

    /// What a name says, by the file; `None` when it does not speak of it.
    pub(crate) fn name(&self, name: &[u8]) -> Option<bool> {
        if self.telling.is_empty() && self.plain.is_empty() {
            return None;
        }
        let folded = names::Folded::new(name);
        let any = |ends: &[String]| ends.iter().any(|end| folded.ends_with(end));
        if any(&self.plain) {
            return Some(false);
        }
        any(&self.telling).then_some(true)
    }

    /// What the rules say of a field, of which the path is given from the root of the event.
    pub(crate) fn action(&self, path: &[&str], scope: &Scope) -> Option<Action> {
        let fits = |r: &&Rule| {
            let tool = match (&r.tool, scope) {
                (None, _) => true,
                (Some(_), Scope::Unknown) => r.action.removes(),
                (Some(glob), Scope::Tools(tools)) if r.action.removes() => tools.iter().any(|t| wild(glob, t)),
                (Some(glob), Scope::Tools(tools)) => !tools.is_empty() && tools.iter().all(|t| wild(glob, t)),
            };
            tool && matches(&r.path, path)
        };
        self.rules.iter().find(fits).map(|r| r.action)
    }
}

/// Whether a path is as a rule says.
fn matches(segments: &[Segment], path: &[&str]) -> bool {
    // The usual way of wildcards: at a mismatch the last `**` takes one more name.
    let (mut s, mut p, mut star) = (0, 0, None);
    while p < path.len() {
        match segments.get(s) {
            Some(Segment::Any) => {
                star = Some((s, p));
                s += 1;
            }
            Some(Segment::Name(name)) if wild(name, path[p]) => (s, p) = (s + 1, p + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (s, p) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    segments[s..].iter().all(|s| *s == Segment::Any)
}

/// Whether a text is as a pattern says, in which `*` stands for any characters.
fn wild(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.as_bytes(), text.as_bytes());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(b) if *b == text[t] => (p, t) = (p + 1, t + 1),
            _ => match star {
                Some((at, taken)) => {
                    star = Some((at, taken + 1));
                    (p, t) = (at + 1, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

struct Reader<'r> {
    text: &'r str,
    file: &'r str,
}

type Entry<'v, 'i> = &'v Spanned<DeValue<'i>>;

impl Reader<'_> {
    fn error(&self, span: Range<usize>, problem: String) -> RulesError {
        let before = self.text.get(..span.start).unwrap_or_default();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        RulesError { file: self.file.to_owned(), line, column, problem }
    }

    fn known(&self, table: &DeTable<'_>, keys: &[&str]) -> Result<(), RulesError> {
        match table.iter().find(|(key, _)| !keys.contains(&key.get_ref().as_ref())) {
            None => Ok(()),
            Some((key, _)) => {
                let near = nearest(key.get_ref(), keys.iter().copied());
                Err(self.error(key.span(), format!("unknown key `{}`{near}", key.get_ref())))
            }
        }
    }

    fn table<'v, 'i>(&self, v: Entry<'v, 'i>, key: &str) -> Result<&'v DeTable<'i>, RulesError> {
        v.get_ref()
            .as_table()
            .ok_or_else(|| self.error(v.span(), format!("`{key}` is a table, not {}", v.get_ref().type_str())))
    }

    fn string(&self, v: Entry<'_, '_>, key: &str) -> Result<(String, Range<usize>), RulesError> {
        match v.get_ref().as_str() {
            Some(s) => Ok((s.to_owned(), v.span())),
            None => Err(self.error(v.span(), format!("`{key}` is text, not {}", v.get_ref().type_str()))),
        }
    }

    fn strings(&self, v: Option<Entry<'_, '_>>, key: &str) -> Result<Vec<(String, Range<usize>)>, RulesError> {
        let Some(v) = v else { return Ok(Vec::new()) };
        let list = v.get_ref().as_array().ok_or_else(|| self.error(v.span(), format!("`{key}` is a list of texts")))?;
        list.iter().map(|v| self.string(v, key)).collect()
    }

    fn rule(&self, v: Entry<'_, '_>) -> Result<Rule, RulesError> {
        let table = self.table(v, "rule")?;
        self.known(table, &["field", "tool", "action"])?;
        let needed = |key: &str| table.get(key).ok_or_else(|| self.error(v.span(), format!("a rule needs a `{key}`")));
        let (field, span) = self.string(needed("field")?, "field")?;
        let path = path(&field).map_err(|problem| self.error(span, problem))?;
        let (word, span) = self.string(needed("action")?, "action")?;
        let action = Action::ALL.iter().copied().find(|a| a.as_str() == word).ok_or_else(|| {
            let near = nearest(&word, Action::ALL.iter().map(|a| a.as_str()));
            self.error(span, format!("`action` does not know `{word}`{near}"))
        })?;
        let tool = table.get("tool").map(|v| self.string(v, "tool")).transpose()?.map(|t| t.0);
        Ok(Rule { path, tool, action })
    }
}

/// `/a/b` from the root, `a/b` anywhere.
fn path(field: &str) -> Result<Vec<Segment>, String> {
    let (anchored, rest) = match field.strip_prefix('/') {
        Some(rest) => (true, rest),
        None => (false, field),
    };
    if rest.is_empty() || rest.split('/').any(str::is_empty) {
        return Err(format!("`{field}` has an empty name: write `/call/params/note` or `note`"));
    }
    let segment = |s: &str| match s {
        "**" => Segment::Any,
        name => Segment::Name(name.replace("~1", "/").replace("~0", "~")),
    };
    let mut segments: Vec<Segment> = rest.split('/').map(segment).collect();
    if anchored {
        let Segment::Name(first) = &segments[0] else { return Ok(segments) };
        if !first.contains('*') && !super::personal::ROOTS.contains(&first.as_str()) {
            let near = nearest(first, super::personal::ROOTS.iter().copied());
            return Err(format!("an event has no `{first}`{near}"));
        }
    } else {
        segments.insert(0, Segment::Any);
    }
    Ok(segments)
}
