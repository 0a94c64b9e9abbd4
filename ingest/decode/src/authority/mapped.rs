//! Applies mappings for records of authority to a line of a log.
//!
//! Guarantees: of a column's alternatives the first that the line has and that is of the right type is taken, and one of a wrong type
//! is flagged `invalid:<column>`; a line that a mapping matches and that lacks what its kind cannot do without makes no entry. What
//! was taken does not appear in `extra`, and everything else does. References of tokens are keyed digests, and nothing that such a
//! digest was made of is left in clear.

use super::Draft;
use crate::claims::numeric_date;
use crate::formats::catena::instant;
use crate::formats::mapped::Extra;
use crate::json::{Kind, Value};
use crate::mapping::records::{Filler, RecordMapping};
use crate::mapping::{Mappings, Origin, OutcomeRule, Pointer, Roots};
use crate::redact::{Manner, Redactor, Taken, pieces};
use crate::{Context, Decoded};
use catena_schemas::Micros;
use catena_schemas::authority::{Cell, Column, Entry, EntryKind};
use catena_schemas::table::Kind as Stored;
use std::borrow::Cow;

/// One entry for each mapping that matches.
pub(crate) fn entries<'t>(
    root: Value<'t>,
    mappings: &'t Mappings,
    redactor: &Redactor,
    taken: &mut Taken,
    context: &Context<'t>,
) -> Result<Vec<Entry<'t>>, Decoded<'t>> {
    let roots = Roots::record(root);
    let dirty = redactor.suspects_record(root);
    let (mut entries, mut incomplete, mut known) = (Vec::new(), None, None);
    for mapping in mappings.of_records(&roots) {
        let Some(kind) = mapping.kind else {
            known.get_or_insert(mapping);
            continue;
        };
        taken.clear();
        let mut filling = Filling { mapping, roots, redactor, dirty, taken, draft: Draft::new(kind) };
        filling.envelope()?;
        for (name, fillers) in &mapping.columns {
            let table = kind.table();
            let column = table.own_column(name).map(|at| &table.own[at]);
            column.into_iter().for_each(|c| filling.column(c, fillers));
        }
        for v in mapping.drop.iter().filter_map(|p| p.follow(&roots)) {
            filling.taken.insert(v);
        }
        match filling.draft.missing() {
            Some(missing) => {
                incomplete.get_or_insert((mapping, missing));
            }
            None => {
                let Filling { draft, taken, .. } = filling;
                let mut extra = Extra::new(redactor, dirty, taken);
                extra.members(root);
                let extra = extra.finish();
                entries.push(draft.finish(extra, context));
            }
        }
    }
    match (entries.is_empty(), incomplete, known) {
        (false, ..) => Ok(entries),
        (true, Some((mapping, missing)), _) => {
            let detail = format!("`{missing}` is empty under `{}`", mapping.name);
            Err(Decoded::Rejection("field_missing", detail))
        }
        (true, None, Some(mapping)) => Err(Decoded::Aside("grants_nothing", mapping.name.clone())),
        (true, None, None) => Err(Decoded::Rejection("mapping_missing", "no mapping's conditions hold".into())),
    }
}

struct Filling<'t, 'r> {
    mapping: &'t RecordMapping,
    roots: Roots<'t>,
    redactor: &'r Redactor,
    dirty: bool,
    taken: &'r mut Taken,
    draft: Draft<'t>,
}

/// What an alternative found.
enum Found<'t> {
    /// A value, and what it is called.
    Value(Value<'t>, &'t str),
    /// Several that make one text.
    Parts(Parts<'t>),
}

/// Texts of the line and of the mapping, and what joins them.
struct Parts<'t> {
    /// Each with what it is called. They are redacted one by one, because what a secret is can hang on what stands before it.
    texts: Vec<(&'t str, &'t str)>,
    with: &'t str,
    /// Where those of the line stand.
    values: Vec<Value<'t>>,
}

