//! The library as a whole: its version, its start, its end.

use std::ffi::{CStr, c_char};
use std::sync::Once;

use kimberlite_client::trim_page_pool;

use crate::boundary::boundary;
use crate::detail::{KmbDetail, KmbError};
use crate::generated::KMB_ABI_VERSION;
use crate::{client, cursor, log, options, pin, queue, reader, subscription, texts};

/// The version with a NUL behind it.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");

/// Does once what the library needs before it has threads or descriptors of its own.
pub(crate) fn start() {
    static START: Once = Once::new();
    START.call_once(|| {
        pin::pin_library();
        texts::prepare();
        watch_forks();
    });
}

#[cfg(unix)]
fn watch_forks() {
    extern "C" fn in_child() {
        kimberlite_client::process::mark_forked();
        let_go_of_locks();
    }
    // SAFETY: the handler calls what a handler of fork may, and the library is pinned, so that it
    // stays there. It fails only where memory ran out; forks then go unnoticed.
    unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
}

/// Puts another file in the place of every lock: a child that kept one would keep its folder locked
/// beyond the parent's end. The numbers stay taken, so that nothing else gets them.
#[cfg(unix)]
fn let_go_of_locks() {
    // SAFETY: open, dup2, fcntl and close may be called in a handler of fork; the numbers are those
    // of locks, and the child has no thread that uses them.
    unsafe {
        let nothing = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if nothing < 0 {
            return;
        }
        for lock in kimberlite_client::process::held_locks() {
            libc::dup2(nothing, lock);
            libc::fcntl(lock, libc::F_SETFD, libc::FD_CLOEXEC);
        }
        libc::close(nothing);
    }
}

#[cfg(not(unix))]
fn watch_forks() {}

/// The version of this C ABI. A wrapper compares it with the KMB_ABI_VERSION that it was made for,
/// and refuses another.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_abi_version() -> u32 {
    KMB_ABI_VERSION
}

/// The library's version, such as `0.1.0`. Static: valid for ever, never freed.
#[unsafe(no_mangle)]
pub extern "C" fn kmb_version() -> *const c_char {
    CStr::from_bytes_with_nul(VERSION.as_bytes()).unwrap_or_default().as_ptr()
}

/// Closes every client within timeout_ms, and every queue, reader, cursor, subscription and options
/// builder; ends the log callback; and frees what the library keeps for reuse. Results that were
/// handed out live on. Connecting again starts anew. TIMEOUT where a client took longer.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kmb_shutdown(
    timeout_ms: u64,
    detail_out: *mut *mut KmbDetail,
) -> KmbError {
    boundary!(detail_out, {
        let closed = client::close_all(timeout_ms);
        queue::close_all();
        reader::close_all();
        cursor::close_all();
        subscription::close_all();
        options::free_all();
        log::stop();
        trim_page_pool();
        closed
    })
}
