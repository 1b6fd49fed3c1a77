//! The client and its caller's runtime: it needs none, and minds none.

mod common;

use std::time::Duration;

use common::{NONE, config, connect, events, memory, server, stream};
use kimberlite_client::{Client, ErrorCode, ExpectedOffset, block_on};

/// The blocking client works on a thread of a runtime, where most blocking clients panic.
#[test]
fn blocking_works_inside_a_runtime() {
    let server = server();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        for client in [connect(&server), memory()] {
            let s = stream(&client, "s");
            client.append(s, ExpectedOffset::Any, events(0..3), &NONE).expect("done");
            assert_eq!(client.read(s, 0, 9, 0, &NONE).expect("a page").count(), 3);
            client.close(5_000).expect("it closes");
        }
    });
}

/// The asynchronous client needs no runtime of its caller's.
#[test]
fn async_works_without_a_runtime() {
    let server = server();
    block_on(async {
        let client = Client::connect(config(&server)).await.expect("connects");
        let class = kimberlite_client::DataClass::NonPhi;
        let s = client.create_stream("s", class, &NONE).await.expect("a stream");
        client.append(s, ExpectedOffset::Any, events(0..3), &NONE).await.expect("done");
        let subscription = client.subscribe(s, 0, &NONE).await.expect("subscribes");
        subscription.ready().await;
        let page = subscription.try_next().expect("no error").expect("a page");
        assert_eq!(page.count(), 3);
        let nothing = subscription.next(Some(Duration::from_millis(20))).await;
        assert!(nothing.expect("no error").is_none());
        client.close(5_000).await.expect("it closes");
        let e = subscription.next(None).await.expect_err("closed");
        assert_eq!(e.code, ErrorCode::Closed);
    });
}
