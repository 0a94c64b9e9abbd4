//! Instants: microseconds since 1970-01-01T00:00:00Z, as a type, so that no other unit can slip in.
//!
//! Guarantee: [`Micros::parse_rfc3339`] accepts what RFC 3339 section 5.6 allows (any fraction length, any offset up to
//! 23:59, `t`/`z` in lower case, a leap second folded to :59.999999) and nothing else; what it accepts prints back to
//! the same instant with [`Micros::to_rfc3339`]. Finer fractions are cut, never rounded, so order is kept.

use std::fmt;

/// An instant in microseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Micros(pub i64);

const DAY_S: i64 = 86_400;
/// 0001-01-01 and 10000-01-01: the years that RFC 3339 can write, and that Parquet readers agree on.
const YEAR_1_S: i64 = -62_135_596_800;
const YEAR_10000_S: i64 = 253_402_300_800;

impl Micros {
    /// From whole seconds; `None` outside years 1 to 9999.
    pub fn from_seconds(s: i64) -> Option<Micros> {
        (YEAR_1_S..YEAR_10000_S).contains(&s).then(|| Micros(s * 1_000_000))
    }

    /// From nanoseconds since the epoch, cut to microseconds.
    pub fn from_nanos(ns: i64) -> Micros {
        Micros(ns.div_euclid(1000))
    }

    /// Reads a number of unknown unit by its size: 10 digits are seconds, 13 milliseconds, 16 microseconds, 19
    /// nanoseconds. The ranges do not overlap for instants between 2001 and 2286.
    pub fn from_epoch_guess(n: i64) -> Option<Micros> {
        match n {
            1_000_000_000..=9_999_999_999 => Some(Micros(n * 1_000_000)),
            1_000_000_000_000..=9_999_999_999_999 => Some(Micros(n * 1000)),
            1_000_000_000_000_000..=9_999_999_999_999_999 => Some(Micros(n)),
            1_000_000_000_000_000_000.. => Some(Micros(n / 1000)),
            _ => None,
        }
    }

    /// Reads an RFC 3339 date-time.
    pub fn parse_rfc3339(s: &str) -> Option<Micros> {
        let b = s.as_bytes();
        if b.len() < 20 || b[4] != b'-' || b[7] != b'-' || b[13] != b':' || b[16] != b':' {
            return None;
        }
        if !matches!(b[10], b'T' | b't' | b' ') {
            return None;
        }
        let year = digits(&b[0..4])?;
        let (month, day) = (digits(&b[5..7])?, digits(&b[8..10])?);
        let (hour, minute, second) = (digits(&b[11..13])?, digits(&b[14..16])?, digits(&b[17..19])?);
        if year == 0 || !(1..=12).contains(&month) || day == 0 || day > days_in_month(year, month) {
            return None;
        }
        if hour > 23 || minute > 59 || second > 60 {
            return None;
        }
        let mut at = 19;
        let mut micros = 0;
        if b[at] == b'.' {
            let start = at + 1;
            at = start;
            let mut scale = 100_000;
            while at < b.len() && b[at].is_ascii_digit() {
                micros += i64::from(b[at] - b'0') * scale;
                scale /= 10;
                at += 1;
            }
            if at == start {
                return None;
            }
        }
        let offset_s = match b.get(at)? {
            b'Z' | b'z' if at + 1 == b.len() => 0,
            sign @ (b'+' | b'-') if at + 6 == b.len() && b[at + 3] == b':' => {
                let (h, m) = (digits(&b[at + 1..at + 3])?, digits(&b[at + 4..at + 6])?);
                if h > 23 || m > 59 {
                    return None;
                }
                (h * 3600 + m * 60) * if *sign == b'-' { -1 } else { 1 }
            }
            _ => return None,
        };
        // A leap second has no place of its own in Unix time: it is the last instant of its minute.
        let (second, micros) = if second == 60 { (59, 999_999) } else { (second, micros) };
        let s = days_from_civil(year, month, day) * DAY_S + hour * 3600 + minute * 60 + second - offset_s;
        Micros::from_seconds(s).map(|t| Micros(t.0 + micros))
    }

    /// Writes RFC 3339 in UTC with six digits.
    pub fn to_rfc3339(self) -> String {
        let mut out = Vec::with_capacity(27);
        self.write_rfc3339(&mut out);
        String::from_utf8(out).expect("digits and punctuation")
    }

