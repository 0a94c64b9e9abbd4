//! What an error of DataFusion means to whoever asked.
//!
//! Guarantees: what the statement asks for wrongly is never called a fault of the lake or of the service; a message holds
//! no value of a row. Kernels put the value into their message that they could not convert, and the scan wraps the failure
//! of a pushed-down condition as if a file were damaged.

use crate::error::{Code, QueryError, nearest};
use datafusion::arrow::error::ArrowError;
use datafusion::common::SchemaError;
use datafusion::error::DataFusionError;
use parquet::errors::ParquetError;

pub(crate) const UNKNOWN_ZONE: &str = "a time zone is not known; use one such as 'UTC', 'Europe/Berlin' or '+02:00'";

fn out_of_memory() -> QueryError {
    QueryError::new(
        Code::Memory,
        "the query needs more memory or disk for spilling than it may use; group, join or sort by less",
    )
}

/// What an error means to whoever asked.
pub(crate) fn query_error(error: &DataFusionError) -> QueryError {
    let text = |e: &DataFusionError| {
        let text = e.strip_backtrace();
        ["Error during planning: ", "Execution error: ", "Arrow error: ", "This feature is not implemented: "]
            .iter()
            .fold(text, |t, prefix| t.strip_prefix(prefix).map(str::to_owned).unwrap_or(t))
    };
    match error {
        DataFusionError::Context(_, inner) | DataFusionError::Diagnostic(_, inner) => query_error(inner),
        DataFusionError::Shared(inner) => query_error(inner),
        DataFusionError::Collection(all) if !all.is_empty() => query_error(&all[0]),
        // One of ours, from a table or a function of ours.
        DataFusionError::External(inner) => {
            if let Some(ours) = inner.downcast_ref::<QueryError>() {
                ours.clone()
            } else if let Some(inner) = inner.downcast_ref::<DataFusionError>() {
                query_error(inner)
            } else if inner.is::<ArrowError>() {
                over_the_data(&inner.to_string())
            } else if let Some(fault) = pattern_fault(&inner.to_string()) {
                QueryError::new(Code::Invalid, fault)
            } else {
                QueryError::new(Code::Internal, text(error))
            }
        }
        // It asks for a report of a fault in DataFusion, which is not for the caller.
        DataFusionError::Internal(message) => QueryError::new(Code::Internal, message.clone()),
        DataFusionError::SchemaError(schema, _) => match schema.as_ref() {
            SchemaError::FieldNotFound { field, valid_fields } => {
                let names: Vec<&str> = valid_fields.iter().map(|f| f.name.as_str()).collect();
                let near = nearest(&field.name, names.iter().copied());
                let hint = match near.as_slice() {
                    [] if names.len() <= 12 => format!("there are {}", names.join(", ")),
                    [] => "SHOW COLUMNS FROM the table lists them".to_owned(),
                    near => format!(
                        "did you mean {}?",
                        near.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(" or ")
                    ),
                };
                QueryError::new(Code::UnknownColumn, format!("there is no column `{}`; {hint}", field.flat_name()))
            }
            SchemaError::AmbiguousReference { field } => {
                let message =
                    format!("the column `{}` is in more than one table; write the table before it", field.name);
                QueryError::new(Code::Invalid, message)
            }
            _ => QueryError::new(Code::Invalid, text(error)),
        },
        DataFusionError::ResourcesExhausted(_) => out_of_memory(),
        DataFusionError::SQL(..) => QueryError::new(Code::Syntax, text(error)),
        DataFusionError::Plan(message)
            if message.contains("Invalid function") || message.contains("not found") && message.contains("unction") =>
        {
            QueryError::new(Code::UnknownFunction, text(error).replace(".\n", "; ").replace('\n', " "))
        }
        DataFusionError::Plan(_) | DataFusionError::NotImplemented(_) | DataFusionError::Configuration(_) => {
            QueryError::new(Code::Invalid, text(error))
        }
        DataFusionError::ArrowError(inner, _) => match inner.as_ref() {
            // A function or an operator of ours that ended early, on its way through a kernel.
            ArrowError::ExternalError(inner) => match inner.downcast_ref::<DataFusionError>() {
                Some(inner) => query_error(inner),
                None => over_the_data(&text(error)),
            },
            _ => over_the_data(&text(error)),
        },
        DataFusionError::Execution(_) => over_the_data(&text(error)),
        DataFusionError::ParquetError(inner) => match inner.as_ref() {
            // A condition that was worked out while reading.
            ParquetError::ArrowError(text) => over_the_data(text),
            ParquetError::External(inner) => {
                if let Some(ours) = inner.downcast_ref::<QueryError>() {
                    ours.clone()
                } else if let Some(inner) = inner.downcast_ref::<DataFusionError>() {
                    query_error(inner)
                } else if inner.is::<ArrowError>() {
                    over_the_data(&inner.to_string())
                } else {
                    lake(&text(error))
                }
            }
            _ => lake(&text(error)),
        },
        DataFusionError::ObjectStore(_) | DataFusionError::IoError(_) => lake(&text(error)),
        other => QueryError::new(Code::Internal, text(other)),
    }
}

