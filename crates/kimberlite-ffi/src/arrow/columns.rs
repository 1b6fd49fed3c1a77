//! Columns: their types, and their buffers as Arrow lays them out.

use std::ffi::{CStr, c_void};
use std::sync::Arc;

use kimberlite_client::Page;
use kimberlite_wire::Error;

/// A batch ends where a column of text or bytes grows beyond this, because Arrow's offsets have 31
/// bits.
pub(crate) const BATCH_DATA_BYTES: usize = 1 << 30;

/// A column's type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Null,
    Bool,
    Int64,
    UInt64,
    Float64,
    Utf8,
    Binary,
    /// Nanoseconds since the Unix epoch, UTC.
    Timestamp,
}

impl Kind {
    pub(crate) const fn format(self) -> &'static CStr {
        match self {
            Kind::Null => c"n",
            Kind::Bool => c"b",
            Kind::Int64 => c"l",
            Kind::UInt64 => c"L",
            Kind::Float64 => c"g",
            Kind::Utf8 => c"u",
            Kind::Binary => c"z",
            Kind::Timestamp => c"tsn:UTC",
        }
    }

    /// The type of a column of rows with this format.
    pub(crate) fn from_format(format: &str) -> Option<Kind> {
        let kinds = [Kind::Null, Kind::Bool, Kind::Int64, Kind::Float64, Kind::Utf8, Kind::Binary];
        kinds.into_iter().find(|kind| kind.format().to_bytes() == format.as_bytes())
    }

    /// The type of a column that comes straight from a table.
    pub(crate) fn declared(declared_type: &str) -> Option<Kind> {
        match declared_type {
            "INTEGER" => Some(Kind::Int64),
            "REAL" => Some(Kind::Float64),
            "TEXT" => Some(Kind::Utf8),
            "BLOB" => Some(Kind::Binary),
            _ => None,
        }
    }

    /// The type that holds the values of both; `None` where none does.
    pub(crate) fn joined(self, other: Kind) -> Option<Kind> {
        use Kind::{Binary, Bool, Float64, Int64, Null, Utf8};
        match (self, other) {
            (one, two) if one == two => Some(one),
            (Null, one) | (one, Null) => Some(one),
            (Int64, Float64) | (Float64, Int64) => Some(Float64),
            (Int64, Bool) | (Bool, Int64) => Some(Int64),
            (Utf8, Binary) | (Binary, Utf8) => Some(Binary),
            _ => None,
        }
    }

    /// As an error says it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "bool",
            Kind::Int64 => "int64",
            Kind::UInt64 => "uint64",
            Kind::Float64 => "float64",
            Kind::Utf8 => "utf8",
            Kind::Binary => "binary",
            Kind::Timestamp => "timestamp",
        }
    }
}

/// Memory that an array shows.
pub(crate) enum Buffer {
    /// A validity bitmap where every value is valid.
    None,
    Bytes(Vec<u8>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    U64(Vec<u64>),
    F64(Vec<f64>),
    PageData(Arc<Page>),
    PageTimestamps(Arc<Page>),
}

impl Buffer {
    pub(crate) fn pointer(&self) -> *const c_void {
        match self {
            Buffer::None => std::ptr::null(),
            Buffer::Bytes(v) => v.as_ptr().cast(),
            Buffer::I32(v) => v.as_ptr().cast(),
            Buffer::I64(v) => v.as_ptr().cast(),
            Buffer::U64(v) => v.as_ptr().cast(),
            Buffer::F64(v) => v.as_ptr().cast(),
            Buffer::PageData(page) => page.data().as_ptr().cast(),
            Buffer::PageTimestamps(page) => page.timestamps().as_ptr().cast(),
        }
    }
}

/// One column of a batch.
pub(crate) struct Column {
    pub(crate) length: usize,
    pub(crate) null_count: usize,
    pub(crate) buffers: Vec<Buffer>,
}

/// One cell, in place.
#[derive(Clone, Copy)]
pub(crate) enum Cell<'a> {
    Null,
    Int64(i64),
    Float64(f64),
    Bool(bool),
    /// UTF-8.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

impl Cell<'_> {
    pub(crate) const fn kind(&self) -> Kind {
        match self {
            Cell::Null => Kind::Null,
            Cell::Int64(_) => Kind::Int64,
            Cell::Float64(_) => Kind::Float64,
            Cell::Bool(_) => Kind::Bool,
            Cell::Text(_) => Kind::Utf8,
            Cell::Bytes(_) => Kind::Binary,
        }
    }
}

