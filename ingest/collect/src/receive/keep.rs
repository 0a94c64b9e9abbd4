//! What receivers that have no log of their own share: records in, a batch for the intake log out.
//!
//! Guarantees: every record becomes at least one entry of the batch, decoded and redacted; what comes out of here holds
//! nothing of the bytes that came in but what the redactor let through. Records without an id of their own get one that no
//! other record has, so what is sent twice without ids is kept twice. Memory follows what is counted: beyond [`Within`] nothing more
//! is put into the batch, and the whole of it is refused.

use crate::intake::{Batch, Intake};
use crate::worker;
use catena_decode::mapping::Mappings;
use catena_decode::redact::Rules;
use catena_decode::{Block, Context, Decoder, Format, Redactor, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, Micros, canonical, wire};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::sync::Arc;
use uuid::Uuid;

/// Errors named in an answer.
pub(super) const ERRORS_MAX: usize = 20;
/// Decoders kept for reuse, over all tenants.
const DECODERS_MAX: usize = 64;
/// Bytes of buffers with which a decoder is kept: one that read a record of very many values is made again.
const DECODER_BYTES_MAX: usize = 4 << 20;

/// How much one body may become.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// Entries of the log: facts, rejections and asides.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: usize,
}

impl Within {
    /// For receivers that have counted already.
    pub const ANY: Within = Within { entries: u64::MAX, bytes: usize::MAX };
}

/// A body that becomes more than one may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TooMuch {
    /// Too many entries.
    #[error("the body holds more than {0} records: send it in several")]
    Entries(u64),
    /// Too many bytes.
    #[error("the records of the body become more than {0} bytes: send it in several")]
    Bytes(usize),
}

/// What became of the records of one body. `received` is the sum of the three after it, counted in facts; one record may
/// hold several.
#[derive(Debug, Default, Serialize, Deserialize, PartialEq)]
pub struct Answer {
    /// Records in the body.
    pub records: u64,
    /// Facts, rejections and asides.
    pub received: u64,
    /// Decisions, executions and records of authority kept.
    pub accepted: u64,
    /// Records kept as rejections.
    pub rejected: u64,
    /// Records that are known to hold no fact, kept as such.
    pub asides: u64,
    /// The first rejections.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<RecordError>,
}

/// A record that was rejected.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
pub struct RecordError {
    /// Which record of the body, from 0.
    pub index: u64,
    /// Stable code.
    pub reason: String,
    /// For people.
    pub detail: String,
}

/// Decodes for an intake log.
pub struct Keeper {
    intake: Intake,
    /// The lake's secret, of which the tenants' keys are made.
    secret: [u8; 32],
    mappings: Arc<Mappings>,
    rules: Arc<Rules>,
    /// The collector's clock.
    now: fn() -> Micros,
    decoders: Mutex<HashMap<String, Vec<Decoder>>>,
}

impl Keeper {
    /// A keeper that decodes as workers with these settings do.
    pub fn new(intake: Intake, secret: [u8; 32], settings: &worker::Settings, now: fn() -> Micros) -> Keeper {
        let (mappings, rules) = (settings.mappings.clone(), settings.rules.clone());
        Keeper { intake, secret, mappings, rules, now, decoders: Mutex::default() }
    }

    /// The log.
    pub fn intake(&self) -> &Intake {
        &self.intake
    }

    /// Decodes and redacts records: after this nothing of their bytes is needed any more.
    pub fn decode<'r>(
        &self,
        tenant: &str,
        format: Format,
        headers: &[(&str, &[u8])],
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> (Batch, Answer) {
        self.decode_after(&mut Block::default(), tenant, format, headers, records)
    }

