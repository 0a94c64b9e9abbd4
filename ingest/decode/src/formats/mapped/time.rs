//! When it was, as the fields of a mapping say.
//!
//! Guarantees: a time that is there and cannot be read is an error and not a time; one without a zone is read only where the mapping
//! says that the producer means UTC; and what names no time has that of its receipt, under the flag `time_missing`.

use super::Filling;
use crate::Context;
use crate::formats::catena::instant;
use crate::json::Value;
use crate::mapping::Slot;
use catena_schemas::Micros;
use catena_schemas::event::Event;

/// An event this far ahead of its receipt is flagged `skew`.
const SKEW_US_MAX: i64 = 24 * 3600 * 1_000_000;

impl<'t> Filling<'t, '_> {
    /// The time of the event, by field or as given; the receipt's when there is none.
    pub(crate) fn time(
        &mut self,
        e: &mut Event<'t>,
        given: Option<Value<'t>>,
        context: &Context<'_>,
    ) -> Result<(), (&'static str, String)> {
        let given = given.filter(|v| !v.is_null());
        let first = self.way(Slot::Time).map(|from| from.name()).unwrap_or_default();
        let ways = self.found(Slot::Time).filter_map(|(found, a)| Some((found.value()?, a.free, a.from.name())));
        for (v, free, name) in given.map(|v| (v, false, first)).into_iter().chain(ways) {
            let zoneless = || self.mapping.field(Slot::Time).iter().any(|a| a.utc);
            let read = moment(v).or_else(|| zoneless().then(|| Micros::parse_rfc3339(&format!("{}Z", v.as_str()?)))?);
            let Some(time) = read else {
                if free {
                    continue;
                }
                let secret = self.redactor.tells(name, false).then(|| self.redactor.told(name, &v.to_json())).flatten();
                return Err(("time_invalid", format!("the time is {}", secret.unwrap_or_else(|| v.to_json()))));
            };
            e.time = time;
            self.taken.insert(v);
            self.skew(time, context);
            if self.mapping.field(Slot::Time).iter().any(|a| a.whole_seconds) && time.0 % 1_000_000 == 0 {
                self.flag("time_whole_seconds");
            }
            return Ok(());
        }
        e.time = context.received;
        self.flag("time_missing");
        Ok(())
    }

    /// Flags a time that lies ahead of its receipt.
    pub(crate) fn skew(&mut self, time: Micros, context: &Context<'_>) {
        if context.received.0 != 0 && time.0 - context.received.0 > SKEW_US_MAX {
            self.flag("skew");
        }
    }
}

/// A time as loggers write them: as in a native event, whole numbers as text, and seconds with a fraction.
pub(crate) fn moment(v: Value<'_>) -> Option<Micros> {
    instant(v)
        .or_else(|| v.as_str().and_then(|s| s.parse().ok()).and_then(Micros::from_epoch_guess))
        .or_else(|| fractional_seconds(v))
}

/// Unix seconds with a fraction, as number or text: the default of several loggers.
fn fractional_seconds(v: Value<'_>) -> Option<Micros> {
    let (whole, fraction) = v.as_scalar()?.split_once('.')?;
    let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
    if whole.len() != 10 || !digits(whole) || !digits(fraction) {
        return None;
    }
    let micros: i64 = format!("{:0<6.6}", fraction).parse().ok()?;
    Micros::from_seconds(whole.parse().ok()?).map(|t| Micros(t.0 + micros))
}
