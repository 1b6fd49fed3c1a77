//! Compiling a statement against a cut, and running it.

use std::ffi::CString;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use kimberlite_wire::rows::RowBatchBuilder;
use kimberlite_wire::{Column, Error, ErrorCode, Value, limit};
use rusqlite::ffi;

use super::authorizer::{not_allowed, refuse_statement};
use super::bounds::Bounds;
use super::connection::{COMPILE_STEPS, Connection, Failure, RUN_STEPS, Statement, VALUE_BYTES};
use super::events::Events;
use super::state::QueryState;
use super::streams::Streams;
use super::token::{Kind, find_name, tokens};
use super::{Cut, EventTable, QueryLimits, TableRead};
use super::{count, errors, statement};

/// A batch is handed on once it has this many bytes.
const BATCH_BYTES: usize = 64 << 10;

/// The most streams that one statement may name.
const MAX_TABLES: usize = 128;

/// A compiled statement with its parameters, ready to run once on any one thread.
pub struct Prepared {
    columns: Vec<Column>,
    tables: Vec<TableRead>,
    row_limit: u64,
    /// Set where the statement only counts events of one stream: then the index answers it.
    counted: Option<(Arc<dyn EventTable>, Bounds)>,
    // Dropped in this order: the statement, its connection, what both use.
    statement: Statement,
    connection: Connection,
    state: Arc<QueryState>,
}

/// Compiles the one statement in `sql`, which may only read, and binds its parameters.
///
/// QUERY_SYNTAX with the byte in the statement where it is not understood or names what the cut
/// does not have; QUERY_EXECUTION where it would do more than read; INVALID_ARGUMENT where parameters do
/// not fit; PERMISSION_DENIED for `_audit` where the cut withholds it; LIMIT_EXCEEDED.
pub fn prepare(
    cut: Arc<dyn Cut>,
    sql: &str,
    params: &[Value],
    limits: &QueryLimits,
) -> Result<Prepared, Error> {
    let text = check_text(sql)?;
    let state = Arc::new(QueryState::new(cut, limits));
    let scope = state.account.enter();
    let connection = Connection::open(Arc::clone(&state))?;
    let not_cancelled = AtomicBool::new(false);
    let mut named = Named::default();
    let (statement, end) = connection.watched(&not_cancelled, COMPILE_STEPS, || {
        compile(&connection, &state, sql, &text, &mut named)
    })?;
    check_statement(&state, &statement, sql, end)?;
    statement::bind(&statement, params)?;
    let counted = match (&named.streams[..], named.others) {
        ([table], 0) => count::recognise(sql, params).map(|bounds| (Arc::clone(table), bounds)),
        _ => None,
    };
    let columns = statement::columns(&statement);
    let tables = named.reads();
    drop(scope);
    let row_limit = limits.rows;
    Ok(Prepared { columns, tables, row_limit, counted, statement, connection, state })
}

/// Refuses a text that cannot be a query, before SQLite sees it.
fn check_text(sql: &str) -> Result<CString, Error> {
    if sql.len() as u64 > limit::SQL_BYTES {
        let actual = sql.len() as u64;
        return Err(Error::limit("the statement's length in bytes", actual, limit::SQL_BYTES));
    }
    let text = CString::new(sql)
        .map_err(|e| errors::syntax("the statement holds a NUL character", e.nul_position()))?;
    let first = tokens(sql, 0).next().filter(|token| token.kind == Kind::Word);
    match first.and_then(|token| refuse_statement(token.text(sql))) {
        Some(error) => Err(error),
        None => Ok(text),
    }
}

/// The tables that a statement made known.
#[derive(Default)]
struct Named {
    streams: Vec<Arc<dyn EventTable>>,
    others: usize,
    registered: Vec<String>,
}

