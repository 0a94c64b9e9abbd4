//! How wide the rows of a data file are, which stands in the tags of its log entry.
//!
//! Guarantee: no row of the file holds more bytes than the tag says, however small the file is: thousands of rows that repeat one
//! text of a megabyte compress to a few KB, and whoever unpacks 8,192 of them at once needs as many megabytes. A tag of another
//! form counts as none, not as an error.

/// Name of the tag.
pub const TAG: &str = "catena.row_bytes";

/// What a row is taken to hold when the log does not say: files of builds that had no tag.
const UNKNOWN: u64 = 8 << 10;

/// The bound that a tag gives.
pub fn parse(text: &str) -> Option<u64> {
    text.parse().ok()
}

/// Rows to read at once, `rows` at most, so that they hold about `bytes` at most.
pub fn batch_rows(row_bytes: Option<u64>, bytes: u64, rows: usize) -> usize {
    let fit = bytes / row_bytes.unwrap_or(UNKNOWN).max(1);
    usize::try_from(fit).unwrap_or(usize::MAX).clamp(1, rows.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_wide_rows_and_many_narrow_ones() {
        let rows = |tag: &str| batch_rows(parse(tag), 64 << 20, 8192);
        assert_eq!([rows("2000"), rows("1000000"), rows("100000000")], [8192, 67, 1]);
        assert_eq!([rows(""), rows("-1"), rows("0")], [8192, 8192, 8192]);
    }
}
