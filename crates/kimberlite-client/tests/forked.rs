//! After a fork every call fails at once. In a file of its own: the mark stays for the process.

mod common;

use common::{NONE, connect, events, memory, server, stream};
use kimberlite_client::blocking::Client;
use kimberlite_client::{Config, ErrorCode, ExpectedOffset, process};

/// Once the process is marked as forked, nothing works and nothing hangs, through any door.
#[test]
fn every_call_fails() {
    let server = server();
    let clients = [connect(&server), memory()];
    let streams: Vec<_> = clients.iter().map(|client| stream(client, "s")).collect();
    let subscriptions: Vec<_> = clients
        .iter()
        .zip(&streams)
        .map(|(client, s)| client.subscribe(*s, 0, &NONE).expect("subscribes"))
        .collect();
    process::mark_forked();
    for ((client, s), subscription) in clients.iter().zip(&streams).zip(&subscriptions) {
        let codes = [
            client.append(*s, ExpectedOffset::Any, events(0..1), &NONE).map(|_| ()),
            client.read(*s, 0, 1, 0, &NONE).map(|_| ()),
            client.list_streams(&NONE).map(|_| ()),
            subscription.next(None).map(|_| ()),
            client.close(1_000),
            Client::connect(Config::new(["memory:"])).map(|_| ()),
        ]
        .map(|outcome| outcome.expect_err("forked").code);
        assert!(codes.iter().all(|code| *code == ErrorCode::Forked), "{codes:?}");
    }
    drop((clients, subscriptions));
}
