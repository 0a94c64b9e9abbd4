//! Finds: given a question, fetches facts.
//!
//! Guarantee: an answer is complete within its scope, or says that it is not; every query has a ceiling. This room
//! knows no HTTP, no identities and no roles: it is handed a [`Scope`].
//!
//! | module | holds |
//! |---|---|
//! | [`engine`] | SQL over one version of the lake, within limits |
//! | [`log`] | the Delta log, replayed |
//! | `damage` | data files opened, and damaged ones noticed |
//! | [`table`] | `records` for DataFusion: which files, which columns |
//! | [`views`] | `decisions`, `executions`, `rejects`, `asides`, and the tables of authority |
//! | [`gate`] | which SQL may run |
//! | [`bounded`] | functions that grow values, with a ceiling |
//! | `ceiling` | operators that hold or repeat rows, with a ceiling |
//! | `explain` | what an error of DataFusion means to whoever asked |
//! | `control` | whether a running query may go on |
//! | `threads` | the threads that run queries, and a watchdog over them |
//! | `pool` | memory of one query, and of all |
//! | [`output`] | answers as JSON, CSV, text tables, Parquet |
//! | `select` | questions of the engine itself, with typed answers |
//! | [`completeness`] | counts, fill rates and gaps of each source; totals |
//! | [`chains`] | the rules of `catena-analysis` over decisions: `chains`, `chain_events`, `operations` |

mod authority;
pub mod bounded;
mod ceiling;
pub mod chains;
pub mod completeness;
mod control;
mod damage;
pub mod engine;
pub mod error;
mod explain;
pub mod gate;
mod lake;
pub mod limits;
pub mod log;
pub mod output;
mod pool;
mod select;
mod sizes;
pub mod table;
mod threads;
pub mod views;

pub use engine::{Answer, Cut, Engine, Health, Options, Rows, Session};
pub use error::{Code, LakeError, QueryError};
pub use limits::Limits;
pub use table::Scope;
