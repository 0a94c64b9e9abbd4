//! Bodies: what they are packed with, and how far they may unpack.
//!
//! Guarantees: unpacking stops at the limits of [`Bodies`], however small what was sent; a packed body is whole, says that
//! it is packed, and is packed once. Memory is counted by what a body may become, not by its bytes alone: its records are limited,
//! and so are the values of each and the bytes of their entries. How a body is cut into records is [`catena_decode::frame`]'s to say, as for files.

use super::Bodies;
use super::problem::Problem;
use crate::receive::keep::{TooMuch, Within};
use axum::http::{HeaderMap, header};
use catena_decode::frame::{self, FrameError, Packing};
use std::borrow::Cow;

/// Bytes that are kept of a record besides its own: where it stands in the body, and the head of its entry in the log, with the
/// reason and the detail of a rejection.
const RECORD_BYTES: usize = 200;
/// Values of one record: the parser keeps 16 bytes of each.
const VALUES_MAX: usize = 2_000_000;
/// A record below this cannot hold so many that it matters.
const VALUES_FREE_BYTES: usize = 1 << 20;

/// From `Content-Encoding`. One encoding; several on top of each other only serve to hide something.
pub(super) fn packing(headers: &HeaderMap) -> Result<Packing, Problem> {
    let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
    let value = match (values.next(), values.next()) {
        (None, _) => return Ok(Packing::Plain),
        (Some(value), None) => value.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => return Err(Problem::encoding("more than one `Content-Encoding`".into())),
    };
    match value.as_str() {
        "identity" | "" => Ok(Packing::Plain),
        "gzip" | "x-gzip" => Ok(Packing::Gzip),
        "zstd" => Ok(Packing::Zstd),
        _ => Err(Problem::encoding("`Content-Encoding` is none of gzip, zstd, identity".into())),
    }
}

/// Memory that decoding a body of this length may need besides the body, its entries for the log included.
pub(super) fn memory(packing: Packing, length: usize, bodies: &Bodies) -> usize {
    let unpacked = match packing {
        Packing::Plain => length,
        _ => {
            length.saturating_mul(bodies.ratio_max).max(frame::RATIO_FREE_BYTES as usize).min(bodies.unpacked_bytes_max)
        }
    };
    let records = (unpacked / 2).min(bodies.records_max);
    unpacked.saturating_mul(2).saturating_add(records.saturating_mul(RECORD_BYTES))
}

/// Cuts a body into its records.
pub(super) fn records<'b>(unpacked: &'b [u8], bodies: &Bodies) -> Result<Vec<&'b [u8]>, Problem> {
    let Some(records) = frame::records_up_to(unpacked, bodies.records_max) else {
        return Err(Problem::too_large(TooMuch::Entries(bodies.records_max as u64).to_string()));
    };
    Ok(records.into_iter().map(|r| r.1).collect())
}

/// Refuses a record of so many values that the parser's notes on it would be many times its size.
pub(super) fn few_values(records: &[&[u8]]) -> Result<(), Problem> {
    let values = |record: &&&[u8]| memchr::memchr2_iter(b',', b'[', record).count() > VALUES_MAX;
    match records.iter().filter(|record| record.len() > VALUES_FREE_BYTES).find(values) {
        None => Ok(()),
        Some(_) => Err(Problem::too_large(format!("one record holds more than {VALUES_MAX} values: split it"))),
    }
}

/// What a body may become: as many entries as records, and as many bytes as [`memory`] counts.
pub(super) fn within(bodies: &Bodies) -> Within {
    Within { entries: bodies.records_max as u64, bytes: bodies.unpacked_bytes_max.saturating_mul(2) }
}

/// Unpacks a body.
pub(super) fn unpack<'a>(packing: Packing, bytes: &'a [u8], bodies: &Bodies) -> Result<Cow<'a, [u8]>, Problem> {
    if !bytes.is_empty() && Packing::of(bytes) != packing {
        let detail =
            "`Content-Encoding` is not what the body is packed with: say gzip or zstd, or leave it out for plain text";
        return Err(Problem::bad_request("encoding_wrong", detail.into()));
    }
    let limits = frame::Limits { bytes_max: bodies.unpacked_bytes_max as u64, ratio_max: bodies.ratio_max as u64 };
    frame::decompress(bytes, &limits).map_err(|e| match e {
        FrameError::TooLarge(_) | FrameError::Ratio(_) => Problem::too_large(e.to_string()),
        FrameError::Nested | FrameError::Damaged(_) => Problem::bad_request(e.reason(), e.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_counts_what_becomes_of_records() {
        let bodies = Bodies::default();
        let entries = |length: usize| memory(Packing::Plain, length, &bodies) - 2 * length;
        assert_eq!(entries(1000), 500 * RECORD_BYTES);
        assert_eq!(entries(8 << 20), bodies.records_max * RECORD_BYTES);
        // Ten bodies of the greatest size wait for one another.
        assert!(10 * memory(Packing::Plain, bodies.bytes_max, &bodies) > bodies.budget_bytes);
    }

    #[test]
    fn encodings() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            packing(&headers).ok()
        };
        assert_eq!(of(&[]), Some(Packing::Plain));
        assert_eq!(of(&["GZip"]), Some(Packing::Gzip));
        assert_eq!(of(&["zstd"]), Some(Packing::Zstd));
        for refused in [&["br"][..], &["gzip, gzip"], &["br, gzip"], &["gzip", "zstd"], &["deflate"]] {
            assert_eq!(of(refused), None, "{refused:?}");
        }
    }
}
