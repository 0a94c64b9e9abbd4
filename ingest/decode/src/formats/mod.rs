//! One file per producer's dialect.

pub(crate) mod agentgateway;
pub(crate) mod bounds;
pub mod catena;
pub(crate) mod cerbos;
pub(crate) mod cloudevents;
pub(crate) mod declared;
pub(crate) mod envoy;
pub(crate) mod mapped;
pub(crate) mod mcp;
pub(crate) mod opa;
mod opened;
pub(crate) mod otlp;
pub(crate) mod pomerium;
pub(crate) mod signs;
