//! Kimberlite's C ABI: what every SDK but Rust's and WebAssembly's stands on. kimberlite-ffi.h, which
//! is generated from these files, is its reference; spec/api.toml lists it and freezes its layouts.
//!
//! One file holds one C type with its functions. Every export goes through `boundary`, which catches
//! panics and refuses forked children; every pointer and text goes through `arguments`; objects that
//! can be closed are handles (`handle`), results are plain heap objects that are freed once.
// An export's documentation says for each pointer what it must be; a section `Safety` would repeat it.
#![allow(clippy::missing_safety_doc)]
// A C function takes what it needs one by one: structs by value are not for every language.
#![allow(clippy::too_many_arguments)]

mod append;
mod arguments;
mod arrow;
mod blocks;
mod boundary;
mod call;
mod client;
mod closable;
mod completion;
mod cursor;
mod detail;
mod generated;
mod handle;
mod library;
mod log;
mod operation;
mod options;
mod page;
mod pin;
mod query;
mod query_result;
mod queue;
mod read_into;
mod read_result;
mod reader;
#[cfg(all(test, shuttle))]
#[path = "../../../reliability/schedules.rs"]
mod schedules;
mod stream;
mod submit;
mod subscription;
mod sync;
mod tenant;
#[cfg(feature = "test-panic")]
mod test_panic;
mod texts;
mod verification;
mod wake_fd;
mod watch;

pub use append::*;
pub use arrow::*;
pub use blocks::*;
pub use call::KmbCallOptions;
pub use client::*;
pub use completion::{KmbCompletion, kmb_completion_free};
pub use cursor::*;
pub use detail::*;
pub use generated::*;
pub use library::*;
pub use log::*;
pub use operation::kmb_cancel;
pub use options::*;
pub use page::*;
pub use query::*;
pub use query_result::*;
pub use queue::*;
pub use read_into::*;
pub use read_result::*;
pub use reader::*;
pub use stream::*;
pub use subscription::*;
pub use tenant::*;
pub use verification::*;
