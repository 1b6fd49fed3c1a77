//! Queues, submitted operations, cursors, readers, subscriptions.

use kimberlite_ffi::*;

use super::World;
use super::arguments::Slot;
use super::writing::{expected, stream_id};
use crate::input::Input;

/// How long a call waits at most, in milliseconds.
const PATIENCE_MS: u64 = 5;

impl World {
    pub(super) fn live(&mut self, choice: usize, input: &mut Input<'_>) {
        match choice {
            0 if self.queues.len() < 4 => {
                let (with_fd, mut slot) = (input.flag(), Slot::new(input));
                let error =
                    self.called(|detail| unsafe { kmb_queue_new(with_fd, slot.pointer(), detail) });
                self.queues.extend(slot.take(error));
            }
            0 | 1 => self.about_queue(input),
            2 => self.poll(input),
            3..=5 => self.submit(input),
            6 => self.cursor(input),
            7 => self.reader(input),
            _ => self.subscription(input),
        }
    }

    fn about_queue(&mut self, input: &mut Input<'_>) {
        let queue = self.handle(&self.queues, input);
        match input.below(4) {
            0 => {
                let mut slot = Slot::<i32>::new(input);
                let error =
                    self.called(|detail| unsafe { kmb_queue_fd(queue, slot.pointer(), detail) });
                slot.take(error);
            }
            1 => {
                self.called(|detail| unsafe { kmb_queue_close(queue, detail) });
            }
            2 => {
                let operation = match self.operations.last() {
                    Some(operation) if input.u8() < 200 => *operation,
                    _ => input.u64(),
                };
                self.called(|detail| unsafe { kmb_cancel(operation, detail) });
            }
            _ => {
                let callback: KmbWakeCallback = if input.flag() { Some(woken) } else { None };
                let null = std::ptr::null_mut();
                self.called(|detail| unsafe { kmb_submit_callback(queue, callback, null, detail) });
            }
        }
    }

    fn poll(&mut self, input: &mut Input<'_>) {
        let queue = self.handle(&self.queues, input);
        let (max, timeout_ms) = (usize::from(input.u8() % 5), u64::from(input.u8()) % PATIENCE_MS);
        let empty = KmbCompletion {
            operation: 0,
            tag: 0,
            error: 0,
            kind: 0,
            result: std::ptr::null_mut(),
            detail: std::ptr::null_mut(),
            values: [0; 3],
        };
        let mut completions = vec![empty; max];
        let mut slot = Slot::<usize>::new(input);
        let out = if input.u8() > 250 { std::ptr::null_mut() } else { completions.as_mut_ptr() };
        let error = self.called(|detail| unsafe {
            kmb_queue_poll(queue, out, max, timeout_ms, slot.pointer(), detail)
        });
        let count = slot.take(error).unwrap_or(0);
        assert!(count <= max, "more completions than there is room for");
        for completion in &mut completions[..count] {
            self.take(completion, input.u8() < 128);
        }
    }

    /// Keeps what an operation gave, or lets the library free it.
    fn take(&mut self, completion: &mut KmbCompletion, keep: bool) {
        assert_eq!(completion.error != KMB_OK, !completion.detail.is_null());
        assert!(completion.error == KMB_OK || completion.result.is_null());
        if completion.error != KMB_OK {
            super::arguments::check_error(completion.error);
        }
        if keep && !completion.result.is_null() {
            let result = completion.result;
            let kept = match completion.kind {
                KMB_COMPLETION_CONNECT => self.clients.push(result.cast()),
                KMB_COMPLETION_READ_PAGE | KMB_COMPLETION_READER_NEXT => {
                    self.pages.push(result.cast());
                }
                KMB_COMPLETION_QUERY | KMB_COMPLETION_CURSOR_NEXT => {
                    self.results.push(result.cast());
                }
                KMB_COMPLETION_QUERY_CURSOR => self.cursors.push(result.cast()),
                KMB_COMPLETION_SUBSCRIBE => self.subscriptions.push(result.cast()),
                _ => return unsafe { kmb_completion_free(completion) },
            };
            completion.result = std::ptr::null_mut();
            kept
        }
        unsafe {
            kmb_completion_free(completion);
            kmb_completion_free(completion);
        }
    }

