//! Rows of queries as batches of columns.

use std::collections::VecDeque;
use std::sync::Arc;

use kimberlite_client::{QueryResult, RowBatch, ValueRef};
use kimberlite_wire::{Column as Declared, Error};

use super::columns::{BATCH_DATA_BYTES, Builder, Cell, Kind, does_not_fit};
use super::interface::Field;
use super::stream::{Batch, Batches};
use crate::call::wait;
use crate::cursor::{self, CursorState, KmbCursor};
use crate::query_result::Cells;

/// Rows of a batch, and rows within which a cursor's columns must show their types.
const BATCH_ROWS: usize = 65_536;

/// Rows in place.
trait Rows {
    fn row_count(&self) -> usize;
    fn cell(&self, row: usize, column: usize) -> Cell<'_>;
}

impl Rows for Cells<'_> {
    fn row_count(&self) -> usize {
        self.row_count
    }

    fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        self.at(row, column)
    }
}

impl Rows for RowBatch {
    fn row_count(&self) -> usize {
        RowBatch::row_count(self)
    }

    fn cell(&self, row: usize, column: usize) -> Cell<'_> {
        match RowBatch::cell(self, row, column).unwrap_or(ValueRef::Null) {
            ValueRef::Null => Cell::Null,
            ValueRef::Int64(value) => Cell::Int64(value),
            ValueRef::Float64(value) => Cell::Float64(value),
            ValueRef::Bool(value) => Cell::Bool(value),
            ValueRef::String(value) => Cell::Text(value.as_bytes()),
            ValueRef::Bytes(value) => Cell::Bytes(value),
        }
    }
}

/// The type of a column's values; INVALID_ARGUMENT names the first one that does not go with those
/// before it. A value of `kind` stands for those before these rows.
fn joined(
    rows: &dyn Rows,
    column: usize,
    name: &str,
    first_row: usize,
    mut kind: Kind,
) -> Result<Kind, Error> {
    for row in 0..rows.row_count() {
        let found = rows.cell(row, column).kind();
        if found != kind {
            kind = kind
                .joined(found)
                .ok_or_else(|| does_not_fit(first_row + row, column, name, found, kind))?;
        }
    }
    Ok(kind)
}

/// Rows that become batches of fixed types.
fn batches(
    rows: &dyn Rows,
    fields: &[Field],
    first_row: usize,
    out: &mut VecDeque<Batch>,
) -> Result<(), Error> {
    let fresh = || fields.iter().map(|field| Builder::new(field.kind)).collect::<Vec<_>>();
    let mut builders = fresh();
    let mut length = 0;
    for row in 0..rows.row_count() {
        for (column, builder) in builders.iter_mut().enumerate() {
            let cell = rows.cell(row, column);
            if !builder.push(cell) {
                let Field { name, kind, .. } = &fields[column];
                return Err(does_not_fit(first_row + row, column, name, cell.kind(), *kind));
            }
        }
        length += 1;
        let is_full = length == BATCH_ROWS
            || builders.iter().any(|builder| builder.data_bytes() > BATCH_DATA_BYTES);
        if is_full {
            let full = std::mem::replace(&mut builders, fresh());
            let columns = full.into_iter().map(Builder::finish).collect();
            out.push_back(Batch { length: std::mem::take(&mut length), columns });
        }
    }
    if length > 0 {
        let columns = builders.into_iter().map(Builder::finish).collect();
        out.push_back(Batch { length, columns });
    }
    Ok(())
}

/// The columns with these types.
fn fields(names: Vec<String>, kinds: Vec<Kind>) -> Vec<Field> {
    let field = |(name, kind)| Field { name, kind, nullable: true };
    names.into_iter().zip(kinds).map(field).collect()
}

/// The batches of a whole result.
pub(crate) struct Whole {
    fields: Vec<Field>,
    batches: VecDeque<Batch>,
}

