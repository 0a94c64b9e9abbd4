//! One file per resource.

pub(crate) mod chains;
pub(crate) mod sql;
pub(crate) mod status;

use crate::problem::Problem;
use std::collections::HashMap;

/// Parameters of a URL.
type Parameters = HashMap<String, String>;

/// A misspelt parameter must not silently widen the question.
fn known(parameters: &Parameters, names: &[&str]) -> Result<(), Problem> {
    match parameters.keys().find(|name| !names.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => {
            let name: String = name.chars().filter(|c| !c.is_control()).take(40).collect();
            Err(Problem::bad_request("parameter_unknown", format!("`{name}` is none of {}", names.join(", "))))
        }
    }
}
