//! Which threads may wait for the disk.

use std::cell::Cell;

thread_local! {
    static MAY_BLOCK: Cell<bool> = const { Cell::new(false) };
}

/// Takes back what the thread was told.
struct Restore(bool);

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = MAY_BLOCK.try_with(|may| may.set(self.0));
    }
}

/// Lets the engine block this thread while `run` runs: a small append that nothing else waits with
/// is committed by the thread itself then, which saves waking two. Such a call overstays its
/// deadline by as long as the disk takes; a disk that was slow before is waited for by the commit
/// thread.
pub fn blocking<T>(run: impl FnOnce() -> T) -> T {
    let _restore = Restore(MAY_BLOCK.try_with(|may| may.replace(true)).unwrap_or(false));
    run()
}

/// Whether this thread may wait for the disk.
pub(crate) fn may_block() -> bool {
    MAY_BLOCK.try_with(Cell::get).unwrap_or(false)
}