    /// The same for records that go on a sequence, such as that of a connection: a private key may be open behind those before.
    pub fn decode_after<'r>(
        &self,
        block: &mut Block,
        tenant: &str,
        format: Format,
        headers: &[(&str, &[u8])],
        records: impl IntoIterator<Item = &'r [u8]>,
    ) -> (Batch, Answer) {
        self.keep(block, tenant, format, headers, records, Within::ANY).expect("anything is within that")
    }

    /// The same within limits: beyond them the decoder is heard out, nothing more is kept, and all of it is refused.
    pub fn decode_within<'r>(
        &self,
        tenant: &str,
        format: Format,
        headers: &[(&str, &[u8])],
        records: impl IntoIterator<Item = &'r [u8]>,
        within: Within,
    ) -> Result<(Batch, Answer), TooMuch> {
        self.keep(&mut Block::default(), tenant, format, headers, records, within)
    }

    fn keep<'r>(
        &self,
        block: &mut Block,
        tenant: &str,
        format: Format,
        headers: &[(&str, &[u8])],
        records: impl IntoIterator<Item = &'r [u8]>,
        within: Within,
    ) -> Result<(Batch, Answer), TooMuch> {
        let received = (self.now)();
        let mut decoder = self.take(tenant);
        let mut kept = Kept { batch: Batch::new(tenant, received), answer: Answer::default(), within, beyond: None };
        let request = Uuid::new_v4();
        for record in records {
            let fallback_id = format!("{request}/{}", kept.answer.records);
            let context = Context { received, fallback_id: &fallback_id, headers, trusted: false };
            decoder.record_after(block, format, record, &context, &mut kept);
            kept.answer.records += 1;
            if kept.beyond.is_some() {
                break;
            }
        }
        self.give_back(tenant, decoder);
        let Kept { batch, mut answer, beyond, .. } = kept;
        answer.received = answer.accepted + answer.rejected + answer.asides;
        beyond.map_or(Ok((batch, answer)), Err)
    }

    fn take(&self, tenant: &str) -> Decoder {
        if let Some(decoder) = self.decoders.lock().get_mut(tenant).and_then(Vec::pop) {
            return decoder;
        }
        let redactor = Redactor::with_rules(canonical::tenant_key(&self.secret, tenant), self.rules.clone());
        Decoder::with_mappings(Arc::new(redactor), self.mappings.clone())
    }

    fn give_back(&self, tenant: &str, decoder: Decoder) {
        if decoder.held_bytes() > DECODER_BYTES_MAX {
            return;
        }
        let mut decoders = self.decoders.lock();
        if decoders.values().map(Vec::len).sum::<usize>() >= DECODERS_MAX {
            decoders.clear();
        }
        decoders.entry(tenant.to_owned()).or_default().push(decoder);
    }
}

/// Puts what the decoder hands on into a batch for the log.
struct Kept {
    batch: Batch,
    answer: Answer,
    within: Within,
    beyond: Option<TooMuch>,
}

impl Kept {
    /// Whether there is room for one more; once there is none there never is again.
    fn has_room(&mut self) -> bool {
        let count = self.answer.accepted + self.answer.rejected + self.answer.asides;
        if count >= self.within.entries {
            self.beyond = Some(TooMuch::Entries(self.within.entries));
        } else if self.batch.len() > self.within.bytes {
            self.beyond = Some(TooMuch::Bytes(self.within.bytes));
        }
        self.beyond.is_none()
    }
}

impl Sink for Kept {
    fn event(&mut self, event: &Event<'_>, format: Format) {
        if !self.has_room() {
            return;
        }
        self.answer.accepted += 1;
        self.batch.event(format, |out| wire::write_event(event, format.as_str(), out));
    }

    fn authority(&mut self, entry: &Entry<'_>, format: Format) {
        if !self.has_room() {
            return;
        }
        self.answer.accepted += 1;
        self.batch.event(format, |out| wire::write_authority(entry, format.as_str(), out));
    }

    fn rejection(&mut self, rejection: Rejection, format: Format) {
        if !self.has_room() {
            return;
        }
        self.answer.rejected += 1;
        if self.answer.errors.len() < ERRORS_MAX {
            self.answer.errors.push(RecordError {
                index: self.answer.records,
                reason: rejection.reason.to_owned(),
                detail: rejection.detail.clone(),
            });
        }
        self.batch.rejection(format, &rejection, false);
    }

    fn aside(&mut self, aside: Rejection, format: Format) {
        if !self.has_room() {
            return;
        }
        self.answer.asides += 1;
        self.batch.rejection(format, &aside, true);
    }
}
