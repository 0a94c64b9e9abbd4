//! Canonical bytes of a row, and its leaf hash: what the evidence log commits to.
//!
//! Guarantee: the leaf is a pure function of the typed columns of a row (never of storage, file names or arrival time), so
//! it can be recomputed from any later copy of the row: [`LeafEncoder::event`] over the event that came in and
//! [`leaf_of_row`] over the row that was stored give the same 32 bytes. Encoding v1, big-endian:
//!
//! ```text
//! leaf_data = "catena/leaf/v1\0" || u32 len(header) || header || SHA256("catena/body/v1\0" || body)
//! leaf_hash = SHA256(0x00 || leaf_data)                                        RFC 9162, section 2.1.1
//! header, body = ascending (u16 field id, u8 type, u32 length, bytes); nulls left out; no floats
//! ```
//!
//! Header and body are apart so that an auditor can be given all headers of a range and only some bodies. What a row is stands in
//! its header: a decision has a verdict (7) and no kind, an execution or a record of authority names its kind (12), a rejection
//! or aside has neither. The columns that are personal (requester, e-mail, token subject, arguments, address, body of a record of authority) enter the body as one salted commitment to
//! the map of them (id 250): a row whose personal fields were erased keeps the 32 bytes and its leaf stays valid, and
//! without the subject's key the commitment cannot be guessed.

use crate::authority::Entry;
use crate::event::Event;
use crate::rows::{FieldSink, Place, Rejection, visit, visit_authority, visit_rejection};
use crate::table::{Field, Kind, PERSONAL};
use crate::time::Micros;
use ahash::AHashMap;
use arrow_array::cast::AsArray;
use arrow_array::types::{Int32Type, Int64Type, TimestampMicrosecondType};
use arrow_array::{Array, RecordBatch};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

/// A SHA-256 digest.
pub type Hash = [u8; 32];

/// Type tags of leaf v1.
pub mod tag {
    #![allow(missing_docs)]
    pub const UTF8: u8 = 1;
    pub const BYTES: u8 = 2;
    pub const I64: u8 = 3;
    pub const BOOL: u8 = 4;
    pub const TIME: u8 = 5;
    pub const LIST: u8 = 6;
    pub const MAP: u8 = 7;
    pub const COMMITMENT: u8 = 0x10;
    pub const BIG: u8 = 0x11;
}

/// Values longer than this stand as their length and hash, so that a leaf stays below 64 KiB.
const BIG_BYTES_MIN: usize = 4096;

/// A value of the encoding.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// UTF-8.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// Integer.
    Int(i64),
    /// Boolean.
    Bool(bool),
    /// Instant in microseconds.
    Time(Micros),
    /// List.
    List(Vec<Value>),
    /// Map; keys are sorted by their bytes when it is written.
    Map(Vec<(String, Value)>),
    /// Commitment to a value that is not here.
    Commitment(Hash),
}

impl Value {
    /// Appends tag, length and bytes.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Text(s) => put(out, tag::UTF8, s.as_bytes()),
            Value::Bytes(b) => put(out, tag::BYTES, b),
            Value::Int(i) => put(out, tag::I64, &i.to_be_bytes()),
            Value::Bool(b) => put(out, tag::BOOL, &[u8::from(*b)]),
            Value::Time(t) => put(out, tag::TIME, &t.0.to_be_bytes()),
            Value::Commitment(h) => put(out, tag::COMMITMENT, h),
            Value::List(items) => nested(out, tag::LIST, items.len(), |out| items.iter().for_each(|v| v.write(out))),
            Value::Map(entries) => {
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
                nested(out, tag::MAP, sorted.len(), |out| {
                    for (key, value) in sorted {
                        put(out, tag::UTF8, key.as_bytes());
                        value.write(out);
                    }
                });
            }
        }
    }
}

