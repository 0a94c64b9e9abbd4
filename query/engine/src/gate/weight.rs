//! How large a statement is once its names are replaced by what they stand for.
//!
//! Guarantee: a statement that passes has at most [`TABLES_MAX`] tables and [`PARTS_MAX`] parts of expressions after every
//! `WITH` and every subquery is written out, and its queries nest at most [`LEVELS_MAX`] deep. The planner writes them out:
//! a query that is named once and used twice is planned twice, and a column that is computed from another column twice
//! makes each condition over it twice as long. A few dozen lines of such doubling keep a planner busy for ever.
//!
//! ```text
//!  WITH a AS (SELECT x || x AS x FROM decisions),     x: 3 parts                 a: 1 table
//!       b AS (SELECT x || x AS x FROM a)              x: 1 + 3 + 3 = 7 parts     b: 1 table
//!  SELECT * FROM b, b AS c                                                          2 tables
//! ```

use crate::error::{Code, QueryError};
use datafusion::sql::sqlparser::ast::{
    Expr, Join, Query, Select, SelectItem, SetExpr, TableFactor, TableWithJoins, Visit, Visitor,
};
use std::collections::HashMap;
use std::ops::ControlFlow;

/// Tables that the statement reads, each as often as it is read.
pub const TABLES_MAX: u64 = 42;
/// Parts of all expressions: columns, literals, calls, operators.
pub const PARTS_MAX: u64 = 20_000;
/// Queries within queries.
pub const LEVELS_MAX: u64 = 16;

/// The size of one query, written out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    /// Tables that it reads.
    tables: u64,
    /// Parts of all its expressions.
    parts: u64,
    /// Parts of its largest column.
    column: u64,
    /// Queries on the longest way down.
    levels: u64,
}

impl Weight {
    /// Both of two queries.
    fn and(self, other: Weight) -> Weight {
        Weight {
            tables: self.tables.saturating_add(other.tables),
            parts: self.parts.saturating_add(other.parts),
            column: self.column.max(other.column),
            levels: self.levels.max(other.levels),
        }
    }
}

/// Queries that have a name here.
type Names = HashMap<String, Weight>;

/// Refuses a query that is too large once written out.
pub(super) fn check(query: &Query) -> Result<(), QueryError> {
    let found = weigh(query, &Names::new());
    for (n, max, what) in [
        (found.tables, TABLES_MAX, "reads more than {} tables"),
        (found.parts, PARTS_MAX, "has more than {} columns, literals, calls and operators"),
        (found.levels, LEVELS_MAX, "nests queries deeper than {}"),
    ] {
        if n > max {
            let what = what.replace("{}", &max.to_string());
            let message = format!(
                "the statement {what} once its WITH clauses and subqueries are written out; ask in parts, or group first"
            );
            return Err(QueryError::new(Code::TooComplex, message));
        }
    }
    Ok(())
}

fn weigh(query: &Query, outer: &Names) -> Weight {
    let mut names = outer.clone();
    for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
        let found = weigh(&cte.query, &names);
        names.insert(name_of(&cte.alias.name.value, cte.alias.name.quote_style), found);
    }
    let body = weigh_set(&query.body, &names);
    let mut rest = Expressions::over(&names, body.column.max(1));
    let _ = query.order_by.visit(&mut rest);
    let _ = query.limit_clause.visit(&mut rest);
    let found = body.and(rest.found());
    Weight { column: body.column, levels: found.levels.saturating_add(1), ..found }
}

fn weigh_set(body: &SetExpr, names: &Names) -> Weight {
    match body {
        SetExpr::Select(select) => weigh_select(select, names),
        SetExpr::Query(query) => weigh(query, names),
        SetExpr::SetOperation { left, right, .. } => weigh_set(left, names).and(weigh_set(right, names)),
        other => {
            let mut all = Expressions::over(names, 1);
            let _ = other.visit(&mut all);
            all.found()
        }
    }
}

