//! The C ABI: a script calls its functions over a database in memory, with values that C programs
//! pass by mistake: NULL, handles that are stale, of another type or nonsense, bytes that are no
//! UTF-8, counts that no memory holds.
//!
//! Nothing crashes (the address sanitizer watches), nothing panics inside, outputs are written only
//! on success, and every failure has a detail. Memory that is passed is really there and exactly as
//! long as its length says, unless the length is one that the ABI promises to refuse.
#![allow(clippy::undocumented_unsafe_blocks)] // Every call here is one that a C program may make.

mod arguments;
mod arrow;
mod asking;
mod live;
mod results;
mod writing;

use kimberlite_ffi::*;

use crate::input::Input;
use arguments::Arena;

/// The input: calls until the bytes end.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    if input.is_empty() {
        return;
    }
    let mut world = World::default();
    world.begin();
    for _ in 0..60 {
        if input.is_empty() {
            break;
        }
        match input.below(40) {
            choice @ 0..=5 => world.connecting(choice, &mut input),
            choice @ 6..=13 => world.writing(choice - 6, &mut input),
            choice @ 14..=24 => world.asking(choice - 14, &mut input),
            choice @ 25..=33 => world.live(choice - 25, &mut input),
            choice @ 34..=38 => world.looking(choice - 34, &mut input),
            _ => world.arrow(&mut input),
        }
        world.arena.clear();
    }
    world.end();
}

/// The stream that is there from the start: a tenant's first one is its audit record.
const STREAM: u64 = 2;

/// What a script has made so far. Handles stay in their lists when they are closed: stale ones are
/// what the calls are to meet. Results are freed once.
#[derive(Default)]
struct World {
    arena: Arena,
    clients: Vec<*mut KmbClient>,
    options: Vec<*mut KmbOptions>,
    queues: Vec<*mut KmbQueue>,
    readers: Vec<*mut KmbReader>,
    cursors: Vec<*mut KmbCursor>,
    subscriptions: Vec<*mut KmbSubscription>,
    pages: Vec<*mut KmbPage>,
    results: Vec<*mut KmbQueryResult>,
    operations: Vec<u64>,
    keys: Vec<(u64, u64)>,
}

impl World {
    /// A client of a fresh database, and a stream with a few events.
    fn begin(&mut self) {
        let addresses = [c"memory:".as_ptr()];
        let mut error = KMB_OK;
        let client = unsafe {
            kmb_client_connect(addresses.as_ptr(), 1, 1, std::ptr::null(), &raw mut error)
        };
        assert!(error == KMB_OK && !client.is_null(), "a database in memory opens: {error}");
        self.clients.push(client);
        let mut stream_id = 0;
        let made =
            unsafe { kmb_client_create_stream(client, c"orders".as_ptr(), 1, &raw mut stream_id) };
        assert!(made == KMB_OK && stream_id == STREAM, "stream {stream_id}");
        let (first, second) = (b"{\"n\":1}", b"\xff\0");
        let events = [first.as_ptr(), second.as_ptr()];
        let (lens, mut offset) = ([first.len(), second.len()], 9);
        let appended = unsafe {
            kmb_client_append(client, STREAM, 0, events.as_ptr(), lens.as_ptr(), 2, &raw mut offset)
        };
        assert!(appended == KMB_OK && offset == 0);
        let mut queue = std::ptr::null_mut();
        let made = self.called(|detail| unsafe { kmb_queue_new(false, &raw mut queue, detail) });
        self.queues.push(queue);
        assert_eq!(made, KMB_OK);
    }

    /// Frees everything, as a careful program does.
    fn end(&mut self) {
        for page in self.pages.drain(..) {
            unsafe { kmb_page_free(page) };
        }
        for result in self.results.drain(..) {
            unsafe { kmb_query_result_free(result) };
        }
        let null = std::ptr::null_mut();
        for reader in &self.readers {
            unsafe { kmb_reader_close(*reader, null) };
        }
        for cursor in &self.cursors {
            unsafe { kmb_cursor_close(*cursor, null) };
        }
        for subscription in &self.subscriptions {
            unsafe { kmb_subscription_close(*subscription, null) };
        }
        for client in &self.clients {
            unsafe { kmb_client_disconnect(*client) };
            let again = unsafe { kmb_client_close(*client, 1000, null) };
            assert_eq!(again, KMB_OK, "a second close is harmless");
        }
        for queue in &self.queues {
            unsafe { kmb_queue_close(*queue, null) };
        }
        for options in &self.options {
            unsafe { kmb_options_free(*options) };
        }
    }

    /// Calls a function that reads the library's own data, which is not damaged.
    fn called(&mut self, call: impl FnOnce(*mut *mut KmbDetail) -> KmbError) -> KmbError {
        let error = self.called_with_bytes(call);
        assert_ne!(error, KMB_ERR_CORRUPTION, "data in memory is damaged");
        error
    }

    /// Calls a function that has a detail, and checks the detail against its error.
    fn called_with_bytes(
        &mut self,
        call: impl FnOnce(*mut *mut KmbDetail) -> KmbError,
    ) -> KmbError {
        let mut detail = std::ptr::dangling_mut();
        let error = call(&raw mut detail);
        if error == KMB_OK {
            assert!(detail.is_null(), "a detail of a success");
            return error;
        }
        arguments::check_error(error);
        assert!(!detail.is_null(), "a failure without a detail");
        unsafe {
            assert_eq!((*detail).code, error, "a detail of another error");
            results::check_text((*detail).message, (*detail).message_len);
            kmb_detail_free(detail);
        }
        error
    }

    /// Checks a function that keeps its detail for its thread.
    fn called_plainly(&mut self, error: KmbError) {
        if error == KMB_OK {
            return;
        }
        arguments::check_error(error);
        unsafe {
            let detail = kmb_last_error_detail();
            assert!(!detail.is_null() && (*detail).code == error, "the thread's detail is another");
            results::check_text((*detail).message, (*detail).message_len);
        }
    }
}
