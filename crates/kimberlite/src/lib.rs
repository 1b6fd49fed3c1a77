//! Kimberlite is a database of events that are never changed: streams that only grow, exactly-once
//! appends, live subscriptions, SQL over everything that was ever there and as of any moment, and a
//! hash chain that proves it.
//!
//! [`Client`] is asynchronous and works under any executor; [`blocking::Client`] is the same for
//! synchronous programs, safe even on a runtime's thread. Both reach a server (`host:port`,
//! `tls://host:port`) or open a database inside the process (`embedded:<folder>`, `memory:`).
//!
//! ```
//! use kimberlite::{DataClass, Error, Offset, blocking::Client};
//!
//! fn main() -> Result<(), Error> {
//!     let client = Client::connect("memory:")?;
//!     let visits = client.create_stream("visits", DataClass::NonPhi)?;
//!     client.append(visits, [r#"{"room": 7}"#, r#"{"room": 9}"#])?;
//!
//!     for event in client.read(visits, Offset::START, 100)?.events() {
//!         println!("{}: {}", event.offset, String::from_utf8_lossy(event.data));
//!     }
//!
//!     let rooms: Vec<(i64,)> = client.query_as(
//!         "SELECT json_extract(text, '$.room') FROM visits WHERE id >= ?",
//!         (1,),
//!     )?;
//!     assert_eq!(rooms, [(9,)]);
//!     client.close()
//! }
//! ```
//!
//! Every call has a deadline (30 s unless [`Config`] or [`Client::with_options`] says otherwise);
//! dropping a future cancels its call; lost connections are made anew without losing or repeating
//! anything. Errors say what was wrong and what to do, and whether a new attempt may succeed.
//!
//! A test gets a database of its own from [`testing::database`].
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod blocking;
mod client;
mod params;
#[cfg(feature = "embedded")]
pub mod testing;
mod types;

pub use client::Client;
pub use kimberlite_client::{
    AppendKey, At, BlockView, Blocks, CallOptions, ClientOptions, Column, ColumnRef, Config,
    DataClass, Error, ErrorCode, Event, EventBatch, FromCell, FromRow, Hash, Page, Pages,
    QueryResult, Role, Row, RowBatch, RowCursor, StreamId, StreamInfo, Subscription, Value,
    ValueRef, ValueType, VerifiedHead, VerifyResponse, genesis_of, limit, verify_blocks,
};
pub use params::{Param, Params};
pub use types::{Appended, Offset};

/// The whole client, with options for every single call.
pub use kimberlite_client as core;

/// Runs the README's examples.
#[cfg(all(doctest, feature = "embedded"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
