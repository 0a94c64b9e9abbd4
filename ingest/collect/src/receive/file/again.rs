//! What an earlier run has read of a file, for the totals.

use super::lines::{self, Line, RECORD_BYTES_MAX};
use super::{Ingestion, Job};
use crate::worker::Counts;
use catena_decode::{Context, Decoder, Format, Sink};
use catena_schemas::authority::Entry;
use catena_schemas::rows::Rejection;
use catena_schemas::{Event, EventKind};
use std::io::{BufReader, Read};

/// Counts what the decoder hands on, and keeps nothing.
#[derive(Default)]
pub(super) struct Tally(Counts);

impl Ingestion<'_> {
    /// Counts the records that an earlier run committed: received again, and all of them duplicates.
    pub(super) fn recount(&self, stream: &mut dyn Read) -> std::io::Result<Counts> {
        let mut decoder = self.decoder();
        let mut tally = Tally::default();
        let mut reader = BufReader::with_capacity(1 << 20, stream);
        let mut line = Line::default();
        while lines::next(&mut reader, &mut line)? {
            match line.bytes.trim_ascii() {
                b"" => {}
                // It was rejected.
                record if line.length > RECORD_BYTES_MAX as u64 => tally.add(None, self.job, record),
                record => tally.add(Some(&mut decoder), self.job, record),
            }
        }
        Ok(tally.counts())
    }
}

impl Tally {
    /// Counts one record, with what a decoder makes of it.
    pub(super) fn add(&mut self, decoder: Option<&mut Decoder>, job: &Job, record: &[u8]) {
        self.0.records += 1;
        self.0.read_before += 1;
        if let Some(decoder) = decoder {
            let context = Context { received: (job.now)(), ..Context::default() };
            decoder.record(job.format, record, &context, self);
        }
    }

    pub(super) fn counts(self) -> Counts {
        self.0
    }
}

impl Sink for Tally {
    fn event(&mut self, event: &Event<'_>, _: Format) {
        match event.kind {
            EventKind::Decision => {
                self.0.decisions += 1;
                self.0.duplicates += 1;
            }
            EventKind::Execution => {
                self.0.executions += 1;
                self.0.repeated += 1;
            }
        }
    }

    fn authority(&mut self, _: &Entry<'_>, _: Format) {
        self.0.authority += 1;
        self.0.repeated += 1;
    }

    fn rejection(&mut self, _: Rejection, _: Format) {}

    fn aside(&mut self, _: Rejection, _: Format) {}
}