impl Whole {
    pub(crate) fn new(cells: &Cells<'_>, wanted: Option<Vec<Kind>>) -> Result<Whole, Error> {
        let kinds = match wanted {
            Some(kinds) => kinds,
            None => cells
                .columns
                .iter()
                .enumerate()
                .map(|(column, (name, declared))| {
                    let kind = joined(cells, column, name, 0, Kind::Null)?;
                    let declared = Kind::declared(declared).unwrap_or(Kind::Null);
                    Ok(if kind == Kind::Null { declared } else { kind })
                })
                .collect::<Result<_, Error>>()?,
        };
        let names = cells.columns.iter().map(|(name, _)| name.clone()).collect();
        let fields = fields(names, kinds);
        let mut found = VecDeque::new();
        batches(cells, &fields, 0, &mut found)?;
        Ok(Whole { fields, batches: found })
    }
}

impl Batches for Whole {
    fn fields(&mut self) -> Result<Vec<Field>, Error> {
        Ok(self.fields.clone())
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        Ok(self.batches.pop_front())
    }
}

/// The batches of a cursor.
pub(crate) struct Streamed {
    cursor: Arc<CursorState>,
    /// The cursor's handle, which is a number and no address.
    handle: usize,
    wanted: Option<Vec<Kind>>,
    /// Once the types are known.
    fields: Option<Vec<Field>>,
    /// Read to learn the types.
    waiting: VecDeque<QueryResult>,
    ready: VecDeque<Batch>,
    rows: usize,
}

impl Streamed {
    pub(crate) fn new(
        cursor: *const KmbCursor,
        wanted: impl FnOnce(usize) -> Result<Option<Vec<Kind>>, Error>,
    ) -> Result<Streamed, Error> {
        let handle = cursor.addr();
        let cursor = cursor::get(cursor)?;
        let wanted = wanted(cursor.columns().len())?;
        let (waiting, ready) = (VecDeque::new(), VecDeque::new());
        Ok(Streamed { cursor, handle, wanted, fields: None, waiting, ready, rows: 0 })
    }

    /// Reads on until every column has a type.
    fn learn(&mut self) -> Result<Vec<Field>, Error> {
        let declared: Vec<Declared> = self.cursor.columns().to_vec();
        let names = declared.iter().map(|column| column.name.clone()).collect();
        if let Some(kinds) = self.wanted.take() {
            return Ok(fields(names, kinds));
        }
        let fixed: Vec<Option<Kind>> =
            declared.iter().map(|column| Kind::declared(&column.declared_type)).collect();
        let mut kinds: Vec<Kind> = fixed.iter().map(|kind| kind.unwrap_or(Kind::Null)).collect();
        let mut rows = 0;
        while kinds.contains(&Kind::Null) && rows < BATCH_ROWS {
            let Some(next) = wait(self.cursor.next())? else { break };
            for batch in next.batches() {
                for column in (0..kinds.len()).filter(|column| fixed[*column].is_none()) {
                    let name = &declared[column].name;
                    kinds[column] = joined(batch, column, name, rows, kinds[column])?;
                }
                rows += batch.row_count();
            }
            self.waiting.push_back(next);
        }
        Ok(fields(names, kinds))
    }
}

impl Drop for Streamed {
    fn drop(&mut self) {
        cursor::discard(std::ptr::without_provenance_mut(self.handle));
    }
}

impl Batches for Streamed {
    fn fields(&mut self) -> Result<Vec<Field>, Error> {
        if self.fields.is_none() {
            self.fields = Some(self.learn()?);
        }
        Ok(self.fields.clone().unwrap_or_default())
    }

    fn next(&mut self) -> Result<Option<Batch>, Error> {
        let fields = self.fields()?;
        while self.ready.is_empty() {
            let next = match self.waiting.pop_front() {
                Some(batch) => Some(batch),
                None => wait(self.cursor.next())?,
            };
            let Some(next) = next else { return Ok(None) };
            for batch in next.batches() {
                batches(batch, &fields, self.rows, &mut self.ready)?;
                self.rows += batch.row_count();
            }
        }
        Ok(self.ready.pop_front())
    }
}
