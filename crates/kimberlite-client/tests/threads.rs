//! How many threads the client starts. In a file of its own: other tests start them too.
#![cfg(target_os = "linux")]

mod common;

use common::{NONE, config, connect, server, stream};
use kimberlite_client::runtime::IO_THREAD_NAME;

/// How many threads of the process have this name.
fn threads_named(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").expect("the kernel tells");
    let names = tasks.flatten().map(|task| std::fs::read_to_string(task.path().join("comm")));
    names.flatten().filter(|comm| comm.trim() == name).count()
}

/// However many clients there are, two threads serve them; name lookups leave nothing behind.
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
    assert_eq!(threads_named(IO_THREAD_NAME), 2);
    named.close(5_000).expect("it closes");
    // They rest for a second in case there is more to look up.
    let patience = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while threads_named("kimberlite-wait") > 0 {
        assert!(std::time::Instant::now() < patience, "a thread that looked a name up stays");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}
