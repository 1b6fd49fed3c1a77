//! What one query may allocate.
//!
//! SQLite bounds memory only per process. So its allocator is wrapped once, before SQLite starts:
//! while a thread works on a query, every allocation there is charged to the query's [`Account`],
//! and one that would pass the bound fails as if memory had run out, which SQLite is built to
//! survive. Other threads, and other users of the same copy of SQLite, pass straight through.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::marker::PhantomData;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, OnceLock};

use rusqlite::ffi;

use super::shared::SharedMemory;

/// The bytes that one query holds, in SQLite and in buffers of blocks. Only the one thread that
/// works on the query changes it.
#[derive(Debug)]
pub(super) struct Account {
    used: AtomicI64,
    limit: i64,
    exceeded: AtomicBool,
    shared: Option<Arc<SharedMemory>>,
    /// What was taken of the shared memory.
    taken: AtomicI64,
    /// The bound of the shared memory that refused something, and its option.
    refused_by: OnceLock<(u64, &'static str)>,
}

/// What a query holds without taking it from the shared memory, and how much it takes at a time.
const FREE_BYTES: i64 = 1 << 20;
const STEP_BYTES: i64 = 1 << 20;

impl Account {
    /// An empty account that holds at most `limit_bytes`, taken from the shared memory where there
    /// is one.
    pub(super) fn new(limit_bytes: u64, shared: Option<Arc<SharedMemory>>) -> Account {
        let limit = i64::try_from(limit_bytes).unwrap_or(i64::MAX);
        Account {
            used: AtomicI64::new(0),
            limit,
            exceeded: AtomicBool::new(false),
            shared,
            taken: AtomicI64::new(0),
            refused_by: OnceLock::new(),
        }
    }

    /// Whether so many more bytes stay within the bounds; notes it where they do not.
    fn has_room(&self, bytes: i64) -> bool {
        let wanted = self.used.load(Ordering::Relaxed).saturating_add(bytes);
        let fits = wanted <= self.limit && self.take_shared(wanted);
        if !fits {
            self.set_exceeded();
        }
        fits
    }

    /// Sees to it that so much in all is taken of the shared memory.
    fn take_shared(&self, wanted: i64) -> bool {
        let Some(shared) = &self.shared else { return true };
        let taken = self.taken.load(Ordering::Relaxed);
        let missing = wanted.saturating_sub(FREE_BYTES).saturating_sub(taken);
        if missing <= 0 {
            return true;
        }
        let step = missing.saturating_add(STEP_BYTES - 1) / STEP_BYTES * STEP_BYTES;
        match shared.take(step.unsigned_abs()) {
            Ok(()) => {
                self.taken.store(taken + step, Ordering::Relaxed);
                true
            }
            Err(refused) => {
                // The first refusal is the one that is told.
                let _ = self.refused_by.set(refused.bound());
                false
            }
        }
    }

    /// Gives the shared memory back what is not needed any more, in large pieces.
    fn give_shared(&self, used: i64) {
        let taken = self.taken.load(Ordering::Relaxed);
        let spare = taken - used.max(0);
        if spare < 4 * STEP_BYTES {
            return;
        }
        if let Some(shared) = &self.shared {
            let back = spare / STEP_BYTES * STEP_BYTES;
            self.taken.store(taken - back, Ordering::Relaxed);
            shared.give(back.unsigned_abs());
        }
    }

    /// The bound of the shared memory that refused something, if it did, and its option.
    pub(super) fn refused_by(&self) -> Option<(u64, &'static str)> {
        self.refused_by.get().copied()
    }

    /// Adds to what is held. One thread at a time does so, so that no atomic addition is needed.
    fn change(&self, bytes: i64) {
        let used = self.used.load(Ordering::Relaxed);
        let used = used.saturating_add(bytes);
        self.used.store(used, Ordering::Relaxed);
        if bytes < 0 && self.taken.load(Ordering::Relaxed) > 0 {
            self.give_shared(used);
        }
    }

    /// Adds bytes unless they pass the bound.
    pub(super) fn charge(&self, bytes: usize) -> bool {
        let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
        let fits = self.has_room(bytes);
        if fits {
            self.change(bytes);
        }
        fits
    }

    /// Takes bytes off again.
    pub(super) fn release(&self, bytes: usize) {
        self.change(-i64::try_from(bytes).unwrap_or(i64::MAX));
    }

    /// Whether the bound refused anything so far.
    pub(super) fn exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Notes that the bound was passed, as something outside the account measured.
    pub(super) fn set_exceeded(&self) {
        self.exceeded.store(true, Ordering::Relaxed);
    }

    /// The bound in bytes.
    pub(super) fn limit_bytes(&self) -> u64 {
        self.limit.unsigned_abs()
    }

    /// Charges this thread's allocations inside SQLite to the account while the scope lives.
    pub(super) fn enter(&self) -> Scope<'_> {
        let outer = CURRENT.with(|current| current.replace(ptr::from_ref(self)));
        Scope { outer, account: PhantomData }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.give(self.taken.load(Ordering::Relaxed).unsigned_abs());
        }
    }
}

/// The time during which a thread works on one query.
pub(super) struct Scope<'a> {
    outer: *const Account,
    account: PhantomData<&'a Account>,
}