/// Appends one value: tag, length, bytes; or tag, length and hash of a big one.
fn put(out: &mut Vec<u8>, tag: u8, bytes: &[u8]) {
    if bytes.len() > BIG_BYTES_MIN {
        let digest = Sha256::new().chain_update(b"catena/big/v1\0").chain_update([tag]).chain_update(bytes).finalize();
        out.push(tag::BIG);
        out.extend_from_slice(&36u32.to_be_bytes());
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(&digest);
    } else {
        out.push(tag);
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

/// Appends a list or map whose content `fill` writes in place, and folds it if it turned out big.
fn nested(out: &mut Vec<u8>, tag: u8, count: usize, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(tag);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(count as u32).to_be_bytes());
    fill(out);
    let length = out.len() - start - 5;
    if length > BIG_BYTES_MIN {
        let content = out.split_off(start + 5);
        out.truncate(start);
        put(out, tag, &content);
    } else {
        out[start + 1..start + 5].copy_from_slice(&(length as u32).to_be_bytes());
    }
}

/// `header` or `body`: the fields in ascending order of id.
pub fn encode_fields(fields: &[(u16, Value)]) -> Vec<u8> {
    let mut sorted: Vec<_> = fields.iter().collect();
    sorted.sort_by_key(|f| f.0);
    let mut out = Vec::new();
    for (id, value) in sorted {
        out.extend_from_slice(&id.to_be_bytes());
        value.write(&mut out);
    }
    out
}

/// The bytes that the leaf hash is taken of.
pub fn leaf_data(header: &[u8], body: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(15 + 4 + header.len() + 32);
    out.extend_from_slice(b"catena/leaf/v1\0");
    out.extend_from_slice(&(header.len() as u32).to_be_bytes());
    out.extend_from_slice(header);
    out.extend_from_slice(&body_hash(body));
    out
}

fn body_hash(body: &[u8]) -> Hash {
    Sha256::new().chain_update(b"catena/body/v1\0").chain_update(body).finalize().into()
}

/// RFC 9162 leaf hash.
pub fn leaf_hash(leaf_data: &[u8]) -> Hash {
    Sha256::new().chain_update([0]).chain_update(leaf_data).finalize().into()
}

/// A subject's key, ready to salt commitments: destroying it makes them unguessable for ever.
#[derive(Clone)]
pub struct SubjectKey(Hkdf<Sha256>);

impl SubjectKey {
    /// HKDF-SHA256 extract with an empty salt (RFC 5869, section 2.2).
    pub fn new(key: &[u8]) -> SubjectKey {
        SubjectKey(Hkdf::new(None, key))
    }

    /// HKDF expand to 16 bytes: the salt of one field of one event.
    fn salt(&self, event_id: &[u8], field: u16) -> [u8; 16] {
        let mut salt = [0; 16];
        self.0
            .expand_multi_info(&[b"catena/salt/v1\0", event_id, &field.to_be_bytes()], &mut salt)
            .expect("HKDF gives 16 bytes");
        salt
    }

    /// Commitment to the encoded `value` of one field of one event.
    pub fn commit(&self, event_id: &[u8], field: u16, value: &[u8]) -> Hash {
        Sha256::new()
            .chain_update(b"catena/field/v1\0")
            .chain_update(self.salt(event_id, field))
            .chain_update(field.to_be_bytes())
            .chain_update(value)
            .finalize()
            .into()
    }
}

fn mac(key: &[u8], parts: &[&[u8]]) -> Hash {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    parts.iter().for_each(|p| mac.update(p));
    mac.finalize().into_bytes().into()
}

/// What hashing a row gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaf {
    /// Goes into the evidence tree.
    pub hash: Hash,
    /// First half of the body's hash: equal for two records with the same content, wherever they were read.
    pub content: u128,
}

/// Turns rows into leaves. Holds the tenant's key and the keys of recent subjects.
pub struct LeafEncoder {
    tenant_key: [u8; 32],
    subjects: AHashMap<String, SubjectKey>,
    header: Vec<u8>,
    body: Vec<u8>,
    personal: Vec<(Field, usize, usize)>,
    personal_bytes: Vec<u8>,
    scratch: Vec<u8>,
    event_id: Vec<u8>,
    identity: Vec<u8>,
}

/// Subjects whose keys are kept at hand; beyond it the memory is emptied and filled anew.
const SUBJECTS_MAX: usize = 16_384;

