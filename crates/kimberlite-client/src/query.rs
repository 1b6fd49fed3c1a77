//! Rows: whole results, cursors, and typed cells by index or name.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kimberlite_wire::rows::{ROW_BATCH_HEADER_BYTES, RowBatch, ValueRef};
use kimberlite_wire::session::Answer;
use kimberlite_wire::{Column, Error, ErrorCode, Request, Response};

use crate::cells::FromRow;
use crate::client::unexpected;
use crate::config::CallOptions;
use crate::deadlines::Timer;
use crate::door::{ClosedFlag, Door, Pull};

/// The whole result of a query.
#[derive(Clone)]
pub struct QueryResult {
    columns: Arc<[Column]>,
    position: u64,
    batches: Vec<RowBatch>,
    /// For each batch how many rows it and those before it have.
    ends: Vec<usize>,
}

impl QueryResult {
    /// The columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The position that the result reflects.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// How many rows there are.
    pub fn row_count(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// How many columns there are.
    pub fn column_count(&self) -> usize {
        self.columns.len()
    }

    /// The index of the column of a name: the exact one, else the one that differs in ASCII case
    /// alone. Where two have it, the first.
    pub fn column_index(&self, name: &str) -> Option<usize> {
        column_index(&self.columns, name)
    }

    /// A row, counted from 0.
    pub fn row(&self, index: usize) -> Option<Row<'_>> {
        if index >= self.row_count() {
            return None;
        }
        let batch = self.ends.partition_point(|end| *end <= index);
        let before = if batch == 0 { 0 } else { self.ends[batch - 1] };
        Some(Row { columns: &self.columns, batch: &self.batches[batch], index: index - before })
    }

    /// The rows in order.
    pub fn rows(&self) -> impl Iterator<Item = Row<'_>> {
        self.batches.iter().flat_map(|batch| rows_of(&self.columns, batch))
    }

    /// The rows as tuples or structs. The first cell that does not fit ends it with its error.
    pub fn rows_as<T: FromRow>(&self) -> Result<Vec<T>, Error> {
        self.rows().map(|row| T::from_row(&row)).collect()
    }

    /// A cell. INVALID_ARGUMENT where row or column is out of range.
    pub fn value(&self, row: usize, column: usize) -> Result<ValueRef<'_>, Error> {
        let found = self.row(row).ok_or_else(|| {
            Error::invalid(format!("row is {row}; the result has {} rows", self.row_count()))
        })?;
        found.value(column)
    }

    /// The batches that the rows came in.
    pub fn batches(&self) -> &[RowBatch] {
        &self.batches
    }

    pub(crate) fn from_answer(answer: Answer) -> Result<QueryResult, Error> {
        let (columns, position) = query_body(answer.body)?;
        let mut rows = RowSource::default();
        let mut batches = Vec::new();
        for chunk in answer.payload {
            rows.feed(chunk)?;
            batches.extend(rows.ready.drain(..));
        }
        rows.finish()?;
        check_width(&columns, &batches)?;
        Ok(QueryResult::new(columns, position, batches))
    }

    pub(crate) fn new(
        columns: Arc<[Column]>,
        position: u64,
        batches: Vec<RowBatch>,
    ) -> QueryResult {
        let ends = batches.iter().scan(0, |sum, batch| {
            *sum += batch.row_count();
            Some(*sum)
        });
        QueryResult { ends: ends.collect(), columns, position, batches }
    }
}

impl fmt::Debug for QueryResult {
    /// Shows the shape, never the cells.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("QueryResult")
            .field("columns", &self.columns)
            .field("row_count", &self.row_count())
            .field("position", &self.position)
            .finish()
    }
}

/// The rows of a query as they come, a batch at a time. Dropping or closing it stops the query.
pub struct RowCursor {
    columns: Arc<[Column]>,
    position: u64,
    rows: RowSource,
    pull: Option<Pull>,
    timeout_ms: u64,
    client: ClosedFlag,
    /// The client stays open as long as its cursor.
    _door: Arc<Door>,
}

impl RowCursor {
    pub(crate) async fn open(
        door: &Arc<Door>,
        request: Request,
        options: &CallOptions,
    ) -> Result<RowCursor, Error> {
        let (body, pull) = door.stream(request, options).await?;
        let (columns, position) = query_body(body)?;
        let timeout_ms = door.timeout_ms(options)?;
        let rows = RowSource::default();
        let (client, _door) = (door.closed(), Arc::clone(door));
        Ok(RowCursor { columns, position, rows, pull: Some(pull), timeout_ms, client, _door })
    }

    /// The columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// The index of the column of a name, as in [`QueryResult::column_index`].
    pub fn column_index(&self, name: &str) -> Option<usize> {
        column_index(&self.columns, name)
    }

    /// The position that the rows reflect.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// A result without rows that has the cursor's columns and position.
    pub fn schema(&self) -> QueryResult {
        QueryResult::new(Arc::clone(&self.columns), self.position, Vec::new())
    }

