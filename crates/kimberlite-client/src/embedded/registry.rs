//! Which databases this copy of the library has open: one engine for each folder or shared name,
//! however many clients use it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use kimberlite_engine::{Engine, EngineOptions, make_folder};
use kimberlite_wire::{Error, ErrorCode};

use crate::address::EmbeddedAddress;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// By the canonical path.
    Folder(PathBuf),
    Memory(String),
}

enum Slot {
    Open {
        engine: Engine,
        clients: usize,
    },
    /// Some thread opens or closes it.
    Busy,
}

static SLOTS: LazyLock<Mutex<HashMap<Key, Slot>>> = LazyLock::new(Mutex::default);
static CHANGED: Condvar = Condvar::new();

fn slots() -> MutexGuard<'static, HashMap<Key, Slot>> {
    SLOTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A client's share of an open database. Dropping it gives it back and, where it was the last one,
/// closes the database, which blocks.
pub(super) struct Lease {
    engine: Engine,
    /// `None` for a memory of the client's own.
    key: Option<Key>,
}

impl Lease {
    pub(super) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Opens the database, or shares one that is open. Blocks, until `deadline` where another
    /// thread is opening or closing the same one.
    pub(super) fn acquire(address: EmbeddedAddress, deadline: Instant) -> Result<Lease, Error> {
        let (key, options) = match address {
            EmbeddedAddress::PrivateMemory => {
                return Ok(Lease { engine: Engine::open(EngineOptions::default())?, key: None });
            }
            EmbeddedAddress::SharedMemory(name) => (Key::Memory(name), EngineOptions::default()),
            EmbeddedAddress::Folder(folder) => {
                let folder = canonical(&folder)?;
                (Key::Folder(folder.clone()), EngineOptions::folder(folder))
            }
        };
        if let Some(lease) = share(&key, deadline)? {
            return Ok(lease);
        }
        // The slot is ours now: whatever happens, it must not stay busy.
        let guard = BusySlot { key: &key, outcome: None };
        let engine = Engine::open(options)?;
        guard.open(engine.clone());
        Ok(Lease { engine, key: Some(key) })
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let Some(key) = self.key.take() else {
            return self.engine.close();
        };
        {
            let mut slots = slots();
            match slots.get_mut(&key) {
                Some(Slot::Open { clients, .. }) if *clients > 1 => {
                    *clients -= 1;
                    return;
                }
                // The slot's engine is ours too, so that nothing ends with what is thrown away.
                _ => slots.insert(key.clone(), Slot::Busy),
            }
        };
        let busy = BusySlot { key: &key, outcome: None };
        self.engine.close();
        drop(busy);
    }
}

/// Shares an open database. `None`: there is none, and the slot is now the caller's to fill.
fn share(key: &Key, deadline: Instant) -> Result<Option<Lease>, Error> {
    let mut slots = slots();
    loop {
        match slots.get_mut(key) {
            None => {
                slots.insert(key.clone(), Slot::Busy);
                return Ok(None);
            }
            Some(Slot::Open { engine, clients }) => {
                *clients += 1;
                return Ok(Some(Lease { engine: engine.clone(), key: Some(key.clone()) }));
            }
            Some(Slot::Busy) => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    let detail = "the database is being opened or closed by another client";
                    return Err(Error::new(ErrorCode::Timeout, detail));
                }
                slots = CHANGED.wait_timeout(slots, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

/// A slot that this thread has marked busy. Dropping it fills it with the outcome, or empties it.
struct BusySlot<'a> {
    key: &'a Key,
    outcome: Option<Engine>,
}

impl BusySlot<'_> {
    fn open(mut self, engine: Engine) {
        self.outcome = Some(engine);
    }
}

impl Drop for BusySlot<'_> {
    fn drop(&mut self) {
        let mut slots = slots();
        let before = match self.outcome.take() {
            Some(engine) => slots.insert(self.key.clone(), Slot::Open { engine, clients: 1 }),
            None => slots.remove(self.key),
        };
        drop(slots);
        drop(before);
        CHANGED.notify_all();
    }
}

/// The folder's one name, so that two ways of writing it share an engine; it is made where there is
/// none.
fn canonical(folder: &Path) -> Result<PathBuf, Error> {
    make_folder(folder)?;
    folder.canonicalize().map_err(|e| {
        let detail = format!("the folder {} cannot be used: {e}", folder.display());
        Error::new(ErrorCode::Storage, detail)
    })
}