enum Values {
    Null,
    /// One bit each.
    Bool(Vec<u8>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Bytes {
        offsets: Vec<i32>,
        data: Vec<u8>,
    },
}

/// Builds a column of rows.
pub(crate) struct Builder {
    kind: Kind,
    length: usize,
    null_count: usize,
    /// One bit each, from the first null on.
    validity: Vec<u8>,
    values: Values,
}

impl Builder {
    pub(crate) fn new(kind: Kind) -> Builder {
        let values = match kind {
            Kind::Null => Values::Null,
            Kind::Bool => Values::Bool(Vec::new()),
            Kind::Int64 | Kind::UInt64 | Kind::Timestamp => Values::Int64(Vec::new()),
            Kind::Float64 => Values::Float64(Vec::new()),
            Kind::Utf8 | Kind::Binary => Values::Bytes { offsets: vec![0], data: Vec::new() },
        };
        Builder { kind, length: 0, null_count: 0, validity: Vec::new(), values }
    }

    /// Bytes of text and bytes so far.
    pub(crate) fn data_bytes(&self) -> usize {
        if let Values::Bytes { data, .. } = &self.values { data.len() } else { 0 }
    }

    /// Adds a cell; false where the column's type does not hold it.
    #[inline]
    pub(crate) fn push(&mut self, cell: Cell<'_>) -> bool {
        let valid = !matches!(cell, Cell::Null);
        match (&mut self.values, cell) {
            (Values::Null, Cell::Null) => {}
            (Values::Int64(out), Cell::Int64(value)) => out.push(value),
            (Values::Int64(out), Cell::Bool(value)) => out.push(i64::from(value)),
            (Values::Int64(out), Cell::Null) => out.push(0),
            (Values::Float64(out), Cell::Float64(value)) => out.push(value),
            (Values::Float64(out), Cell::Int64(value)) if is_exact(value) => out.push(value as f64),
            (Values::Float64(out), Cell::Null) => out.push(0.0),
            (Values::Bool(out), Cell::Bool(value)) => put_bit(out, self.length, value),
            (Values::Bool(out), Cell::Int64(value @ (0 | 1))) => {
                put_bit(out, self.length, value == 1);
            }
            (Values::Bool(out), Cell::Null) => put_bit(out, self.length, false),
            (Values::Bytes { offsets, data }, cell) => {
                match cell {
                    Cell::Text(bytes) => data.extend_from_slice(bytes),
                    Cell::Bytes(bytes) if self.kind == Kind::Binary => {
                        data.extend_from_slice(bytes);
                    }
                    Cell::Null => {}
                    _ => return false,
                }
                // A batch ends long before 31 bits are full.
                offsets.push(data.len() as i32);
            }
            _ => return false,
        }
        self.note(valid);
        true
    }

    fn note(&mut self, valid: bool) {
        if !valid && self.null_count == 0 {
            self.validity = vec![0xff; self.length / 8];
            if !self.length.is_multiple_of(8) {
                self.validity.push((1 << (self.length % 8)) - 1);
            }
        }
        if !valid || self.null_count > 0 {
            put_bit(&mut self.validity, self.length, valid);
        }
        self.null_count += usize::from(!valid);
        self.length += 1;
    }