    /// The next batch of rows, as a result of its own; `None` after the last. TIMEOUT where it does
    /// not come within the call's deadline, counted for each batch, or where the query as a whole
    /// takes longer than the database's own limit; either stops the query. CLOSED after that and
    /// after a close.
    pub async fn next_batch(&mut self) -> Result<Option<QueryResult>, Error> {
        crate::process::check()?;
        if let Err(e) = self.client.check() {
            // What came in before the close is not handed out after it.
            self.close();
            return Err(e);
        }
        let next = self.receive_batch().await;
        if next.as_ref().is_err_and(|e| e.code == ErrorCode::Timeout) {
            // Nobody waits any more: a query that goes on would only keep others from running.
            self.close();
        }
        next
    }

    async fn receive_batch(&mut self) -> Result<Option<QueryResult>, Error> {
        let mut timer = Timer::after(Duration::from_millis(self.timeout_ms));
        loop {
            if let Some(batch) = self.rows.ready.pop_front() {
                check_width(&self.columns, std::slice::from_ref(&batch))?;
                let columns = Arc::clone(&self.columns);
                return Ok(Some(QueryResult::new(columns, self.position, vec![batch])));
            }
            let pull = self.pull.as_mut().ok_or_else(closed)?;
            let next = pull.next_chunk(&mut timer, self.timeout_ms, "query");
            let Some(chunk) = next.await? else {
                self.rows.finish()?;
                return Ok(None);
            };
            let bytes = chunk.len() as u64;
            self.rows.feed(chunk)?;
            pull.grant(bytes);
        }
    }

    /// Stops the query. Batches that were handed out live on.
    pub fn close(&mut self) {
        self.pull = None;
        self.rows = RowSource::default();
    }
}

impl fmt::Debug for RowCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowCursor")
            .field("columns", &self.columns)
            .field("position", &self.position)
            .finish()
    }
}

fn closed() -> Error {
    Error::new(ErrorCode::Closed, "the cursor is closed")
}

/// One row of a result, in place.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    columns: &'a [Column],
    batch: &'a RowBatch,
    index: usize,
}

impl<'a> Row<'a> {
    /// The columns in order.
    pub fn columns(&self) -> &'a [Column] {
        self.columns
    }

    /// How many cells it has.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether it has no cells.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// A cell by its column's index. INVALID_ARGUMENT where there is none.
    pub fn value(&self, column: usize) -> Result<ValueRef<'a>, Error> {
        self.batch.cell(self.index, column).ok_or_else(|| {
            let count = self.columns.len();
            Error::invalid(format!("column is {column}; the result has {count} columns"))
        })
    }

    /// A cell by its column's name. INVALID_ARGUMENT where there is none.
    pub fn value_by_name(&self, name: &str) -> Result<ValueRef<'a>, Error> {
        self.value(self.column(name)?)
    }

    /// The index of the column of a name. INVALID_ARGUMENT where there is none.
    pub(crate) fn column(&self, name: &str) -> Result<usize, Error> {
        column_index(self.columns, name)
            .ok_or_else(|| Error::invalid(format!("the result has no column {name:?}")))
    }

    /// A cell as an integer; a truth value is 0 or 1. INVALID_ARGUMENT names another type.
    pub fn i64(&self, column: usize) -> Result<i64, Error> {
        match self.value(column)? {
            ValueRef::Int64(value) => Ok(value),
            ValueRef::Bool(value) => Ok(i64::from(value)),
            other => Err(self.other_type(column, other, "an integer")),
        }
    }

    /// A cell as a floating-point number; an integer is converted. INVALID_ARGUMENT names another
    /// type.
    pub fn f64(&self, column: usize) -> Result<f64, Error> {
        match self.value(column)? {
            ValueRef::Float64(value) => Ok(value),
            ValueRef::Int64(value) => Ok(value as f64),
            other => Err(self.other_type(column, other, "a number")),
        }
    }

    /// A cell as text. INVALID_ARGUMENT names another type.
    pub fn str(&self, column: usize) -> Result<&'a str, Error> {
        match self.value(column)? {
            ValueRef::String(value) => Ok(value),
            other => Err(self.other_type(column, other, "text")),
        }
    }

    /// A cell as bytes; text gives its UTF-8. INVALID_ARGUMENT names another type.
    pub fn bytes(&self, column: usize) -> Result<&'a [u8], Error> {
        match self.value(column)? {
            ValueRef::Bytes(value) => Ok(value),
            ValueRef::String(value) => Ok(value.as_bytes()),
            other => Err(self.other_type(column, other, "bytes")),
        }
    }

    /// A cell as a truth value; the integers 0 and 1 are ones. INVALID_ARGUMENT names another type.
    pub fn bool(&self, column: usize) -> Result<bool, Error> {
        match self.value(column)? {
            ValueRef::Bool(value) => Ok(value),
            ValueRef::Int64(value @ (0 | 1)) => Ok(value == 1),
            other => Err(self.other_type(column, other, "a truth value")),
        }
    }

    /// Whether a cell holds no value.
    pub fn is_null(&self, column: usize) -> Result<bool, Error> {
        Ok(matches!(self.value(column)?, ValueRef::Null))
    }

    fn other_type(&self, column: usize, value: ValueRef<'_>, wanted: &str) -> Error {
        let (name, kind) = (&self.columns[column].name, value.value_type().name());
        Error::invalid(format!("column {column} ({name:?}) holds {kind}, not {wanted}"))
    }
}

