//! Which SQL may run: one statement that reads, small enough to plan, over our own tables.
//!
//! Guarantees: what passes cannot write, set, name a file, or read settings; no text, however built, exhausts the stack
//! of the planner or keeps it busy for longer than a second or so. Everything is decided on the text and its syntax tree,
//! before a plan exists, by lists of what is allowed: statements and tables here and in `tree`, functions in `functions`.
//! `tokens` bounds the text, `weight` what the text grows to once its names are replaced by what they stand for.
//!
//! What a statement does once it runs is bounded by [`crate::bounded`] and [`crate::ceiling`].

mod functions;
mod tokens;
mod tree;
mod weight;

pub(crate) use functions::is_offered_scalar;
pub use tree::GROUPING_SETS_MAX;
pub use weight::{LEVELS_MAX, PARTS_MAX, TABLES_MAX};

use crate::error::{Code, QueryError};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::{self, Statement as Sql};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

/// Bytes of a statement.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
/// Bytes of one name. An answer in JSON repeats the names of its columns in every row.
pub const IDENTIFIER_BYTES_MAX: usize = 256;
/// Operators of a statement: planners recurse over chains of them.
pub const OPERATORS_MAX: usize = 200;
/// Joins of a statement.
pub const JOINS_MAX: usize = 20;
/// Set operations of a statement.
pub const UNIONS_MAX: usize = 20;
/// Columns of an answer.
pub const COLUMNS_MAX: usize = 500;
/// Nesting that the parser follows.
const NESTING_MAX: usize = 50;

/// Catalog and schema of our tables.
pub(crate) const CATALOG: &str = "catena";
/// Catalog and schema of our tables.
pub(crate) const SCHEMA: &str = "public";

/// PostgreSQL's: the one that lets `offset` and `partition` be columns without quotes.
const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};
/// What SHOW TABLES means: ours, not those of the catalog itself.
const SHOW_TABLES: &str = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
/// Tables of `information_schema` that say what our tables look like, and nothing of settings.
const CATALOG_TABLES: [&str; 2] = ["tables", "columns"];
/// Table functions: they yield rows one batch at a time, so that the limits of a query hold for them.
const TABLE_FUNCTIONS: [&str; 6] = ["chain_of", "generate_series", "paths", "range", "reach", "unnest"];

/// What a statement that passed asks for.
#[derive(Debug)]
pub(crate) enum Asked {
    /// Rows.
    Rows(Box<Statement>),
    /// The plan of a query.
    Plan(Box<Statement>),
}

/// Lets a statement pass, or says why not.
pub(crate) fn check(sql: &str) -> Result<Asked, QueryError> {
    if sql.len() > TEXT_BYTES_MAX {
        let message = format!("the statement has {} bytes, more than {TEXT_BYTES_MAX}; ask in parts", sql.len());
        return Err(QueryError::new(Code::TextTooLong, message));
    }
    tokens::check(sql)?;
    let statement = parse(sql)?;
    let Statement::Statement(inner) = &statement else {
        return Err(not_read(&statement.to_string()));
    };
    let asked = check_statement(inner)?;
    tree::check(inner)?;
    tree::check_tables(&statement, inner)?;
    check_weight(inner)?;
    Ok(match asked {
        Kind::Rows => Asked::Rows(Box::new(statement)),
        Kind::Plan(query) => Asked::Plan(Box::new(Statement::Statement(query))),
    })
}

fn parse(sql: &str) -> Result<Statement, QueryError> {
    let syntax = |e: datafusion::error::DataFusionError| {
        let text = e.strip_backtrace();
        let text = text.trim_start_matches("SQL error: ").trim_start_matches("ParserError(\"").trim_end_matches("\")");
        if text.contains("RecursionLimitExceeded") {
            return QueryError::new(
                Code::TooComplex,
                format!("the statement nests deeper than {NESTING_MAX}; ask in parts"),
            );
        }
        QueryError::new(Code::Syntax, format!("the statement cannot be read: {text}"))
    };
    let mut statements = DFParserBuilder::new(sql)
        .with_dialect(&DIALECT)
        .with_recursion_limit(NESTING_MAX)
        .build()
        .and_then(|mut parser| parser.parse_statements())
        .map_err(syntax)?;
    match (statements.pop_front(), statements.len()) {
        (None, _) => Err(QueryError::new(Code::Empty, "there is no statement; try `SELECT * FROM decisions LIMIT 10`")),
        (Some(_), 1..) => {
            Err(QueryError::new(Code::ManyStatements, "there is more than one statement; send one at a time"))
        }
        (Some(Statement::Explain(explain)), 0) => match *explain.statement {
            // DataFusion's own form of EXPLAIN; its parts are judged like the standard one.
            Statement::Statement(query) => Ok(Statement::Statement(Box::new(Sql::Explain {
                describe_alias: ast::DescribeAlias::Explain,
                analyze: explain.options.analyze,
                verbose: explain.options.verbose,
                query_plan: false,
                estimate: false,
                statement: query,
                format: None,
                options: None,
            }))),
            other => Err(not_read(&other.to_string())),
        },
        (Some(Statement::Statement(show)), 0) if matches!(*show, Sql::ShowTables { .. }) => parse(SHOW_TABLES),
        (Some(statement), 0) => Ok(statement),
    }
}

