//! Questions of the engine itself, with answers as typed values.
//!
//! Guarantee: a value that a question holds is a literal of its plan and is never written into SQL text. An answer that does not
//! have the members of its type is an error; it is never read as an empty one. Rows are read in the same JSON form as callers of
//! SQL get them, so instants and lists are written alike everywhere.

use crate::engine::{Question, Session};
use crate::error::{Code, QueryError};
use crate::limits::Limits;
use crate::output::{self, Format};
use datafusion::error::Result;
use datafusion::prelude::{DataFrame, SessionContext};
use serde::de::DeserializeOwned;
use std::fmt;
use std::sync::Arc;

type Shape = dyn Fn(DataFrame) -> Result<DataFrame> + Send + Sync;

/// Rows of one table: which of them, and which of their columns.
#[derive(Clone)]
pub(crate) struct Select {
    table: &'static str,
    shape: Arc<Shape>,
}

impl fmt::Debug for Select {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Select").field("table", &self.table).finish_non_exhaustive()
    }
}

impl Select {
    /// `shape` filters, sorts and projects the rows of the table.
    pub(crate) fn new(
        table: &'static str,
        shape: impl Fn(DataFrame) -> Result<DataFrame> + Send + Sync + 'static,
    ) -> Select {
        Select { table, shape: Arc::new(shape) }
    }

    /// The rows, over the tables of a context.
    pub(crate) async fn frame(&self, context: &SessionContext) -> Result<DataFrame> {
        (self.shape)(context.table(self.table).await?)
    }
}

impl Session {
    /// All rows of a question as values, and the version of the lake that they are of.
    ///
    /// # Errors
    ///
    /// [`Code::Internal`] when a row is not a `T`; otherwise as [`Session::sql`].
    pub(crate) async fn values<T: DeserializeOwned>(
        &self,
        question: impl Into<Question>,
        limits: &Limits,
    ) -> Result<(Vec<T>, Option<u64>), QueryError> {
        let limits = Limits { rows: u64::MAX, bytes: u64::MAX, ..limits.clone() };
        let rows = self.ask(question.into(), &limits).await?.collect().await?;
        let bytes = output::to_bytes(&rows, Format::Json)
            .map_err(|e| QueryError::new(Code::Internal, format!("rows could not be written: {e}")))?;
        Ok((read(&bytes)?, rows.version))
    }
}

/// Reads rows that were written as JSON.
fn read<T: DeserializeOwned>(rows: &[u8]) -> Result<Vec<T>, QueryError> {
    // The parser's own message may quote a value of a row.
    serde_json::from_slice(rows).map_err(|e| {
        let message = format!("an answer of the engine could not be read at byte {} of it", e.column());
        QueryError::new(Code::Internal, message)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Row {
        n: u64,
    }

    #[test]
    fn an_answer_that_cannot_be_read_is_an_error_and_not_empty() {
        assert_eq!(read::<Row>(br#"[{"n":1},{"n":2}]"#).expect("rows"), [Row { n: 1 }, Row { n: 2 }]);
        assert_eq!(read::<Row>(b"[]").expect("rows"), []);
        for unreadable in [r#"[{"n":1},{"n":"secret"}]"#, r#"[{"m":1}]"#, r#"[{"n":null}]"#, r#"[{"n":1}"#, "", "{}"] {
            let error = read::<Row>(unreadable.as_bytes()).expect_err(unreadable);
            assert_eq!(error.code, Code::Internal, "{unreadable}");
            assert!(!error.message.contains("secret"), "{error}");
        }
    }
}
