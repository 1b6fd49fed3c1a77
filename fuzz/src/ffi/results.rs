//! Looking at results, and freeing them.

use std::ffi::c_char;

use kimberlite_ffi::*;

use super::World;
use super::arguments::Slot;
use crate::PLANTED;
use crate::input::Input;

/// Reads every byte, so that the sanitizer sees whether it is there.
///
/// # Safety
/// The bytes must be there: that is what is tried.
pub(super) unsafe fn check_bytes(data: *const u8, len: usize) {
    if len == 0 {
        return;
    }
    assert!(!data.is_null());
    let bytes = unsafe { std::slice::from_raw_parts(data, len) };
    std::hint::black_box(bytes.iter().fold(0u8, |sum, byte| sum ^ byte));
}

/// Text of this length with a NUL behind it.
///
/// # Safety
/// As of [`check_bytes`].
pub(super) unsafe fn check_text(text: *const c_char, len: usize) {
    assert!(!text.is_null());
    let bytes = unsafe { std::slice::from_raw_parts(text.cast::<u8>(), len + 1) };
    assert_eq!(bytes[len], 0, "no NUL behind a text");
    assert!(std::str::from_utf8(&bytes[..len]).is_ok(), "a text is no UTF-8");
}

/// Looks at a list of streams and frees it.
///
/// # Safety
/// The library gave it, and nobody freed it.
pub(super) unsafe fn free_streams(list: *mut KmbStreamList) {
    unsafe {
        for index in 0..(*list).count {
            let stream = &*(*list).streams.add(index);
            check_text(stream.name, stream.name_len);
        }
        kmb_stream_list_free(list);
    }
}

impl World {
    /// Looks at pages and results.
    pub(super) fn looking(&mut self, choice: usize, input: &mut Input<'_>) {
        match choice {
            0 => {
                if let Some(page) = self.pages.pop() {
                    self.free_page(page);
                }
            }
            1 => {
                if let Some(result) = self.results.pop() {
                    unsafe { kmb_query_result_free(result) };
                }
            }
            2 => unsafe {
                kmb_page_free(std::ptr::null_mut());
                kmb_query_result_free(std::ptr::null_mut());
                kmb_stream_list_free(std::ptr::null_mut());
                kmb_detail_free(std::ptr::null_mut());
                kmb_completion_free(std::ptr::null_mut());
                kmb_client_disconnect(std::ptr::null_mut());
                let number = input.u32();
                assert!(!kmb_error_name(number).is_null() && !kmb_error_message(number).is_null());
                kmb_error_is_retryable(number);
            },
            _ => self.look_at_cell(input),
        }
    }

    pub(super) fn free_page(&mut self, page: *mut KmbPage) {
        if page.is_null() {
            return;
        }
        let count = unsafe {
            let page = &*page;
            check_bytes(page.data, page.data_len);
            check_bytes(page.ends.cast(), page.count * 4);
            check_bytes(page.lens.cast(), page.count * 4);
            check_bytes(page.timestamps.cast(), page.count * 8);
            let lens: usize = (0..page.count).map(|index| *page.lens.add(index) as usize).sum();
            assert_eq!(lens, page.data_len, "the lengths are not the data's");
            assert_eq!(page.next_offset, page.first_offset + page.count as u64);
            page.count
        };
        unsafe { kmb_page_free(page) };
        if PLANTED && count >= 2 && self.cursors.len() == 1 {
            // The planted bug: a page is looked at after it was freed.
            std::hint::black_box(unsafe { (*page).count });
        }
    }

    fn look_at_cell(&mut self, input: &mut Input<'_>) {
        let choice = usize::from(input.u8());
        let result = match self.results.get(choice % self.results.len().max(1)) {
            Some(result) if choice < 250 => *result,
            _ => std::ptr::null_mut(),
        };
        let (row, column) = (input.number() as usize, input.number() as usize);
        match input.below(8) {
            0 => {
                let mut slot = Slot::<i64>::new(input);
                let error =
                    unsafe { kmb_query_result_get_i64(result, row, column, slot.pointer()) };
                self.called_plainly(error);
                slot.take(error);
            }
            1 => {
                let mut slot = Slot::<*const c_char>::new(input);
                let error =
                    unsafe { kmb_query_result_get_string(result, row, column, slot.pointer()) };
                self.called_plainly(error);
                if let Some(text) = slot.take(error) {
                    unsafe { check_text(text, std::ffi::CStr::from_ptr(text).count_bytes()) };
                }
            }
            2 => {
                let mut slot = Slot::<f64>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_query_result_get_f64(result, row, column, slot.pointer(), detail)
                });
                slot.take(error);
            }
            3 => {
                let mut slot = Slot::<bool>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_query_result_is_null(result, row, column, slot.pointer(), detail)
                });
                slot.take(error);
            }
            4 => self.look_at_text(result, row, column, input),
            5 => {
                let (mut slot, mut len) = (Slot::<*const u8>::new(input), Slot::new(input));
                let error = self.called(|detail| unsafe {
                    let out = slot.pointer();
                    kmb_query_result_get_bytes(result, row, column, out, len.pointer(), detail)
                });
                if let (Some(data), Some(len)) = (slot.take(error), len.take(error)) {
                    unsafe { check_bytes(data, len) };
                }
            }
            6 => {
                let mut slot = Slot::<KmbParamType>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_query_result_get_type(result, row, column, slot.pointer(), detail)
                });
                slot.take(error);
            }
            _ => {
                let mut slot = Slot::<KmbCells>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_query_result_cells(result, slot.pointer(), detail)
                });
                if let Some(cells) = slot.take(error) {
                    let count = cells.row_count * cells.column_count;
                    unsafe {
                        check_bytes(cells.types, count);
                        check_bytes(cells.values.cast(), count * 8);
                        check_bytes(cells.heap, cells.heap_len);
                    }
                }
            }
        }
    }

    fn look_at_text(
        &mut self,
        result: *mut KmbQueryResult,
        row: usize,
        column: usize,
        input: &mut Input<'_>,
    ) {
        let kind = input.below(3);
        let (mut text, mut len) = (Slot::<*const c_char>::new(input), Slot::<usize>::new(input));
        let error = self.called(|detail| unsafe {
            let (text, len) = (text.pointer(), len.pointer());
            match kind {
                0 => kmb_query_result_get_text(result, row, column, text, len, detail),
                1 => kmb_query_result_column_name(result, column, text, len, detail),
                _ => kmb_query_result_column_type(result, column, text, len, detail),
            }
        });
        if let (Some(text), Some(len)) = (text.take(error), len.take(error)) {
            unsafe { check_text(text, len) };
        }
    }
}
