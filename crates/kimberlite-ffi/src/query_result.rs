//! The result of a query: its cells in one table, by type and name.

use std::ffi::{CString, c_char, c_void};

use kimberlite_client::{QueryResult, ValueRef, ValueType};
use kimberlite_wire::Error;

use crate::arguments::{Out, null};
use crate::arrow::columns;
use crate::boundary::{boundary, quietly};
use crate::detail::{KmbDetail, KmbError};
use crate::generated::KMB_CELL_OFFSET_SHIFT;
use crate::query::KmbParamType;

/// Rows and columns of a query, or one batch of a cursor's.
///
/// Ownership: freed once by kmb_query_result_free; every pointer that its functions give is valid
/// until then. Threads: it never changes, so any thread may read it.
#[repr(C)]
pub struct KmbQueryResult {
    /// The library's own.
    pub _internal: *mut c_void,
    /// How many rows there are.
    pub row_count: usize,
    /// How many columns there are.
    pub column_count: usize,
}

/// Every cell of a result, row by row: the cell of a row and a column stands in both arrays at
/// row * column_count + column.
///
/// Ownership: every pointer belongs to the result and is valid until that is freed.
#[repr(C)]
pub struct KmbCells {
    /// How many rows there are.
    pub row_count: usize,
    /// How many columns there are.
    pub column_count: usize,
    /// For each cell its type, a KmbParamType as one byte.
    pub types: *const u8,
    /// For each cell the integer, the bits of the floating-point number, 0 or 1 of a truth value, 0
    /// of no value, or for text and bytes (offset in heap) << 32 | length.
    pub values: *const u64,
    /// Text and bytes; a NUL stands behind each text.
    pub heap: *const u8,
    /// Bytes of the heap.
    pub heap_len: usize,
}

/// What stands behind `_internal`.
struct Table {
    row_count: usize,
    columns: Vec<(CString, CString)>,
    types: Vec<u8>,
    values: Vec<u64>,
    heap: Vec<u8>,
    position: u64,
}