impl LeafEncoder {
    /// For one tenant, whose key salts the personal fields.
    pub fn new(tenant_key: [u8; 32]) -> LeafEncoder {
        LeafEncoder {
            tenant_key,
            subjects: AHashMap::new(),
            header: Vec::new(),
            body: Vec::new(),
            personal: Vec::new(),
            personal_bytes: Vec::new(),
            scratch: Vec::new(),
            event_id: Vec::new(),
            identity: Vec::new(),
        }
    }

    /// The leaf of a record of authority.
    pub fn authority(&mut self, entry: &Entry<'_>, place: &Place<'_>) -> Leaf {
        self.begin(place.tenant);
        visit_authority(entry, place, self);
        self.finish()
    }

    /// The leaf of a decision or an execution.
    pub fn event(&mut self, event: &Event<'_>, place: &Place<'_>) -> Leaf {
        self.begin(place.tenant);
        visit(event, place, self);
        self.finish()
    }

    /// The leaf of a rejection or an aside.
    pub fn rejection(&mut self, rejection: &Rejection, place: &Place<'_>) -> Leaf {
        self.begin(place.tenant);
        visit_rejection(rejection, place, self);
        self.finish()
    }

    fn begin(&mut self, tenant: &str) {
        self.header.clear();
        self.body.clear();
        self.personal.clear();
        self.personal_bytes.clear();
        self.event_id.clear();
        self.identity.clear();
        put(&mut self.identity, tag::UTF8, tenant.as_bytes());
        self.header.extend_from_slice(&1u16.to_be_bytes());
        put(&mut self.header, tag::UTF8, tenant.as_bytes());
    }

    fn finish(&mut self) -> Leaf {
        if !self.personal.is_empty() {
            let commitment = self.commit_personal();
            self.body.extend_from_slice(&PERSONAL.to_be_bytes());
            put(&mut self.body, tag::COMMITMENT, &commitment);
        }
        let body = body_hash(&self.body);
        let hash = Sha256::new()
            .chain_update(b"\0catena/leaf/v1\0")
            .chain_update((self.header.len() as u32).to_be_bytes())
            .chain_update(&self.header)
            .chain_update(body)
            .finalize()
            .into();
        let content = self.content(&body);
        Leaf { hash, content }
    }

    /// Content is compared across places: body, tenant, event id, time, verdict, index and kind, but no coordinates.
    fn content(&self, body: &Hash) -> u128 {
        let digest: Hash = Sha256::new().chain_update(body).chain_update(&self.identity).finalize().into();
        u128::from_be_bytes(digest[..16].try_into().expect("a digest has 32 bytes"))
    }

    /// One commitment to the map of all personal fields, under the key of the requester.
    fn commit_personal(&mut self) -> Hash {
        let Self { personal, personal_bytes, scratch, subjects, tenant_key, event_id, .. } = self;
        let bytes = |(_, start, end): &(Field, usize, usize)| &personal_bytes[*start..*end];
        let subject = personal.iter().find(|p| p.0 == Field::Requester).map_or(event_id.as_slice(), bytes);
        let subject = String::from_utf8_lossy(subject);
        if subjects.len() >= SUBJECTS_MAX {
            subjects.clear();
        }
        let key = match subjects.get(subject.as_ref()) {
            Some(key) => key,
            None => {
                let key = SubjectKey::new(&mac(tenant_key, &[b"catena/subject/v1\0", subject.as_bytes()]));
                subjects.entry(subject.into_owned()).or_insert(key)
            }
        };
        personal.sort_unstable_by_key(|p| p.0.name());
        scratch.clear();
        nested(scratch, tag::MAP, personal.len(), |out| {
            for entry in personal.iter() {
                put(out, tag::UTF8, entry.0.name().as_bytes());
                put(out, tag::UTF8, bytes(entry));
            }
        });
        key.commit(event_id, PERSONAL, scratch)
    }

    /// Where the value of `field` goes, its id written; `None` for personal fields and those outside the leaf.
    fn part(&mut self, field: Field) -> Option<&mut Vec<u8>> {
        let id = field.leaf();
        let part = match id {
            0 | PERSONAL => return None,
            1..=19 => &mut self.header,
            _ => &mut self.body,
        };
        part.extend_from_slice(&id.to_be_bytes());
        Some(part)
    }
}