fn weigh_select(select: &Select, names: &Names) -> Weight {
    let mut from = Weight::default();
    for table in &select.from {
        from = from.and(weigh_tables(table, names));
    }
    let mut rest = Expressions::over(names, from.column.max(1));
    let mut column = 1;
    for item in &select.projection {
        let before = rest.parts;
        let _ = item.visit(&mut rest);
        let large = match item {
            SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => rest.parts - before,
            // A star hands on what there is.
            _ => from.column,
        };
        column = column.max(large);
    }
    let _ = select.distinct.visit(&mut rest);
    let _ = select.lateral_views.visit(&mut rest);
    let _ = select.selection.visit(&mut rest);
    let _ = select.group_by.visit(&mut rest);
    let _ = select.having.visit(&mut rest);
    let _ = select.named_window.visit(&mut rest);
    let _ = select.qualify.visit(&mut rest);
    Weight { column, ..from.and(rest.found()) }
}

fn weigh_tables(tables: &TableWithJoins, names: &Names) -> Weight {
    let mut found = weigh_table(&tables.relation, names);
    for Join { relation, .. } in &tables.joins {
        found = found.and(weigh_table(relation, names));
    }
    let mut conditions = Expressions::over(names, found.column.max(1));
    for Join { join_operator, .. } in &tables.joins {
        let _ = join_operator.visit(&mut conditions);
    }
    found.and(Weight { column: 0, ..conditions.found() })
}

fn weigh_table(table: &TableFactor, names: &Names) -> Weight {
    let one = Weight { tables: 1, parts: 1, column: 1, levels: 0 };
    match table {
        TableFactor::Table { name, args: None, .. } => match name.0.as_slice() {
            [only] => only
                .as_ident()
                .and_then(|ident| names.get(&name_of(&ident.value, ident.quote_style)))
                .copied()
                .unwrap_or(one),
            _ => one,
        },
        TableFactor::Derived { subquery, .. } => weigh(subquery, names),
        TableFactor::NestedJoin { table_with_joins, .. } => weigh_tables(table_with_joins, names),
        other => {
            let mut arguments = Expressions::over(names, 1);
            let _ = other.visit(&mut arguments);
            one.and(arguments.found())
        }
    }
}

/// As the planner compares names: in lower case unless quoted.
fn name_of(name: &str, quote: Option<char>) -> String {
    if quote.is_some() { name.to_owned() } else { name.to_lowercase() }
}

/// Weighs expressions. Subqueries in them are weighed by [`weigh`], so the visitor passes over their insides.
struct Expressions<'a> {
    names: &'a Names,
    /// Parts of a column of the tables below.
    column: u64,
    /// Parts of each expression under way, innermost last.
    open: Vec<u64>,
    parts: u64,
    subqueries: Weight,
    inside: usize,
}

