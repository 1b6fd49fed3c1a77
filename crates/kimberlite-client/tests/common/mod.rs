//! What the tests of the client share.
#![allow(dead_code)]

use kimberlite_client::{CallOptions, Config, EventBatch, Page, blocking};

/// Options that ask nothing.
pub const NONE: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };

/// A client of a memory of its own.
pub fn memory() -> blocking::Client {
    blocking::Client::connect(Config::new(["memory:"])).expect("a memory opens")
}

/// Events that tell which they are.
pub fn events(range: std::ops::Range<u64>) -> EventBatch {
    EventBatch::from_events(range.map(|i| format!("{{\"n\":{i}}}"))).expect("within the limits")
}

/// The data of a page's events as text.
pub fn texts(page: &Page) -> Vec<String> {
    page.iter().map(|event| String::from_utf8_lossy(event).into_owned()).collect()
}

/// What [`texts`] gives for [`events`].
pub fn expected(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|i| format!("{{\"n\":{i}}}")).collect()
}
