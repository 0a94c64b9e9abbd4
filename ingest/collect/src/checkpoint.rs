//! Checkpoints of a Delta log: the table at a version, in one Parquet file.
//!
//! Guarantee: what [`write`] wrote, [`read_state`] reads back to the same state, and so does every Delta reader. A checkpoint is
//! read back and compared before readers are pointed to it. Memory grows with the active files, about 1 kB each.

use crate::commit::metadata_line;
use crate::log::{LogError, State};
use crate::store::read;
use arrow_json::reader::{Decoder, ReaderBuilder};
use arrow_schema::{DataType, Field, Fields, Schema, SchemaRef};
use bytes::Bytes;
use catena_lake::checkpoint::CheckpointError;
use catena_lake::commit::Fault;
use object_store::ObjectStore;
use object_store::path::Path;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use serde_json::{Value, json};
use std::error::Error;
use std::sync::{Arc, LazyLock};

/// Actions that are decoded at once.
const BATCH: usize = 4096;

static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = |name: &str| Field::new(name, DataType::Utf8, true);
    let long = |name: &str| Field::new(name, DataType::Int64, true);
    let int = |name: &str| Field::new(name, DataType::Int32, true);
    let bool = |name: &str| Field::new(name, DataType::Boolean, true);
    let record = |name: &str, fields: Vec<Field>| Field::new(name, DataType::Struct(Fields::from(fields)), true);
    let map = |name: &str| {
        let entry = Fields::from(vec![Field::new("key", DataType::Utf8, false), text("value")]);
        Field::new(name, DataType::Map(Arc::new(Field::new("key_value", DataType::Struct(entry), false)), false), true)
    };
    let list = Field::new("partitionColumns", DataType::List(Arc::new(text("element"))), true);
    let size = || long("size");
    Arc::new(Schema::new(vec![
        record("txn", vec![text("appId"), long("version"), long("lastUpdated")]),
        record(
            "add",
            vec![
                text("path"),
                map("partitionValues"),
                size(),
                long("modificationTime"),
                bool("dataChange"),
                text("stats"),
                map("tags"),
            ],
        ),
        record(
            "remove",
            vec![
                text("path"),
                long("deletionTimestamp"),
                bool("dataChange"),
                bool("extendedFileMetadata"),
                map("partitionValues"),
                size(),
            ],
        ),
        record(
            "metaData",
            vec![
                text("id"),
                text("name"),
                text("description"),
                record("format", vec![text("provider"), map("options")]),
                text("schemaString"),
                list,
                map("configuration"),
                long("createdTime"),
            ],
        ),
        record("protocol", vec![int("minReaderVersion"), int("minWriterVersion")]),
    ]))
});

/// Encodes a state. Removed files stand in it while a reader may still want them: those removed since `removed_since`.
/// Returns the bytes and the number of actions.
pub(crate) fn write(state: &State, removed_since: i64) -> Result<(Bytes, usize), Box<dyn Error + Send + Sync>> {
    let properties = WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
    let mut writer = ArrowWriter::try_new(Vec::new(), SCHEMA.clone(), Some(properties))?;
    let mut decoder = ReaderBuilder::new(SCHEMA.clone()).with_batch_size(BATCH).build_decoder()?;
    let (mut line, mut actions) = (Vec::new(), 0);
    let mut push = |action: Value,
                    writer: &mut ArrowWriter<Vec<u8>>,
                    decoder: &mut Decoder|
     -> Result<(), Box<dyn Error + Send + Sync>> {
        line.clear();
        serde_json::to_writer(&mut line, &action)?;
        line.push(b'\n');
        decoder.decode(&line)?;
        actions += 1;
        if actions % BATCH == 0 {
            decoder.flush()?.map_or(Ok(()), |batch| writer.write(&batch))?;
        }
        Ok(())
    };
    if let Some(p) = &state.protocol {
        let action =
            json!({"protocol": {"minReaderVersion": p.min_reader_version, "minWriterVersion": p.min_writer_version}});
        push(action, &mut writer, &mut decoder)?;
    }
    if let Some(m) = &state.metadata {
        push(metadata_line(m), &mut writer, &mut decoder)?;
    }
    for (app, p) in &state.txns {
        push(
            json!({"txn": {"appId": app, "version": p.version, "lastUpdated": p.updated}}),
            &mut writer,
            &mut decoder,
        )?;
    }
    for active in state.newest_first() {
        let f = &active.file;
        let mut action = json!({"add": {"path": f.path, "partitionValues": f.partition, "size": f.size,
            "modificationTime": active.modified, "dataChange": false, "stats": f.stats}});
        if let Some(tags) = f.tags() {
            action["add"]["tags"] = tags;
        }
        push(action, &mut writer, &mut decoder)?;
    }
    for (path, t) in state.tombstones.iter().filter(|(_, t)| t.deleted >= removed_since) {
        let action = json!({"remove": {"path": path, "deletionTimestamp": t.deleted, "dataChange": t.data_change,
            "extendedFileMetadata": true, "partitionValues": t.partition, "size": t.size}});
        push(action, &mut writer, &mut decoder)?;
    }
    decoder.flush()?.map_or(Ok(()), |batch| writer.write(&batch))?;
    Ok((writer.into_inner()?.into(), actions))
}

/// Reads a checkpoint in one or more files.
pub(crate) async fn read_state(
    store: &dyn ObjectStore,
    table: &str,
    version: u64,
    paths: &[Path],
) -> Result<State, LogError> {
    let mut state = State::empty();
    for path in paths {
        let attempted = || format!("read checkpoint {version}");
        let bytes = read(store, path).await.map_err(|source| LogError::Store {
            attempted: attempted(),
            table: table.to_owned(),
            source,
        })?;
        let broken = |detail| LogError::Broken { path: path.to_string(), table: table.to_owned(), detail };
        let bytes = bytes.ok_or_else(|| broken("it is gone".into()))?;
        let commit = match catena_lake::checkpoint::parse(bytes) {
            Ok(commit) => commit,
            Err(CheckpointError::Action(Fault::Unsupported { what, .. })) => {
                return Err(LogError::Unsupported { table: table.to_owned(), what: what.into() });
            }
            Err(e) => return Err(broken(e.to_string())),
        };
        state.apply(version, commit);
    }
    if state.metadata.is_none() || state.protocol.is_none() {
        let path = paths.first().map(Path::to_string).unwrap_or_default();
        return Err(LogError::Broken {
            path,
            table: table.to_owned(),
            detail: "it has no metadata or protocol".into(),
        });
    }
    Ok(state)
}