impl<'t> Parts<'t> {
    fn constant(text: &'t str) -> Parts<'t> {
        Parts { texts: vec![("", text)], with: "", values: Vec::new() }
    }
}

impl<'t> Found<'t> {
    /// The values of the line that it is made of.
    fn values(&self) -> &[Value<'t>] {
        match self {
            Found::Value(v, _) => std::slice::from_ref(v),
            Found::Parts(parts) => &parts.values,
        }
    }

    /// The value that can be read off the column alone: of several that were joined nobody can tell which ended where.
    fn whole(&self) -> Option<Value<'t>> {
        match self.values() {
            [v] => Some(*v),
            _ => None,
        }
    }
}

impl<'t> Filling<'t, '_> {
    fn clean(&self, s: &'t str) -> Cow<'t, str> {
        if self.dirty { self.redactor.text(s) } else { Cow::Borrowed(s) }
    }

    /// The same for what may be called something telling.
    fn named(&self, name: &str, s: &'t str) -> Cow<'t, str> {
        self.redactor.told(name, s).map_or_else(|| self.clean(s), Cow::Owned)
    }

    fn envelope(&mut self) -> Result<(), Decoded<'t>> {
        let mapping = self.mapping;
        self.draft.source.kind = mapping.source.as_deref().map(Cow::Borrowed);
        self.draft.source.instance = self.text(&mapping.instance);
        self.draft.id = self.text(&mapping.id).unwrap_or_default();
        for filler in &mapping.time {
            let Some(Found::Value(v, name)) = self.find(filler) else { continue };
            let time = time(v, filler.utc()).ok_or_else(|| {
                let secret =
                    if self.redactor.tells(name, false) { self.redactor.told(name, &v.to_json()) } else { None };
                let shown = secret.unwrap_or_else(|| v.to_json());
                Decoded::Rejection("time_invalid", format!("the time is {shown}"))
            })?;
            self.draft.time = Some(time);
            self.taken.insert(v);
            break;
        }
        Ok(())
    }

    /// What a filler finds.
    fn find(&self, filler: &'t Filler) -> Option<Found<'t>> {
        let alternative = match filler {
            Filler::Joined(pointers, with) => {
                let part = |p: &'t Pointer| {
                    let v = p.follow(&self.roots)?;
                    v.as_scalar().filter(|s| !s.is_empty()).map(|s| ((p.name(), s), v))
                };
                let parts: Option<Vec<_>> = pointers.iter().map(part).collect();
                let (texts, values) = parts?.into_iter().unzip();
                return Some(Found::Parts(Parts { texts, with, values }));
            }
            Filler::Plain(alternative) => alternative,
        };
        if !alternative.applies(&self.roots, &OutcomeRule::default()) {
            return None;
        }
        match &alternative.from {
            Origin::Constant(text) => Some(Found::Parts(Parts::constant(text))),
            Origin::Pointer(pointer) => {
                let v = pointer.follow(&self.roots).filter(|v| !v.is_null())?;
                let part = |part: (&'t str, &'t str)| {
                    let texts = vec![("", alternative.prefix.as_str()), part];
                    Some(Found::Parts(Parts { texts, with: "", values: vec![v] }))
                };
                match v.as_scalar() {
                    Some("") => None,
                    // What a word stands for is the mapping's own text.
                    word if !alternative.is_whole() => part(("", alternative.word(word?)?)),
                    Some(s) if !alternative.prefix.is_empty() => part((pointer.name(), s)),
                    _ => Some(Found::Value(v, pointer.name())),
                }
            }
        }
    }

    fn text(&mut self, fillers: &'t [Filler]) -> Option<Cow<'t, str>> {
        fillers.iter().find_map(|f| {
            let found = self.find(f)?;
            let text = self.redacted(&found)?;
            found.whole().into_iter().for_each(|v| self.taken.insert(v));
            Some(text)
        })
    }

    fn column(&mut self, column: &'static Column, fillers: &'t [Filler]) {
        let is_token = self.is_token(column);
        for filler in fillers {
            let Some(found) = self.find(filler) else { continue };
            if is_token {
                // Whatever it is made of stays nowhere in clear, also when it turns out to be no token but a list of them.
                found.values().iter().for_each(|v| self.taken.insert(*v));
            }
            match self.cell(column, &found, filler) {
                Some(cell) => {
                    self.draft.set(column.name, cell);
                    found.whole().into_iter().for_each(|v| self.taken.insert(v));
                    return;
                }
                None => self.draft.flag(format!("invalid:{}", column.name)),
            }
        }
    }

    /// Text as it stands in the line.
    fn raw(&self, found: &Found<'t>) -> Option<Cow<'t, str>> {
        match found {
            Found::Parts(parts) => {
                let texts: Vec<&str> = parts.texts.iter().map(|part| part.1).collect();
                Some(Cow::Owned(texts.join(parts.with)))
            }
            Found::Value(v, _) => v.as_scalar().map(Cow::Borrowed),
        }
    }

    /// Text without secrets.
    fn redacted(&self, found: &Found<'t>) -> Option<Cow<'t, str>> {
        match found {
            Found::Parts(parts) => {
                let texts: Vec<_> = parts.texts.iter().map(|(name, s)| self.named(name, s)).collect();
                Some(Cow::Owned(texts.join(parts.with)))
            }
            Found::Value(v, name) => v.as_scalar().map(|s| self.named(name, s)),
        }
    }

    fn cell(&self, column: &Column, found: &Found<'t>, filler: &Filler) -> Option<Cell<'t>> {
        let text = || self.redacted(found);
        Some(match column.kind {
            Stored::Text | Stored::Id | Stored::Bytes if self.is_token(column) => {
                Cell::Text(Cow::Owned(self.redactor.digest(&self.raw(found)?)))
            }
            Stored::Text | Stored::Id | Stored::Bytes => Cell::Text(text()?),
            Stored::Int | Stored::Long => Cell::Int(text()?.parse().ok()?),
            Stored::Bool => Cell::Bool(text()?.parse().ok()?),
            Stored::Time => match found {
                Found::Value(v, _) => Cell::Time(time(*v, filler.utc())?),
                Found::Parts(..) => Cell::Time(Micros::parse_rfc3339(&text()?)?),
            },
            Stored::Json => match found {
                Found::Value(v, name) if matches!(v.kind(), Kind::Object | Kind::Array) => {
                    Cell::Json(match self.redactor.tells(name, false) {
                        true => {
                            let mut out = String::new();
                            let manner = Manner { dirty: true, sorted: false, taken: None };
                            self.redactor.write(*v, manner, true, &mut out);
                            Cow::Owned(out)
                        }
                        false => self.redactor.json_text(*v, self.dirty),
                    })
                }
                _ => return None,
            },
            Stored::List => Cell::List(match (text(), found) {
                (Some(text), _) => match filler.split() {
                    Some(split) => pieces(text, &[split]),
                    None => vec![text],
                },
                (None, Found::Value(v, name)) if v.kind() == Kind::Array => {
                    v.items().map(|i| i.as_scalar().map(|s| self.named(name, s))).collect::<Option<_>>()?
                }
                _ => return None,
            }),
        })
    }

    /// Whether a column holds a token, or as good as one.
    fn is_token(&self, column: &Column) -> bool {
        let about_tokens = || {
            let kind = self.mapping.columns.iter().find(|c| c.0 == "subject_kind");
            let found = kind.and_then(|(_, fillers)| fillers.iter().find_map(|f| self.find(f)));
            found.and_then(|found| self.raw(&found)).is_some_and(|text| text == "token")
        };
        column.name.ends_with("_ref")
            || (self.draft.kind == EntryKind::Lifecycle && column.name == "subject" && about_tokens())
    }
}

/// An instant as logs of authorization servers have it; with `utc`, also one that lost its zone.
fn time(v: Value<'_>, utc: bool) -> Option<Micros> {
    let zoneless = || Micros::parse_rfc3339(&format!("{}Z", v.as_str().filter(|_| utc)?));
    instant(v).or_else(|| numeric_date(v)).or_else(zoneless)
}
