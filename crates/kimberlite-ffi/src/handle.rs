//! Handles: generation-checked indexes disguised as pointers. They are looked up, never followed,
//! so that one that was closed gets CLOSED and never touches freed memory.

use std::sync::{Arc, PoisonError};

use kimberlite_wire::{Error, ErrorCode};

use crate::arguments::null;
use crate::sync::RwLock;

#[cfg(all(test, shuttle))]
#[path = "handle_schedules.rs"]
mod schedules;

/// The lowest bits tell the type, so that no handle is NULL and none passes for another.
const KIND_BITS: u32 = 4;
const INDEX_BITS: u32 = if usize::BITS >= 64 { 24 } else { 14 };
const GENERATION_BITS: u32 = if usize::BITS >= 64 { 32 } else { 14 };
const INDEX_MASK: usize = (1 << INDEX_BITS) - 1;
const GENERATION_MASK: usize = ((1u64 << GENERATION_BITS) - 1) as usize;

struct Slot<T> {
    generation: usize,
    value: Option<Arc<T>>,
}

struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<usize>,
}

/// All handles of one type.
pub(crate) struct Table<T> {
    kind: usize,
    noun: &'static str,
    slots: RwLock<Slots<T>>,
}

impl<T> Table<T> {
    /// An empty table; `kind` is from 1 to 15, another for each type.
    pub(crate) const fn new(kind: usize, noun: &'static str) -> Table<T> {
        let slots = RwLock::new(Slots { slots: Vec::new(), free: Vec::new() });
        Table { kind, noun, slots }
    }

    /// Takes a value in and gives its handle. OVERLOADED where every index is taken.
    pub(crate) fn insert<C>(&self, value: Arc<T>) -> Result<*mut C, Error> {
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let index = match slots.free.pop() {
            Some(index) => index,
            None if slots.slots.len() > INDEX_MASK => {
                let detail = format!("{INDEX_MASK} handles of one type are open; close some");
                return Err(Error::new(ErrorCode::Overloaded, detail));
            }
            None => {
                slots.slots.push(Slot { generation: 0, value: None });
                slots.slots.len() - 1
            }
        };
        let slot = &mut slots.slots[index];
        slot.value = Some(value);
        let number = (slot.generation << INDEX_BITS | index) << KIND_BITS | self.kind;
        Ok(std::ptr::without_provenance_mut(number))
    }

    /// The value of a handle. NULL_POINTER for NULL, CLOSED for a stale one, INVALID_ARGUMENT for
    /// what is no handle of this type.
    pub(crate) fn get<C>(&self, argument: &str, handle: *const C) -> Result<Arc<T>, Error> {
        let (index, generation) = self.parts(argument, handle)?;
        let slots = self.slots.read().unwrap_or_else(PoisonError::into_inner);
        let value = slots.slots.get(index).filter(|slot| slot.generation == generation);
        value.and_then(|slot| slot.value.clone()).ok_or_else(|| self.closed(argument))
    }

    /// Takes the value out and makes the handle stale; `None` where it is stale already.
    pub(crate) fn remove<C>(
        &self,
        argument: &str,
        handle: *const C,
    ) -> Result<Option<Arc<T>>, Error> {
        let (index, generation) = self.parts(argument, handle)?;
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let Some(slot) = slots.slots.get_mut(index) else {
            return Ok(None);
        };
        if slot.generation != generation {
            return Ok(None);
        }
        let value = slot.value.take();
        if value.is_some() {
            slot.generation = (slot.generation + 1) & GENERATION_MASK;
            slots.free.push(index);
        }
        Ok(value)
    }

    /// Takes every value out.
    pub(crate) fn drain(&self) -> Vec<Arc<T>> {
        let mut guard = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        let Slots { slots, free } = &mut *guard;
        let mut values = Vec::new();
        for (index, slot) in slots.iter_mut().enumerate() {
            if let Some(value) = slot.value.take() {
                slot.generation = (slot.generation + 1) & GENERATION_MASK;
                free.push(index);
                values.push(value);
            }
        }
        values
    }

    fn parts<C>(&self, argument: &str, handle: *const C) -> Result<(usize, usize), Error> {
        let number = handle.addr();
        if number == 0 {
            return Err(null(argument));
        }
        if number & ((1 << KIND_BITS) - 1) != self.kind {
            return Err(Error::invalid(format!("{argument} is not a {}", self.noun)));
        }
        let number = number >> KIND_BITS;
        Ok((number & INDEX_MASK, number >> INDEX_BITS))
    }

    fn closed(&self, argument: &str) -> Error {
        Error::new(ErrorCode::Closed, format!("{argument} is a {} that was closed", self.noun))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    enum Thing {}

    /// A handle works until it is removed, and stays stale when its place is used again.
    #[test]
    fn stale_handles_are_told() {
        let table: Table<u32> = Table::new(3, "thing");
        let first: *mut Thing = table.insert(Arc::new(7)).unwrap();
        assert_eq!(*table.get("thing", first).unwrap(), 7);
        assert!(table.remove("thing", first).unwrap().is_some());
        assert!(table.remove("thing", first).unwrap().is_none());
        let second: *mut Thing = table.insert(Arc::new(8)).unwrap();
        assert_ne!(first, second);
        assert_eq!(table.get("thing", first).map_err(|e| e.code), Err(ErrorCode::Closed));
        assert_eq!(*table.get("thing", second).unwrap(), 8);
        assert_eq!(table.drain().len(), 1);
        assert_eq!(table.get("thing", second).map_err(|e| e.code), Err(ErrorCode::Closed));
    }

    /// NULL, a handle of another type and an address that never was a handle are refused.
    #[test]
    fn foreign_pointers_are_refused() {
        let table: Table<u32> = Table::new(3, "thing");
        let other: Table<u32> = Table::new(4, "other");
        let foreign: *mut Thing = other.insert(Arc::new(1)).unwrap();
        let code = |handle: *mut Thing| table.get("thing", handle).map_err(|e| e.code);
        assert_eq!(code(std::ptr::null_mut()), Err(ErrorCode::NullPointer));
        assert_eq!(code(foreign), Err(ErrorCode::InvalidArgument));
        assert_eq!(code(std::ptr::without_provenance_mut(0x7fff_0003)), Err(ErrorCode::Closed));
    }
}
