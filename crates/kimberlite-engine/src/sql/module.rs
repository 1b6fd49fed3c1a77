//! Read-only virtual tables: the one place where SQLite calls into Rust for rows.
//!
//! A [`Table`] is registered as a module under its name and is then found by that name alone, no
//! CREATE needed. Every callback that runs code which could panic runs inside [`guarded`], so that
//! no panic reaches SQLite's frames. Errors are noted in the query's state; SQLite only hears that
//! there was one.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::slice;

use kimberlite_wire::{Error, ErrorCode};
use rusqlite::ffi;

use super::bounds::Operand;
use super::state::QueryState;

/// A virtual table.
pub(super) trait Table: 'static {
    /// What walks over its rows.
    type Cursor: Cursor;

    /// `CREATE TABLE x(…)` with its columns.
    const SCHEMA: &'static CStr;

    /// The query that it belongs to.
    fn state(&self) -> &QueryState;

    /// Chooses how to answer what SQLite asks for.
    fn plan(&self, ask: &mut Ask<'_>);

    /// A cursor before its first `filter`.
    fn open(&self) -> Self::Cursor;
}

/// A walk over a table's rows. `advance`, `is_at_end` and `id` must not panic: they are called for
/// every row without a guard.
pub(super) trait Cursor {
    /// The query that it belongs to.
    fn state(&self) -> &QueryState;

    /// Starts a walk as planned, with the values of the conditions that the plan consumes.
    fn filter(&mut self, plan: i32, operands: &[Operand]) -> Result<(), Error>;

    /// Goes to the next row.
    fn advance(&mut self);

    /// Whether there is no row here any more.
    fn is_at_end(&self) -> bool;

    /// The row's number.
    fn id(&self) -> i64;

    /// Gives a column of the row.
    fn column(&mut self, column: c_int, cell: Cell<'_>) -> Result<(), Error>;
}

/// The most conditions that a plan may consume.
pub(super) const MAX_OPERANDS: usize = 7;

/// What SQLite asks of a plan, and the answer.
pub(super) struct Ask<'a>(&'a mut ffi::sqlite3_index_info);

impl Ask<'_> {
    /// The conditions: column (-1 for the row's number), operator, and whether it may be used.
    pub(super) fn conditions(&self) -> Vec<(c_int, u8, bool)> {
        let count = usize::try_from(self.0.nConstraint).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        // SAFETY: SQLite says that nConstraint elements stand there for the length of the call.
        let constraints = unsafe { slice::from_raw_parts(self.0.aConstraint, count) };
        constraints.iter().map(|c| (c.iColumn, c.op, c.usable != 0)).collect()
    }

    /// The order wanted: column and whether it descends.
    pub(super) fn order(&self) -> Vec<(c_int, bool)> {
        let count = usize::try_from(self.0.nOrderBy).unwrap_or(0);
        if count == 0 {
            return Vec::new();
        }
        // SAFETY: SQLite says that nOrderBy elements stand there for the length of the call.
        let terms = unsafe { slice::from_raw_parts(self.0.aOrderBy, count) };
        terms.iter().map(|term| (term.iColumn, term.desc != 0)).collect()
    }

    /// Consumes condition `index`: its value becomes operand number `operand`, from 0, and SQLite
    /// does not check it again.
    pub(super) fn consume(&mut self, index: usize, operand: c_int) {
        debug_assert!(index < usize::try_from(self.0.nConstraint).unwrap_or(0));
        // SAFETY: there are as many usages as constraints, of which index is one.
        let usage = unsafe { &mut *self.0.aConstraintUsage.add(index) };
        usage.argvIndex = operand + 1;
        usage.omit = 1;
    }

    /// Says that the rows come in the order wanted.
    pub(super) fn consume_order(&mut self) {
        self.0.orderByConsumed = 1;
    }

    /// Answers with the plan's number, the rows that it gives and what it costs.
    pub(super) fn answer(&mut self, plan: c_int, rows: u64, cost: f64, one_row: bool) {
        self.0.idxNum = plan;
        self.0.estimatedRows = i64::try_from(rows).unwrap_or(i64::MAX);
        self.0.estimatedCost = cost;
        if one_row {
            self.0.idxFlags |= ffi::SQLITE_INDEX_SCAN_UNIQUE;
        }
    }
}

