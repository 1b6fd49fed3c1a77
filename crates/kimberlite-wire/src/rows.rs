//! Rows: the payload of a query's answer, in batches. A batch is a header of four `u32` (bytes of
//! the values, CRC-32C of everything behind it, rows, columns) and the values row by row, each laid
//! out as in a message: its type as one byte, then the value.

use bytes::Bytes;

use crate::codec::{Field, Reader, put_bytes};
use crate::error::Error;
use crate::generated::ValueType;
pub use crate::generated::constant::ROW_BATCH_HEADER_BYTES;
use crate::value::Value;

/// Builds batches without a [`Value`] for every cell.
#[derive(Debug)]
pub struct RowBatchBuilder {
    out: Vec<u8>,
    column_count: u32,
    row_count: u32,
    cells: u32,
}

impl RowBatchBuilder {
    /// A builder of rows with this many columns.
    pub fn new(column_count: u32) -> RowBatchBuilder {
        RowBatchBuilder {
            out: vec![0; ROW_BATCH_HEADER_BYTES],
            column_count,
            row_count: 0,
            cells: 0,
        }
    }

    fn cell(&mut self, kind: ValueType) -> &mut Vec<u8> {
        self.cells += 1;
        self.out.push(kind.number());
        &mut self.out
    }

    /// Adds a NULL to the row under way.
    pub fn push_null(&mut self) {
        self.cell(ValueType::Null);
    }

    /// Adds an integer to the row under way.
    pub fn push_i64(&mut self, value: i64) {
        value.put(self.cell(ValueType::Int64));
    }

    /// Adds a floating-point number to the row under way.
    pub fn push_f64(&mut self, value: f64) {
        value.put(self.cell(ValueType::Float64));
    }

    /// Adds text to the row under way.
    pub fn push_str(&mut self, value: &str) {
        put_bytes(self.cell(ValueType::String), value.as_bytes());
    }

    /// Adds bytes to the row under way.
    pub fn push_bytes(&mut self, value: &[u8]) {
        put_bytes(self.cell(ValueType::Bytes), value);
    }

    /// Adds a truth value to the row under way.
    pub fn push_bool(&mut self, value: bool) {
        value.put(self.cell(ValueType::Bool));
    }

    /// Adds a value to the row under way.
    pub fn push_value(&mut self, value: &Value) {
        self.cells += 1;
        value.put(&mut self.out);
    }

    /// Ends the row under way, which must have as many cells as the builder has columns.
    pub fn finish_row(&mut self) {
        debug_assert_eq!(self.cells, self.column_count, "a row must fill its columns");
        self.cells = 0;
        self.row_count += 1;
    }

    /// Rows that were finished since the last batch.
    pub const fn row_count(&self) -> u32 {
        self.row_count
    }

    /// Bytes that the batch has so far, its header included.
    pub fn byte_len(&self) -> usize {
        self.out.len()
    }

    /// The batch of the rows since the last one; `None` where there were none. The builder starts
    /// the next batch.
    pub fn finish(&mut self) -> Option<Bytes> {
        if self.row_count == 0 {
            return None;
        }
        let mut batch = std::mem::replace(&mut self.out, vec![0; ROW_BATCH_HEADER_BYTES]);
        let value_bytes = (batch.len() - ROW_BATCH_HEADER_BYTES) as u32;
        batch[8..12].copy_from_slice(&self.row_count.to_le_bytes());
        batch[12..16].copy_from_slice(&self.column_count.to_le_bytes());
        let crc = crc32c::crc32c(&batch[8..]);
        batch[0..4].copy_from_slice(&value_bytes.to_le_bytes());
        batch[4..8].copy_from_slice(&crc.to_le_bytes());
        self.row_count = 0;
        Some(Bytes::from(batch))
    }
}