/// One cell of a table.
enum Cell<'a> {
    Null,
    Int64(i64),
    Float64(f64),
    Bool(bool),
    /// With the NUL behind it.
    Text(&'a [u8]),
    Bytes(&'a [u8]),
}

impl Table {
    fn new(result: &QueryResult) -> Result<Table, Error> {
        let cells = result.row_count() * result.column_count();
        let mut table = Table {
            row_count: result.row_count(),
            columns: result
                .columns()
                .iter()
                .map(|column| (c_name(&column.name), c_name(&column.declared_type)))
                .collect(),
            types: Vec::with_capacity(cells),
            values: Vec::with_capacity(cells),
            heap: Vec::new(),
            position: result.position(),
        };
        for batch in result.batches() {
            for row in 0..batch.row_count() {
                (0..batch.column_count())
                    .filter_map(|column| batch.cell(row, column))
                    .try_for_each(|cell| table.push(cell))?;
            }
        }
        Ok(table)
    }

    fn push(&mut self, value: ValueRef<'_>) -> Result<(), Error> {
        let number = match value {
            ValueRef::Null => 0,
            ValueRef::Int64(number) => number as u64,
            ValueRef::Float64(number) => number.to_bits(),
            ValueRef::Bool(truth) => u64::from(truth),
            ValueRef::String(text) => {
                let place = self.store(text.as_bytes())?;
                self.heap.push(0);
                place
            }
            ValueRef::Bytes(bytes) => self.store(bytes)?,
        };
        self.types.push(value.value_type().number());
        self.values.push(number);
        Ok(())
    }

    fn store(&mut self, bytes: &[u8]) -> Result<u64, Error> {
        let start = self.heap.len() as u64;
        let bound = u64::from(u32::MAX);
        if start + bytes.len() as u64 >= bound {
            let size = start + bytes.len() as u64;
            return Err(Error::limit("the size of the result's text and bytes", size, bound));
        }
        self.heap.extend_from_slice(bytes);
        Ok(start << KMB_CELL_OFFSET_SHIFT | bytes.len() as u64)
    }

    fn index(&self, row: usize, column: usize) -> Result<usize, Error> {
        let (rows, columns) = (self.row_count, self.columns.len());
        if row >= rows {
            return Err(Error::invalid(format!("row is {row}; the result has {rows} rows")));
        }
        if column >= columns {
            let detail = format!("column is {column}; the result has {columns} columns");
            return Err(Error::invalid(detail));
        }
        Ok(row * columns + column)
    }

    fn kind(&self, row: usize, column: usize) -> Result<ValueType, Error> {
        let number = self.types[self.index(row, column)?];
        // `push` wrote the number of a value type.
        Ok(ValueType::from_number(number).unwrap_or(ValueType::Null))
    }

    fn cell(&self, row: usize, column: usize) -> Result<Cell<'_>, Error> {
        let number = self.values[self.index(row, column)?];
        let start = (number >> KMB_CELL_OFFSET_SHIFT) as usize;
        let len = (number & ((1 << KMB_CELL_OFFSET_SHIFT) - 1)) as usize;
        Ok(match self.kind(row, column)? {
            ValueType::Null => Cell::Null,
            ValueType::Int64 => Cell::Int64(number as i64),
            ValueType::Float64 => Cell::Float64(f64::from_bits(number)),
            ValueType::Bool => Cell::Bool(number != 0),
            ValueType::String => Cell::Text(&self.heap[start..=start + len]),
            ValueType::Bytes => Cell::Bytes(&self.heap[start..start + len]),
        })
    }

    /// INVALID_ARGUMENT: the cell is of another type than was asked for.
    fn other_type(&self, row: usize, column: usize, wanted: &str) -> Error {
        let kind = self.kind(row, column).map_or("nothing", ValueType::name);
        let name = self
            .columns
            .get(column)
            .map_or_else(String::new, |(name, _)| name.to_string_lossy().into_owned());
        Error::invalid(format!("row {row}, column {column} ({name:?}) holds {kind}, not {wanted}"))
    }

    fn column(&self, column: usize) -> Result<&(CString, CString), Error> {
        let count = self.columns.len();
        self.columns.get(column).ok_or_else(|| {
            Error::invalid(format!("column is {column}; the result has {count} columns"))
        })
    }
}

/// A name for C; SQL allows a NUL in none of them, and a server that sends one gets it cut there.
fn c_name(name: &str) -> CString {
    let until = name.find('\0').unwrap_or(name.len());
    CString::new(&name[..until]).unwrap_or_default()
}

/// A result for the caller, who frees it.
pub(crate) fn give(result: &QueryResult) -> Result<*mut KmbQueryResult, Error> {
    let table = Table::new(result)?;
    let (row_count, column_count) = (table.row_count, table.columns.len());
    let _internal = Box::into_raw(Box::new(table)).cast();
    Ok(Box::into_raw(Box::new(KmbQueryResult { _internal, row_count, column_count })))
}

/// Frees a result that [`give`] made; NULL is harmless.
///
/// # Safety
/// It must not be freed yet.
pub(crate) unsafe fn free(result: *mut KmbQueryResult) {
    if !result.is_null() {
        // SAFETY: `give` made both from such boxes, and the caller frees them once.
        unsafe {
            let result = Box::from_raw(result);
            if !result._internal.is_null() {
                drop(Box::from_raw(result._internal.cast::<Table>()));
            }
        }
    }
}

/// The table behind a result.
///
/// # Safety
/// The result must be NULL or not freed yet.
unsafe fn table<'a>(result: *const KmbQueryResult) -> Result<&'a Table, Error> {
    if result.is_null() {
        return Err(null("result"));
    }
    // SAFETY: the caller's promise.
    let table = unsafe { (*result)._internal.cast::<Table>() };
    if table.is_null() {
        return Err(null("result->_internal"));
    }
    // SAFETY: `give` put it there.
    Ok(unsafe { &*table })
}

