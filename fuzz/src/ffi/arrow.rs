//! Arrow's C stream interface, as a consumer uses it.

use kimberlite_ffi::*;

use super::World;
use super::results::check_bytes;
use crate::input::Input;

/// Arrow's struct ArrowSchema.
#[repr(C)]
#[allow(dead_code)]
struct Schema {
    texts: [*const std::ffi::c_char; 3],
    flags: i64,
    child_count: i64,
    children: *mut *mut Schema,
    dictionary: *mut Schema,
    release: Option<unsafe extern "C" fn(*mut Schema)>,
    private: *mut std::ffi::c_void,
}

/// Arrow's struct ArrowArray.
#[repr(C)]
#[allow(dead_code)]
struct Array {
    length: i64,
    null_count: i64,
    offset: i64,
    buffer_count: i64,
    child_count: i64,
    buffers: *mut *const u8,
    children: *mut *mut Array,
    dictionary: *mut Array,
    release: Option<unsafe extern "C" fn(*mut Array)>,
    private: *mut std::ffi::c_void,
}

/// Arrow's struct ArrowArrayStream.
#[repr(C)]
#[allow(dead_code)]
struct Stream {
    get_schema: Option<unsafe extern "C" fn(*mut Stream, *mut Schema) -> i32>,
    get_next: Option<unsafe extern "C" fn(*mut Stream, *mut Array) -> i32>,
    get_last_error: Option<unsafe extern "C" fn(*mut Stream) -> *const std::ffi::c_char>,
    release: Option<unsafe extern "C" fn(*mut Stream)>,
    private: *mut std::ffi::c_void,
}

/// Batches that are taken of one stream at most.
const BATCHES: usize = 8;

impl World {
    /// Exports something, takes some of it, and releases it, before or after what it came from.
    pub(super) fn arrow(&mut self, input: &mut Input<'_>) {
        let kind = input.below(4);
        let cursor = self.handle(&self.cursors, input);
        let reader = self.handle(&self.readers, input);
        let page = self.pages.last().copied().unwrap_or(std::ptr::null_mut());
        let result = self.results.last().copied().unwrap_or(std::ptr::null_mut());
        let mut stream: Stream = unsafe { std::mem::zeroed() };
        let out = (&raw mut stream).cast();
        let error = self.called(|detail| unsafe {
            let schema = std::ptr::null();
            match kind {
                0 => kmb_query_result_arrow(result, schema, out, detail),
                1 => kmb_cursor_arrow(cursor, schema, out, detail),
                2 => kmb_page_arrow(page, out, detail),
                _ => kmb_reader_arrow(reader, out, detail),
            }
        });
        if error != KMB_OK {
            assert!(stream.release.is_none(), "an output is written in spite of an error");
            return;
        }
        if input.flag() && kind == 2 {
            // What is shown outlives what it came from.
            unsafe { kmb_page_free(page) };
            self.pages.pop();
        }
        unsafe { consume(&mut stream, input.u8()) };
    }
}

/// Reads a stream's schema and some batches, and releases everything once.
unsafe fn consume(stream: &mut Stream, choice: u8) {
    unsafe {
        let mut schema: Schema = std::mem::zeroed();
        let got = stream.get_schema.map(|get| get(stream, &raw mut schema));
        let columns = schema.child_count;
        if let Some(release) = schema.release.filter(|_| got == Some(0)) {
            assert!(!schema.texts[0].is_null(), "a schema without a format");
            release(&raw mut schema);
        }
        for _ in 0..usize::from(choice) % BATCHES {
            let mut array: Array = std::mem::zeroed();
            let got = stream.get_next.map(|next| next(stream, &raw mut array));
            if got != Some(0) {
                let text = stream.get_last_error.map(|error| error(stream));
                assert!(text.is_some_and(|text| !text.is_null()), "an error without a word");
                break;
            }
            let Some(release) = array.release else { break };
            assert_eq!(array.child_count, columns, "a batch of other columns");
            look(&array);
            release(&raw mut array);
        }
        if let Some(release) = stream.release {
            release(stream);
        }
        assert!(stream.release.is_none(), "a stream that was released says so");
    }
}

/// Reads the first and last values of each column.
unsafe fn look(array: &Array) {
    unsafe {
        for index in 0..array.child_count as usize {
            let child = &**array.children.add(index);
            assert_eq!(child.length, array.length, "columns of several lengths");
            for number in 0..child.buffer_count as usize {
                let buffer = *child.buffers.add(number);
                // The validity bitmap may be left out; values are at least a bit each.
                let bytes = (child.length as usize).div_ceil(8);
                if !buffer.is_null() && number < 2 {
                    check_bytes(buffer, bytes);
                }
            }
        }
    }
}
