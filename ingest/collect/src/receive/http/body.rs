//! Bodies: what they are packed with, and how far they may unpack.
//!
//! Guarantees: unpacking stops at the limits of [`Bodies`], however small what was sent; a packed body is whole, says that
//! it is packed, and is packed once. How a body is cut into records is [`catena_decode::frame`]'s to say, as for files.

use super::Bodies;
use super::problem::Problem;
use axum::http::{HeaderMap, header};
use catena_decode::frame::{self, FrameError, Packing};
use std::borrow::Cow;

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

/// Memory that a body of this length may need, its entries for the log included.
pub(super) fn memory(packing: Packing, length: usize, bodies: &Bodies) -> usize {
    let unpacked = match packing {
        Packing::Plain => length,
        _ => {
            length.saturating_mul(bodies.ratio_max).max(frame::RATIO_FREE_BYTES as usize).min(bodies.unpacked_bytes_max)
        }
    };
    length.saturating_add(unpacked.saturating_mul(2))
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
