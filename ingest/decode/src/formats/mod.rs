//! One file per producer's dialect.

pub mod catena;
pub(crate) mod cerbos;
pub(crate) mod declared;
pub(crate) mod envoy;
pub(crate) mod mapped;
pub(crate) mod mcp;
pub(crate) mod opa;
pub(crate) mod pomerium;
