//! Arrow: results and events as streams of columns, by Arrow's C data and C stream interfaces.

pub(crate) mod columns;
mod events;
mod interface;
mod rows;
mod stream;

use crate::arguments::{Out, null};
use crate::boundary::boundary;
use crate::cursor::{self, KmbCursor};
use crate::detail::{KmbDetail, KmbError};
use crate::page::KmbPage;
use crate::query_result::{self, KmbQueryResult};
use crate::reader::{self, KmbReader};

/// Arrow's struct ArrowSchema. This header defines it where no other one did.
pub struct ArrowSchema {
    _private: [u8; 0],
}

/// Arrow's struct ArrowArrayStream. This header defines it where no other one did.
///
/// Ownership: the caller gives the struct's memory, the library fills it in, and whoever has it at
/// last calls its release, which frees everything but that memory. The arrays that it gives own what
/// they show, so they outlive the stream, the client and the library's other objects. Threads: one at
/// a time. Its functions return 0 or an errno; get_last_error then tells the error's name and detail.
pub struct ArrowArrayStream {
    _private: [u8; 0],
}

/// Gives a result to Arrow, as a stream of one or more batches of columns. It is copied, so the
/// result may be freed meanwhile, and exported again.
///
/// A column's type is the one of its values: int64, float64, bool, utf8 or binary, each with nulls;
/// without any value the column's declared type, else null. Integers among floating-point numbers
/// become such where that is exact, text among bytes becomes bytes, and truth values among integers
/// become 0 and 1. INVALID_ARGUMENT names the row and the column of any other mixture.
///
/// schema: NULL, or the types that the caller wants: a struct of as many children as there are
/// columns, in order, of the formats n, b, l, g, u and z; names do not matter. stream_out: receives
/// the stream; the caller calls its release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_query_result_arrow(
    result: *const KmbQueryResult,
    schema: *const ArrowSchema,
    stream_out: *mut ArrowArrayStream,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let table = query_result::cells(result)?;
        let out = Out::new("stream_out", stream_out.cast())?;
        let wanted = interface::wanted_kinds(schema.cast(), table.columns.len())?;
        let batches = rows::Whole::new(&table, wanted)?;
        out.put(stream::export(batches));
        Ok(())
    })
}

/// Gives the rows of a cursor that were not taken yet to Arrow, as a stream of a batch of columns for
/// each batch of rows. Asked for the schema or a batch, it waits as kmb_cursor_next does. Closing
/// the cursor ends the stream with CLOSED (ECANCELED); releasing the stream closes the cursor, for
/// which a close of its own is then harmless.
///
/// A column's type is its declared one, else that of its values in the batches that come until each
/// column has shown one, at most 65,536 rows; null where there is none. What comes later must fit as
/// kmb_query_result_arrow says: what does not ends the stream with INVALID_ARGUMENT (EINVAL), which
/// names the row and the column. To be independent of the data, give a schema.
///
/// schema: as for kmb_query_result_arrow. stream_out: receives the stream; the caller calls its
/// release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_cursor_arrow(
    cursor: *mut KmbCursor,
    schema: *const ArrowSchema,
    stream_out: *mut ArrowArrayStream,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        cursor::get(cursor)?;
        let out = Out::new("stream_out", stream_out.cast())?;
        let wanted = |columns| interface::wanted_kinds(schema.cast(), columns);
        out.put(stream::export(rows::Streamed::new(cursor, wanted)?));
        Ok(())
    })
}

/// Gives a page's events to Arrow, as a stream of one batch with the columns offset (uint64),
/// timestamp (nanoseconds, UTC) and data (binary). It is copied, so the page may be freed meanwhile.
///
/// page: a page of the library, or one that the caller made: of it count, first_offset, data,
/// data_len, lens and timestamps are read. INVALID_ARGUMENT where the lengths do not add up to
/// data_len. stream_out: receives the stream; the caller calls its release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_page_arrow(
    page: *const KmbPage,
    stream_out: *mut ArrowArrayStream,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        if page.is_null() {
            return Err(null("page"));
        }
        let out = Out::new("stream_out", stream_out.cast())?;
        let batch = events::copied(&page.read_unaligned())?;
        out.put(stream::export(events::One::new(batch)));
        Ok(())
    })
}

/// Gives the events that a reader has not read yet to Arrow, as a stream of a batch for each page,
/// with the columns of kmb_page_arrow. The data is not copied again: a batch keeps its page. Asked
/// for a batch, it waits as kmb_reader_next does. Closing the reader ends the stream with CLOSED
/// (ECANCELED); releasing the stream closes the reader, for which a close of its own is then harmless.
///
/// stream_out: receives the stream; the caller calls its release.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_reader_arrow(
    reader: *mut KmbReader,
    stream_out: *mut ArrowArrayStream,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        reader::get(reader)?;
        let out = Out::new("stream_out", stream_out.cast())?;
        out.put(stream::export(events::Read::new(reader)?));
        Ok(())
    })
}