/// Where a column's value goes. SQLite copies what it is given.
pub(super) struct Cell<'a>(&'a mut ffi::sqlite3_context);

impl Cell<'_> {
    /// NULL.
    pub(super) fn null(self) {
        // SAFETY: the context is valid for the length of the callback.
        unsafe { ffi::sqlite3_result_null(self.0) }
    }

    /// An integer.
    pub(super) fn integer(self, value: i64) {
        // SAFETY: the context is valid for the length of the callback.
        unsafe { ffi::sqlite3_result_int64(self.0, value) }
    }

    /// A blob.
    pub(super) fn blob(self, value: &[u8]) {
        if value.is_empty() {
            // SAFETY: the context is valid. A null pointer to no bytes would mean NULL.
            return unsafe { ffi::sqlite3_result_zeroblob(self.0, 0) };
        }
        // SAFETY: the bytes are valid until the call returns, and TRANSIENT copies them by then.
        unsafe {
            ffi::sqlite3_result_blob64(
                self.0,
                value.as_ptr().cast(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
            );
        }
    }

    /// Text.
    pub(super) fn text(self, value: &str) {
        // SAFETY: the bytes are valid until the call returns, and TRANSIENT copies them by then;
        // the pointer of an empty str is not null.
        unsafe {
            ffi::sqlite3_result_text64(
                self.0,
                value.as_ptr().cast(),
                value.len() as u64,
                ffi::SQLITE_TRANSIENT(),
                UTF8,
            );
        }
    }
}

const UTF8: u8 = 1;
const _: () = assert!(ffi::SQLITE_UTF8 == UTF8 as c_int);

#[repr(C)]
struct TableObject<T: Table> {
    base: ffi::sqlite3_vtab,
    table: *const T,
}

#[repr(C)]
struct CursorObject<C: Cursor> {
    base: ffi::sqlite3_vtab_cursor,
    cursor: C,
}

/// Registers a table under a name. SQLite owns it from then on and drops it with the connection.
///
/// # Safety
/// `db` is an open connection that no other thread uses now.
pub(super) unsafe fn register<T: Table>(db: *mut ffi::sqlite3, name: &CStr, table: T) -> c_int {
    let table = Box::into_raw(Box::new(table));
    // SAFETY: the module is static; SQLite calls the destructor also where registering fails.
    unsafe {
        ffi::sqlite3_create_module_v2(
            db,
            name.as_ptr(),
            Callbacks::<T>::MODULE,
            table.cast(),
            Some(drop_table::<T>),
        )
    }
}

struct Callbacks<T>(std::marker::PhantomData<T>);

impl<T: Table> Callbacks<T> {
    const MODULE: &'static ffi::sqlite3_module = &ffi::sqlite3_module {
        iVersion: 1,
        // No xCreate: the table exists under its module's name and cannot be created.
        xCreate: None,
        xConnect: Some(connect::<T>),
        xBestIndex: Some(best_index::<T>),
        xDisconnect: Some(disconnect::<T>),
        xDestroy: None,
        xOpen: Some(open::<T>),
        xClose: Some(close::<T::Cursor>),
        xFilter: Some(filter::<T::Cursor>),
        xNext: Some(next::<T::Cursor>),
        xEof: Some(at_end::<T::Cursor>),
        xColumn: Some(column::<T::Cursor>),
        xRowid: Some(row_id::<T::Cursor>),
        xUpdate: None,
        xBegin: None,
        xSync: None,
        xCommit: None,
        xRollback: None,
        xFindFunction: None,
        xRename: None,
        xSavepoint: None,
        xRelease: None,
        xRollbackTo: None,
        xShadowName: None,
        xIntegrity: None,
    };
}

