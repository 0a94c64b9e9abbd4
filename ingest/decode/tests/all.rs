//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod corpus;
mod declared;
mod hostile;
mod ladder;
mod openfga;
mod roundtrip;
mod secrets;
mod seen;
