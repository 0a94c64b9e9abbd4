//! Answers as JSON, JSON lines, CSV, text tables and Parquet.
//!
//! Guarantees: instants are RFC 3339 with `Z`; lists stay lists where the form has them and are JSON where it has not;
//! a text table holds no character that a terminal would obey or that would hide or reorder others; a cell of CSV never
//! starts a formula.

use crate::engine::Rows;
use crate::sizes::array_bytes;
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow_array::cast::AsArray;
use arrow_array::{Array, ArrayRef, RecordBatch, StringArray};
use arrow_schema::{ArrowError, DataType, Field, Schema, SchemaRef};
use catena_analysis::text::escape;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use std::io::{self, Write};
use std::sync::Arc;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// Columns that a cell of a text table may take; longer ones end in `…`.
const CELL_WIDTH_MAX: usize = 80;

/// How an answer is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON array of objects.
    Json,
    /// One JSON object per line.
    Jsonl,
    /// RFC 4180 with a header.
    Csv,
    /// Aligned text.
    Table,
    /// Parquet, zstd.
    Parquet,
}

impl Format {
    /// Every form.
    pub const ALL: [Format; 5] = [Format::Json, Format::Jsonl, Format::Csv, Format::Table, Format::Parquet];

    /// Its name in arguments.
    pub const fn as_str(self) -> &'static str {
        match self {
            Format::Json => "json",
            Format::Jsonl => "jsonl",
            Format::Csv => "csv",
            Format::Table => "table",
            Format::Parquet => "parquet",
        }
    }

    /// The form that a name means.
    pub fn parse(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|f| f.as_str() == name)
    }

    /// Its media type.
    pub const fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Jsonl => "application/x-ndjson",
            Format::Csv => "text/csv; charset=utf-8",
            Format::Table => "text/plain; charset=utf-8",
            Format::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// How a line of CSV ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LineEnd {
    /// As RFC 4180 has it, for answers over HTTP.
    CrLf,
    /// As the tools of a shell expect it.
    Lf,
}

impl LineEnd {
    const fn as_str(self) -> &'static str {
        match self {
            LineEnd::CrLf => "\r\n",
            LineEnd::Lf => "\n",
        }
    }
}

