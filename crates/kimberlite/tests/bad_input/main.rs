//! Bad input for every public function of the crates: each is refused with the right error, which
//! names the field and its bound, and none panics. Whoever adds a public function adds a row to its
//! crate's file here, or a reason to the list of exempt ones at its end.
#![cfg(feature = "embedded")]

mod client;
mod engine;
mod friendly;
mod log;
mod server;
mod surface;
mod table;
mod wire;

use kimberlite_wire::ErrorCode;

/// For refusals of the layers that know no codes yet.
const NO_CODE: Option<ErrorCode> = None;

/// A public function without a row or a reason fails its crate's test.
#[test]
#[should_panic(expected = "Client::create_stream has no row with bad input")]
fn a_function_without_a_row_is_noticed() {
    table::Table::new("kimberlite").finish(&[]);
}

/// The sources are read as a caller sees them: through re-exports, inside public modules, and
/// without what is private or takes nothing.
#[test]
fn public_functions_are_found() {
    let wire = surface::functions("kimberlite-wire");
    for name in ["EventBatch::from_packed", "block::BlockView::parse", "session::Session::call"] {
        assert!(wire.contains(name), "{name}");
    }
    for name in ["EventBatch::checked", "EventBatch::count", "events::EventBatch::slice"] {
        assert!(!wire.contains(name), "{name}");
    }
    let client = surface::functions("kimberlite-client");
    assert!(client.contains("Client::append") && client.contains("blocking::Client::append"));
    assert!(!client.iter().any(|name| name.contains("Door")));
}