/// A result's cells as Arrow's columns are built from them.
pub(crate) struct Cells<'a> {
    table: &'a Table,
    pub(crate) row_count: usize,
    /// Names and declared types.
    pub(crate) columns: Vec<(String, String)>,
}

impl Cells<'_> {
    /// A cell of a row and a column that are there.
    pub(crate) fn at(&self, row: usize, column: usize) -> columns::Cell<'_> {
        match self.table.cell(row, column) {
            Ok(Cell::Int64(value)) => columns::Cell::Int64(value),
            Ok(Cell::Float64(value)) => columns::Cell::Float64(value),
            Ok(Cell::Bool(value)) => columns::Cell::Bool(value),
            Ok(Cell::Text(text)) => columns::Cell::Text(&text[..text.len() - 1]),
            Ok(Cell::Bytes(bytes)) => columns::Cell::Bytes(bytes),
            Ok(Cell::Null) | Err(_) => columns::Cell::Null,
        }
    }
}

/// The cells of a result.
///
/// # Safety
/// The result must be NULL or not freed yet.
pub(crate) unsafe fn cells<'a>(result: *const KmbQueryResult) -> Result<Cells<'a>, Error> {
    // SAFETY: the caller's promise.
    let table = unsafe { table(result)? };
    let text = |text: &CString| text.to_string_lossy().into_owned();
    let columns = table.columns.iter().map(|(name, kind)| (text(name), text(kind))).collect();
    Ok(Cells { table, row_count: table.row_count, columns })
}

/// The integer in a cell; a truth value is 0 or 1. INVALID_ARGUMENT names another type, or a row or
/// column that is not there.
///
/// value_out: receives the integer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_i64(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    value_out: *mut i64,
) -> KmbError {
    boundary!({
        let table = table(result)?;
        let out = Out::new("value_out", value_out)?;
        out.put(match table.cell(row, column)? {
            Cell::Int64(value) => value,
            Cell::Bool(value) => i64::from(value),
            _ => return Err(table.other_type(row, column, "an integer")),
        });
        Ok(())
    })
}

/// The text in a cell, UTF-8 with a NUL behind it. INVALID_ARGUMENT names another type, or a row or
/// column that is not there. Where text may hold a NUL itself, kmb_query_result_get_text tells its
/// length.
///
/// text_out: receives the text, which belongs to the result and is valid until that is freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_string(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    text_out: *mut *const c_char,
) -> KmbError {
    boundary!({
        let table = table(result)?;
        let out = Out::new("text_out", text_out)?;
        match table.cell(row, column)? {
            Cell::Text(text) => out.put(text.as_ptr().cast()),
            _ => return Err(table.other_type(row, column, "text")),
        }
        Ok(())
    })
}

/// Frees a query result once; NULL is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_free(result: *mut KmbQueryResult) {
    // SAFETY: the caller passes NULL or a result of its own.
    quietly(|| unsafe { free(result) });
}

/// The floating-point number in a cell; an integer is converted.
///
/// value_out: receives the number.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_f64(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    value_out: *mut f64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("value_out", value_out)?;
        out.put(match table.cell(row, column)? {
            Cell::Float64(value) => value,
            Cell::Int64(value) => value as f64,
            _ => return Err(table.other_type(row, column, "a number")),
        });
        Ok(())
    })
}

/// The truth value in a cell; the integers 0 and 1 are ones.
///
/// value_out: receives the truth value.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_bool(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    value_out: *mut bool,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("value_out", value_out)?;
        out.put(match table.cell(row, column)? {
            Cell::Bool(value) => value,
            Cell::Int64(value @ (0 | 1)) => value == 1,
            _ => return Err(table.other_type(row, column, "a truth value")),
        });
        Ok(())
    })
}

