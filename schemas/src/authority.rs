//! Records of authority: what was granted, exchanged, registered and ended, versioned by time.
//!
//! Guarantee: they share the envelope of the native event (`id`, `time`, `kind`, `source`); their own fields are those
//! of the delegation specification, in snake case. A record is a fact at a time: nothing here is ever updated in place.
