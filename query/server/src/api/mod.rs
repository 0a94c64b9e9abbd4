//! The resources of the API, one file each.

pub(crate) mod chains;
mod parameters;
pub(crate) mod sql;
pub(crate) mod status;
