//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod corpus;
mod exports;
mod hostile;
mod ladder;
mod roundtrip;
mod secrets;
mod seen;