    fn submit(&mut self, input: &mut Input<'_>) {
        let client = self.handle(&self.clients, input);
        let queue = self.handle(&self.queues, input);
        let (stream, from, call) = (stream_id(input), input.number(), self.arena.call(input));
        let (tag, max) = (u64::from(input.u8()), input.number());
        let (text, len) =
            self.arena.text(input, &["orders", "SELECT * FROM orders", "SELECT id FROM orders"]);
        let mut slot = Slot::<u64>::new(input);
        let kind = input.below(17);
        let (data, data_len) = self.arena.data(input);
        let (lens, count) = self.arena.lens(input, data_len);
        let (params, param_count) = self.arena.params(input);
        let (offset, (producer, sequence)) = (expected(input), self.key(input));
        let options = self.handle(&self.options, input);
        let tenant = from % 6;
        let error = self.called(|detail| unsafe {
            let out = slot.pointer();
            match kind {
                0 | 1 => kmb_submit_append(
                    client, queue, stream, offset, data, data_len, lens, count, call, tag, out,
                    detail,
                ),
                2 => kmb_submit_append_with_key(
                    client, queue, producer, sequence, stream, offset, data, data_len, lens, count,
                    call, tag, out, detail,
                ),
                3 => kmb_submit_open_producer(client, queue, call, tag, out, detail),
                4 => kmb_submit_read_page(
                    client, queue, stream, from, max, 0, call, tag, out, detail,
                ),
                5 => kmb_submit_read_blocks(
                    client, queue, stream, from, max, max, call, tag, out, detail,
                ),
                6 => kmb_submit_query(
                    client,
                    queue,
                    text,
                    len,
                    params,
                    param_count,
                    0,
                    0,
                    call,
                    tag,
                    out,
                    detail,
                ),
                7 => kmb_submit_query_cursor(
                    client,
                    queue,
                    text,
                    len,
                    params,
                    param_count,
                    1,
                    from,
                    call,
                    tag,
                    out,
                    detail,
                ),
                8 => kmb_submit_verify(client, queue, stream, call, tag, out, detail),
                9 => kmb_submit_list_streams(client, queue, call, tag, out, detail),
                10 => kmb_submit_stream_info(client, queue, stream, call, tag, out, detail),
                11 => kmb_submit_stream_by_name(client, queue, text, len, call, tag, out, detail),
                12 => kmb_submit_create_tenant(client, queue, tenant, call, tag, out, detail),
                13 => kmb_submit_list_tenants(client, queue, call, tag, out, detail),
                14 => kmb_submit_subscribe(client, queue, stream, from, call, tag, out, detail),
                15 => kmb_submit_connect(options, queue, tag, out, detail),
                _ => kmb_submit_create_stream(
                    client, queue, text, len, tag as u8, call, tag, out, detail,
                ),
            }
        });
        self.operations.extend(slot.take(error));
    }

    fn cursor(&mut self, input: &mut Input<'_>) {
        let cursor = self.handle(&self.cursors, input);
        match input.below(5) {
            0 | 1 => {
                let client = self.handle(&self.clients, input);
                let (text, len) = self.arena.text(input, &["SELECT * FROM orders"]);
                let (params, count) = self.arena.params(input);
                let (call, mut slot) = (self.arena.call(input), Slot::new(input));
                let error = self.called(|detail| unsafe {
                    let out = slot.pointer();
                    kmb_query_cursor(client, text, len, params, count, 0, 0, call, out, detail)
                });
                self.cursors.extend(slot.take(error));
            }
            2 => {
                let mut slot = Slot::new(input);
                let error = self
                    .called(|detail| unsafe { kmb_cursor_schema(cursor, slot.pointer(), detail) });
                self.results.extend(slot.take(error));
            }
            3 => {
                let mut slot = Slot::new(input);
                let error = self
                    .called(|detail| unsafe { kmb_cursor_next(cursor, slot.pointer(), detail) });
                let batch: Option<*mut KmbQueryResult> = slot.take(error);
                self.results.extend(batch.filter(|batch| !batch.is_null()));
            }
            _ => {
                self.called(|detail| unsafe { kmb_cursor_close(cursor, detail) });
            }
        }
    }

    fn reader(&mut self, input: &mut Input<'_>) {
        let reader = self.handle(&self.readers, input);
        match input.below(5) {
            0 | 1 => {
                let client = self.handle(&self.clients, input);
                let (stream, from, events) = (stream_id(input), input.number(), input.number());
                let (call, mut slot) = (self.arena.call(input), Slot::new(input));
                let error = self.called(|detail| unsafe {
                    kmb_reader_new(client, stream, from, events, call, slot.pointer(), detail)
                });
                self.readers.extend(slot.take(error));
            }
            2 => {
                let mut slot = Slot::new(input);
                let error = self
                    .called(|detail| unsafe { kmb_reader_next(reader, slot.pointer(), detail) });
                let page: Option<*mut KmbPage> = slot.take(error);
                self.pages.extend(page.filter(|page| !page.is_null()));
            }
            3 => {
                let queue = self.handle(&self.queues, input);
                let mut slot = Slot::<u64>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_submit_reader_next(reader, queue, 7, slot.pointer(), detail)
                });
                self.operations.extend(slot.take(error));
            }
            _ => {
                self.called(|detail| unsafe { kmb_reader_close(reader, detail) });
            }
        }
    }

    fn subscription(&mut self, input: &mut Input<'_>) {
        let subscription = self.handle(&self.subscriptions, input);
        let queue = self.handle(&self.queues, input);
        match input.below(6) {
            0 | 1 => {
                let client = self.handle(&self.clients, input);
                let (stream, from) = (stream_id(input), input.number());
                let (call, mut slot) = (self.arena.call(input), Slot::new(input));
                let error = self.called(|detail| unsafe {
                    kmb_subscribe(client, stream, from, call, slot.pointer(), detail)
                });
                self.subscriptions.extend(slot.take(error));
            }
            2 => {
                let (timeout_ms, mut slot) =
                    (u64::from(input.u8()) % PATIENCE_MS, Slot::new(input));
                let error = self.called(|detail| unsafe {
                    kmb_subscription_next(subscription, timeout_ms, slot.pointer(), detail)
                });
                let page: Option<*mut KmbPage> = slot.take(error);
                self.pages.extend(page.filter(|page| !page.is_null()));
            }
            3 => {
                let mut slot = Slot::<u64>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_submit_subscription_next(subscription, queue, 3, 8, slot.pointer(), detail)
                });
                self.operations.extend(slot.take(error));
            }
            4 => {
                let mut slot = Slot::<u64>::new(input);
                let error = self.called(|detail| unsafe {
                    kmb_subscription_watch(subscription, queue, 9, slot.pointer(), detail)
                });
                self.operations.extend(slot.take(error));
            }
            _ => {
                self.called(|detail| unsafe { kmb_subscription_close(subscription, detail) });
            }
        }
    }
}

/// What a queue calls back.
unsafe extern "C" fn woken(_: *mut std::ffi::c_void) {}
