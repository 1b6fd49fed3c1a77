//! What the client does to its process: threads, runtimes, forks.

mod common;

use std::time::Duration;

use common::{NONE, config, connect, events, memory, server, stream};
use kimberlite_client::{Client, ErrorCode, ExpectedOffset, block_on};

/// How many threads of the process have this name.
#[cfg(target_os = "linux")]
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the kernel tells");
    let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.flatten().filter(|comm| comm.trim() == name).count()
}

/// However many clients there are, two threads serve them; name lookups leave nothing behind.
#[cfg(target_os = "linux")]
#[test]
fn two_threads_serve_all_clients() {
    let server = server();
    let clients: Vec<_> = (0..20).map(|_| connect(&server)).collect();
    let port = server.local_addr().port();
    let mut by_name = config(&server);
    by_name.addresses = vec![format!("localhost:{port}")];
    let named = kimberlite_client::blocking::Client::connect(by_name).expect("connects");
    let _subscriptions: Vec<_> = clients
        .iter()
        .map(|client| client.subscribe(stream(client, "s"), 0, &NONE).expect("subscribes"))
        .collect();
    assert_eq!(threads_named("kimberlite-io"), 2);
    named.close(5_000).expect("it closes");
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(threads_named("kimberlite-dns"), 0);
}

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
