//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod authority;
mod corpus;
mod hostile;
mod ladder;
mod mcp;
mod pomerium;
mod roundtrip;
mod secrets;
mod seen;