fn lake(text: &str) -> QueryError {
    // Spilling reports its own limit as an input/output error.
    if text.contains("max_temp_directory_size") {
        return out_of_memory();
    }
    QueryError::new(Code::Lake, format!("a file of the lake could not be read: {text}"))
}

/// What went wrong over the rows, without their values.
fn over_the_data(text: &str) -> QueryError {
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["max_temp_directory_size", "Resources exhausted"]) {
        return out_of_memory();
    }
    // One of ours that a kernel made text of.
    if has(&["the query took longer than"]) {
        return QueryError::new(
            Code::Time,
            text.split("the query took").last().map_or_else(String::new, |rest| format!("the query took{rest}")),
        );
    }
    if let Some(fault) = pattern_fault(text) {
        return QueryError::new(Code::Execution, fault);
    }
    let message = if has(&["ivide by zero", "ivision by zero", "DivideByZero"]) {
        "division by zero; write `x / nullif(y, 0)` to get null instead".to_owned()
    } else if has(&["egex", "egular expression"]) {
        "a regular expression cannot be read; `\\` quotes a sign that has a meaning".to_owned()
    } else if has(&["imezone", "ime zone"]) {
        UNKNOWN_ZONE.to_owned()
    } else if has(&["Cast error", "Parser error", "an't cast", "annot cast", "arsing"]) {
        "a value cannot be converted to the type that the statement asks for; TRY_CAST gives null instead".to_owned()
    } else if has(&["verflow"]) {
        "a number is too large for its type; cast it to a larger one first".to_owned()
    } else {
        without_values(text)
    };
    QueryError::new(Code::Execution, message)
}

/// What is wrong with a regular expression, without the drawing that the parser makes of it.
fn pattern_fault(text: &str) -> Option<String> {
    let (_, drawn) = text.split_once("regex parse error:")?;
    let fault = drawn.lines().rev().find_map(|line| line.trim().strip_prefix("error: "));
    Some(format!("a regular expression cannot be read: {}", without_values(fault.unwrap_or("its form is not known"))))
}

/// A message without what it quotes.
fn without_values(text: &str) -> String {
    let mut out = String::new();
    let mut until = None;
    for c in text.chars() {
        match until {
            Some(end) if c == end => {
                until = None;
                out.push('…');
                out.push(c);
            }
            Some(_) => {}
            None => {
                out.push(c);
                if matches!(c, '\'' | '"' | '`') {
                    until = Some(c);
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_holds_a_value() {
        let check = |error: DataFusionError, code: Code, message: &str| {
            let found = query_error(&error);
            assert_eq!((found.code, found.message.as_str()), (code, message));
        };
        let cast = || ArrowError::CastError("Cannot cast string 'dana@corp.example' to value of Int64 type".into());
        let converted =
            "a value cannot be converted to the type that the statement asks for; TRY_CAST gives null instead";
        check(cast().into(), Code::Execution, converted);
        check(DataFusionError::External(Box::new(cast())), Code::Execution, converted);
        check(ParquetError::from(cast()).into(), Code::Execution, converted);
        check(ParquetError::External(Box::new(cast())).into(), Code::Execution, converted);
        check(
            ParquetError::from(ArrowError::DivideByZero).into(),
            Code::Execution,
            "division by zero; write `x / nullif(y, 0)` to get null instead",
        );
        check(
            DataFusionError::Execution("unexpected 'dana' of \"kim\"".into()),
            Code::Execution,
            "unexpected '…' of \"…\"",
        );
        let pattern = "regex parse error:\n    (\n    ^\nerror: unclosed group".to_owned();
        let unclosed = "a regular expression cannot be read: unclosed group";
        check(DataFusionError::External(pattern.clone().into()), Code::Invalid, unclosed);
        check(DataFusionError::Execution(pattern), Code::Execution, unclosed);
        check(
            ParquetError::EOF("footer".into()).into(),
            Code::Lake,
            "a file of the lake could not be read: Parquet error: EOF: footer",
        );
    }
}
