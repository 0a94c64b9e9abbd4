//! Texts that hold several: cut after they have been redacted, never before, because a secret may stand in two of the pieces.

use std::borrow::Cow;

/// The pieces of a redacted text between separators, without empty ones.
pub(crate) fn pieces<'t>(text: Cow<'t, str>, separator: &str) -> Vec<Cow<'t, str>> {
    match text {
        Cow::Borrowed(s) => s.split(separator).filter(|s| !s.is_empty()).map(Cow::Borrowed).collect(),
        Cow::Owned(s) => s.split(separator).filter(|s| !s.is_empty()).map(|s| Cow::Owned(s.to_owned())).collect(),
    }
}
