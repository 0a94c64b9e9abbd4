//! What the text of a statement may look like, before anything parses it.
//!
//! Guarantee: a text that passes takes the parser and the planner a time and a depth that are known. Works on tokens, so
//! that it cannot recurse itself.

use super::{DIALECT, IDENTIFIER_BYTES_MAX, JOINS_MAX, OPERATORS_MAX, UNIONS_MAX};
use crate::error::{Code, QueryError};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

/// Brackets within brackets.
const DEPTH_MAX: usize = 40;
/// Brackets within brackets where each follows a word, as calls and subqueries do: the parser tries several readings of
/// each, and takes about twice as long for every level (22 levels took 7 s).
const CALL_DEPTH_MAX: usize = 12;

/// Brackets that are open.
#[derive(Default)]
struct Depth {
    /// For each open bracket, whether a word was before it.
    open: Vec<bool>,
    calls: usize,
}

impl Depth {
    fn open(&mut self, after_word: bool) -> Result<(), QueryError> {
        self.open.push(after_word);
        self.calls += usize::from(after_word);
        let (found, max, what) = if self.calls > CALL_DEPTH_MAX {
            (self.calls, CALL_DEPTH_MAX, "calls and subqueries")
        } else {
            (self.open.len(), DEPTH_MAX, "brackets")
        };
        if found > max {
            let message = format!("the statement nests {what} deeper than {max}; name parts of it in a WITH clause");
            return Err(QueryError::new(Code::TooComplex, message));
        }
        Ok(())
    }

    fn close(&mut self) {
        if self.open.pop() == Some(true) {
            self.calls -= 1;
        }
    }
}

/// Counts what makes parsers and planners recurse.
pub(super) fn check(sql: &str) -> Result<(), QueryError> {
    let tokens = Tokenizer::new(&DIALECT, sql)
        .tokenize()
        .map_err(|e| QueryError::new(Code::Syntax, format!("the statement cannot be read: {e}")))?;
    let (mut operators, mut joins, mut unions) = (0, 0, 0);
    let mut depth = Depth::default();
    let mut after_word = false;
    for token in &tokens {
        match token {
            Token::Word(word) => {
                if word.value.len() > IDENTIFIER_BYTES_MAX {
                    let message = format!(
                        "a name has {} bytes, more than {IDENTIFIER_BYTES_MAX}; use a shorter one",
                        word.value.len()
                    );
                    return Err(QueryError::new(Code::TooComplex, message));
                }
                match word.keyword {
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
                }
            }
            Token::LParen | Token::LBracket | Token::LBrace => depth.open(after_word)?,
            Token::RParen | Token::RBracket | Token::RBrace => depth.close(),
            // What stands between values and says nothing of its own.
            Token::Number(..)
            | Token::SingleQuotedString(_)
            | Token::Whitespace(_)
            | Token::Comma
            | Token::Period
            | Token::SemiColon
            | Token::EOF => {}
            _ => operators += 1,
        }
        if matches!(token, Token::LBracket | Token::LBrace) {
            operators += 1;
        }
        if !matches!(token, Token::Whitespace(_)) {
            // A bracket right after another one is read like the one before it.
            after_word = matches!(token, Token::Word(_)) || (after_word && matches!(token, Token::LParen));
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
