//! Hop patterns: which paths go from here to there.
//!
//! Guarantee: a pattern is read whole or refused with the column and what was expected there; matching takes time in
//! proportion to the pattern times the path, whatever either holds, and looks at nothing but the hops.
//!
//! ```text
//! human:alice > agent:* > tool:payments.*       alice, an agent right after her, and a payment right after that
//! client:claude-code >> server:mail $           from that client, sooner or later, to the server mail, and no further
//! ^ human:* > agent:planner                     planner acts for a person, with nobody between
//! ```
//!
//! | written | means |
//! |---|---|
//! | `kind:name` | a hop of that kind; kinds are `human`, `client`, `agent`, `workload`, `bot`, `server`, `tool`, and `any` or `*` |
//! | `name` | a hop of any kind; `mcp:mail` is a name, because `mcp` is no kind |
//! | `*` in a name | any characters, or none; `\*` is a star, `\\` a backslash, `\"` a quote |
//! | `"..."` | a name with spaces or `>`; a hop quoted whole has no kind: `"agent:x"` is an id |
//! | `a > b` | b is the hop after a |
//! | `a >> b` | b is any later hop |
//! | `^` first, `$` last | the path begins, ends here; without them a pattern may match anywhere |
//!
//! A hop is matched by its id, or by what its id holds after its kind: `agent:planner` is both an agent `planner` and the
//! id `agent:planner`. Case matters. A hop of a kind that nobody recorded is matched by `any` alone.

use super::{Chain, Name, Store};
use std::fmt;

/// Characters of a pattern.
const LENGTH_MAX: usize = 4096;
/// Hops of a pattern.
const HOPS_MAX: usize = 64;

/// What a hop is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Nobody recorded it.
    #[default]
    Unknown,
    /// A person.
    Human,
    /// A client.
    Client,
    /// An agent.
    Agent,
    /// A workload.
    Workload,
    /// A bot.
    Bot,
    /// A tool server.
    Server,
    /// A tool.
    Tool,
}

impl Kind {
    /// Kinds that a pattern can name.
    pub const NAMED: [Kind; 7] =
        [Kind::Human, Kind::Client, Kind::Agent, Kind::Workload, Kind::Bot, Kind::Server, Kind::Tool];

    /// As it is written.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Unknown => "unknown",
            Kind::Human => "human",
            Kind::Client => "client",
            Kind::Agent => "agent",
            Kind::Workload => "workload",
            Kind::Bot => "bot",
            Kind::Server => "server",
            Kind::Tool => "tool",
        }
    }

    /// The kind of a principal: as recorded, else as its id says it.
    pub fn of(recorded: &str, id: &str) -> Kind {
        match recorded {
            "human" | "person" | "user" => Kind::Human,
            "" => prefix(id).map_or(Kind::Unknown, |(kind, _)| kind),
            other => Kind::NAMED.into_iter().find(|k| k.is_principal() && k.as_str() == other).unwrap_or_default(),
        }
    }

    fn is_principal(self) -> bool {
        !matches!(self, Kind::Server | Kind::Tool)
    }
}

/// The kind that an id of a principal carries, and the rest of the id.
fn prefix(id: &str) -> Option<(Kind, &str)> {
    let (kind, rest) = id.split_once(':')?;
    Some((Kind::NAMED.into_iter().find(|k| k.is_principal() && k.as_str() == kind)?, rest))
}

/// A hop of a path, as patterns see it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Place<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its id; empty for an unknown requester.
    pub id: &'a str,
}

impl Chain {
    /// The hops of an event: its path, root first, then the tool server, then the tool. A root of no recorded kind is a
    /// person, as everywhere.
    pub fn places<'s>(&self, store: &'s Store, event: usize) -> Vec<Place<'s>> {
        let link = &self.links[event];
        let row = store.row_at(link.row);
        let hops = &self.paths[link.path as usize].hops;
        let mut places = Vec::with_capacity(hops.len() + 2);
        for (i, hop) in hops.iter().enumerate() {
            let id = store.text(hop.id);
            let kind = Kind::of(store.text(hop.kind), id);
            let is_person = i == 0 && kind == Kind::Unknown && hop.kind.is_none() && hop.id.is_some();
            places.push(Place { kind: if is_person { Kind::Human } else { kind }, id });
        }
        let mut add = |kind, name: Name| places.extend(name.is_some().then(|| Place { kind, id: store.text(name) }));
        add(Kind::Server, row.server);
        add(Kind::Tool, row.tool);
        places
    }
}

