//! Parquet that may be damaged.
//!
//! Guarantee: what is read through here is a value or an error; never a panic. The library checks much, and not all: a footer
//! that lies about its length, or an index that points outside, can still make it index out of bounds. So the end of
//! the file is checked first, and what remains is caught.

use parquet::errors::{ParquetError, Result};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Bytes at the end of a file that [`check_end`] looks at: length of the metadata, and the mark.
pub const END_BYTES: u64 = 8;
/// Mark at both ends of a file.
const MARK: &[u8] = b"PAR1";

/// Checks the last [`END_BYTES`] of a file of `size` bytes: the mark, and metadata that lie within the file.
pub fn check_end(end: &[u8], size: u64) -> Result<()> {
    let damaged = |detail: String| Err(ParquetError::General(detail));
    let Some((length, mark)) = end.split_at_checked(4).filter(|(_, mark)| mark.len() == 4) else {
        return damaged(format!("it has {size} bytes, too few for a Parquet file"));
    };
    if mark != MARK {
        return damaged("it does not end as a Parquet file does".into());
    }
    let length = u32::from_le_bytes(length.try_into().expect("it was split at four"));
    if length == 0 || u64::from(length) + END_BYTES + MARK.len() as u64 > size {
        return damaged(format!("its footer says {length} bytes, the file has {size}"));
    }
    Ok(())
}

/// Checks the end of a file that is in memory.
pub fn check_bytes(bytes: &[u8]) -> Result<()> {
    check_end(&bytes[bytes.len().saturating_sub(END_BYTES as usize)..], bytes.len() as u64)
}

/// Runs the library; a panic of it is an error.
pub fn guarded<T, E: From<ParquetError>>(
    read: impl FnOnce() -> std::result::Result<T, E>,
) -> std::result::Result<T, E> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| Err(caught(panic.as_ref()).into()))
}

/// What a panic of the library comes to.
pub fn caught(panic: &(dyn Any + Send)) -> ParquetError {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
    ParquetError::General(format!("it makes the reader fail: {}", text.unwrap_or("for an unknown reason")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_that_lie_are_refused() {
        let end = |length: u32, mark: &[u8]| [&length.to_le_bytes(), mark].concat();
        for (end, size, want) in [
            (end(100, b"PAR1"), 200, ""),
            (end(188, b"PAR1"), 200, ""),
            (end(189, b"PAR1"), 200, "its footer says 189 bytes, the file has 200"),
            (end(u32::MAX, b"PAR1"), 200, "its footer says 4294967295 bytes, the file has 200"),
            (end(0, b"PAR1"), 200, "its footer says 0 bytes, the file has 200"),
            (end(100, b"PAR2"), 200, "it does not end as a Parquet file does"),
            (Vec::new(), 0, "it has 0 bytes, too few for a Parquet file"),
            (b"PAR1".to_vec(), 4, "it has 4 bytes, too few for a Parquet file"),
        ] {
            let found = check_end(&end, size).err().map(|e| e.to_string()).unwrap_or_default();
            assert_eq!(found.strip_prefix("Parquet error: ").unwrap_or(&found), want);
        }
    }

    #[test]
    fn a_panic_is_an_error() {
        let found: Result<()> = guarded(|| panic!("range end out of bounds: {}", 7));
        assert!(
            found
                .expect_err("it panicked")
                .to_string()
                .ends_with("it makes the reader fail: range end out of bounds: 7")
        );
    }
}