/// One cell of a batch, in place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueRef<'a> {
    /// No value.
    Null,
    /// A signed 64-bit integer.
    Int64(i64),
    /// A 64-bit floating-point number.
    Float64(f64),
    /// UTF-8 text.
    String(&'a str),
    /// Bytes.
    Bytes(&'a [u8]),
    /// A truth value.
    Bool(bool),
}

impl<'a> ValueRef<'a> {
    /// Its type.
    pub const fn value_type(&self) -> ValueType {
        match self {
            ValueRef::Null => ValueType::Null,
            ValueRef::Int64(_) => ValueType::Int64,
            ValueRef::Float64(_) => ValueType::Float64,
            ValueRef::String(_) => ValueType::String,
            ValueRef::Bytes(_) => ValueType::Bytes,
            ValueRef::Bool(_) => ValueType::Bool,
        }
    }

    /// The same as a value of its own.
    pub fn to_value(&self) -> Value {
        match *self {
            ValueRef::Null => Value::Null,
            ValueRef::Int64(v) => Value::Int64(v),
            ValueRef::Float64(v) => Value::Float64(v),
            ValueRef::String(v) => Value::String(v.to_string()),
            ValueRef::Bytes(v) => Value::Bytes(v.to_vec()),
            ValueRef::Bool(v) => Value::Bool(v),
        }
    }

    fn take(reader: &mut Reader<'a>) -> Result<ValueRef<'a>, Error> {
        let number = u8::take(reader)?;
        let kind = ValueType::from_number(number)
            .ok_or_else(|| Error::protocol(format!("a cell's type is {number}")))?;
        Ok(match kind {
            ValueType::Null => ValueRef::Null,
            ValueType::Int64 => ValueRef::Int64(i64::take(reader)?),
            ValueType::Float64 => ValueRef::Float64(f64::take(reader)?),
            ValueType::String => {
                let text = std::str::from_utf8(reader.take_bytes()?);
                ValueRef::String(text.map_err(|_| Error::protocol("a cell is not valid UTF-8"))?)
            }
            ValueType::Bytes => ValueRef::Bytes(reader.take_bytes()?),
            ValueType::Bool => ValueRef::Bool(bool::take(reader)?),
        })
    }
}

/// A batch of rows in place. Cheap to clone but for its table of cells.
#[derive(Clone, Debug)]
pub struct RowBatch {
    bytes: Bytes,
    starts: Vec<u32>,
    row_count: u32,
    column_count: u32,
}

impl RowBatch {
    /// Reads the batch at the start of `bytes` and tells how many bytes it takes; `None` where more
    /// bytes are needed. PROTOCOL where the checksum or a value does not fit.
    pub fn parse(bytes: &Bytes) -> Result<Option<(RowBatch, usize)>, Error> {
        let Some(header) = bytes.first_chunk::<ROW_BATCH_HEADER_BYTES>() else {
            return Ok(None);
        };
        let mut reader = Reader::new(header);
        let [value_bytes, crc, row_count, column_count] =
            [(); 4].map(|()| u32::take(&mut reader).unwrap_or(0)); // Four u32 are sixteen bytes.
        let cells = u64::from(row_count) * u64::from(column_count);
        // A cell takes a byte at least, so that the table of cells is bounded by the bytes.
        if cells > u64::from(value_bytes) || (column_count == 0 && row_count > 0) {
            let what = format!("a row batch has {cells} cells in {value_bytes} bytes");
            return Err(Error::protocol(format!("{what}; each takes at least one")));
        }
        let len = ROW_BATCH_HEADER_BYTES as u64 + u64::from(value_bytes);
        if (bytes.len() as u64) < len {
            return Ok(None);
        }
        let len = len as usize;
        if crc32c::crc32c(&bytes[8..len]) != crc {
            return Err(Error::protocol("a row batch's checksum does not fit"));
        }
        let values = bytes.slice(ROW_BATCH_HEADER_BYTES..len);
        let starts = cell_starts(&values, cells as usize)?;
        Ok(Some((RowBatch { bytes: values, starts, row_count, column_count }, len)))
    }

    /// How many bytes the batch at the start of `bytes` takes, where its header is there: tells a
    /// receiver how many bytes to join before it parses.
    pub fn needed(bytes: &[u8]) -> Option<usize> {
        let value_bytes = u32::from_le_bytes(*bytes.first_chunk()?);
        (value_bytes as usize).checked_add(ROW_BATCH_HEADER_BYTES)
    }

    /// How many rows it has.
    pub const fn row_count(&self) -> usize {
        self.row_count as usize
    }

    /// How many columns it has.
    pub const fn column_count(&self) -> usize {
        self.column_count as usize
    }

    /// One cell; `None` where row or column is out of range.
    pub fn cell(&self, row: usize, column: usize) -> Option<ValueRef<'_>> {
        if row >= self.row_count() || column >= self.column_count() {
            return None;
        }
        let start = *self.starts.get(row * self.column_count() + column)?;
        // The batch was read from end to end when it was parsed, so that this cannot fail.
        ValueRef::take(&mut Reader::new(self.bytes.get(start as usize..)?)).ok()
    }
}

fn cell_starts(values: &[u8], cells: usize) -> Result<Vec<u32>, Error> {
    let mut reader = Reader::new(values);
    let mut starts = Vec::with_capacity(cells);
    for _ in 0..cells {
        starts.push((values.len() - reader.len()) as u32);
        ValueRef::take(&mut reader)?;
    }
    if !reader.is_empty() {
        return Err(Error::protocol("a row batch has bytes after its last cell"));
    }
    Ok(starts)
}
