//! Cursors: the rows of a query in batches.

use std::ffi::c_char;
use std::sync::Arc;

use kimberlite_client::{Column, QueryResult, RowCursor};
use kimberlite_wire::{CompletionKind, Error};

use crate::arguments::Out;
use crate::boundary::boundary;
use crate::call::{KmbCallOptions, wait};
use crate::client::{self, ClientState, KmbClient};
use crate::closable::Closable;
use crate::detail::{KmbDetail, KmbError};
use crate::handle::Table;
use crate::query::{KmbQueryParam, Statement};
use crate::query_result::{self, KmbQueryResult};
use crate::queue::{self, KmbQueue};
use crate::submit::{self, Outcome, Submission, Target};

/// The rows of a query as they come, a batch at a time.
///
/// Ownership: made by kmb_query_cursor or a completion of kmb_submit_query_cursor, closed by
/// kmb_cursor_close. Threads: safe from every thread; calls take turns.
pub struct KmbCursor {
    _private: [u8; 0],
}

static CURSORS: Table<CursorState> = Table::new(5, "KmbCursor");

/// A cursor behind its handle.
pub(crate) struct CursorState {
    client: Arc<ClientState>,
    schema: QueryResult,
    rows: Closable<RowCursor>,
}

impl CursorState {
    pub(crate) async fn next(&self) -> Result<Option<QueryResult>, Error> {
        let mut rows = self.rows.lock().await?;
        self.rows.until_closed(rows.next_batch()).await
    }

    /// The columns in order.
    pub(crate) fn columns(&self) -> &[Column] {
        self.schema.columns()
    }

    /// Ends the query too, unless a call is under way: that call then drops the rows as it ends.
    fn close(&self) {
        self.rows.close();
        if let Some(mut rows) = self.rows.try_lock() {
            rows.close();
        }
    }
}

fn give(batch: Option<QueryResult>) -> Result<*mut KmbQueryResult, Error> {
    batch.map_or(Ok(std::ptr::null_mut()), |batch| query_result::give(&batch))
}

/// A handle on its way to the caller: a number, not an address.
struct Handle(*mut KmbCursor);

// SAFETY: see the type.
unsafe impl Send for Handle {}

async fn open(client: Arc<ClientState>, statement: Statement) -> Result<Handle, Error> {
    let Statement { sql, params, at, options } = statement;
    let rows = client.query_cursor(&sql, &params, at, &options).await?;
    let state = CursorState { client, schema: rows.schema(), rows: Closable::new("cursor", rows) };
    Ok(Handle(CURSORS.insert(Arc::new(state))?))
}

/// The cursor of a handle.
pub(crate) fn get(cursor: *const KmbCursor) -> Result<Arc<CursorState>, Error> {
    CURSORS.get("cursor", cursor)
}

/// Closes a cursor that nobody wants any more.
pub(crate) fn discard(cursor: *mut KmbCursor) {
    if let Ok(Some(cursor)) = CURSORS.remove("cursor", cursor) {
        cursor.close();
    }
}

/// Closes every cursor.
pub(crate) fn close_all() {
    CURSORS.drain().iter().for_each(|cursor| cursor.close());
}

/// Runs one SELECT statement whose rows come in batches, so that a result of any size takes little
/// memory; the database waits where the caller does. The call's deadline bounds the wait for the
/// first answer and for each batch; the database's limit for queries bounds the whole.
///
/// The arguments are those of kmb_query. cursor_out: receives the cursor; the caller closes it with
/// kmb_cursor_close.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_cursor(
    client: *mut KmbClient,
    sql: *const c_char,
    sql_len: usize,
    params: *const KmbQueryParam,
    param_count: usize,
    at_kind: u8,
    at: u64,
    call: *const KmbCallOptions,
    cursor_out: *mut *mut KmbCursor,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let client = client::get(client)?;
        let out = Out::new("cursor_out", cursor_out)?;
        let statement = Statement::new((sql, sql_len), (params, param_count), (at_kind, at), call)?;
        out.put(wait(open(client, statement))?.0);
        Ok(())
    })
}

/// Submits kmb_query_cursor. The completion's result: the KmbCursor.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_query_cursor(
    client: *mut KmbClient,
    queue: *mut KmbQueue,
    sql: *const c_char,
    sql_len: usize,
    params: *const KmbQueryParam,
    param_count: usize,
    at_kind: u8,
    at: u64,
    call: *const KmbCallOptions,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let submission = Submission::new(client, queue, CompletionKind::QueryCursor, tag)?;
        let statement = Statement::new((sql, sql_len), (params, param_count), (at_kind, at), call)?;
        submission.start(operation_out, async move |client| {
            let cursor = open(client, statement).await?;
            Ok(Outcome::result(cursor.0))
        })
    })
}

/// The cursor's columns and position, as a result without rows. It does not wait.
///
/// result_out: receives the result; the caller frees it with kmb_query_result_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_cursor_schema(
    cursor: *mut KmbCursor,
    result_out: *mut *mut KmbQueryResult,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let cursor = CURSORS.get("cursor", cursor)?;
        let out = Out::new("result_out", result_out)?;
        out.put(query_result::give(&cursor.schema)?);
        Ok(())
    })
}

/// The next batch of rows, as a result of its own; NULL with OK after the last. TIMEOUT where it did
/// not come in time; the query is then stopped, and the next call gets CLOSED.
///
/// result_out: receives the result; the caller frees it with kmb_query_result_free.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_cursor_next(
    cursor: *mut KmbCursor,
    result_out: *mut *mut KmbQueryResult,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let cursor = CURSORS.get("cursor", cursor)?;
        let out = Out::new("result_out", result_out)?;
        out.put(give(wait(cursor.next())?)?);
        Ok(())
    })
}

/// Submits kmb_cursor_next. The completion's result: the KmbQueryResult, NULL after the last.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_submit_cursor_next(
    cursor: *mut KmbCursor,
    queue: *mut KmbQueue,
    tag: u64,
    operation_out: *mut u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let cursor = CURSORS.get("cursor", cursor)?;
        let target = Target::new(queue::get(queue)?, CompletionKind::CursorNext, tag);
        let pending = cursor.client.begin()?;
        let future = Box::pin(async move {
            let batch = cursor.next().await?;
            Ok(Outcome::result(give(batch)?))
        });
        submit::start(target, Some(pending), operation_out, future)
    })
}

/// Closes a cursor and stops its query; a waiting call gets CLOSED, batches live on. A second close
/// is harmless.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_cursor_close(
    cursor: *mut KmbCursor,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        if let Some(cursor) = CURSORS.remove("cursor", cursor)? {
            cursor.close();
        }
        Ok(())
    })
}