/// Runs a callback's body; an error or a panic is noted and becomes SQLITE_ERROR.
fn guarded(state: &QueryState, body: impl FnOnce() -> Result<(), Error>) -> c_int {
    // The query is given up after a panic, so that nothing sees what it left half done.
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => ffi::SQLITE_OK,
        Ok(Err(error)) => {
            state.fail(error);
            ffi::SQLITE_ERROR
        }
        Err(_panic) => {
            state.fail(Error::new(ErrorCode::Panic, "while a query read a table"));
            ffi::SQLITE_ERROR
        }
    }
}

unsafe extern "C" fn drop_table<T: Table>(table: *mut c_void) {
    // SAFETY: the pointer came from Box::into_raw in `register`, and SQLite passes it once.
    let table = unsafe { Box::from_raw(table.cast::<T>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(table)));
}

unsafe extern "C" fn connect<T: Table>(
    db: *mut ffi::sqlite3,
    table: *mut c_void,
    _argc: c_int,
    _argv: *const *const c_char,
    out: *mut *mut ffi::sqlite3_vtab,
    _error: *mut *mut c_char,
) -> c_int {
    // SAFETY: SQLite calls this with its connection; the schema is a constant C string.
    let declared = unsafe { ffi::sqlite3_declare_vtab(db, T::SCHEMA.as_ptr()) };
    if declared != ffi::SQLITE_OK {
        return declared;
    }
    let base = ffi::sqlite3_vtab { pModule: ptr::null(), nRef: 0, zErrMsg: ptr::null_mut() };
    let object = Box::new(TableObject::<T> { base, table: table.cast() });
    // SAFETY: SQLite passes a place for the result. The base is the object's first member.
    unsafe { *out = Box::into_raw(object).cast() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn disconnect<T: Table>(vtab: *mut ffi::sqlite3_vtab) -> c_int {
    // SAFETY: the pointer came from Box::into_raw in `connect`, and SQLite passes it once.
    drop(unsafe { Box::from_raw(vtab.cast::<TableObject<T>>()) });
    ffi::SQLITE_OK
}

/// The table of an object that SQLite passes.
///
/// # Safety
/// `vtab` was made by `connect::<T>` and is not disconnected yet.
unsafe fn table_of<'a, T: Table>(vtab: *mut ffi::sqlite3_vtab) -> &'a T {
    // SAFETY: see above; the module keeps the table until its last object is disconnected.
    unsafe { &*(*vtab.cast::<TableObject<T>>()).table }
}

unsafe extern "C" fn best_index<T: Table>(
    vtab: *mut ffi::sqlite3_vtab,
    info: *mut ffi::sqlite3_index_info,
) -> c_int {
    // SAFETY: SQLite passes an object of this module and what it asks.
    let (table, info) = unsafe { (table_of::<T>(vtab), &mut *info) };
    guarded(table.state(), || {
        table.plan(&mut Ask(info));
        Ok(())
    })
}

unsafe extern "C" fn open<T: Table>(
    vtab: *mut ffi::sqlite3_vtab,
    out: *mut *mut ffi::sqlite3_vtab_cursor,
) -> c_int {
    // SAFETY: SQLite passes an object of this module.
    let table = unsafe { table_of::<T>(vtab) };
    guarded(table.state(), || {
        let base = ffi::sqlite3_vtab_cursor { pVtab: vtab };
        let object = Box::new(CursorObject { base, cursor: table.open() });
        // SAFETY: SQLite passes a place for the result. The base is the object's first member.
        unsafe { *out = Box::into_raw(object).cast() };
        Ok(())
    })
}

unsafe extern "C" fn close<C: Cursor>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: the pointer came from Box::into_raw in `open`, and SQLite passes it once.
    let object = unsafe { Box::from_raw(cursor.cast::<CursorObject<C>>()) };
    let _ = catch_unwind(AssertUnwindSafe(|| drop(object)));
    ffi::SQLITE_OK
}

/// The cursor of an object that SQLite passes.
///
/// # Safety
/// `cursor` was made by `open` for a cursor of type C and is not closed yet, and no other reference
/// to it lives: SQLite calls one callback at a time.
unsafe fn cursor_of<'a, C: Cursor>(cursor: *mut ffi::sqlite3_vtab_cursor) -> &'a mut C {
    // SAFETY: see above.
    unsafe { &mut (*cursor.cast::<CursorObject<C>>()).cursor }
}

unsafe extern "C" fn filter<C: Cursor>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    plan: c_int,
    _plan_text: *const c_char,
    argc: c_int,
    argv: *mut *mut ffi::sqlite3_value,
) -> c_int {
    let mut operands = [Operand::Null; MAX_OPERANDS];
    let count = usize::try_from(argc).unwrap_or(0).min(MAX_OPERANDS);
    for (at, operand) in operands.iter_mut().enumerate().take(count) {
        // SAFETY: SQLite passes argc values, valid for the length of the call.
        *operand = unsafe { operand_of(*argv.add(at)) };
    }
    // SAFETY: SQLite passes a cursor of this module.
    let cursor = unsafe { cursor_of::<C>(cursor) };
    // The state is reached by pointer because the body needs the cursor for itself.
    let state: *const QueryState = cursor.state();
    // SAFETY: the state is held by the cursor through an Arc that no callback replaces.
    guarded(unsafe { &*state }, || cursor.filter(plan, &operands[..count]))
}

