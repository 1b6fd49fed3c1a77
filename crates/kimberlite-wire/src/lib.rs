//! Kimberlite's protocol: messages, frames, blocks, and the session that speaks them.
//!
//! Nothing here does I/O, reads a clock, starts a thread or draws randomness, so that the same code
//! runs under tokio, in a browser and in a seeded simulation. docs/PROTOCOL.md describes the bytes.
#![forbid(unsafe_code)]

pub mod block;
pub mod codec;
mod error;
pub mod events;
pub mod frame;
mod generated;
pub mod producer;
pub mod rows;
pub mod session;
mod value;

pub use error::{AppendKey, Error};
pub use events::EventBatch;
pub use generated::*;
pub use value::Value;