impl<'a> Expressions<'a> {
    fn over(names: &'a Names, column: u64) -> Expressions<'a> {
        Expressions { names, column, open: Vec::new(), parts: 0, subqueries: Weight::default(), inside: 0 }
    }

    fn found(&self) -> Weight {
        let Weight { tables, levels, .. } = self.subqueries;
        Weight { tables, parts: self.parts, column: 0, levels }
    }

    fn add(&mut self, parts: u64) {
        let sum = self.open.last_mut().unwrap_or(&mut self.parts);
        *sum = sum.saturating_add(parts);
    }
}

/// How often the planner repeats the operands of an expression when it rewrites it.
fn repeats(expr: &Expr) -> u64 {
    match expr {
        Expr::Between { .. } => 2,
        // Short lists become a chain of `=`.
        Expr::InList { list, .. } => list.len().clamp(1, 3) as u64,
        Expr::Function(function) => match function.name.to_string().to_lowercase().trim_matches('"') {
            "coalesce" | "nullif" | "nvl" | "ifnull" | "nvl2" => 2,
            _ => 1,
        },
        _ => 1,
    }
}

impl Visitor for Expressions<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        if self.inside == 0 {
            let found = weigh(query, self.names);
            self.subqueries = self.subqueries.and(found);
            self.add(found.parts);
        }
        self.inside += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.inside -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, _: &Expr) -> ControlFlow<()> {
        if self.inside == 0 {
            self.open.push(0);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.inside == 0 {
            let below = self.open.pop().unwrap_or(0);
            let own = match expr {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) => self.column,
                _ => 1,
            };
            self.add(own.saturating_add(below).saturating_mul(repeats(expr)));
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::ast::Statement;
    use datafusion::sql::sqlparser::parser::Parser;

    fn weight(sql: &str) -> Weight {
        let parsed = Parser::parse_sql(&super::super::DIALECT, sql).expect(sql);
        match &parsed[..] {
            [Statement::Query(query)] => weigh(query, &Names::new()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_named_counts_as_often_as_it_is_used() {
        let check = |sql: &str, tables: u64, column: u64, levels: u64| {
            let found = weight(sql);
            assert_eq!((found.tables, found.column, found.levels), (tables, column, levels), "{sql}");
        };
        check("SELECT 1", 0, 1, 1);
        check("SELECT tool FROM decisions", 1, 1, 1);
        check("SELECT tool || tool FROM decisions", 1, 3, 1);
        check("SELECT * FROM decisions a, decisions b", 2, 1, 1);
        check("WITH a AS (SELECT x || x AS x FROM t) SELECT x || x FROM a", 1, 7, 2);
        check("WITH a AS (SELECT x || x AS x FROM t) SELECT * FROM a, A AS b, \"A\" c", 3, 3, 2);
        check("WITH a AS (SELECT 1 x), b AS (SELECT * FROM a UNION ALL SELECT * FROM a) SELECT x FROM b, b c", 0, 1, 3);
        check("SELECT coalesce(v, 'a') FROM (SELECT coalesce(x, 'b') v FROM t) t", 1, 16, 2);
        check("SELECT 1 FROM t WHERE x IN (SELECT y FROM u WHERE EXISTS (SELECT 1 FROM w))", 3, 1, 3);
        check("SELECT (SELECT max(x) FROM u) FROM t JOIN v ON t.a = (SELECT 1 FROM w)", 4, 4, 2);
        check("WITH t AS (SELECT 1 FROM a, b) SELECT (WITH t AS (SELECT 2) SELECT 3 FROM t), 4 FROM t", 2, 3, 3);
    }

    #[test]
    fn doubling_is_refused_however_it_is_written() {
        let twice = |step: &str, levels: usize| {
            let steps: String =
                (1..=levels).map(|i| format!(", a{i} AS ({})", step.replace('@', &format!("a{}", i - 1)))).collect();
            format!("WITH a0 AS (SELECT tool x FROM decisions){steps} SELECT * FROM a{levels}")
        };
        let nested = |step: &str, levels: usize| {
            (0..levels)
                .fold("SELECT tool x FROM decisions".to_owned(), |inner, _| step.replace('@', &format!("({inner})")))
        };
        let check = |sql: String| {
            let parsed = Parser::parse_sql(&super::super::DIALECT, &sql).expect(&sql);
            let [Statement::Query(query)] = &parsed[..] else { panic!("{sql}") };
            assert_eq!(super::check(query).map_err(|e| e.code), Err(Code::TooComplex), "{sql:.100}");
        };
        check(twice("SELECT x FROM @ UNION ALL SELECT x FROM @", 6));
        check(twice("SELECT x FROM @ WHERE x IN (SELECT x FROM @)", 6));
        check(twice("SELECT (SELECT max(x) FROM @) || (SELECT min(x) FROM @) x", 6));
        check(twice("SELECT a.x FROM @ a JOIN @ b ON a.x = b.x", 6));
        check(twice("SELECT x || x AS x FROM @", 14));
        check(nested("SELECT x || x || x || x AS x FROM @ t", 8));
        check(nested("SELECT coalesce(x, 'a') AS x FROM @ t", 14));
        check(nested("SELECT CASE WHEN x > 'a' THEN x ELSE x || 'b' END AS x FROM @ t", 8));
        check(nested("SELECT x FROM @ t", 17));
    }
}