impl fmt::Debug for Row<'_> {
    /// Shows the shape, never the cells.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Row").field("columns", &self.columns).finish_non_exhaustive()
    }
}

fn rows_of<'a>(columns: &'a [Column], batch: &'a RowBatch) -> impl Iterator<Item = Row<'a>> {
    (0..batch.row_count()).map(move |index| Row { columns, batch, index })
}

fn column_index(columns: &[Column], name: &str) -> Option<usize> {
    let exact = columns.iter().position(|column| column.name == name);
    exact.or_else(|| columns.iter().position(|column| column.name.eq_ignore_ascii_case(name)))
}

fn query_body(body: Response) -> Result<(Arc<[Column]>, u64), Error> {
    match body {
        Response::Query(body) => Ok((body.columns.into(), body.position)),
        other => Err(unexpected(&other)),
    }
}

/// PROTOCOL where a batch has another number of columns than the answer named.
fn check_width(columns: &[Column], batches: &[RowBatch]) -> Result<(), Error> {
    let odd = batches.iter().find(|batch| batch.column_count() != columns.len());
    odd.map_or(Ok(()), |batch| {
        let (has, named) = (batch.column_count(), columns.len());
        Err(Error::protocol(format!("a batch has {has} columns where {named} were named")))
    })
}

/// Finds the batches in chunks that are cut anywhere. A batch within one chunk is used in place.
#[derive(Default)]
struct RowSource {
    carry: BytesMut,
    ready: VecDeque<RowBatch>,
}

impl RowSource {
    fn feed(&mut self, mut chunk: Bytes) -> Result<(), Error> {
        while !self.carry.is_empty() && !chunk.is_empty() {
            let needed = RowBatch::needed(&self.carry).unwrap_or(ROW_BATCH_HEADER_BYTES);
            let missing = needed.max(ROW_BATCH_HEADER_BYTES).saturating_sub(self.carry.len());
            self.carry.extend_from_slice(&chunk.split_to(missing.min(chunk.len())));
            if self.carry.len() >= ROW_BATCH_HEADER_BYTES
                && RowBatch::needed(&self.carry).is_some_and(|needed| self.carry.len() >= needed)
            {
                let whole = self.carry.split().freeze();
                let (batch, _) = RowBatch::parse(&whole)?.ok_or_else(cut_short)?;
                self.ready.push_back(batch);
            }
        }
        while !chunk.is_empty() {
            match RowBatch::parse(&chunk)? {
                Some((batch, used)) => {
                    self.ready.push_back(batch);
                    chunk = chunk.slice(used..);
                }
                None => {
                    self.carry.extend_from_slice(&chunk);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), Error> {
        if self.carry.is_empty() { Ok(()) } else { Err(cut_short()) }
    }
}

fn cut_short() -> Error {
    Error::protocol("the answer ends in the middle of a batch of rows")
}

#[cfg(test)]
mod tests {
    use kimberlite_wire::rows::RowBatchBuilder;

    use super::*;

    /// Wherever an answer is cut into chunks, its batches come out whole; an end in the middle of
    /// one is noticed.
    #[test]
    fn batches_survive_any_cut() {
        let mut bytes = Vec::new();
        for batch in 0..4 {
            let mut builder = RowBatchBuilder::new(2);
            for row in 0..batch * 3 + 1 {
                builder.push_i64(row);
                builder.push_str(&"x".repeat(row as usize));
                builder.finish_row();
            }
            bytes.extend_from_slice(&builder.finish().expect("it has rows"));
        }
        let rows = |chunks: &[&[u8]]| {
            let mut source = RowSource::default();
            for chunk in chunks {
                source.feed(Bytes::copy_from_slice(chunk))?;
            }
            source.finish()?;
            Ok::<usize, Error>(source.ready.iter().map(RowBatch::row_count).sum())
        };
        for cut in 0..=bytes.len() {
            let (one, two) = bytes.split_at(cut);
            assert_eq!(rows(&[one, two]), Ok(22), "cut at {cut}");
        }
        for size in [1, 3, 15, 40] {
            assert_eq!(rows(&bytes.chunks(size).collect::<Vec<_>>()), Ok(22), "chunks of {size}");
        }
        assert!(rows(&[&bytes[..bytes.len() - 1]]).is_err());
    }
}
