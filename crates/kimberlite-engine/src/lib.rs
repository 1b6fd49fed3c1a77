//! Kimberlite's tenants, streams and SQL over its log: one [`Engine::handle`] behind every door.
//!
//! Requests that change something go through one queue to the thread `kimberlite-commit`, which
//! judges them, writes them to the log in groups, applies them and answers once they are durable.
//! Reads look at the applied state alone and take no part in that.
#![deny(unsafe_code)]

mod answer;
mod audit;
mod audit_record;
mod authority;
mod blocking;
mod blocks;
mod buffers;
mod catalogue;
mod chunked;
mod clock;
mod command;
mod commit;
mod core;
mod cut;
mod decide;
mod direct;
mod engine;
#[cfg(all(test, shuttle))]
mod engine_schedules;
mod job;
mod loader;
mod names;
mod options;
mod pipe;
mod places;
mod pool;
mod producers;
mod query;
mod queue;
mod read;
mod reply;
mod runs;
#[cfg(all(test, shuttle))]
#[path = "../../../reliability/schedules.rs"]
mod schedules;
mod sequencer;
mod session;
pub mod sql;
mod staged;
mod state;
mod state_body;
mod stats;
mod stream;
mod subscribe;
mod sync;
mod verify;
mod wait;
mod waiters;
mod write;

pub use answer::{Answer, BoxFuture, PayloadStream};
pub use blocking::blocking;
pub use clock::{Clock, SystemClock};
pub use engine::{Engine, make_folder};
#[cfg(unix)]
pub use kimberlite_log::held_locks;
pub use options::{EngineOptions, Storage};
pub use session::Session;
pub use stats::{CommitStats, Histogram, Load};
