//! What one record may multiply into, where its format lets it hold several decisions.
//!
//! Guarantee: no record stalls a decoder or fills the memory behind it, whatever its size: it holds [`DECISIONS_MAX`] decisions at
//! most, and what stands around them, which each may be searched for and may repeat as a field, is at most
//! [`REPEATED_BYTES_MAX`] bytes in all. A record beyond that is refused whole, by name, before anything of it is out.

/// Decisions that one record may hold.
pub(crate) const DECISIONS_MAX: usize = 10_000;
/// 10,000 decisions with 26 kB around them.
pub(crate) const REPEATED_BYTES_MAX: usize = 256 << 20;

/// Whether a record may hold so many decisions with so many bytes around them.
pub(crate) fn bounded(count: usize, around: usize) -> Result<(), (&'static str, String)> {
    if count > DECISIONS_MAX {
        return Err(("decisions_too_many", format!("more than {DECISIONS_MAX} in one record")));
    }
    if count > 1 && around.saturating_mul(count) > REPEATED_BYTES_MAX {
        return Err(("decisions_too_large", format!("{around} bytes around {count} decisions")));
    }
    Ok(())
}
