//! The decoder from outside: real logs against what their driver knows, bad input, planted secrets.

mod corpus;
mod hostile;
mod ladder;
mod planted;
mod roundtrip;
mod rules;
mod secrets;
mod seen;
mod speed;
