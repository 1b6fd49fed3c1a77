//! Rows as an Arrow IPC file.
//!
//! SQL here gives each cell a type of its own, Arrow each column: a column's type is that of its
//! first cells, or what the stream declares. A later cell that does not fit ends it with a message
//! that names the place and the cure.

use std::sync::Arc;

use arrow_array::builder::{BinaryBuilder, Float64Builder, Int64Builder, StringBuilder};
use arrow_array::{ArrayRef, NullArray, RecordBatch, RecordBatchOptions};
use arrow_ipc::writer::FileWriter;
use arrow_schema::{ArrowError, DataType, Field, Schema};
use kimberlite::{Column, QueryResult, Row, ValueRef};

use super::{RowWriter, unique_names};
use crate::failure::{Failure, Outcome};
use crate::output::{self, Output};

/// The types are those of at least so many first rows.
const TYPED_ROWS: usize = 4_096;

pub(super) struct Arrow {
    names: Vec<String>,
    declared: Vec<Option<Kind>>,
    /// The first rows, until the types are known.
    held: Vec<QueryResult>,
    file: Option<Open>,
    rows_done: u64,
}

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Null,
    Int,
    Float,
    Text,
    Bytes,
}

impl Kind {
    fn of(value: ValueRef<'_>) -> Kind {
        match value {
            ValueRef::Null => Kind::Null,
            ValueRef::Int64(_) | ValueRef::Bool(_) => Kind::Int,
            ValueRef::Float64(_) => Kind::Float,
            ValueRef::String(_) => Kind::Text,
            ValueRef::Bytes(_) => Kind::Bytes,
        }
    }

    fn declared(column: &Column) -> Option<Kind> {
        match column.declared_type.as_str() {
            "INTEGER" => Some(Kind::Int),
            "REAL" => Some(Kind::Float),
            "TEXT" => Some(Kind::Text),
            "BLOB" => Some(Kind::Bytes),
            _ => None,
        }
    }

    /// The type that takes both.
    fn with(self, other: Kind) -> Kind {
        match (self, other) {
            (Kind::Null, kind) | (kind, Kind::Null) => kind,
            (Kind::Int, Kind::Float) | (Kind::Float, Kind::Int) => Kind::Float,
            (Kind::Text, Kind::Bytes) | (Kind::Bytes, Kind::Text) => Kind::Bytes,
            // Where they do not fit, the first stays, and the cell that does not fit is named.
            (kind, _) => kind,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Kind::Null => "NULL",
            Kind::Int => "INTEGER",
            Kind::Float => "REAL",
            Kind::Text => "TEXT",
            Kind::Bytes => "BLOB",
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Kind::Null => DataType::Null,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Text => DataType::Utf8,
            Kind::Bytes => DataType::Binary,
        }
    }
}

/// The file, once the types are known. It is made in memory and handed on batch by batch.
struct Open {
    kinds: Vec<Kind>,
    schema: Arc<Schema>,
    writer: FileWriter<Vec<u8>>,
}

impl Arrow {
    pub(super) fn new(columns: &[Column]) -> Arrow {
        let declared = columns.iter().map(Kind::declared).collect();
        let names = unique_names(columns);
        Arrow { names, declared, held: Vec::new(), file: None, rows_done: 0 }
    }

    fn held_rows(&self) -> usize {
        self.held.iter().map(QueryResult::row_count).sum()
    }

    /// Decides the types and writes the first rows.
    fn begin(&mut self, out: &mut Output) -> Outcome<()> {
        let mut kinds: Vec<Kind> =
            self.declared.iter().map(|kind| kind.unwrap_or(Kind::Null)).collect();
        for row in self.held.iter().flat_map(QueryResult::rows) {
            for (index, kind) in kinds.iter_mut().enumerate() {
                *kind = kind.with(Kind::of(row.value(index)?));
            }
        }
        let fields: Vec<Field> = self
            .names
            .iter()
            .zip(&kinds)
            .map(|(name, kind)| Field::new(name, kind.data_type(), true))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let writer = FileWriter::try_new(Vec::new(), &schema).map_err(failed)?;
        self.file = Some(Open { kinds, schema, writer });
        for rows in std::mem::take(&mut self.held) {
            self.write(out, &rows)?;
        }
        Ok(())
    }