impl Drop for Scope<'_> {
    fn drop(&mut self) {
        CURRENT.with(|current| current.set(self.outer));
    }
}

thread_local! {
    static CURRENT: Cell<*const Account> = const { Cell::new(ptr::null()) };
}

/// The account of the query on which this thread works, if any.
fn current<'a>() -> Option<&'a Account> {
    // During a thread's end its locals may be gone; allocations then belong to nobody.
    let account = CURRENT.try_with(Cell::get).unwrap_or(ptr::null());
    // SAFETY: the pointer is null or was set by a Scope, which borrows the account until it puts
    // the outer one back; the callers use the reference only within one allocator call.
    unsafe { account.as_ref() }
}

/// SQLite's own allocator, to which the wrapper passes everything on.
struct Inner {
    malloc: unsafe extern "C" fn(c_int) -> *mut c_void,
    free: unsafe extern "C" fn(*mut c_void),
    realloc: unsafe extern "C" fn(*mut c_void, c_int) -> *mut c_void,
    size: unsafe extern "C" fn(*mut c_void) -> c_int,
}

static INNER: OnceLock<Inner> = OnceLock::new();

/// Wraps SQLite's allocator, once per process. False where SQLite was running already, started by
/// somebody else in the process: then [`used_by_process`] has to do.
pub(super) fn install() -> bool {
    static INSTALLED: OnceLock<bool> = OnceLock::new();
    *INSTALLED.get_or_init(wrap_allocator)
}

fn wrap_allocator() -> bool {
    // SAFETY: a zeroed sqlite3_mem_methods is valid: its members are nullable pointers.
    let mut methods: ffi::sqlite3_mem_methods = unsafe { std::mem::zeroed() };
    // SAFETY: GETMALLOC takes a pointer to the structure that it fills.
    let got =
        unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_GETMALLOC, ptr::from_mut(&mut methods)) };
    let (Some(malloc), Some(free), Some(realloc), Some(size)) =
        (methods.xMalloc, methods.xFree, methods.xRealloc, methods.xSize)
    else {
        return false;
    };
    if got != ffi::SQLITE_OK || INNER.set(Inner { malloc, free, realloc, size }).is_err() {
        return false;
    }
    methods.xMalloc = Some(charged_malloc);
    methods.xFree = Some(charged_free);
    methods.xRealloc = Some(charged_realloc);
    // SAFETY: MALLOC takes a pointer to a structure that SQLite copies; the functions in it are
    // those of the allocator that it had, or forward to them.
    let set =
        unsafe { ffi::sqlite3_config(ffi::SQLITE_CONFIG_MALLOC, ptr::from_mut(&mut methods)) };
    if set != ffi::SQLITE_OK {
        return false;
    }
    // SQLite's own count of the process takes a mutex at every allocation, which costs a JSON
    // query a third of its time, and the accounts replace it.
    let off: c_int = 0;
    // The accounts bound temporary files in memory too, which SQLite would stop at 1 GiB.
    let file_bytes: ffi::sqlite3_int64 = 1 << 40;
    // SAFETY: MEMSTATUS takes an int, MEMDB_MAXSIZE a 64-bit integer.
    unsafe {
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMSTATUS, off);
        ffi::sqlite3_config(ffi::SQLITE_CONFIG_MEMDB_MAXSIZE, file_bytes);
    }
    true
}

/// Bytes that SQLite holds in the whole process.
pub(super) fn used_by_process() -> i64 {
    // SAFETY: the function has no preconditions.
    unsafe { ffi::sqlite3_memory_used() }
}

unsafe extern "C" fn charged_malloc(bytes: c_int) -> *mut c_void {
    let Some(inner) = INNER.get() else { return ptr::null_mut() };
    let account = current();
    if account.is_some_and(|account| !account.has_room(i64::from(bytes))) {
        return ptr::null_mut();
    }
    // SAFETY: SQLite's arguments go to SQLite's own function.
    let block = unsafe { (inner.malloc)(bytes) };
    if let Some(account) = account {
        // The allocator may give more than was asked for; what `free` will take off is charged.
        account.change(size_of_block(inner, block));
    }
    block
}

unsafe extern "C" fn charged_free(block: *mut c_void) {
    let Some(inner) = INNER.get() else { return };
    if let Some(account) = current() {
        account.change(-size_of_block(inner, block));
    }
    // SAFETY: SQLite's arguments go to SQLite's own function.
    unsafe { (inner.free)(block) }
}

unsafe extern "C" fn charged_realloc(block: *mut c_void, bytes: c_int) -> *mut c_void {
    let Some(inner) = INNER.get() else { return ptr::null_mut() };
    let account = current();
    let before = account.map_or(0, |_| size_of_block(inner, block));
    if account.is_some_and(|account| !account.has_room(i64::from(bytes) - before)) {
        return ptr::null_mut();
    }
    // SAFETY: SQLite's arguments go to SQLite's own function.
    let moved = unsafe { (inner.realloc)(block, bytes) };
    if let Some(account) = account
        && !moved.is_null()
    {
        account.change(size_of_block(inner, moved) - before);
    }
    moved
}

fn size_of_block(inner: &Inner, block: *mut c_void) -> i64 {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the block came from this allocator and is not freed yet.
    i64::from(unsafe { (inner.size)(block) })
}