/// Why an answer could not be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The other side is gone, or full.
    #[error("could not write the answer")]
    Write(#[from] io::Error),
    /// A value has no form there.
    #[error("could not turn the answer into {form}")]
    Form {
        /// Which form.
        form: &'static str,
        /// Cause.
        source: ArrowError,
    },
    /// Parquet could not be written.
    #[error("could not write the answer as Parquet")]
    Parquet(#[from] ParquetError),
}

/// Writes an answer batch by batch. A text table is held back until its widths are known.
pub struct Writer<W: Write + Send> {
    schema: SchemaRef,
    form: Form<W>,
}

enum Form<W: Write + Send> {
    Json(arrow::json::Writer<W, JsonArray>),
    Jsonl(arrow::json::Writer<W, LineDelimited>),
    Csv(W, LineEnd),
    Table(W, Vec<RecordBatch>),
    Parquet(Box<ArrowWriter<W>>),
}

impl<W: Write + Send> Writer<W> {
    /// Starts an answer. CSV is as RFC 4180 has it.
    ///
    /// # Errors
    ///
    /// [`OutputError`], when the header cannot be written.
    pub fn new(out: W, format: Format, schema: &SchemaRef) -> Result<Writer<W>, OutputError> {
        Writer::with_line_end(out, format, LineEnd::CrLf, schema)
    }

    /// Starts an answer whose lines of CSV end in `end`.
    ///
    /// # Errors
    ///
    /// [`OutputError`], when the header cannot be written.
    pub fn with_line_end(
        mut out: W,
        format: Format,
        end: LineEnd,
        schema: &SchemaRef,
    ) -> Result<Writer<W>, OutputError> {
        let schema = if format == Format::Parquet { schema.clone() } else { printable_schema(schema) };
        let form = match format {
            Format::Json => Form::Json(WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Jsonl => Form::Jsonl(WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Csv => {
                let names: Vec<String> = schema.fields().iter().map(|f| csv_cell(f.name(), true)).collect();
                write!(out, "{}{}", names.join(","), end.as_str())?;
                Form::Csv(out, end)
            }
            Format::Table => Form::Table(out, Vec::new()),
            Format::Parquet => {
                let properties =
                    WriterProperties::builder().set_compression(Compression::ZSTD(ZstdLevel::default())).build();
                Form::Parquet(Box::new(ArrowWriter::try_new(out, schema.clone(), Some(properties))?))
            }
        };
        Ok(Writer { schema, form })
    }

    /// Writes rows.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), OutputError> {
        let failed = |form: &'static str| move |source| OutputError::Form { form, source };
        match &mut self.form {
            Form::Json(writer) => {
                writer.write(&printable(&self.schema, batch).map_err(failed("JSON"))?).map_err(unwrap_io("JSON"))?
            }
            Form::Jsonl(writer) => {
                writer.write(&printable(&self.schema, batch).map_err(failed("JSON"))?).map_err(unwrap_io("JSON"))?
            }
            Form::Csv(out, end) => {
                let batch = printable(&self.schema, batch).map_err(failed("CSV"))?;
                let cells = Cells::new(&batch).map_err(failed("CSV"))?;
                for row in 0..batch.num_rows() {
                    let line: Vec<String> =
                        (0..batch.num_columns()).map(|c| csv_cell(&cells.text(c, row), cells.is_text(c))).collect();
                    write!(out, "{}{}", line.join(","), end.as_str())?;
                }
            }
            Form::Table(_, batches) => batches.push(printable(&self.schema, batch).map_err(failed("text"))?),
            Form::Parquet(writer) => writer.write(batch)?,
        }
        Ok(())
    }

    /// Ends the answer and gives the output back.
    pub fn finish(self) -> Result<W, OutputError> {
        match self.form {
            Form::Json(mut writer) => {
                writer.finish().map_err(unwrap_io("JSON"))?;
                let mut out = writer.into_inner();
                out.write_all(b"\n")?;
                Ok(out)
            }
            Form::Jsonl(mut writer) => {
                writer.finish().map_err(unwrap_io("JSON"))?;
                Ok(writer.into_inner())
            }
            Form::Csv(out, _) => Ok(out),
            Form::Table(mut out, batches) => {
                write_table(&mut out, &self.schema, &batches)?;
                Ok(out)
            }
            Form::Parquet(writer) => Ok(writer.into_inner()?),
        }
    }
}

/// A whole answer as bytes.
pub fn to_bytes(rows: &Rows, format: Format) -> Result<Vec<u8>, OutputError> {
    to_bytes_after(Vec::new(), rows, format)
}

/// A whole answer as bytes, after those that are there: a large one is not copied to be put between others.
pub fn to_bytes_after(start: Vec<u8>, rows: &Rows, format: Format) -> Result<Vec<u8>, OutputError> {
    let mut writer = Writer::new(start, format, &rows.schema)?;
    for batch in &rows.batches {
        writer.write(batch)?;
    }
    writer.finish()
}

fn unwrap_io(form: &'static str) -> impl Fn(ArrowError) -> OutputError {
    move |e| match e {
        ArrowError::IoError(_, source) => OutputError::Write(source),
        source => OutputError::Form { form, source },
    }
}

/// Bytes of the values of a batch, without what else its buffers hold.
pub(crate) fn value_bytes(batch: &RecordBatch) -> u64 {
    batch.columns().iter().map(|c| array_bytes(c).unwrap_or(u64::MAX)).fold(0, u64::saturating_add)
}

/// Bytes of the names of columns, with the signs around them.
pub(crate) fn names_bytes(schema: &Schema) -> u64 {
    schema.fields().iter().map(|f| f.name().len() as u64 + 6).sum()
}

/// About as many bytes as a batch takes in the largest form, in which each row repeats the names of its columns.
pub(crate) fn written_bytes(batch: &RecordBatch, names: u64) -> u64 {
    value_bytes(batch).saturating_add(names.saturating_mul(batch.num_rows() as u64))
}

/// How many rows of a batch fit into so many bytes.
pub(crate) fn rows_within(batch: &RecordBatch, names: u64, bytes: u64) -> usize {
    let fits = |rows: usize| written_bytes(&batch.slice(0, rows), names) <= bytes;
    if fits(batch.num_rows()) {
        return batch.num_rows();
    }
    let (mut fit, mut too_many) = (0, batch.num_rows());
    while too_many - fit > 1 {
        let middle = fit + (too_many - fit) / 2;
        if fits(middle) { fit = middle } else { too_many = middle }
    }
    fit
}

/// Bytes become text: what is no UTF-8 is shown as hex digits after `hex:`. Lists of text become lists of one kind of text.
fn printable_schema(schema: &Schema) -> SchemaRef {
    let printable = |kind: &DataType| match kind {
        kind if is_bytes(kind) => Some(DataType::Utf8),
        DataType::List(item) | DataType::LargeList(item) if is_text(item.data_type()) => {
            Some(DataType::new_list(DataType::Utf8, true))
        }
        _ => None,
    };
    let fields = schema.fields().iter().map(|f| match printable(f.data_type()) {
        Some(kind) => Arc::new(Field::new(f.name(), kind, true)),
        None => f.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn is_text(kind: &DataType) -> bool {
    matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
}

fn is_bytes(kind: &DataType) -> bool {
    matches!(kind, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_))
}

fn printable(schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
    let columns: Result<Vec<ArrayRef>, ArrowError> = batch
        .columns()
        .iter()
        .zip(schema.fields())
        .map(|(column, field)| {
            if !is_bytes(column.data_type()) {
                let same = column.data_type() == field.data_type();
                return if same { Ok(column.clone()) } else { arrow::compute::cast(column, field.data_type()) };
            }
            let bytes = arrow::compute::cast(column, &DataType::Binary)?;
            Ok(Arc::new(bytes.as_binary::<i32>().iter().map(|b| b.map(bytes_as_text)).collect::<StringArray>())
                as ArrayRef)
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns?)
}

fn bytes_as_text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().fold("hex:".to_owned(), |mut hex, b| {
            hex.push_str(&format!("{b:02x}"));
            hex
        }),
    }
}

/// Cells of a batch as text.
struct Cells<'a> {
    batch: &'a RecordBatch,
    formatters: Vec<ArrayFormatter<'a>>,
}

impl<'a> Cells<'a> {
    fn new(batch: &'a RecordBatch) -> Result<Cells<'a>, ArrowError> {
        static OPTIONS: FormatOptions<'static> = FormatOptions::new().with_null("").with_display_error(false);
        let formatters =
            batch.columns().iter().map(|c| ArrayFormatter::try_new(c.as_ref(), &OPTIONS)).collect::<Result<_, _>>()?;
        Ok(Cells { batch, formatters })
    }

    fn is_text(&self, column: usize) -> bool {
        !is_number(self.batch.column(column).data_type())
    }

    fn text(&self, column: usize, row: usize) -> String {
        let array = self.batch.column(column);
        match array.data_type() {
            _ if array.is_null(row) => String::new(),
            // Lists of text as JSON, so that an item may hold a comma.
            DataType::List(item) if item.data_type() == &DataType::Utf8 => {
                let items = array.as_list::<i32>().value(row);
                let items: Vec<Option<&str>> = items.as_string::<i32>().iter().collect();
                serde_json::to_string(&items).expect("texts are JSON")
            }
            _ => self.formatters[column].value(row).to_string(),
        }
    }
}

fn is_number(kind: &DataType) -> bool {
    kind.is_numeric()
}

/// A cell of CSV. Programs that open it must not take text for a formula.
fn csv_cell(text: &str, is_text: bool) -> String {
    let formula = is_text && text.starts_with(['=', '+', '-', '@', '\t', '\r', '\0']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text }
}

fn write_table(out: &mut impl Write, schema: &Schema, batches: &[RecordBatch]) -> Result<(), OutputError> {
    let mut lines: Vec<Vec<String>> = vec![schema.fields().iter().map(|f| cell(f.name())).collect()];
    for batch in batches {
        let cells = Cells::new(batch).map_err(|source| OutputError::Form { form: "text", source })?;
        lines.extend(
            (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|c| cell(&cells.text(c, row))).collect()),
        );
    }
    let width = |column: usize| lines.iter().map(|line| line[column].width()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..schema.fields().len()).map(width).collect();
    let right: Vec<bool> = schema.fields().iter().map(|f| is_number(f.data_type())).collect();
    for (i, line) in lines.iter().enumerate() {
        let mut text = String::new();
        for (column, value) in line.iter().enumerate() {
            if column > 0 {
                text.push_str("  ");
            }
            let pad = " ".repeat(widths[column] - value.width());
            if right[column] {
                text.push_str(&pad);
                text.push_str(value);
            } else {
                text.push_str(value);
                text.push_str(&pad);
            }
        }
        writeln!(out, "{}", text.trim_end())?;
        if i == 0 {
            let rule: Vec<String> = widths.iter().map(|w| "─".repeat(*w)).collect();
            writeln!(out, "{}", rule.join("  "))?;
        }
    }
    Ok(())
}

/// A cell of a text table: harmless and not too wide.
fn cell(text: &str) -> String {
    let text = escape(text);
    if text.width() <= CELL_WIDTH_MAX {
        return text.into_owned();
    }
    let mut cut = String::new();
    let mut width = 1;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > CELL_WIDTH_MAX {
            break;
        }
        cut.push(c);
    }
    cut.push('…');
    cut
}