    fn write(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()> {
        let Some(open) = &mut self.file else { return Ok(()) };
        let mut columns = Vec::with_capacity(open.kinds.len());
        for (index, kind) in open.kinds.iter().enumerate() {
            let built = build(*kind, rows, index).map_err(|(row, value)| {
                let row = self.rows_done + row as u64;
                let (name, kind) = (&self.names[index], kind.name());
                Failure::usage(format!(
                    "column {name:?} is {kind}, but its row {row} (from 0) holds {}",
                    value.name()
                ))
                .cure(format!("give it one type in SQL, as in CAST({name} AS TEXT)"))
            })?;
            columns.push(built);
        }
        self.rows_done += rows.row_count() as u64;
        let options = RecordBatchOptions::new().with_row_count(Some(rows.row_count()));
        let batch = RecordBatch::try_new_with_options(open.schema.clone(), columns, &options);
        open.writer.write(&batch.map_err(failed)?).map_err(failed)?;
        hand_on(open, out)
    }
}

/// Gives what was made so far to the output.
fn hand_on(open: &mut Open, out: &mut Output) -> Outcome<()> {
    let made = open.writer.get_mut();
    out.bytes(made)?;
    made.clear();
    Ok(())
}

/// One column of some rows, or the first row whose cell does not fit, and its type.
fn build(kind: Kind, rows: &QueryResult, column: usize) -> Result<ArrayRef, (usize, Kind)> {
    let mut cells = Cells::new(kind);
    for (index, row) in rows.rows().enumerate() {
        cells.push(&row, column).map_err(|other| (index, other))?;
    }
    Ok(cells.finish(rows.row_count()))
}

enum Cells {
    Null,
    Int(Int64Builder),
    Float(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

impl Cells {
    fn new(kind: Kind) -> Cells {
        match kind {
            Kind::Null => Cells::Null,
            Kind::Int => Cells::Int(Int64Builder::new()),
            Kind::Float => Cells::Float(Float64Builder::new()),
            Kind::Text => Cells::Text(StringBuilder::new()),
            Kind::Bytes => Cells::Bytes(BinaryBuilder::new()),
        }
    }

    fn push(&mut self, row: &Row<'_>, column: usize) -> Result<(), Kind> {
        // The column is one of the row's.
        let value = row.value(column).unwrap_or(ValueRef::Null);
        match (self, value) {
            (Cells::Null, ValueRef::Null) => {}
            (Cells::Int(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Float(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Text(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Bytes(cells), ValueRef::Null) => cells.append_null(),
            (Cells::Int(cells), ValueRef::Int64(v)) => cells.append_value(v),
            (Cells::Int(cells), ValueRef::Bool(v)) => cells.append_value(i64::from(v)),
            (Cells::Float(cells), ValueRef::Float64(v)) => cells.append_value(v),
            (Cells::Float(cells), ValueRef::Int64(v)) => cells.append_value(v as f64),
            (Cells::Text(cells), ValueRef::String(v)) => cells.append_value(v),
            (Cells::Bytes(cells), ValueRef::Bytes(v)) => cells.append_value(v),
            (Cells::Bytes(cells), ValueRef::String(v)) => cells.append_value(v.as_bytes()),
            (_, other) => return Err(Kind::of(other)),
        }
        Ok(())
    }

    fn finish(self, rows: usize) -> ArrayRef {
        match self {
            Cells::Null => Arc::new(NullArray::new(rows)),
            Cells::Int(mut cells) => Arc::new(cells.finish()),
            Cells::Float(mut cells) => Arc::new(cells.finish()),
            Cells::Text(mut cells) => Arc::new(cells.finish()),
            Cells::Bytes(mut cells) => Arc::new(cells.finish()),
        }
    }
}

fn failed(error: ArrowError) -> Failure {
    match error {
        ArrowError::IoError(_, error) => output::failure("the Arrow file", &error),
        other => Failure::failed(format!("the Arrow file cannot be made: {other}")),
    }
}

impl RowWriter for Arrow {
    fn rows(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()> {
        if self.file.is_some() {
            return self.write(out, rows);
        }
        self.held.push(rows.clone());
        if self.held_rows() >= TYPED_ROWS { self.begin(out) } else { Ok(()) }
    }

    fn finish(&mut self, out: &mut Output) -> Outcome<()> {
        if self.file.is_none() {
            self.begin(out)?;
        }
        let Some(open) = &mut self.file else { return Ok(()) };
        open.writer.finish().map_err(failed)?;
        hand_on(open, out)
    }
}
