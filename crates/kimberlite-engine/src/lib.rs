//! Kimberlite's tenants, streams and SQL over its log: one [`Engine::handle`] behind every door.
//!
//! Requests that change something go through one queue to the thread `kimberlite-commit`, which
//! judges them, writes them to the log in groups, applies them and answers once they are durable.
//! Reads look at the applied state alone and take no part in that.
#![deny(unsafe_code)]

mod answer;
mod clock;
mod engine;
mod options;
mod session;
pub mod sql;

pub use answer::{Answer, BoxFuture, PayloadStream};
pub use clock::{Clock, SystemClock};
pub use engine::Engine;
pub use options::{EngineOptions, Storage};
pub use session::Session;
