//! The C ABI from several threads at once. ThreadSanitizer watches these tests (`cargo xtask prove
//! threads`), so they need no sockets and wait for no clock.

use std::ffi::c_void;
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use kimberlite_ffi::*;

const OK: KmbError = 0;
/// Appends of each thread.
const APPENDS: usize = 200;

/// A handle that threads share, as C programs do.
struct Shared<T>(*mut T);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Shared<T> {
        *self
    }
}

impl<T> Copy for Shared<T> {}

// SAFETY: the ABI says that clients and queues may be used from every thread.
unsafe impl<T> Send for Shared<T> {}

impl<T> Shared<T> {
    fn get(self) -> *mut T {
        self.0
    }
}

fn connect() -> Shared<KmbClient> {
    let addresses = [c"memory:".as_ptr()];
    let mut error = OK;
    // SAFETY: one address that ends with NUL, and a place for the error.
    let client = unsafe { kmb_client_connect(addresses.as_ptr(), 1, 1, null(), &mut error) };
    assert_eq!(error, OK);
    Shared(client)
}

fn create_stream(client: Shared<KmbClient>) -> u64 {
    let mut stream = 0;
    let (name, class) = (b"notes", 1);
    let text = name.as_ptr().cast();
    // SAFETY: the name is as long as told; the client is open.
    let error = unsafe {
        kmb_create_stream(client.get(), text, name.len(), class, null(), &mut stream, null_mut())
    };
    assert_eq!(error, OK);
    stream
}

/// Two events, the second longer than the first.
fn append(client: Shared<KmbClient>, stream: u64) -> KmbError {
    let (data, lens) = (b"abcde", [2, 3]);
    let mut appended = std::mem::MaybeUninit::uninit();
    // SAFETY: data and lengths fit each other and live until the call returns.
    unsafe {
        kmb_append(
            client.get(),
            stream,
            KMB_ANY_OFFSET,
            data.as_ptr(),
            data.len(),
            lens.as_ptr(),
            lens.len(),
            null(),
            appended.as_mut_ptr(),
            null_mut(),
        )
    }
}

/// How many events a page from this offset has, after a look at every byte.
fn read(client: Shared<KmbClient>, stream: u64, from: u64) -> (KmbError, usize) {
    let mut page = null_mut();
    // SAFETY: the client may be closed, which the call tells; the page is freed once.
    unsafe {
        let error =
            kmb_read_page(client.get(), stream, from, 100, 0, null(), &mut page, null_mut());
        if error != OK {
            return (error, 0);
        }
        let told = &*page;
        let lens = std::slice::from_raw_parts(told.lens, told.count);
        let data = std::slice::from_raw_parts(told.data, told.data_len);
        assert!(data.iter().all(|byte| b"abcde".contains(byte)));
        assert_eq!(lens.iter().map(|len| *len as usize).sum::<usize>(), data.len());
        let count = told.count;
        kmb_page_free(page);
        (OK, count)
    }
}

fn close(client: Shared<KmbClient>) {
    // SAFETY: any handle may be closed, an open one and a closed one.
    assert_eq!(unsafe { kmb_client_close(client.get(), 10_000, null_mut()) }, OK);
}

/// Threads that append and read on one client see whole pages, and every event is there.
#[test]
fn threads_share_a_client() {
    let client = connect();
    let stream = create_stream(client);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(move || {
                for _ in 0..APPENDS {
                    assert_eq!(append(client, stream), OK);
                }
            });
        }
        scope.spawn(move || {
            for _ in 0..APPENDS {
                assert_eq!(read(client, stream, 0).0, OK);
            }
        });
    });
    let all = 4 * APPENDS;
    let (error, count) = read(client, stream, 0);
    assert_eq!((error, count), (OK, all.min(100)));
    close(client);
    close(client);
}