/// The value of a condition, after the conversion that a column of INTEGER affinity asks for.
///
/// # Safety
/// `value` is valid now.
unsafe fn operand_of(value: *mut ffi::sqlite3_value) -> Operand {
    // SAFETY: the value is valid.
    match unsafe { ffi::sqlite3_value_numeric_type(value) } {
        ffi::SQLITE_NULL => Operand::Null,
        // SAFETY: as above.
        ffi::SQLITE_INTEGER => Operand::Integer(unsafe { ffi::sqlite3_value_int64(value) }),
        // SAFETY: as above.
        ffi::SQLITE_FLOAT => Operand::Real(unsafe { ffi::sqlite3_value_double(value) }),
        _ => Operand::AboveNumbers,
    }
}

unsafe extern "C" fn next<C: Cursor>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite passes a cursor of this module.
    unsafe { cursor_of::<C>(cursor) }.advance();
    ffi::SQLITE_OK
}

unsafe extern "C" fn at_end<C: Cursor>(cursor: *mut ffi::sqlite3_vtab_cursor) -> c_int {
    // SAFETY: SQLite passes a cursor of this module.
    c_int::from(unsafe { cursor_of::<C>(cursor) }.is_at_end())
}

unsafe extern "C" fn row_id<C: Cursor>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    out: *mut ffi::sqlite3_int64,
) -> c_int {
    // SAFETY: SQLite passes a cursor of this module and a place for the result.
    unsafe { *out = cursor_of::<C>(cursor).id() };
    ffi::SQLITE_OK
}

unsafe extern "C" fn column<C: Cursor>(
    cursor: *mut ffi::sqlite3_vtab_cursor,
    context: *mut ffi::sqlite3_context,
    column: c_int,
) -> c_int {
    // SAFETY: SQLite passes a cursor of this module and a context, both for the call alone.
    let (cursor, context) = unsafe { (cursor_of::<C>(cursor), &mut *context) };
    let state: *const QueryState = cursor.state();
    // SAFETY: the state is held by the cursor through an Arc that no callback replaces.
    guarded(unsafe { &*state }, || cursor.column(column, Cell(context)))
}