    /// Appends what [`Micros::to_rfc3339`] gives.
    pub fn write_rfc3339(self, out: &mut Vec<u8>) {
        let (days, rest) = (self.0.div_euclid(DAY_S * 1_000_000), self.0.rem_euclid(DAY_S * 1_000_000));
        let (y, m, d) = civil_from_days(days);
        let (s, us) = (rest / 1_000_000, rest % 1_000_000);
        if !(0..10_000).contains(&y) {
            out.extend_from_slice(y.to_string().as_bytes());
        } else {
            pad(out, y, 4);
        }
        for (mark, value, width) in
            [(b'-', m, 2), (b'-', d, 2), (b'T', s / 3600, 2), (b':', s / 60 % 60, 2), (b':', s % 60, 2), (b'.', us, 6)]
        {
            out.push(mark);
            pad(out, value, width);
        }
        out.push(b'Z');
    }

    /// The UTC day, as `YYYY-MM-DD`: the value of the `ingest_date` partition.
    pub fn date(self) -> String {
        let (y, m, d) = civil_from_days(self.0.div_euclid(DAY_S * 1_000_000));
        format!("{y:04}-{m:02}-{d:02}")
    }

    /// Milliseconds since the epoch, for Delta log entries.
    pub fn millis(self) -> i64 {
        self.0.div_euclid(1000)
    }
}

impl fmt::Debug for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

/// Appends `value` in exactly `width` digits.
fn pad(out: &mut Vec<u8>, mut value: i64, width: usize) {
    let start = out.len();
    out.resize(start + width, b'0');
    for digit in out[start..].iter_mut().rev() {
        *digit += (value % 10) as u8;
        value /= 10;
    }
}

fn digits(b: &[u8]) -> Option<i64> {
    b.iter().try_fold(0, |n, c| c.is_ascii_digit().then(|| n * 10 + i64::from(c - b'0')))
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days since 1970-01-01 in the proleptic Gregorian calendar (H. Hinnant, "chrono-compatible low-level date algorithms").
fn days_from_civil(y: i64, m: i64, d: i64) -> i64 {
    let y = if m <= 2 { y - 1 } else { y };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * (if m > 2 { m - 3 } else { m + 9 }) + 2) / 5 + d - 1;
    era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468
}

fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let z = days + 719_468;
    let era = z.div_euclid(146_097);
    let doe = z.rem_euclid(146_097);
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let m = if mp < 10 { mp + 3 } else { mp - 9 };
    (yoe + era * 400 + i64::from(m <= 2), m, doy - (153 * mp + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, want: Option<&str>) {
        assert_eq!(Micros::parse_rfc3339(input).map(Micros::to_rfc3339).as_deref(), want, "{input}");
    }

    #[test]
    fn reads_what_producers_write() {
        check("2026-11-21T00:19:07.417517600Z", Some("2026-11-21T00:19:07.417517Z"));
        check("2026-11-21T00:12:24Z", Some("2026-11-21T00:12:24.000000Z"));
        check("2026-11-21T00:12:24.5+14:00", Some("2026-11-20T10:12:24.500000Z"));
        check("2026-11-21T00:12:24.5-12:00", Some("2026-11-21T12:12:24.500000Z"));
        check("2026-11-21 00:12:24z", Some("2026-11-21T00:12:24.000000Z"));
        check("2016-12-31T23:59:60Z", Some("2016-12-31T23:59:59.999999Z"));
        check("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00.000000Z"));
        check("0001-01-01T00:00:00Z", Some("0001-01-01T00:00:00.000000Z"));
        check("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59.000000Z"));
    }

    #[test]
    fn refuses_the_rest() {
        for bad in [
            "",
            "2026-11-21",
            "2026-11-21T00:12:24",
            "2026-11-21T00:12:24.Z",
            "2026-11-21T25:12:24Z",
            "2026-13-21T00:12:24Z",
            "2026-02-29T00:12:24Z",
            "2026-11-21T00:12:24+25:00",
            "2026-11-21T00:12:24+1:00",
            "0000-01-01T00:00:00Z",
            "10000-01-01T00:00:00Z",
            "2026-11-21T00:12:61Z",
            "2026-11-21T00:12:24Zx",
            "²026-11-21T00:12:24Z",
            "0001-01-01T00:00:00+01:00",
            "9999-12-31T23:59:59-01:00",
        ] {
            check(bad, None);
        }
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_chrono(us in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
            let text = Micros(us).to_rfc3339();
            proptest::prop_assert_eq!(Micros::parse_rfc3339(&text), Some(Micros(us)));
            let chrono = chrono::DateTime::parse_from_rfc3339(&text).expect("chrono reads it");
            proptest::prop_assert_eq!(chrono.timestamp_micros(), us);
        }
    }
}