impl Named {
    fn reads(&self) -> Vec<TableRead> {
        let mut reads: Vec<TableRead> = Vec::with_capacity(self.streams.len());
        for table in &self.streams {
            if reads.iter().all(|read| read.name != table.name()) {
                let name = table.name().to_string();
                reads.push(TableRead { name, data_class: table.data_class() });
            }
        }
        reads
    }
}

/// Compiles; each time SQLite misses a table, looks for it in the cut and tries again, so that
/// streams which the statement does not name cost nothing.
fn compile(
    connection: &Connection,
    state: &Arc<QueryState>,
    sql: &str,
    text: &CString,
    named: &mut Named,
) -> Result<(Statement, usize), Error> {
    let not_cancelled = AtomicBool::new(false);
    loop {
        let failure = match connection.compile(text) {
            Ok(compiled) => return Ok(compiled),
            Err(failure) => failure,
        };
        let missing = missing_table(&failure);
        if let Some(name) = missing
            && register(connection, state, sql, name, named)?
        {
            if !state.may_go_on(&not_cancelled) {
                let timeout = state.take_failure();
                return Err(timeout.unwrap_or_else(|| state.memory_exceeded()));
            }
            continue;
        }
        let Failure { code, message, offset } = failure;
        return Err(errors::compile(state, sql, code, &message, offset));
    }
}

fn missing_table(failure: &Failure) -> Option<&str> {
    if failure.code & 0xff != ffi::SQLITE_ERROR {
        return None;
    }
    failure.message.strip_prefix("no such table: ")
}

/// Makes the table of this name known, if the cut has it and it is not known yet. SQLite's message
/// puts the database before a name that the statement qualifies, and every table is in `main`; but
/// a stream may have a dot in its name.
fn register(
    connection: &Connection,
    state: &Arc<QueryState>,
    sql: &str,
    name: &str,
    named: &mut Named,
) -> Result<bool, Error> {
    let name = match name.split_once('.') {
        Some((database, table))
            if database.eq_ignore_ascii_case("main") && find_name(sql, name).is_none() =>
        {
            table
        }
        _ => name,
    };
    let known = named.registered.iter().any(|known| known.eq_ignore_ascii_case(name));
    if known || !register_exactly(connection, state, sql, name, named)? {
        return Ok(false);
    }
    named.registered.push(name.to_string());
    if named.registered.len() > MAX_TABLES {
        let actual = named.registered.len() as u64;
        let what = "the number of tables that the statement names";
        return Err(Error::limit(what, actual, MAX_TABLES as u64));
    }
    Ok(true)
}

fn register_exactly(
    connection: &Connection,
    state: &Arc<QueryState>,
    sql: &str,
    name: &str,
    named: &mut Named,
) -> Result<bool, Error> {
    if name.eq_ignore_ascii_case("_streams") {
        named.others += 1;
        connection.register(name, Streams::new(Arc::clone(state)))?;
        return Ok(true);
    }
    let table = if name.eq_ignore_ascii_case("_audit") {
        Some(state.cut.audit()?.ok_or_else(|| audit_denied(sql))?)
    } else {
        state.cut.stream(name)?
    };
    let Some(table) = table else { return Ok(false) };
    named.streams.push(Arc::clone(&table));
    connection.register(name, Events::new(table, Arc::clone(state)))?;
    Ok(true)
}

fn audit_denied(sql: &str) -> Error {
    let at = find_name(sql, "_audit").unwrap_or(0);
    let detail = format!(
        "the table _audit (at byte {at} of the statement) is read with the role Admin only"
    );
    Error::new(ErrorCode::PermissionDenied, detail)
}

/// Sees to it that there was one statement, that nothing follows, and that it only selects.
fn check_statement(
    state: &QueryState,
    statement: &Statement,
    sql: &str,
    end: usize,
) -> Result<(), Error> {
    if statement.is_empty() {
        return Err(errors::syntax("the statement is empty", 0));
    }
    let mut rest = tokens(sql, end).filter(|token| !token.is_symbol(sql, ";"));
    if let Some(token) = rest.next() {
        let what = "something follows the statement; a query is one statement";
        return Err(errors::syntax(what, token.span.start));
    }
    if !state.selects() || !statement.only_reads() {
        return Err(not_allowed("this statement"));
    }
    Ok(())
}

