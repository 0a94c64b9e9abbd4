//! What went wrong, as a stable code and a sentence that names the thing and the way out.
//!
//! Guarantee: a code never changes its meaning; a message never holds rows, nor paths of files in the lake, nor characters
//! that a terminal or a log would obey.

use std::fmt;

/// Characters of a message; the planner's can hold whole types and plans.
const MESSAGE_CHARS_MAX: usize = 1000;

/// Stable codes of [`QueryError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Code {
    /// The text is longer than the limit.
    TextTooLong,
    /// The text is no SQL.
    Syntax,
    /// Nothing to run.
    Empty,
    /// More than one statement.
    ManyStatements,
    /// Something other than reading.
    NotRead,
    /// More operators, joins, unions or columns than the limit.
    TooComplex,
    /// `WITH RECURSIVE`.
    RecursiveCte,
    /// A file, URL or foreign catalog as table.
    FileTable,
    /// A table that is not there.
    UnknownTable,
    /// A column that is not there.
    UnknownColumn,
    /// A function that is not there.
    UnknownFunction,
    /// A function that is not offered.
    FunctionNotAllowed,
    /// The statement parses, but means nothing.
    Invalid,
    /// It failed over the data: a division by zero, a text that is no number.
    Execution,
    /// Memory or spill space ran out.
    Memory,
    /// Time ran out.
    Time,
    /// Too many queries at once.
    Busy,
    /// The lake could not be read.
    Lake,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// The code as it stands in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::TextTooLong => "text_too_long",
            Code::Syntax => "syntax",
            Code::Empty => "empty",
            Code::ManyStatements => "many_statements",
            Code::NotRead => "not_read",
            Code::TooComplex => "too_complex",
            Code::RecursiveCte => "recursive_cte",
            Code::FileTable => "file_table",
            Code::UnknownTable => "unknown_table",
            Code::UnknownColumn => "unknown_column",
            Code::UnknownFunction => "unknown_function",
            Code::FunctionNotAllowed => "function_not_allowed",
            Code::Invalid => "invalid",
            Code::Execution => "execution",
            Code::Memory => "memory",
            Code::Time => "time",
            Code::Busy => "busy",
            Code::Lake => "lake",
            Code::Internal => "internal",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a query gave no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct QueryError {
    /// Stable code.
    pub code: Code,
    /// What, and what to do about it.
    pub message: String,
}

impl QueryError {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> QueryError {
        let message: String = message.into();
        // It goes to terminals and logs, and a part of it may be the statement's.
        let mut message = catena_analysis::text::escape(&message).into_owned();
        if let Some((cut, _)) = message.char_indices().nth(MESSAGE_CHARS_MAX) {
            message.truncate(cut);
            message.push('…');
        }
        QueryError { code, message }
    }
}

impl From<LakeError> for QueryError {
    fn from(error: LakeError) -> QueryError {
        // Which file it is stands in the log of the service: whoever asks over the API is not told the names of files.
        if let LakeError::Damaged { .. } = error {
            return QueryError::new(Code::Lake, "a file of the lake is damaged; `catena maintain --scrub` names it");
        }
        if let LakeError::NoLog { .. } = error {
            let message = "the lake holds data files without their log; restore `records/_delta_log`";
            return QueryError::new(Code::Lake, message);
        }
        let mut message = error.to_string();
        let mut cause = std::error::Error::source(&error);
        while let Some(c) = cause {
            message.push_str(": ");
            message.push_str(&c.to_string());
            cause = c.source();
        }
        QueryError::new(Code::Lake, message)
    }
}

/// Why a lake could not be opened or read.
#[derive(Debug, thiserror::Error)]
pub enum LakeError {
    /// Neither a folder nor a URL that this build can read.
    #[error("`{url}` is no place for a lake: {reason}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is something else.
    #[error("`{url}` is no lake: {reason}")]
    NotALake {
        /// As given.
        url: String,
        /// What is there instead.
        reason: String,
    },
    /// The table asks for more than this reader knows.
    #[error("the table `records` needs a newer reader: {what}")]
    Unsupported {
        /// Feature or setting.
        what: String,
    },
    /// The log contradicts itself.
    #[error("the log of `records` is damaged at version {version}: {reason}")]
    Log {
        /// Version.
        version: u64,
        /// How.
        reason: String,
    },
    /// The store failed.
    #[error("could not read `{path}`")]
    Store {
        /// Path below the lake.
        path: String,
        /// Cause.
        source: object_store::Error,
    },
    /// A checkpoint could not be read.
    #[error("could not read the checkpoint `{path}`: {reason}")]
    Checkpoint {
        /// Path below the lake.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Data files without the log that says which of them count.
    #[error(
        "`records` holds data files (`{example}`), but its log `records/_delta_log` is missing or empty: probably a copy or \
         restore left out names that begin with `_`; restore the log too, or name an empty place"
    )]
    NoLog {
        /// One of the files, below the lake.
        example: String,
    },
    /// A data file is not what was written.
    #[error("`{path}` is damaged: {detail}; restore it from a copy, and find out why the disk changed it")]
    Damaged {
        /// Path below the lake.
        path: String,
        /// How.
        detail: String,
    },
}

/// The known names nearest to `name`, best first: at most three, none that has little to do with it.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let name = name.to_lowercase();
    let mut scored: Vec<(usize, &str)> = known
        .into_iter()
        .filter_map(|candidate| {
            let distance = distance(&name, candidate);
            let shared = !name.is_empty() && (candidate.contains(&name) || name.contains(candidate));
            let near = distance * 3 <= name.chars().count().max(3);
            (near || shared).then_some((distance, candidate))
        })
        .collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, candidate)| candidate).collect()
}

/// Edits between two names (Levenshtein, with swapped neighbours as one).
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().take(80).collect(), b.chars().take(80).collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let change = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = change.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_come_first() {
        let known = ["outcome", "requester", "requester_kind", "tool", "time"];
        assert_eq!(nearest("outcom", known), ["outcome"]);
        assert_eq!(nearest("requestor", known), ["requester"]);
        assert_eq!(nearest("tiem", known), ["time"]);
        assert_eq!(nearest("zebra_crossing", known), Vec::<&str>::new());
        assert_eq!(nearest("request", known), ["requester", "requester_kind"]);
    }
}
