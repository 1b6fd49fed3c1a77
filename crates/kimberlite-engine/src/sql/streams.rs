//! The table `_streams`: one row a stream of the cut.

use std::ffi::{CStr, c_int};
use std::sync::Arc;

use kimberlite_wire::{DataClass, Error, StreamInfo};

use super::bounds::Operand;
use super::module::{Ask, Cell, Cursor, Table};
use super::state::QueryState;

const NANOS_PER_SECOND: u64 = 1_000_000_000;

/// `_streams` in a query.
pub(super) struct Streams {
    state: Arc<QueryState>,
}

impl Streams {
    /// The table of the query's cut.
    pub(super) fn new(state: Arc<QueryState>) -> Streams {
        Streams { state }
    }
}

impl Table for Streams {
    type Cursor = StreamsCursor;

    const SCHEMA: &'static CStr = c"CREATE TABLE x(id INTEGER, name TEXT, data_class TEXT, \
        next_offset INTEGER, created INTEGER, last_timestamp INTEGER, data_bytes INTEGER, \
        head BLOB, created_ns INTEGER HIDDEN, last_timestamp_ns INTEGER HIDDEN)";

    fn state(&self) -> &QueryState {
        &self.state
    }

    fn plan(&self, ask: &mut Ask<'_>) {
        // A failure is told when the rows are asked for.
        let rows = self.state.streams().map_or(0, |rows| rows.len() as u64);
        ask.answer(0, rows, 20.0 + rows as f64, false);
    }

    fn open(&self) -> StreamsCursor {
        StreamsCursor { state: Arc::clone(&self.state), rows: Arc::default(), at: 0 }
    }
}

/// A walk over the streams by id.
pub(super) struct StreamsCursor {
    state: Arc<QueryState>,
    rows: Arc<Vec<StreamInfo>>,
    at: usize,
}

impl Cursor for StreamsCursor {
    fn state(&self) -> &QueryState {
        &self.state
    }

    fn filter(&mut self, _plan: i32, _operands: &[Operand]) -> Result<(), Error> {
        self.rows = self.state.streams()?;
        self.at = 0;
        Ok(())
    }

    fn advance(&mut self) {
        self.at = self.at.saturating_add(1);
    }

    fn is_at_end(&self) -> bool {
        self.at >= self.rows.len()
    }

    fn id(&self) -> i64 {
        signed(self.rows.get(self.at).map_or(0, |row| row.stream_id))
    }

    fn column(&mut self, column: c_int, cell: Cell<'_>) -> Result<(), Error> {
        let Some(row) = self.rows.get(self.at) else {
            cell.null();
            return Ok(());
        };
        // A stream without events has no last timestamp.
        let has_events = row.next_offset > 0;
        match column {
            0 => cell.integer(signed(row.stream_id)),
            1 => cell.text(&row.name),
            2 => match DataClass::from_number(row.data_class) {
                Some(class) => cell.text(class.name()),
                None => cell.null(),
            },
            3 => cell.integer(signed(row.next_offset)),
            4 => cell.integer(signed(row.created_ns / NANOS_PER_SECOND)),
            5 if has_events => cell.integer(signed(row.last_timestamp_ns / NANOS_PER_SECOND)),
            6 => cell.integer(signed(row.data_bytes)),
            7 => cell.blob(&row.head),
            8 => cell.integer(signed(row.created_ns)),
            9 if has_events => cell.integer(signed(row.last_timestamp_ns)),
            _ => cell.null(),
        }
        Ok(())
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