    pub(crate) fn finish(self) -> Column {
        let Builder { length, null_count, validity, values, .. } = self;
        let validity = if null_count == 0 { Buffer::None } else { Buffer::Bytes(validity) };
        let buffers = match values {
            Values::Null => Vec::new(),
            Values::Bool(bits) => vec![validity, Buffer::Bytes(bits)],
            Values::Int64(values) => vec![validity, Buffer::I64(values)],
            Values::Float64(values) => vec![validity, Buffer::F64(values)],
            Values::Bytes { offsets, data } => {
                vec![validity, Buffer::I32(offsets), Buffer::Bytes(data)]
            }
        };
        Column { length, null_count, buffers }
    }
}

/// Whether a 64-bit floating-point number holds the integer exactly.
fn is_exact(value: i64) -> bool {
    // The comparison is in wider integers: 2^63 as a float would come back as another integer.
    (value as f64) as i128 == i128::from(value)
}

/// Appends the bit of a place; the places come one after the other.
fn put_bit(bits: &mut Vec<u8>, place: usize, value: bool) {
    if place.is_multiple_of(8) {
        bits.push(0);
    }
    if let Some(last) = bits.last_mut() {
        *last |= u8::from(value) << (place % 8);
    }
}

/// INVALID_ARGUMENT: a cell does not fit its column. It tells no value.
pub(crate) fn does_not_fit(row: usize, column: usize, name: &str, cell: Kind, kind: Kind) -> Error {
    let (cell, kind) = (cell.name(), kind.name());
    let why = if (cell, kind) == ("int64", "float64") {
        "an integer that no float64 holds exactly".to_string()
    } else {
        format!("a value of type {cell} in a column of type {kind}")
    };
    Error::invalid(format!(
        "row {row}, column {column} ({name:?}) holds {why}; Arrow's columns have one type: CAST the \
         column in the statement to INTEGER, REAL, TEXT or BLOB, or give a schema"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(buffer: &Buffer) -> &[u8] {
        match buffer {
            Buffer::Bytes(bytes) => bytes,
            _ => &[],
        }
    }

    /// The bitmap of nulls begins with the first one and covers all that came before it, whatever
    /// its place within a byte.
    #[test]
    fn nulls_are_marked() {
        for before in 0..20 {
            let mut builder = Builder::new(Kind::Int64);
            for i in 0..before {
                assert!(builder.push(Cell::Int64(i)));
            }
            assert!(builder.push(Cell::Null) && builder.push(Cell::Int64(7)));
            let column = builder.finish();
            assert_eq!((column.length, column.null_count), (before as usize + 2, 1));
            let bits = bytes(&column.buffers[0]);
            for place in 0..column.length {
                let valid = bits[place / 8] >> (place % 8) & 1 == 1;
                assert_eq!(valid, place != before as usize, "{before} before, at {place}");
            }
        }
    }

    /// A float64 column takes the integers that it holds exactly and no others.
    #[test]
    fn integers_stay_exact() {
        let mut builder = Builder::new(Kind::Float64);
        for exact in [0, -1, 1 << 53, i64::MIN, (1 << 62) + (1 << 20)] {
            assert!(builder.push(Cell::Int64(exact)), "{exact}");
        }
        for other in [(1 << 53) + 1, i64::MAX, i64::MIN + 1] {
            assert!(!builder.push(Cell::Int64(other)), "{other}");
        }
    }

    /// Types join where one holds the values of both, in either order.
    #[test]
    fn types_join() {
        use Kind::{Binary, Bool, Float64, Int64, Null, Utf8};
        let all = [Null, Bool, Int64, Float64, Utf8, Binary];
        for one in all {
            assert_eq!(one.joined(Null), Some(one));
            for two in all {
                assert_eq!(one.joined(two), two.joined(one));
            }
        }
        assert_eq!(Int64.joined(Float64), Some(Float64));
        assert_eq!(Bool.joined(Int64), Some(Int64));
        assert_eq!(Utf8.joined(Binary), Some(Binary));
        assert_eq!(Int64.joined(Utf8), None);
        assert_eq!(Bool.joined(Float64), None);
    }
}
