//! How an engine is opened.

use std::path::PathBuf;
use std::sync::Arc;

use kimberlite_log::Disk;

use crate::clock::{Clock, SystemClock};

/// Where the log lives.
#[derive(Clone, Debug)]
pub enum Storage {
    /// In a folder, which is created where it does not exist and locked while the engine is open.
    Folder(PathBuf),
    /// In this process's memory; gone when the engine closes.
    Memory,
    /// On a disk of the caller's own, which tests use to fail at will.
    Disk(Arc<dyn Disk>),
}

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct EngineOptions {
    /// Where the log lives. In memory unless told otherwise.
    pub storage: Storage,
    /// The size of a segment of the log, in bytes.
    pub segment_bytes: u64,
    /// How long one query may take, in milliseconds; a caller's deadline can only shorten it.
    pub query_timeout_ms: u64,
    /// How much memory one query may hold, in bytes. Grouping by a JSON field sorts whole events:
    /// a million of 100 bytes take about 160 MiB.
    pub query_memory_bytes: u64,
    /// How much memory all queries together may hold, in bytes, beside 1 MiB for each. Beyond it a
    /// query that needs more fails with OVERLOADED.
    pub query_total_memory_bytes: u64,
    /// The same for the queries of one tenant.
    pub query_tenant_memory_bytes: u64,
    /// How many rows one query may return.
    pub query_rows: u64,
    /// How many queries run at a time, at most, each on a thread, which start when they are needed.
    /// A query that waits for its reader to take rows does not count, nor does one that cannot be
    /// stopped at the end of its time; there may be 96 of those, and a tenant gets at most half of
    /// what the others leave. Where there are three or more, one tenant's queries get all but one
    /// of them.
    pub query_threads: usize,
    /// How many queries that have run for a second may go on beside those, on threads of their own,
    /// while others wait; at most half of them are one tenant's.
    pub query_slow_threads: usize,
    /// For how long, in milliseconds, one audit record covers what a principal repeats: reads of
    /// one stream, or one statement.
    pub audit_window_ms: u64,
    /// How much memory the parts of the index that were used last may take, in bytes. What the
    /// newest segments hold is indexed in memory beside it.
    pub index_cache_bytes: u64,
    /// How many streams a tenant may have beside its audit stream. Each takes about 1 KB of memory
    /// for as long as its tenant exists.
    pub streams_per_tenant: u64,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

impl Default for EngineOptions {
    fn default() -> EngineOptions {
        EngineOptions {
            storage: Storage::Memory,
            segment_bytes: 64 << 20,
            query_timeout_ms: 30_000,
            query_memory_bytes: 256 << 20,
            query_total_memory_bytes: 512 << 20,
            query_tenant_memory_bytes: 384 << 20,
            query_rows: 10_000_000,
            query_threads: 2,
            query_slow_threads: 0,
            audit_window_ms: 60_000,
            index_cache_bytes: 16 << 20,
            streams_per_tenant: 200_000,
            clock: Arc::new(SystemClock),
        }
    }
}

impl EngineOptions {
    /// The defaults over a folder.
    pub fn folder(path: impl Into<PathBuf>) -> EngineOptions {
        EngineOptions { storage: Storage::Folder(path.into()), ..EngineOptions::default() }
    }
}
