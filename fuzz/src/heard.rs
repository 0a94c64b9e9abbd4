//! The sink of all targets: holds what comes out to what is promised of it, at the moment it comes out.
//!
//! Promised: every record is heard of; what comes out is in proportion to what went in; a rejection has a reason that is
//! explained, and its bytes up to a bound; `params` and `extra` are JSON; an event or a record of authority, written as the
//! intake log writes it and read again as our own, is the same.

use super::Input;
use catena_decode::json::{Kind, Tape};
use catena_decode::{Context, Decoder, Format, RAW_BYTES_MAX, Redactor, Sink, reasons};
use catena_schemas::Event;
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::wire::{write_authority, write_event};
use std::cell::RefCell;
use std::sync::Arc;

thread_local! {
    /// Lives from input to input, as it does in the product: what one record leaves behind must not show in the next.
    static DECODER: RefCell<Decoder> = RefCell::new(decoder());
    /// Reads again what has been written.
    static OWN: RefCell<Decoder> = RefCell::new(decoder());
}

fn decoder() -> Decoder {
    Decoder::new(Arc::new(Redactor::new([7; 32])))
}

/// What came out, as text.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) text: Vec<u8>,
    pub(crate) facts: usize,
    /// Whether records are our own, and may hold what no sender can put in.
    trusted: bool,
}

impl Heard {
    /// What a decoder that has seen other records hears of one.
    pub(crate) fn of(format: Format, input: &Input<'_>, trusted: bool) -> Heard {
        DECODER.with_borrow_mut(|decoder| Heard::by(decoder, format, input, trusted))
    }

    /// What a new decoder hears of one.
    pub(crate) fn fresh(format: Format, input: &Input<'_>) -> Heard {
        Heard::by(&mut decoder(), format, input, false)
    }

    /// What a decoder hears of one.
    pub(crate) fn by(decoder: &mut Decoder, format: Format, input: &Input<'_>, trusted: bool) -> Heard {
        let mut heard = Heard { trusted, ..Heard::default() };
        decoder.record(format, input.body, &Context { trusted, ..input.context() }, &mut heard);
        assert!(heard.facts > 0, "nothing was heard of the record");
        let length = input.body.len() + input.headers.iter().map(|h| h.0.len() + h.1.len()).sum::<usize>();
        // A record that holds several decisions says what is around them with each of them.
        let most = (64 + 4 * heard.facts) * length + (1 << 20);
        assert!(heard.text.len() <= most, "{length} bytes became {} in {} parts", heard.text.len(), heard.facts);
        heard
    }

    fn note(&mut self, kind: &[u8], format: Format, bytes: &[u8]) {
        self.facts += 1;
        for part in [kind, format.as_str().as_bytes(), bytes] {
            self.text.extend_from_slice(part);
            self.text.push(b'\n');
        }
    }

    fn told(&mut self, kind: &[u8], said: &Rejection, format: Format) {
        self.note(kind, format, said.reason.as_bytes());
        // On lines of their own, so that no two make a word together.
        self.text.extend_from_slice(said.detail.as_bytes());
        self.text.push(b'\n');
        self.text.extend_from_slice(said.raw.as_deref().unwrap_or_default());
    }
}

impl Sink for Heard {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        if !self.trusted {
            let (params, extra) = (event.call.params.as_deref(), event.extra.as_deref());
            assert!(params.is_none_or(|p| is_json(p, None)), "params: {params:?}");
            assert!(extra.is_none_or(|x| is_json(x, Some(Kind::Object))), "extra: {extra:?}");
        }
        let mut line = Vec::new();
        write_event(event, format.as_str(), &mut line);
        again(&line, &mut Again::Event(event));
        self.note(b"event", format, &line);
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        let mut line = Vec::new();
        write_authority(entry, format.as_str(), &mut line);
        again(&line, &mut Again::Entry(entry));
        self.note(b"authority", format, &line);
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        assert!(reasons::explain(rejection.reason).is_some(), "`{}` is explained nowhere", rejection.reason);
        assert!(rejection.raw.as_ref().is_some_and(|raw| raw.len() <= RAW_BYTES_MAX));
        self.told(b"rejection", &rejection, format);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        assert!(!aside.reason.is_empty() && aside.raw.as_ref().is_none_or(|raw| raw.len() <= RAW_BYTES_MAX));
        self.told(b"aside", &aside, format);
    }
}

pub(crate) fn is_json(text: &str, kind: Option<Kind>) -> bool {
    Tape::default().parse(text.as_bytes()).is_ok_and(|v| kind.is_none_or(|k| v.kind() == k))
}

/// Reads a line of our own.
fn again(line: &[u8], want: &mut Again<'_>) {
    assert!(!line.contains(&b'\n'), "one line");
    let context = Context { fallback_id: "elsewhere", trusted: true, ..Context::default() };
    OWN.with_borrow_mut(|own| own.record(Format::Catena, line, &context, want));
    assert!(matches!(want, Again::Same), "{} came back as something else", String::from_utf8_lossy(line));
}

/// What is to come back.
enum Again<'e> {
    Event(&'e Event<'e>),
    Entry(&'e Entry<'e>),
    Same,
}

impl Sink for Again<'_> {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        match self {
            Again::Event(want) => assert_eq!(event, *want, "the intake log changes it"),
            _ => panic!("an event came back: {event:?}"),
        }
        *self = Again::Same;
    }

    fn authority(&mut self, entry: &Entry<'_>, _: Format) {
        match self {
            Again::Entry(want) => assert_eq!(format!("{entry:?}"), format!("{want:?}"), "the intake log changes it"),
            _ => panic!("a record of authority came back: {entry:?}"),
        }
        *self = Again::Same;
    }

    fn rejection(&mut self, rejection: Rejection, _: Format) {
        panic!("{rejection:?}");
    }

    fn aside(&mut self, aside: Rejection, _: Format) {
        panic!("{aside:?}");
    }
}

/// The sink objects to what breaks a promise.
#[cfg(test)]
mod tests {
    use super::*;
    use catena_schemas::event::Event;

    fn objects(say: impl FnOnce(&mut Heard) + std::panic::UnwindSafe) -> bool {
        std::panic::catch_unwind(|| say(&mut Heard::default())).is_err()
    }

    fn event(change: impl FnOnce(&mut Event<'static>)) -> Event<'static> {
        let mut event = Event { id: "1".into(), ..Event::default() };
        event.source.decision_count = 1;
        change(&mut event);
        event
    }

    #[test]
    fn the_sink_is_watched() {
        let says = |event: Event<'static>| objects(move |heard| heard.event(&event, Format::Opa));
        assert!(!says(event(|_| {})));
        assert!(says(event(|e| e.call.params = Some("{".into()))));
        assert!(says(event(|e| e.extra = Some("[]".into()))));
        let refuses = |reason, raw: Option<usize>| {
            let rejection = Rejection { reason, raw: raw.map(|n| vec![0; n]), ..Rejection::default() };
            objects(move |heard| heard.rejection(rejection, Format::Opa))
        };
        assert!(!refuses("json_empty", Some(0)));
        assert!(refuses("json_empty", None));
        assert!(refuses("json_empty", Some(RAW_BYTES_MAX + 1)));
        assert!(refuses("nobody_explains_this", Some(0)));
    }
}
