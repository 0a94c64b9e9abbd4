//! Parameters of requests, as types.
//!
//! Guarantee: a parameter that a route does not know is refused, because a misspelt filter would silently widen the answer; each
//! refusal names the parameter and what it may be.

use crate::problem::Problem;
use axum::extract::{FromRequestParts, Path, Query};
use axum::http::request::Parts;
use std::collections::BTreeMap;

/// Characters of an unknown name that are quoted.
const QUOTED_CHARS_MAX: usize = 40;

/// The parameters of one route.
pub(crate) trait Parameters: Sized {
    /// Names of the parameters that the route knows.
    const NAMES: &'static [&'static str];

    /// Reads them.
    fn read(given: &Given) -> Result<Self, Problem>;
}

/// Parameters as they were sent; of one that was sent several times, the last.
pub(crate) struct Given(BTreeMap<String, String>);

impl Given {
    /// A parameter as text.
    pub(crate) fn text(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    /// A parameter of a type; `expected` completes "must be".
    pub(crate) fn parse<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<Option<T>, Problem> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        let invalid = || Problem::bad_request("parameter_invalid", format!("`{name}` must be {expected}"));
        parse(text).map(Some).ok_or_else(invalid)
    }

    fn check(&self, names: &[&str]) -> Result<(), Problem> {
        let Some(name) = self.0.keys().find(|name| !names.contains(&name.as_str())) else { return Ok(()) };
        let name: String = name.chars().filter(|c| !c.is_control()).take(QUOTED_CHARS_MAX).collect();
        let expected = match names {
            [] => "this route takes none".to_owned(),
            names => format!("expected one of: {}", names.join(", ")),
        };
        Err(Problem::bad_request("parameter_unknown", format!("unknown parameter `{name}`; {expected}")))
    }
}

/// A route without parameters.
pub(crate) struct Nothing;

impl Parameters for Nothing {
    const NAMES: &'static [&'static str] = &[];

    fn read(_: &Given) -> Result<Nothing, Problem> {
        Ok(Nothing)
    }
}

/// The parameters of a request.
pub(crate) struct Asked<T>(pub(crate) T);

impl<S: Send + Sync, T: Parameters> FromRequestParts<S> for Asked<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Asked<T>, Problem> {
        let Query(given) = Query::<BTreeMap<String, String>>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::bad_request("parameter_invalid", "the query string cannot be read"))?;
        let given = Given(given);
        given.check(T::NAMES)?;
        Ok(Asked(T::read(&given)?))
    }
}

/// The id in the path of a request.
pub(crate) struct Id(pub(crate) String);

impl<S: Send + Sync> FromRequestParts<S> for Id {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Id, Problem> {
        let Path(id) = Path::<String>::from_request_parts(parts, state)
            .await
            .map_err(|_| Problem::bad_request("path_invalid", "the id in the path must be percent-encoded UTF-8"))?;
        Ok(Id(id))
    }
}