/// A pattern over hops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    hops: Vec<Hop>,
    from_start: bool,
    to_end: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Hop {
    /// None: any.
    kind: Option<Kind>,
    name: Glob,
    /// Whether hops may lie between the one before and this one.
    later: bool,
}

/// What was not understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PatternError {
    /// Character at which it was not, from 1.
    pub column: usize,
    /// What would have been.
    pub expected: &'static str,
    /// What stands there instead; none at the end.
    pub found: Option<char>,
}

impl fmt::Display for PatternError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column {}: expected {}, found ", self.column, self.expected)?;
        match self.found {
            Some(c) => write!(f, "`{}`", crate::text::escape(c.encode_utf8(&mut [0; 4]))),
            None => f.write_str("the end"),
        }
    }
}

impl std::error::Error for PatternError {}

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Pattern, PatternError> {
        let mut reader = Reader { chars: text.chars().take(LENGTH_MAX + 1).collect(), at: 0 };
        if reader.chars.len() > LENGTH_MAX {
            reader.at = LENGTH_MAX;
            return reader.expected("the end: a pattern has at most 4096 characters");
        }
        reader.skip_space();
        let from_start = reader.take('^');
        let mut hops: Vec<Hop> = Vec::new();
        let mut later = false;
        loop {
            reader.skip_space();
            if hops.len() == HOPS_MAX {
                return reader.expected("the end: a pattern has at most 64 hops");
            }
            let (kind, name) = reader.hop()?;
            hops.push(Hop { kind, name, later });
            reader.skip_space();
            if reader.take('>') {
                later = reader.take('>');
                continue;
            }
            let to_end = reader.take('$');
            reader.skip_space();
            return match (reader.peek(), to_end) {
                (None, _) => Ok(Pattern { hops, from_start, to_end }),
                (Some(_), true) => reader.expected("the end after `$`"),
                (Some(_), false) => reader.expected("`>`, `>>`, `$` or the end"),
            };
        }
    }

    /// Whether a path has it.
    pub fn matches(&self, places: &[Place<'_>]) -> bool {
        self.find(places).is_some()
    }

    /// The places that its hops matched: the earliest possible, hop by hop.
    pub fn find(&self, places: &[Place<'_>]) -> Option<Vec<usize>> {
        let (n, hops) = (places.len(), self.hops.len());
        // From the last hop backwards: at[h][p] is whether hops from h on can match with h at p.
        let mut at = vec![vec![false; n]; hops];
        for h in (0..hops).rev() {
            let mut is_later_open = false;
            for p in (0..n).rev() {
                let goes_on = match self.hops.get(h + 1) {
                    None => !self.to_end || p + 1 == n,
                    Some(next) if next.later => is_later_open,
                    Some(_) => p + 1 < n && at[h + 1][p + 1],
                };
                at[h][p] = goes_on && self.hops[h].is(&places[p]);
                is_later_open |= h + 1 < hops && at[h + 1][p];
            }
        }
        let mut found = Vec::with_capacity(hops);
        for (h, hop) in self.hops.iter().enumerate() {
            let after = found.last().map_or(0, |p| p + 1);
            let may_skip = if h == 0 { !self.from_start } else { hop.later };
            let until = if may_skip { n } else { n.min(after + 1) };
            found.push((after..until).find(|p| at[h][*p])?);
        }
        Some(found)
    }
}

impl Hop {
    fn is(&self, place: &Place<'_>) -> bool {
        let carried = if place.kind.is_principal() { prefix(place.id) } else { None };
        let rest = match (carried, place.kind) {
            (Some((kind, rest)), _) => Some((kind, rest)),
            // A tool server or tool whose id begins with its own kind.
            (None, kind) => place.id.strip_prefix(kind.as_str()).and_then(|r| Some((kind, r.strip_prefix(':')?))),
        };
        let by_rest = |wanted: Option<Kind>| {
            rest.is_some_and(|(kind, rest)| wanted.is_none_or(|w| w == kind) && self.name.matches(rest))
        };
        match self.kind {
            None => self.name.matches(place.id) || by_rest(None),
            Some(kind) => kind == place.kind && self.name.matches(place.id) || by_rest(Some(kind)),
        }
    }
}

/// A name with stars, as the texts between them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob(Vec<String>);

impl Glob {
    /// In time linear in both: what stands between two stars is looked for once, from where the one before ended.
    fn matches(&self, text: &str) -> bool {
        let [first, middle @ .., last] = self.0.as_slice() else { return self.0[0] == text };
        let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
        for part in middle {
            let Some(at) = rest.find(part.as_str()) else { return false };
            rest = &rest[at + part.len()..];
        }
        rest.ends_with(last.as_str())
    }
}

struct Reader {
    chars: Vec<char>,
    at: usize,
}

impl Reader {
    fn peek(&self) -> Option<char> {
        self.chars.get(self.at).copied()
    }

    fn take(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        self.at += usize::from(is);
        is
    }

    fn skip_space(&mut self) {
        while self.peek().is_some_and(char::is_whitespace) {
            self.at += 1;
        }
    }

    fn expected<T>(&self, expected: &'static str) -> Result<T, PatternError> {
        Err(PatternError { column: self.at + 1, expected, found: self.peek() })
    }

    fn hop(&mut self) -> Result<(Option<Kind>, Glob), PatternError> {
        if self.peek() == Some('"') {
            return Ok((None, self.quoted()?));
        }
        let start = self.at;
        if let Some(kind) = self.kind() {
            let name = if self.peek() == Some('"') { Some(self.quoted()?) } else { self.bare()? };
            return match name {
                Some(name) => Ok((kind, name)),
                None => self.expected("a name or `*` after the kind"),
            };
        }
        self.at = start;
        match self.bare()? {
            Some(name) => Ok((None, name)),
            None => self.expected("a hop: `kind:name`, a name or `*`"),
        }
    }

    /// `kind:`, if one stands here.
    fn kind(&mut self) -> Option<Option<Kind>> {
        let end = self.chars[self.at..].iter().position(|c| *c == ':')? + self.at;
        let word: String = self.chars[self.at..end].iter().collect();
        let kind = match word.as_str() {
            "any" | "*" => None,
            word => Some(Kind::NAMED.into_iter().find(|k| k.as_str() == word)?),
        };
        self.at = end + 1;
        Some(kind)
    }

    /// A name up to a space, a quote, `>` or the `$` that ends the pattern.
    fn bare(&mut self) -> Result<Option<Glob>, PatternError> {
        let (start, mut glob) = (self.at, Glob(vec![String::new()]));
        while let Some(c) = self.peek().filter(|c| !c.is_whitespace() && !matches!(c, '>' | '"')) {
            if c == '$' && self.chars[self.at + 1..].iter().all(|c| c.is_whitespace()) {
                break;
            }
            self.character(&mut glob)?;
        }
        Ok((self.at > start).then_some(glob))
    }

    fn quoted(&mut self) -> Result<Glob, PatternError> {
        let mut glob = Glob(vec![String::new()]);
        self.at += 1;
        loop {
            match self.peek() {
                None => return self.expected("`\"` at the end of the name"),
                Some('"') => {
                    self.at += 1;
                    return Ok(glob);
                }
                Some(_) => self.character(&mut glob)?,
            }
        }
    }

    /// A character of a name, a star, or one of them after a backslash.
    fn character(&mut self, glob: &mut Glob) -> Result<(), PatternError> {
        let is_escaped = self.take('\\');
        match self.peek() {
            Some('*') if !is_escaped => glob.0.push(String::new()),
            Some(c) if !is_escaped || matches!(c, '*' | '\\' | '"') => {
                glob.0.last_mut().expect("a name has a part").push(c);
            }
            _ => return self.expected("`*`, `\\` or `\"` after the backslash"),
        }
        self.at += 1;
        Ok(())
    }
}
