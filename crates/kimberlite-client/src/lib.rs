//! Kimberlite's client core: one object, safe from every thread, that reaches a database over TCP
//! or TLS or opens one inside this process.
//!
//! [`Client`] is asynchronous and works under any executor: sockets and clocks live on two threads
//! named `kimberlite-io`, which all clients of the process share. [`blocking::Client`] is the same
//! for synchronous callers. Every call has a deadline; dropping a call's future cancels it.
//!
//! The crate `kimberlite` puts a friendlier face on this one, and `kimberlite-ffi` the C ABI.

mod address;
mod ahead;
pub mod blocking;
mod blocks;
mod cells;
mod client;
mod config;
mod deadlines;
mod door;
#[cfg(feature = "embedded")]
mod embedded;
#[cfg(feature = "embedded")]
mod offload;
mod page;
mod pages;
mod park;
pub mod process;
mod query;
mod remote;
pub mod runtime;
#[cfg(all(test, shuttle))]
#[path = "../../../reliability/schedules.rs"]
mod schedules;
mod stop;
mod subscription;
mod sync;
mod verify;

pub use blocks::Blocks;
pub use cells::{ColumnRef, FromCell, FromRow};
pub use client::{Appended, Client, StreamId};
pub use config::{At, CallOptions, Config, ExpectedOffset};
pub use kimberlite_wire::block::{BlockView, Hash};
pub use kimberlite_wire::rows::{RowBatch, ValueRef};
pub use kimberlite_wire::{
    AppendKey, ClientOptions, Column, DataClass, Error, ErrorCode, EventBatch, Role, StreamInfo,
    Value, ValueType, VerifyResponse, constant, limit,
};
pub use page::{Event, Page, trim_page_pool};
pub use pages::Pages;
pub use park::block_on;
pub use query::{QueryResult, Row, RowCursor};
pub use stop::Stop;
pub use subscription::Subscription;
pub use verify::{VerifiedHead, genesis_of, verify_blocks};
