//! Bodies: unpacked within limits, cut into records.
//!
//! Guarantees: unpacking stops at the limits of [`Bodies`], however small what was sent; a compressed body is whole, ends
//! where the body ends, and is packed once. Every byte of an unpacked body that is not white space or punctuation of the
//! framing belongs to exactly one record.

use super::problem::Problem;
use super::Bodies;
use axum::http::{HeaderMap, header};
use std::borrow::Cow;
use std::io::Read;

/// Below this no ratio is a bomb.
const RATIO_FLOOR: usize = 1 << 20;

/// How a body is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Zstd,
}

/// A body as its records see it.
pub type Unpacked<'a> = Cow<'a, [u8]>;

impl Encoding {
    /// From `Content-Encoding`. One encoding; several on top of each other only serve to hide something.
    pub(super) fn of(headers: &HeaderMap) -> Result<Encoding, Problem> {
        let mut values = headers.get_all(header::CONTENT_ENCODING).iter();
        let value = match (values.next(), values.next()) {
            (None, _) => return Ok(Encoding::Identity),
            (Some(value), None) => value.to_str().unwrap_or("?").trim().to_ascii_lowercase(),
            (Some(_), Some(_)) => return Err(Problem::encoding("more than one `Content-Encoding`".into())),
        };
        match value.as_str() {
            "identity" | "" => Ok(Encoding::Identity),
            "gzip" | "x-gzip" => Ok(Encoding::Gzip),
            "zstd" => Ok(Encoding::Zstd),
            _ => Err(Problem::encoding("`Content-Encoding` is none of gzip, zstd, identity".into())),
        }
    }

    /// Memory that a body of this length may need.
    pub(super) fn memory(self, length: usize, bodies: &Bodies) -> usize {
        match self {
            // The body, and its entries for the log.
            Encoding::Identity => length.saturating_mul(2),
            _ => length.saturating_add(unpacked_max(length, bodies).saturating_mul(2)),
        }
    }
}

fn unpacked_max(length: usize, bodies: &Bodies) -> usize {
    length.saturating_mul(bodies.ratio_max).max(RATIO_FLOOR).min(bodies.unpacked_bytes_max)
}

/// Unpacks a body.
pub(super) fn unpack<'a>(encoding: Encoding, bytes: &'a [u8], bodies: &Bodies) -> Result<Unpacked<'a>, Problem> {
    let max = unpacked_max(bytes.len(), bodies);
    let failed = |e: std::io::Error| Problem::bad_request("encoding_invalid", format!("the body cannot be unpacked: {e}"));
    let mut out = Vec::new();
    match encoding {
        Encoding::Identity if bytes.len() > bodies.unpacked_bytes_max => {
            return Err(Problem::too_large(format!("the body is larger than {} bytes", bodies.unpacked_bytes_max)));
        }
        Encoding::Identity => return Ok(Cow::Borrowed(bytes)),
        Encoding::Gzip => {
            // Several members are one body (RFC 1952, section 2.2): producers that append while they pack write them.
            let mut reader = flate2::bufread::MultiGzDecoder::new(bytes).take(max as u64 + 1);
            reader.read_to_end(&mut out).map_err(failed)?;
        }
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(bytes).map_err(failed)?;
            decoder.window_log_max(27).map_err(failed)?;
            decoder.take(max as u64 + 1).read_to_end(&mut out).map_err(failed)?;
        }
    }
    if out.len() > max {
        return Err(Problem::too_large(format!("the body unpacks to more than {max} bytes")));
    }
    Ok(Cow::Owned(out))
}

/// Cuts an unpacked body into records: the elements of an array, the lines of NDJSON, or one document over many lines.
pub(super) fn records(body: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let trimmed = body.trim_ascii();
    match trimmed.first() {
        None => Ok(Vec::new()),
        Some(b'[') => elements(trimmed)
            .ok_or_else(|| Problem::bad_request("body_unreadable", "the body starts as a JSON array and does not end as one".into())),
        Some(_) => {
            let lines: Vec<_> = trimmed.split(|b| *b == b'\n').map(<[u8]>::trim_ascii).filter(|l| !l.is_empty()).collect();
            let one_document = lines.len() > 1 && value_end(lines[0]).is_none() && value_end(trimmed) == Some(trimmed.len());
            Ok(if one_document { vec![trimmed] } else { lines })
        }
    }
}