impl FieldSink for LeafEncoder {
    #[inline]
    fn text(&mut self, field: Field, value: &str) {
        if field.leaf() == PERSONAL {
            let start = self.personal_bytes.len();
            self.personal_bytes.extend_from_slice(value.as_bytes());
            self.personal.push((field, start, self.personal_bytes.len()));
            return;
        }
        if let Field::EventId = field {
            self.event_id.extend_from_slice(value.as_bytes());
        }
        if let Field::EventId | Field::Outcome | Field::Kind = field {
            put(&mut self.identity, tag::UTF8, value.as_bytes());
        }
        if let Some(part) = self.part(field) {
            put(part, tag::UTF8, value.as_bytes());
        }
    }

    #[inline]
    fn bytes(&mut self, field: Field, value: &[u8]) {
        if let Some(part) = self.part(field) {
            put(part, tag::BYTES, value);
        }
    }

    #[inline]
    fn list<'s>(&mut self, field: Field, values: impl ExactSizeIterator<Item = &'s str>) {
        if let Some(part) = self.part(field) {
            nested(part, tag::LIST, values.len(), |out| values.for_each(|v| put(out, tag::UTF8, v.as_bytes())));
        }
    }

    #[inline]
    fn int(&mut self, field: Field, value: i64) {
        if let Field::DecisionIndex = field {
            self.identity.extend_from_slice(&value.to_be_bytes());
        }
        if let Some(part) = self.part(field) {
            put(part, tag::I64, &value.to_be_bytes());
        }
    }

    #[inline]
    fn time(&mut self, field: Field, value: Micros) {
        if let Field::Time = field {
            self.identity.extend_from_slice(&value.0.to_be_bytes());
        }
        if let Some(part) = self.part(field) {
            put(part, tag::TIME, &value.0.to_be_bytes());
        }
    }

    #[inline]
    fn bool(&mut self, field: Field, value: bool) {
        if let Some(part) = self.part(field) {
            put(part, tag::BOOL, &[u8::from(value)]);
        }
    }
}

impl LeafEncoder {
    /// The leaf of a stored row, recomputed from its typed columns. `batch` holds the columns of
    /// [`crate::table::file_schema`] by name, in any order; one that is missing counts as null, as columns added later are
    /// in older files.
    pub fn row(&mut self, tenant: &str, batch: &RecordBatch, row: usize) -> Leaf {
        self.begin(tenant);
        for field in Field::ALL {
            // A column mostly stands where this build puts it; to look each up by name would cost more than the hash.
            let at = *field as usize;
            let array = match batch.schema_ref().fields().get(at) {
                Some(found) if found.name() == field.name() => batch.column(at),
                _ => match batch.column_by_name(field.name()) {
                    Some(array) => array,
                    None => continue,
                },
            };
            if array.is_null(row) {
                continue;
            }
            match field.kind() {
                Kind::Text | Kind::Id | Kind::Json => self.text(*field, array.as_string::<i32>().value(row)),
                Kind::Bytes => self.bytes(*field, array.as_binary::<i32>().value(row)),
                Kind::Time => self.time(*field, Micros(array.as_primitive::<TimestampMicrosecondType>().value(row))),
                Kind::Int => self.int(*field, i64::from(array.as_primitive::<Int32Type>().value(row))),
                Kind::Long => self.int(*field, array.as_primitive::<Int64Type>().value(row)),
                Kind::Bool => self.bool(*field, array.as_boolean().value(row)),
                Kind::List => {
                    let items = array.as_list::<i32>().value(row);
                    let items = items.as_string::<i32>();
                    self.list(*field, (0..items.len()).map(|i| items.value(i)));
                }
            }
        }
        self.finish()
    }
}

/// The key of one tenant, from the lake's secret: HMAC-SHA256(secret, "catena/tenant/v1\0" || tenant).
pub fn tenant_key(secret: &[u8], tenant: &str) -> [u8; 32] {
    mac(secret, &[b"catena/tenant/v1\0", tenant.as_bytes()])
}
