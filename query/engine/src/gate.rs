//! Which SQL may run: one statement that reads, small enough to plan, over our own tables.
//!
//! Guarantees: what passes cannot write, set, name a file, or read settings; no text, however built, exhausts the stack
//! of the planner. Everything is decided on the text and its syntax tree, before a plan exists.
//!
//! A list of what is allowed decides over statements and tables, a list of what is not over functions: functions are
//! pure, except for those named here, which tell file names or make values of any size out of nothing.

use crate::error::{Code, QueryError, nearest};
use crate::views::TABLES;
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    self, Expr, Query, SetExpr, Statement as Sql, TableFactor, TableWithJoins, Visit, Visitor,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use std::ops::ControlFlow;

/// Bytes of a statement.
pub const TEXT_BYTES_MAX: usize = 64 << 10;
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

/// PostgreSQL's: the one that lets `offset` and `partition` be columns without quotes.
const DIALECT: PostgreSqlDialect = PostgreSqlDialect {};
/// What SHOW TABLES means: ours, not those of the catalog itself.
const SHOW_TABLES: &str = "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY 1";
/// Tables of `information_schema` that say what our tables look like, and nothing of settings.
const CATALOG_TABLES: [&str; 2] = ["tables", "columns"];
/// Table functions: they yield rows one batch at a time, so that the limits of a query hold for them.
const TABLE_FUNCTIONS: [&str; 6] = ["chain_of", "generate_series", "paths", "range", "reach", "unnest"];
/// Scalar functions that are not offered: they tell where files are, or make a value of any size out of a number.
const FORBIDDEN: &[(&str, &str)] = &[
    ("input_file_name", "it tells where files are"),
    ("file_row_index", "it tells how files are laid out"),
    ("version", "it tells about the machine"),
    ("repeat", TOO_BIG),
    ("lpad", TOO_BIG),
    ("rpad", TOO_BIG),
    ("array_repeat", TOO_BIG),
    ("list_repeat", TOO_BIG),
    ("array_resize", TOO_BIG),
    ("list_resize", TOO_BIG),
];
const TOO_BIG: &str = "it makes values of any size";
/// Offered as table functions; as values they build a list of any size.
const ONLY_AS_TABLE: [&str; 2] = ["generate_series", "range"];

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
    scan_tokens(sql)?;
    let statement = parse(sql)?;
    let Statement::Statement(inner) = &statement else {
        return Err(not_read(&statement.to_string()));
    };
    let asked = check_statement(inner)?;
    check_tree(inner)?;
    check_tables(&statement, inner)?;
    Ok(match asked {
        Kind::Rows => Asked::Rows(Box::new(statement)),
        Kind::Plan(query) => Asked::Plan(Box::new(Statement::Statement(query))),
    })
}

