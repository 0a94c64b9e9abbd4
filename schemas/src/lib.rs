//! Describes: what a fact looks like, in memory, at rest and on the wire.
//!
//! Guarantee: a fact written today can be read by every later version, byte for byte. This room knows no I/O, no
//! async, no HTTP, no SQL and no producer's dialect; everything here is names, types, units and byte order.
//!
//! | module | holds |
//! |---|---|
//! | [`fields`] | the one table of an event's fields, from which the modules below are generated |
//! | [`answer`] | answers of the engine, the HTTP API and the command line |
//! | [`event`] | the canonical decision event, borrowed from the bytes it was read from |
//! | [`time`] | instants in microseconds, and how they are written |
//! | [`table`] | the lake's tables: names, columns, partitions |
//! | [`rows`] | events to Arrow record batches |
//! | [`canonical`] | canonical bytes and the leaf hash of an event |
//! | [`wire`] | the native JSON event, and its JSON Schema |
//! | [`authority`] | records of authority: grants, re-authorizations, exchanges, tools, lifecycle, principals |
//! | `fixture` | delegation chains as lines of text, for tests (feature `fixture`) |

pub mod answer;
pub mod authority;
pub mod canonical;
pub mod event;
pub mod fields;
#[cfg(any(test, feature = "fixture"))]
pub mod fixture;
mod json_text;
pub mod revision;
pub mod rows;
pub mod table;
pub mod time;
pub mod wire;

pub use event::{Actor, Basis, Enforced, Event, EventKind, Outcome, Phase};
pub use time::Micros;
