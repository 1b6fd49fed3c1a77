//! What the fuzz targets do with an input: one module a target, each with a `run` that returns
//! where every promise held and panics where one did not.
//!
//! The functions stand in a library so that the seeds are also replayed on stable Rust, by
//! `tests/replay.rs`. README.md tells how to run, extend and trust them.

pub mod blocks;
pub mod config;
pub mod ffi;
pub mod frames;
mod input;
pub mod log;
pub mod messages;
pub mod session;
pub mod sql;

/// A target: its name and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 8] = [
    ("frames", frames::run),
    ("blocks", blocks::run),
    ("messages", messages::run),
    ("session", session::run),
    ("log", log::run),
    ("sql", sql::run),
    ("config", config::run),
    ("ffi", ffi::run),
];

/// Whether the bugs are planted that the targets must find.
pub const PLANTED: bool = cfg!(feature = "planted");
