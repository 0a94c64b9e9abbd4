//! One file per resource.

pub(crate) mod chains;
pub(crate) mod sql;
pub(crate) mod status;

use crate::Server;
use crate::problem::Problem;
use axum::http::HeaderMap;
use catena_engine::Session;
use std::collections::HashMap;

/// Parameters of a URL.
type Parameters = HashMap<String, String>;

/// Within the scope of who asks.
fn session(server: &Server, headers: &HeaderMap) -> Result<Session, Problem> {
    let scope = server.settings.access.scope(headers).ok_or_else(Problem::unauthorized)?;
    Ok(server.engine.session(scope))
}

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