/// A client that is closed under the hands of others answers CLOSED, to each of them, and harms
/// nobody.
#[test]
fn closing_races_with_calls() {
    let client = connect();
    let stream = create_stream(client);
    let began = AtomicUsize::new(0);
    thread::scope(|scope| {
        for reads in [false, true] {
            let began = &began;
            scope.spawn(move || {
                loop {
                    let error = match reads {
                        true => read(client, stream, 0).0,
                        false => append(client, stream),
                    };
                    began.fetch_add(1, Ordering::Relaxed);
                    if error != OK {
                        // SAFETY: the name of any error number is a static text.
                        let name = unsafe { std::ffi::CStr::from_ptr(kmb_error_name(error)) };
                        assert_eq!(name.to_str(), Ok("CLOSED"));
                        break;
                    }
                }
            });
        }
        while began.load(Ordering::Relaxed) < 4 {
            thread::yield_now();
        }
        close(client);
    });
}

unsafe extern "C" fn count_wake(user_data: *mut c_void) {
    // SAFETY: the test gives a counter that outlives the queue.
    unsafe { &*user_data.cast::<AtomicUsize>() }.fetch_add(1, Ordering::Relaxed);
}

/// What several threads submit to one queue comes out of it once each, whoever polls; and the
/// callback was heard.
#[test]
fn threads_share_a_queue() {
    let client = connect();
    let stream = create_stream(client);
    let (woken, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let mut queue = null_mut();
    let user_data = (&raw const woken).cast_mut().cast();
    // SAFETY: a place for the queue; the counter outlives the queue.
    unsafe {
        assert_eq!(kmb_queue_new(false, &mut queue, null_mut()), OK);
        assert_eq!(kmb_submit_callback(queue, Some(count_wake), user_data, null_mut()), OK);
    }
    let queue = Shared(queue);
    thread::scope(|scope| {
        let taken = &taken;
        for _ in 0..2 {
            scope.spawn(move || (0..APPENDS).for_each(|_| submit(client, queue, stream)));
            scope.spawn(move || poll(queue, taken, 2 * APPENDS));
        }
    });
    assert_eq!(taken.load(Ordering::Relaxed), 2 * APPENDS);
    assert!(woken.load(Ordering::Relaxed) > 0);
    // SAFETY: nobody uses the queue any more.
    assert_eq!(unsafe { kmb_queue_close(queue.get(), null_mut()) }, OK);
    close(client);
}

fn submit(client: Shared<KmbClient>, queue: Shared<KmbQueue>, stream: u64) {
    let (data, lens) = (b"abcde", [2, 3]);
    let mut operation = 0;
    // SAFETY: as for an append; what is passed is copied before the call returns.
    let error = unsafe {
        kmb_submit_append(
            client.get(),
            queue.get(),
            stream,
            KMB_ANY_OFFSET,
            data.as_ptr(),
            data.len(),
            lens.as_ptr(),
            lens.len(),
            null(),
            7,
            &mut operation,
            null_mut(),
        )
    };
    assert_eq!(error, OK);
}

/// Takes completions until all are taken, by this thread or another.
fn poll(queue: Shared<KmbQueue>, taken: &AtomicUsize, all: usize) {
    while taken.load(Ordering::Relaxed) < all {
        let mut count = 0;
        // SAFETY: completions are plain values, for which zeroes stand; there is room for four.
        let mut completions: [KmbCompletion; 4] = unsafe { std::mem::zeroed() };
        let (room, place) = (completions.len(), completions.as_mut_ptr());
        // SAFETY: the queue is open and there is room for as many as told.
        let error = unsafe { kmb_queue_poll(queue.get(), place, room, 10, &mut count, null_mut()) };
        assert_eq!(error, OK);
        for completion in &mut completions[..count] {
            assert_eq!((completion.tag, completion.error), (7, OK));
            // SAFETY: the queue gave it, and it is freed once.
            unsafe { kmb_completion_free(completion) };
        }
        taken.fetch_add(count, Ordering::Relaxed);
    }
}