/// The text in a cell with its length.
///
/// text_out: receives the text, UTF-8 with a NUL behind it, which belongs to the result and is valid
/// until that is freed. text_len_out: receives its bytes, without the NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_text(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    text_out: *mut *const c_char,
    text_len_out: *mut usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("text_out", text_out)?;
        let len_out = Out::new("text_len_out", text_len_out)?;
        match table.cell(row, column)? {
            Cell::Text(text) => {
                out.put(text.as_ptr().cast());
                len_out.put(text.len() - 1);
            }
            _ => return Err(table.other_type(row, column, "text")),
        }
        Ok(())
    })
}

/// The bytes in a cell; text gives its UTF-8.
///
/// data_out: receives the bytes, which belong to the result and are valid until that is freed.
/// data_len_out: receives how many there are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_bytes(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    data_out: *mut *const u8,
    data_len_out: *mut usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("data_out", data_out)?;
        let len_out = Out::new("data_len_out", data_len_out)?;
        let bytes = match table.cell(row, column)? {
            Cell::Bytes(bytes) => bytes,
            Cell::Text(text) => &text[..text.len() - 1],
            _ => return Err(table.other_type(row, column, "bytes")),
        };
        out.put(bytes.as_ptr());
        len_out.put(bytes.len());
        Ok(())
    })
}

/// Whether a cell holds no value.
///
/// null_out: receives the answer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_is_null(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    null_out: *mut bool,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("null_out", null_out)?;
        out.put(matches!(table.cell(row, column)?, Cell::Null));
        Ok(())
    })
}

/// The type of a cell's value.
///
/// type_out: receives the type.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_get_type(
    result: *const KmbQueryResult,
    row: usize,
    column: usize,
    type_out: *mut KmbParamType,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("type_out", type_out)?;
        out.put(KmbParamType::from(table.kind(row, column)?.number()));
        Ok(())
    })
}

/// A column's name or alias.
///
/// name_out: receives the name, UTF-8 with a NUL behind it, which belongs to the result and is valid
/// until that is freed. name_len_out: receives its bytes, without the NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_column_name(
    result: *const KmbQueryResult,
    column: usize,
    name_out: *mut *const c_char,
    name_len_out: *mut usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("name_out", name_out)?;
        let len_out = Out::new("name_len_out", name_len_out)?;
        let (name, _) = table.column(column)?;
        out.put(name.as_ptr());
        len_out.put(name.as_bytes().len());
        Ok(())
    })
}

/// A column's declared type: INTEGER, REAL, TEXT or BLOB where it comes straight from a table, else
/// empty.
///
/// type_out: receives the text, with a NUL behind it, which belongs to the result and is valid until
/// that is freed. type_len_out: receives its bytes, without the NUL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_column_type(
    result: *const KmbQueryResult,
    column: usize,
    type_out: *mut *const c_char,
    type_len_out: *mut usize,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        let out = Out::new("type_out", type_out)?;
        let len_out = Out::new("type_len_out", type_len_out)?;
        let (_, declared_type) = table.column(column)?;
        out.put(declared_type.as_ptr());
        len_out.put(declared_type.as_bytes().len());
        Ok(())
    })
}

/// The position that the result reflects.
///
/// position_out: receives the position.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_position(
    result: *const KmbQueryResult,
    position_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        Out::new("position_out", position_out)?.put(table.position);
        Ok(())
    })
}

/// Every cell at once: where a call per cell is dear, three copies of memory give a whole result.
///
/// cells_out: receives where the cells are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_cells(
    result: *const KmbQueryResult,
    cells_out: *mut KmbCells,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = table(result)?;
        Out::new("cells_out", cells_out)?.put(KmbCells {
            row_count: table.row_count,
            column_count: table.columns.len(),
            types: table.types.as_ptr(),
            values: table.values.as_ptr(),
            heap: table.heap.as_ptr(),
            heap_len: table.heap.len(),
        });
        Ok(())
    })
}