/// Counts what makes planners recurse. Works on tokens, so that it cannot recurse itself.
fn scan_tokens(sql: &str) -> Result<(), QueryError> {
    let tokens = Tokenizer::new(&DIALECT, sql)
        .tokenize()
        .map_err(|e| QueryError::new(Code::Syntax, format!("the statement cannot be read: {e}")))?;
    let (mut operators, mut joins, mut unions) = (0, 0, 0);
    for token in &tokens {
        match token {
            Token::Word(word) => match word.keyword {
                Keyword::AND
                | Keyword::OR
                | Keyword::NOT
                | Keyword::XOR
                | Keyword::IS
                | Keyword::IN
                | Keyword::LIKE
                | Keyword::ILIKE
                | Keyword::SIMILAR
                | Keyword::RLIKE
                | Keyword::REGEXP
                | Keyword::BETWEEN
                | Keyword::DIV
                | Keyword::COLLATE
                | Keyword::OVERLAPS
                | Keyword::AT
                | Keyword::WHEN => operators += 1,
                Keyword::JOIN | Keyword::APPLY => joins += 1,
                Keyword::UNION | Keyword::EXCEPT | Keyword::INTERSECT | Keyword::MINUS => unions += 1,
                _ => {}
            },
            // What stands between values and says nothing of its own.
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Comma
            | Token::LParen
            | Token::RParen
            | Token::Period
            | Token::SemiColon
            | Token::RBracket
            | Token::RBrace
            | Token::EOF => {}
            _ => operators += 1,
        }
    }
    for (what, n, max) in
        [("operators", operators, OPERATORS_MAX), ("joins", joins, JOINS_MAX), ("set operations", unions, UNIONS_MAX)]
    {
        if n > max {
            let way_out = if what == "operators" {
                "write `column IN (...)` for a chain of OR, or ask in parts"
            } else {
                "ask in parts"
            };
            return Err(QueryError::new(
                Code::TooComplex,
                format!("the statement has {n} {what}, more than {max}; {way_out}"),
            ));
        }
    }
    Ok(())
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

/// Looks at every part of the tree.
fn check_tree(statement: &Sql) -> Result<(), QueryError> {
    match statement.visit(&mut Parts) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Parts;

impl Visitor for Parts {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            let message = "WITH RECURSIVE is not allowed: chains are built already, see `catena chain show`";
            return ControlFlow::Break(QueryError::new(Code::RecursiveCte, message));
        }
        if !query.locks.is_empty() {
            return ControlFlow::Break(QueryError::new(
                Code::NotRead,
                "FOR UPDATE and FOR SHARE are not allowed: nothing here is locked",
            ));
        }
        check_set(&query.body)
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<QueryError> {
        match factor {
            TableFactor::Table { name, args, .. } => {
                let name = name.to_string().to_lowercase();
                if args.is_some() && !TABLE_FUNCTIONS.contains(&name.as_str()) {
                    return ControlFlow::Break(unknown_function(&name));
                }
                ControlFlow::Continue(())
            }
            TableFactor::Derived { .. } | TableFactor::UNNEST { .. } | TableFactor::NestedJoin { .. } => {
                ControlFlow::Continue(())
            }
            TableFactor::Function { name, .. }
                if TABLE_FUNCTIONS.contains(&name.to_string().to_lowercase().as_str()) =>
            {
                ControlFlow::Continue(())
            }
            other => {
                let shown: String = other.to_string().chars().take(60).collect();
                ControlFlow::Break(QueryError::new(Code::FileTable, format!("`{shown}` is not allowed as a table")))
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        let name = function.name.to_string().to_lowercase().replace('"', "");
        if let Some((_, why)) = FORBIDDEN.iter().find(|(forbidden, _)| *forbidden == name) {
            return ControlFlow::Break(QueryError::new(
                Code::FunctionNotAllowed,
                format!("the function `{name}` is not offered: {why}"),
            ));
        }
        if ONLY_AS_TABLE.contains(&name.as_str()) {
            let message = format!("the function `{name}` is not offered as a value; write `FROM {name}(...)`");
            return ControlFlow::Break(QueryError::new(Code::FunctionNotAllowed, message));
        }
        ControlFlow::Continue(())
    }
}

fn check_set(body: &SetExpr) -> ControlFlow<QueryError> {
    match body {
        SetExpr::Select(select) => {
            if select.into.is_some() {
                return ControlFlow::Break(QueryError::new(
                    Code::NotRead,
                    "SELECT INTO is not allowed: only reading is",
                ));
            }
            let joins: usize = select.from.iter().map(|TableWithJoins { joins, .. }| joins.len() + 1).sum();
            if joins > JOINS_MAX + 1 {
                let message = format!("the statement joins {joins} tables, more than {}; ask in parts", JOINS_MAX + 1);
                return ControlFlow::Break(QueryError::new(Code::TooComplex, message));
            }
            ControlFlow::Continue(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            check_set(left)?;
            check_set(right)
        }
        SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => ControlFlow::Continue(()),
        other => ControlFlow::Break(not_read(&other.to_string())),
    }
}

fn unknown_function(name: &str) -> QueryError {
    let message = format!("there is no table function `{name}`; there are {}", TABLE_FUNCTIONS.join(", "));
    QueryError::new(Code::UnknownFunction, message)
}

fn check_tables(statement: &Statement, inner: &Sql) -> Result<(), QueryError> {
    let (tables, _) =
        resolve_table_references(statement, true).map_err(|e| QueryError::new(Code::FileTable, e.strip_backtrace()))?;
    let shows = matches!(inner, Sql::ShowColumns { .. });
    for table in &tables {
        let (catalog, schema, name) = (table.catalog(), table.schema(), table.table());
        let ours = catalog.is_none_or(|c| c == CATALOG)
            && match schema {
                None => TABLES.contains(&name) || TABLE_FUNCTIONS.contains(&name),
                Some(SCHEMA) => TABLES.contains(&name),
                // SHOW COLUMNS names all of them and reads one.
                Some("information_schema") => shows || CATALOG_TABLES.contains(&name),
                Some(_) => false,
            };
        if !ours {
            return Err(unknown_table(&table.to_string(), name, schema));
        }
    }
    Ok(())
}

/// Catalog and schema of our tables.
pub(crate) const CATALOG: &str = "catena";
/// Catalog and schema of our tables.
pub(crate) const SCHEMA: &str = "public";

fn unknown_table(full: &str, name: &str, schema: Option<&str>) -> QueryError {
    if schema == Some("information_schema") {
        let message =
            format!("`{full}` is not offered; of information_schema there are {}", CATALOG_TABLES.join(" and "));
        return QueryError::new(Code::UnknownTable, message);
    }
    if full.contains(['/', '\\', ':', '*'])
        || full.contains(".parquet")
        || full.contains(".csv")
        || full.contains(".json")
    {
        let message =
            format!("`{full}` is a file or URL, and those cannot be asked; there are the tables {}", TABLES.join(", "));
        return QueryError::new(Code::FileTable, message);
    }
    let near = nearest(name, TABLES);
    let hint = match near.first() {
        Some(best) => format!("did you mean `{best}`?"),
        None => format!("there are {}", TABLES.join(", ")),
    };
    QueryError::new(Code::UnknownTable, format!("there is no table `{full}`; {hint}"))
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