impl Prepared {
    /// The result's columns in order.
    pub fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Every stream that the statement reads, each once.
    pub fn tables(&self) -> &[TableRead] {
        &self.tables
    }

    /// Runs the statement and hands each encoded batch of rows to `sink`, which stops it by
    /// answering false; that is no error. CANCELLED soon after `cancelled` becomes true, TIMEOUT,
    /// LIMIT_EXCEEDED, CORRUPTION, QUERY_EXECUTION.
    ///
    /// Text that is not UTF-8, which a cast of `data` can make, comes out as bytes.
    pub fn run(
        self,
        sink: &mut dyn FnMut(Bytes) -> bool,
        cancelled: &AtomicBool,
    ) -> Result<(), Error> {
        if !self.state.may_go_on(cancelled) {
            return Err(self.stopped());
        }
        let mut output = Output {
            batch: RowBatchBuilder::new(u32::try_from(self.columns.len()).unwrap_or(u32::MAX)),
            rows: 0,
            row_limit: self.row_limit,
            sink,
        };
        if let Some((table, bounds)) = &self.counted {
            let ids = bounds.ids(&**table)?;
            output.batch.push_i64(i64::try_from(ids.end - ids.start).unwrap_or(i64::MAX));
            output.batch.finish_row();
            if output.row_done()?.is_continue() {
                output.hand_on();
            }
            return Ok(());
        }
        let _scope = self.state.account.enter();
        self.connection.watched(cancelled, RUN_STEPS, || self.step_through(&mut output))
    }

    fn step_through(&self, output: &mut Output<'_>) -> Result<(), Error> {
        let batch_bytes = self.state.account.limit_bytes();
        loop {
            let code = statement::step(&self.statement);
            match code {
                ffi::SQLITE_ROW => {}
                ffi::SQLITE_DONE => {
                    output.hand_on();
                    return Ok(());
                }
                code => {
                    let Failure { message, .. } = self.connection.failure(code);
                    return Err(errors::run(&self.state, code, &message, VALUE_BYTES));
                }
            }
            let columns = self.columns.len();
            let pushed =
                statement::push_row(&self.statement, columns, &mut output.batch, batch_bytes);
            if !pushed || self.state.account.exceeded() {
                return Err(self.state.memory_exceeded());
            }
            if output.row_done()?.is_break() {
                return Ok(());
            }
        }
    }

    fn stopped(&self) -> Error {
        let unknown = || Error::new(ErrorCode::Internal, "the query was stopped for no reason");
        self.state.take_failure().unwrap_or_else(unknown)
    }
}

/// Where rows go.
struct Output<'a> {
    batch: RowBatchBuilder,
    rows: u64,
    row_limit: u64,
    sink: &'a mut dyn FnMut(Bytes) -> bool,
}

impl Output<'_> {
    /// Counts a row that the batch has got, and hands a full batch on.
    fn row_done(&mut self) -> Result<ControlFlow<()>, Error> {
        self.rows += 1;
        if self.rows > self.row_limit {
            let detail = format!(
                "the query returns more than the {} rows that one may (rows below [query] in a \
                 server's configuration); add a LIMIT or narrow its range",
                self.row_limit
            );
            return Err(Error::new(ErrorCode::LimitExceeded, detail).with_value(self.row_limit));
        }
        if self.batch.byte_len() < BATCH_BYTES || self.hand_on() {
            return Ok(ControlFlow::Continue(()));
        }
        Ok(ControlFlow::Break(()))
    }

    /// Hands on what the batch holds; false where the sink wants no more.
    fn hand_on(&mut self) -> bool {
        match self.batch.finish() {
            Some(batch) => (self.sink)(batch),
            None => true,
        }
    }
}
