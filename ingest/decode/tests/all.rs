//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod authority;
mod bounds;
mod cerbos;
mod compat;
mod corpus;
mod declared;
mod explain;
mod exports;
mod fields;
mod hostile;
mod kept;
mod keys;
mod ladder;
mod leaks;
mod mapping;
mod mcp;
mod opa;
mod openfga;
mod planted;
mod pomerium;
mod roundtrip;
mod rules;
mod secrets;
mod seen;
mod speed;
mod unlost;
