//! What the parts of a statement may be.
//!
//! Guarantee: what passes reads, and reads only our own tables through functions of [`super::functions`]; it locks
//! nothing, recurses into nothing, and builds no nested types.

use super::functions;
use super::{CATALOG_TABLES, JOINS_MAX, SCHEMA, TABLE_FUNCTIONS};
use crate::error::{Code, QueryError, nearest};
use crate::gate::CATALOG;
use crate::views::TABLES;
use datafusion::sql::parser::Statement;
use datafusion::sql::resolve::resolve_table_references;
use datafusion::sql::sqlparser::ast::{
    DataType, Expr, GroupByExpr, Query, Select, SetExpr, Statement as Sql, TableFactor, TableWithJoins, Visit, Visitor,
};
use std::ops::ControlFlow;

/// Sets of columns that one GROUP BY may group by: rows are copied for each.
pub const GROUPING_SETS_MAX: usize = 64;

/// Looks at every part of the tree.
pub(super) fn check(statement: &Sql) -> Result<(), QueryError> {
    match statement.visit(&mut Parts) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

struct Parts;

fn refuse<T>(code: Code, message: impl Into<String>) -> ControlFlow<QueryError, T> {
    ControlFlow::Break(QueryError::new(code, message))
}

impl Visitor for Parts {
    type Break = QueryError;

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<QueryError> {
        if query.with.as_ref().is_some_and(|with| with.recursive) {
            let message = "WITH RECURSIVE is not allowed: chains are built already, see `catena chain show`";
            return refuse(Code::RecursiveCte, message);
        }
        if !query.locks.is_empty() {
            return refuse(Code::NotRead, "FOR UPDATE and FOR SHARE are not allowed: nothing here is locked");
        }
        if !query.pipe_operators.is_empty() {
            return refuse(Code::Syntax, "`|>` is not supported; write the statement as SELECT ... FROM ...");
        }
        check_set(&query.body)
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<QueryError> {
        let sets = grouping_sets(&select.group_by);
        if sets > GROUPING_SETS_MAX {
            let message = format!(
                "GROUP BY makes {sets} sets of columns, more than {GROUPING_SETS_MAX}; name fewer in CUBE, ROLLUP or GROUPING SETS"
            );
            return refuse(Code::TooComplex, message);
        }
        ControlFlow::Continue(())
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
                refuse(Code::FileTable, format!("`{shown}` is not allowed as a table"))
            }
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<QueryError> {
        match expr {
            Expr::Function(function) => {
                let name = function.name.to_string().to_lowercase().replace('"', "");
                match functions::check(&name, function.over.is_some()) {
                    Ok(()) => ControlFlow::Continue(()),
                    Err(error) => ControlFlow::Break(error),
                }
            }
            Expr::Struct { .. } | Expr::Dictionary(_) | Expr::Map(_) | Expr::Named { .. } => {
                refuse(Code::FunctionNotAllowed, "structs and maps are not offered; name the values as columns")
            }
            // `(a, b) = (1, 2)` is useful; a tuple of tuples, or of what another query computes, doubles its type.
            Expr::Tuple(items) if !items.iter().all(is_plain) => refuse(
                Code::TooComplex,
                "a list in parentheses may hold columns and literals only; name what is computed in a WITH clause",
            ),
            Expr::Cast { data_type, .. } if sized(data_type) => {
                refuse(Code::FunctionNotAllowed, "a type with a fixed length is not offered; leave the length out")
            }
            _ => ControlFlow::Continue(()),
        }
    }
}

/// Whether an expression is a column, a literal, or one of these with a sign or a type.
fn is_plain(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_) | Expr::TypedString(_) => true,
        Expr::UnaryOp { expr, .. } | Expr::Nested(expr) | Expr::Cast { expr, .. } => is_plain(expr),
        _ => false,
    }
}

/// Whether values of a type take as much memory as the statement says, whatever they hold.
fn sized(kind: &DataType) -> bool {
    use datafusion::sql::sqlparser::ast::ArrayElemTypeDef;
    match kind {
        DataType::Array(ArrayElemTypeDef::SquareBracket(_, Some(_))) => true,
        DataType::Array(
            ArrayElemTypeDef::SquareBracket(inner, None)
            | ArrayElemTypeDef::AngleBracket(inner)
            | ArrayElemTypeDef::Parenthesis(inner),
        ) => sized(inner),
        DataType::Struct(..) | DataType::Map(..) | DataType::Tuple(_) | DataType::Nested(_) => true,
        _ => false,
    }
}

/// How many sets of columns a GROUP BY groups by.
fn grouping_sets(group_by: &GroupByExpr) -> usize {
    let (exprs, modifiers) = match group_by {
        GroupByExpr::All(modifiers) => (&[][..], modifiers),
        GroupByExpr::Expressions(exprs, modifiers) => (exprs.as_slice(), modifiers),
    };
    if !modifiers.is_empty() {
        // GROUP BY a, b WITH CUBE. Over ALL the number of columns is not known here.
        return if exprs.is_empty() { usize::MAX } else { cube(exprs.len()) };
    }
    exprs.iter().fold(1usize, |sets, expr| {
        sets.saturating_mul(match expr {
            Expr::Cube(of) => cube(of.len()),
            Expr::Rollup(of) => of.len() + 1,
            Expr::GroupingSets(of) => of.len().max(1),
            _ => 1,
        })
    })
}

fn cube(of: usize) -> usize {
    u32::try_from(of).ok().and_then(|of| 1usize.checked_shl(of)).unwrap_or(usize::MAX)
}

fn check_set(body: &SetExpr) -> ControlFlow<QueryError> {
    match body {
        SetExpr::Select(select) => {
            if select.into.is_some() {
                return refuse(Code::NotRead, "SELECT INTO is not allowed: only reading is");
            }
            let joins: usize = select.from.iter().map(|TableWithJoins { joins, .. }| joins.len() + 1).sum();
            if joins > JOINS_MAX + 1 {
                let message = format!("the statement joins {joins} tables, more than {}; ask in parts", JOINS_MAX + 1);
                return refuse(Code::TooComplex, message);
            }
            ControlFlow::Continue(())
        }
        SetExpr::SetOperation { left, right, .. } => {
            check_set(left)?;
            check_set(right)
        }
        SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => ControlFlow::Continue(()),
        other => ControlFlow::Break(super::not_read(&other.to_string())),
    }
}

fn unknown_function(name: &str) -> QueryError {
    let message = format!("there is no table function `{name}`; there are {}", TABLE_FUNCTIONS.join(", "));
    QueryError::new(Code::UnknownFunction, message)
}

/// Refuses tables that are not ours.
pub(super) fn check_tables(statement: &Statement, inner: &Sql) -> Result<(), QueryError> {
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
