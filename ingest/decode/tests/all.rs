//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod corpus;
mod declared;
mod explain;
mod hostile;
mod ladder;
mod mapping;
mod openfga;
mod roundtrip;
mod secrets;
mod seen;