enum Kind {
    Rows,
    Plan(Box<Sql>),
}

fn not_read(statement: &str) -> QueryError {
    let verb: String = statement
        .split_whitespace()
        .next()
        .unwrap_or("it")
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .take(20)
        .collect();
    let message = format!(
        "{} is not allowed: only SELECT, EXPLAIN, DESCRIBE, SHOW TABLES and SHOW COLUMNS are",
        verb.to_uppercase()
    );
    QueryError::new(Code::NotRead, message)
}

fn check_statement(statement: &Sql) -> Result<Kind, QueryError> {
    match statement {
        Sql::Query(_) | Sql::ExplainTable { .. } | Sql::ShowColumns { .. } => Ok(Kind::Rows),
        Sql::Explain { analyze: true, .. } => Err(QueryError::new(
            Code::NotRead,
            "EXPLAIN ANALYZE is not allowed: use EXPLAIN, which does not run the query",
        )),
        Sql::Explain { statement, options: None, .. } => match statement.as_ref() {
            query @ Sql::Query(_) => Ok(Kind::Plan(Box::new(query.clone()))),
            other => Err(not_read(&other.to_string())),
        },
        other => Err(not_read(&other.to_string())),
    }
}

fn check_weight(statement: &Sql) -> Result<(), QueryError> {
    match statement {
        Sql::Query(query) => weight::check(query),
        Sql::Explain { statement, .. } => check_weight(statement),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Words that build statements, good and bad.
    const WORDS: &[&str] = &[
        "SELECT",
        "*",
        "FROM",
        "decisions",
        "WHERE",
        "AND",
        "OR",
        "NOT",
        "(",
        ")",
        ",",
        ";",
        "1",
        "'x'",
        "\"q\"",
        "=",
        "<",
        "+",
        "-",
        "||",
        "::",
        "text",
        "[",
        "]",
        "WITH",
        "RECURSIVE",
        "AS",
        "UNION",
        "ALL",
        "INSERT",
        "INTO",
        "COPY",
        "TO",
        "SET",
        "SHOW",
        "TABLES",
        "EXPLAIN",
        "ANALYZE",
        "CASE",
        "WHEN",
        "THEN",
        "END",
        "JOIN",
        "ON",
        "true",
        "IN",
        "IS",
        "NULL",
        "repeat",
        "information_schema",
        ".",
        "df_settings",
        "CREATE",
        "TABLE",
        "LATERAL",
        "VALUES",
        "DESCRIBE",
        "unnest",
        "generate_series",
        "$$",
        "/*",
        "--",
        "\n",
        "\u{0}",
        "é",
        "ORDER BY",
        "LIMIT",
    ];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn no_text_breaks_the_gate(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..60)) {
            let sql = words.join(" ");
            match check(&sql) {
                // Whatever passes reads from what is ours.
                Ok(Asked::Rows(statement) | Asked::Plan(statement)) => {
                    let text = statement.to_string().to_lowercase();
                    let verb = text.split_whitespace().next().unwrap_or_default().trim_start_matches('(').to_owned();
                    prop_assert!(["select", "with", "values", "describe", "explain", "show", "table", "from", ""].contains(&verb.as_str()), "{}", text);
                }
                Err(error) => prop_assert!(!error.message.is_empty()),
            }
        }

        #[test]
        fn no_bytes_break_the_gate(text in "\\PC{0,300}") {
            let _ = check(&text);
        }
    }
}
