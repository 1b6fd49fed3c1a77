//! Read-only SQL over one consistent cut of a tenant's streams.
//!
//! SQLite parses, plans and runs the statement; every stream is an eponymous virtual table that
//! reads blocks where they lie. [`prepare`] compiles a statement against a [`Cut`] and tells which
//! streams it reads, so that the caller can audit before [`Prepared::run`] reads the first byte.
//!
//! Columns of every stream: `id` (the offset), `timestamp` (Unix seconds), `data`, and hidden
//! `timestamp_ns` and `text` (the data where it is UTF-8, else NULL). Conditions and orders by
//! `id`, `timestamp` and `timestamp_ns` become a range of ids and a direction; plain counts are answered
//! from the index. JSON functions take `data` as it is; SQLite also accepts its own binary JSON
//! there, so that for documents which are nothing but a number of four digits `text` is the column
//! to use. Sorting and grouping happen in the query's memory and never in a file.

#[allow(unsafe_code)]
mod authorizer;
mod blocks;
mod bounds;
mod characters;
#[allow(unsafe_code)]
mod connection;
mod count;
mod errors;
mod events;
#[allow(unsafe_code)]
mod functions;
#[allow(unsafe_code)]
mod memory;
#[allow(unsafe_code)]
mod module;
#[allow(unsafe_code)]
mod patch;
mod prepared;
mod scan;
mod shared;
mod state;
#[allow(unsafe_code)]
mod statement;
mod streams;
mod token;
mod wildcards;

use std::sync::Arc;

use bytes::Bytes;
use kimberlite_wire::{DataClass, Error, StreamInfo};

pub use prepared::{Prepared, prepare};
pub(crate) use shared::QueryMemory;
pub use shared::SharedMemory;

/// One consistent view of a tenant's streams, which does not change while a query holds it.
pub trait Cut: Send + Sync {
    /// The stream of this name under ASCII case folding; `None` where the cut has none.
    fn stream(&self, name: &str) -> Result<Option<Arc<dyn EventTable>>, Error>;

    /// Every stream of the cut, by id: the rows of the table `_streams`.
    fn streams(&self) -> Result<Vec<StreamInfo>, Error>;

    /// The tenant's audit stream where the caller may read it, i.e. has the role admin.
    fn audit(&self) -> Result<Option<Arc<dyn EventTable>>, Error>;
}

/// The events of one stream in a [`Cut`], reached by block.
pub trait EventTable: Send + Sync {
    /// The stream's name as it was created.
    fn name(&self) -> &str;

    /// The class of its data.
    fn data_class(&self) -> DataClass;

    /// How many events the cut holds: their ids are `0..count`.
    fn count(&self) -> u64;

    /// The first id whose timestamp is at or after `timestamp_ns`; `count` where there is none.
    fn first_id_at_or_after(&self, timestamp_ns: u64) -> Result<u64, Error>;

    /// Reads whole raw blocks, at least one and about `max_bytes` in all: the one that holds event
    /// `id`, which is below `count`, and those after it, or, `backwards`, that one and those before
    /// it. The bytes are in ascending order either way; beside them, how many blocks they are.
    fn load(&self, id: u64, max_bytes: usize, backwards: bool) -> Result<(Bytes, usize), Error>;
}

/// What one query may use.
#[derive(Clone, Debug)]
pub struct QueryLimits {
    /// How long it may take from `prepare` on, beyond which it fails with TIMEOUT.
    pub timeout_ms: u64,
    /// How much memory it may hold, beyond which it fails with LIMIT_EXCEEDED.
    pub memory_bytes: u64,
    /// How many rows it may return, beyond which it fails with LIMIT_EXCEEDED.
    pub rows: u64,
    /// What it takes memory from beyond its first MiB, with others; OVERLOADED where that has none
    /// left. Without it only its own bound counts.
    pub shared: Option<Arc<SharedMemory>>,
}

impl Default for QueryLimits {
    fn default() -> QueryLimits {
        QueryLimits { timeout_ms: 30_000, memory_bytes: 64 << 20, rows: 10_000_000, shared: None }
    }
}

/// A stream that a statement reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableRead {
    /// The stream's name as it was created.
    pub name: String,
    /// The class of its data.
    pub data_class: DataClass,
}