/// The elements of an array, whatever they are; `None` when its end is not the end of the bytes.
fn elements(array: &[u8]) -> Option<Vec<&[u8]>> {
    if value_end(array)? != array.len() {
        return None;
    }
    let inside = array[1..array.len() - 1].trim_ascii();
    if inside.is_empty() {
        return Some(Vec::new());
    }
    let (mut elements, mut rest) = (Vec::new(), inside);
    loop {
        let end = element_end(rest);
        elements.push(rest[..end].trim_ascii());
        match rest.get(end) {
            Some(_) => rest = &rest[end + 1..],
            None => return Some(elements),
        }
    }
}

/// Where the element ends that starts here: at a comma outside of everything, or at the end.
fn element_end(bytes: &[u8]) -> usize {
    let mut scan = Scan::default();
    bytes.iter().position(|b| scan.depth == 0 && !scan.string && *b == b',' || { scan.step(*b); false }).unwrap_or(bytes.len())
}

/// Where the object or array ends that starts here.
fn value_end(bytes: &[u8]) -> Option<usize> {
    let mut scan = Scan::default();
    bytes.iter().position(|b| { scan.step(*b); scan.depth == 0 && !scan.string }).map(|last| last + 1)
}

/// As much of JSON as framing needs: strings and nesting.
#[derive(Default)]
struct Scan {
    depth: usize,
    string: bool,
    escaped: bool,
}

impl Scan {
    fn step(&mut self, byte: u8) {
        if self.string {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.string = false,
                _ => {}
            }
            return;
        }
        match byte {
            b'"' => self.string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => self.depth = self.depth.saturating_sub(1),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: &str, expected: Option<&[&str]>) {
        let found = records(body.as_bytes()).ok();
        let found = found.as_ref().map(|r| r.iter().map(|r| std::str::from_utf8(r).unwrap()).collect::<Vec<_>>());
        assert_eq!(found.as_deref(), expected, "{body}");
    }

    #[test]
    fn framing() {
        check("", Some(&[]));
        check(" \r\n ", Some(&[]));
        check("{\"a\":1}", Some(&["{\"a\":1}"]));
        check("{\"a\":1}\r\n\r\n{\"b\":2}\n", Some(&["{\"a\":1}", "{\"b\":2}"]));
        check("{\n \"a\": [1,\n 2]\n}", Some(&["{\n \"a\": [1,\n 2]\n}"]));
        check("garbage\n{\"a\":1}", Some(&["garbage", "{\"a\":1}"]));
        check("{broken\n{\"a\":1}", Some(&["{broken", "{\"a\":1}"]));
        check("[]", Some(&[]));
        check(" [ {\"a\":\"],[\\\"\"} , 1,\"x,y\" ] ", Some(&["{\"a\":\"],[\\\"\"}", "1", "\"x,y\""]));
        check("[1,,2]", Some(&["1", "", "2"]));
        check("[{\"a\":1},{b]", None);
        check("[{\"a\":1}", None);
        check("[1][2]", None);
        check("[1] x", None);
    }

    #[test]
    fn encodings() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(header::CONTENT_ENCODING, value.parse().unwrap());
            }
            Encoding::of(&headers).ok()
        };
        assert_eq!(of(&[]), Some(Encoding::Identity));
        assert_eq!(of(&["GZip"]), Some(Encoding::Gzip));
        assert_eq!(of(&["zstd"]), Some(Encoding::Zstd));
        for refused in [&["br"][..], &["gzip, gzip"], &["br, gzip"], &["gzip", "zstd"], &["deflate"]] {
            assert_eq!(of(refused), None, "{refused:?}");
        }
    }
}
