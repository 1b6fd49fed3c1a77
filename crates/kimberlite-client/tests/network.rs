//! Networks that fail: dead addresses, cut, slow and silent connections, servers that come back.

mod common;

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::proxy::Proxy;
use common::{NONE, TOKEN, config, connect, events, expected, server, stream, texts};
use kimberlite_client::blocking::Client;
use kimberlite_client::{
    CallOptions, Config, Error, ErrorCode, EventBatch, ExpectedOffset, Stop, StreamId, block_on,
};
use kimberlite_server::{Server, ServerConfig};

fn through(proxy: &Proxy) -> Config {
    let mut config = Config::new([proxy.address()]).token(TOKEN);
    config.options.reconnect_backoff_ms = 10;
    config
}

/// A port where nobody listens.
fn dead_address() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address")
}

/// All events of a stream as numbers.
fn numbers(client: &Client, s: StreamId) -> Vec<u64> {
    let pages = client.pages(s, 0, 10_000).map(|page| page.expect("a page"));
    pages.flat_map(|page| texts(&page)).map(|text| text.parse().expect("a number")).collect()
}

fn number(n: u64) -> EventBatch {
    EventBatch::from_events([n.to_string()]).expect("fits")
}

/// A dead address is passed over, whichever place it has; where all are dead, each is named with
/// its cause.
#[test]
fn dead_addresses_are_passed_over() {
    let server = server();
    let (dead, alive) = (dead_address().to_string(), server.local_addr().to_string());
    for addresses in [[&dead, &alive], [&alive, &dead]] {
        let started = Instant::now();
        let client =
            Client::connect(Config::new(addresses.map(String::clone)).token(TOKEN)).expect("one");
        assert!(started.elapsed() < Duration::from_secs(2));
        stream(&client, "s");
    }
    let other = dead_address().to_string();
    let e = Client::connect(Config::new([dead.clone(), other.clone()])).expect_err("all dead");
    assert_eq!(e.code, ErrorCode::ConnectionFailed);
    assert!(e.detail.contains(&dead) && e.detail.contains(&other), "{e}");
    assert!(e.detail.contains("refused"), "{e}");
}

/// An address that swallows everything costs its share of the time, and the other one is used.
#[test]
fn a_silent_address_is_passed_over() {
    let server = server();
    let hole = Proxy::start(server.local_addr());
    hole.black_hole(true);
    let config = Config::new([hole.address(), server.local_addr().to_string()]).token(TOKEN);
    let started = Instant::now();
    let client = Client::connect(config).expect("the second one answers");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    stream(&client, "s");
    let e = Client::connect(through(&hole).connect_timeout_ms(400)).expect_err("silence");
    assert_eq!(e.code, ErrorCode::ConnectionFailed);
}

/// Wrong tokens and tenants are said at once, and by name.
#[test]
fn refusals_are_final() {
    let server = server();
    let started = Instant::now();
    let e = Client::connect(config(&server).token("wrong")).expect_err("refused");
    assert_eq!(e.code, ErrorCode::AuthFailed);
    assert!(!e.to_string().contains("wrong"), "a token is in no error: {e}");
    let e = Client::connect(config(&server).tenant(42)).expect_err("refused");
    assert_eq!(e.code, ErrorCode::TenantNotFound);
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Two listeners of one database are two ways to it; when the one in use goes silent, work goes on
/// through the other.
#[test]
fn fails_over_between_two_ways_to_one_database() {
    let server = server();
    let (one, two) = (Proxy::start(server.local_addr()), Proxy::start(server.local_addr()));
    let mut config = Config::new([one.address(), two.address()]).token(TOKEN);
    config.options.reconnect_backoff_ms = 10;
    config.options.keepalive_ms = 200;
    let client = Client::connect(config).expect("connects");
    let s = stream(&client, "s");
    for n in 0..60 {
        if n == 20 {
            one.cut();
            one.refuse(true);
        }
        if n == 40 {
            one.refuse(false);
            two.black_hole(true);
        }
        let done = client.append(s, ExpectedOffset::Exact(n), number(n), &NONE);
        assert_eq!(done.expect("done").first_offset, n);
    }
    assert_eq!(numbers(&client, s), (0..60).collect::<Vec<_>>());
}

/// A client refuses an address that serves another database, and names both.
#[test]
fn another_database_is_refused() {
    let (one, two) = (server(), server());
    let proxy = Proxy::start(one.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    stream(&client, "s");
    proxy.retarget(two.local_addr());
    proxy.cut();
    // The client sees the cut first: a call that is sent into it may have happened.
    thread::sleep(Duration::from_millis(150));
    let options = CallOptions { timeout_ms: Some(700), ..NONE };
    let e = client.list_streams(&options).expect_err("another database");
    assert_eq!(e.code, ErrorCode::ClusterUnavailable, "{e}");
    let hex = |id: [u8; 16]| id.map(|byte| format!("{byte:02x}")).concat();
    let text = e.detail.replace('-', "");
    assert!(text.contains(&hex(client.log_id())), "{e}");
    assert!(text.contains(&hex(connect(&two).log_id())), "{e}");
}

/// A silent server costs no more than the deadline; an append says that its outcome is unknown, and
/// its key settles it.
#[test]
fn deadlines_fire_in_silence() {
    let server = server();
    let proxy = Proxy::start(server.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    client.append(s, ExpectedOffset::Any, number(0), &NONE).expect("done");
    proxy.black_hole(true);
    let options = CallOptions { timeout_ms: Some(300), ..NONE };
    let started = Instant::now();
    let e = client.read(s, 0, 1, 0, &options).expect_err("silence");
    assert_eq!(e.code, ErrorCode::Timeout);
    let waited = started.elapsed();
    assert!((295..2000).contains(&waited.as_millis()), "{waited:?}");
    let e = client.append(s, ExpectedOffset::Any, number(1), &options).expect_err("silence");
    assert_eq!(e.code, ErrorCode::Timeout);
    let key = e.outcome_unknown.expect("it was sent");
    proxy.black_hole(false);
    proxy.cut();
    for _ in 0..2 {
        let done = client.append_with_key(key, s, ExpectedOffset::Any, number(1), &NONE);
        assert_eq!(done.expect("settled").first_offset, 1);
    }
    assert_eq!(numbers(&client, s), [0, 1]);
}

/// A stopped append ends at once with CANCELLED, and with the key that settles it.
#[test]
fn a_stopped_append_tells_its_key() {
    let server = server();
    let proxy = Proxy::start(server.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    client.append(s, ExpectedOffset::Any, number(0), &NONE).expect("done");
    proxy.black_hole(true);
    let stop = Arc::new(Stop::default());
    let stopper = Arc::clone(&stop);
    let stopping = thread::spawn(move || {
        thread::sleep(Duration::from_millis(100));
        stopper.request();
    });
    let started = Instant::now();
    let core = client.to_async();
    let any = ExpectedOffset::Any;
    let e = block_on(core.append_until(&stop, None, s, any, number(1), &NONE));
    let e = e.expect_err("stopped");
    assert_eq!(e.code, ErrorCode::Cancelled);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    stopping.join().expect("no panic");
    proxy.black_hole(false);
    proxy.cut();
    let key = e.outcome_unknown.expect("it was sent");
    let done = client.append_with_key(key, s, any, number(1), &NONE).expect("settled");
    assert_eq!(done.first_offset, 1);
    assert_eq!(numbers(&client, s), [0, 1]);
}

/// Where no server can be reached any more, a call that was not sent says so, within its deadline.
#[test]
fn a_lost_server_is_unavailable() {
    let server = server();
    let client = connect(&server);
    let s = stream(&client, "s");
    server.shutdown(Duration::from_secs(1)).expect("it stops");
    let options = CallOptions { timeout_ms: Some(400), ..NONE };
    let started = Instant::now();
    for _ in 0..2 {
        let e = client.append(s, ExpectedOffset::Any, number(1), &options).expect_err("gone");
        assert_eq!(e.code, ErrorCode::ClusterUnavailable, "{e}");
        assert!(e.is_retryable() && e.outcome_unknown.is_none(), "{e:?}");
    }
    let e = client.subscribe(s, 0, &options).expect_err("gone");
    assert_eq!(e.code, ErrorCode::ClusterUnavailable, "{e}");
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Connections are cut again and again in the middle of frames while several threads append and one
/// subscribes: every append happens once, in each thread's order, and the subscription sees all of
/// it in order, once.
#[test]
fn cuts_lose_and_duplicate_nothing() {
    const THREADS: u64 = 4;
    const EACH: u64 = 150;
    let server = server();
    let proxy = Arc::new(Proxy::start(server.local_addr()));
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    let done = Arc::new(AtomicBool::new(false));
    let cutter = {
        let (proxy, done) = (Arc::clone(&proxy), Arc::clone(&done));
        thread::spawn(move || {
            for round in 0u64.. {
                if done.load(Ordering::SeqCst) {
                    return round;
                }
                thread::sleep(Duration::from_millis(15));
                proxy.cut_after(1 + round * 7919 % 9000);
            }
            0
        })
    };
    let subscription = client.subscribe(s, 0, &NONE).expect("subscribes");
    let writers: Vec<_> = (0..THREADS)
        .map(|t| {
            let client = client.clone();
            thread::spawn(move || {
                for i in 0..EACH {
                    let n = number(t * 1_000_000 + i);
                    client.append(s, ExpectedOffset::Any, n, &NONE).expect("done in the end");
                }
            })
        })
        .collect();
    let mut followed: Vec<u64> = Vec::new();
    while (followed.len() as u64) < THREADS * EACH {
        let page = subscription.next(Some(Duration::from_secs(20))).expect("it outlives cuts");
        let page = page.expect("in time");
        assert_eq!(page.first_offset(), followed.len() as u64);
        followed.extend(texts(&page).iter().map(|text| text.parse::<u64>().expect("a number")));
    }
    writers.into_iter().for_each(|writer| writer.join().expect("no panic"));
    done.store(true, Ordering::SeqCst);
    assert!(cutter.join().expect("no panic") > 5, "there were cuts");
    proxy.cut_after(0);
    assert_eq!(numbers(&client, s), followed);
    assert_eq!(followed.iter().collect::<BTreeSet<_>>().len() as u64, THREADS * EACH);
    for t in 0..THREADS {
        let own: Vec<u64> = followed.iter().copied().filter(|n| n / 1_000_000 == t).collect();
        assert!(own.is_sorted(), "one thread's appends keep their order");
    }
}

/// A server is stopped and started again, in one folder, in the middle of appends: none is lost,
/// none happens twice, and the client and its subscription go on by themselves.
#[test]
fn a_restarted_server_loses_and_duplicates_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let start = || {
        let config = ServerConfig {
            memory: false,
            data_dir: folder.path().to_path_buf(),
            ..ServerConfig::development(TOKEN)
        };
        Server::start(config).expect("a server starts")
    };
    let mut server = start();
    let proxy = Proxy::start(server.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    let subscription = client.subscribe(s, 0, &NONE).expect("subscribes");
    let writer = {
        let client = client.clone();
        thread::spawn(move || {
            for n in 0..300 {
                client.append(s, ExpectedOffset::Exact(n), number(n), &NONE).expect("done");
            }
        })
    };
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(60));
        server.shutdown(Duration::from_millis(50)).expect("it stops");
        server = start();
        proxy.retarget(server.local_addr());
    }
    writer.join().expect("no panic");
    assert_eq!(numbers(&client, s), (0..300).collect::<Vec<_>>());
    let mut followed = Vec::new();
    while followed.len() < 300 {
        let page = subscription.next(Some(Duration::from_secs(20))).expect("it goes on");
        followed.extend(texts(&page.expect("in time")));
    }
    assert_eq!(followed, (0..300).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Closing completes pending calls with CLOSED at once, also where the server is silent; an append
/// that was sent carries its key, and later calls fail likewise.
#[test]
fn close_completes_pending_calls() {
    let server = server();
    let proxy = Proxy::start(server.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    client.append(s, ExpectedOffset::Any, number(0), &NONE).expect("done");
    let subscription = client.subscribe(s, 1, &NONE).expect("subscribes");
    proxy.black_hole(true);
    let calls: Vec<thread::JoinHandle<Error>> = vec![
        spawn_with(&client, move |c| c.read(s, 0, 1, 0, &NONE).map(|_| ())),
        spawn_with(&client, move |c| {
            c.append(s, ExpectedOffset::Any, number(1), &NONE).map(|_| ())
        }),
        spawn_with(&client, move |c| c.subscribe(s, 0, &NONE).map(|_| ())),
        thread::spawn(move || subscription.next(None).map(|_| ()).expect_err("closed")),
    ];
    thread::sleep(Duration::from_millis(200));
    let started = Instant::now();
    client.close(5_000).expect("it closes");
    let errors: Vec<Error> = calls.into_iter().map(|c| c.join().expect("no panic")).collect();
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    assert!(errors.iter().all(|e| e.code == ErrorCode::Closed), "{errors:?}");
    assert!(errors[1].outcome_unknown.is_some());
    assert_eq!(client.list_streams(&NONE).expect_err("closed").code, ErrorCode::Closed);
    client.close(5_000).expect("a second close is fine");
}

fn spawn_with<T>(
    client: &Client,
    call: impl FnOnce(Client) -> Result<T, Error> + Send + 'static,
) -> thread::JoinHandle<Error>
where
    T: std::fmt::Debug,
{
    let client = client.clone();
    thread::spawn(move || call(client).expect_err("closed"))
}

/// Dropping a future cancels its call at the server too: a query that would run for long gives its
/// thread back, so that others are answered at once.
#[test]
fn dropping_a_future_cancels_the_call() {
    let server = server();
    let client = connect(&server);
    let s = stream(&client, "s");
    client.append(s, ExpectedOffset::Any, events(0..5000), &NONE).expect("done");
    let sql = "SELECT count(*) FROM s a, s b, s c WHERE a.text || b.text || c.text = 'x'";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let slow = client.to_async();
    for _ in 0..4 {
        runtime.block_on(async {
            let query = slow.query(sql, &[], kimberlite_client::At::Now, &NONE);
            let cut = tokio::time::timeout(Duration::from_millis(100), query).await;
            assert!(cut.is_err(), "it runs for long");
        });
    }
    let started = Instant::now();
    let quick = client.query("SELECT 1", &[], kimberlite_client::At::Now, &NONE);
    assert_eq!(quick.expect("rows").row_count(), 1);
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
}

/// A slow line slows calls but breaks none, and many are under way at a time.
#[test]
fn a_slow_line_pipelines() {
    let server = server();
    let proxy = Proxy::start(server.local_addr());
    let client = Client::connect(through(&proxy)).expect("connects");
    let s = stream(&client, "s");
    client.append(s, ExpectedOffset::Any, events(0..100), &NONE).expect("done");
    proxy.delay_ms(30);
    let started = Instant::now();
    let threads: Vec<_> = (0..16)
        .map(|_| {
            let client = client.clone();
            thread::spawn(move || {
                let page = client.read(s, 0, 100, 0, &NONE).expect("a page");
                assert_eq!(texts(&page), expected(0..100));
            })
        })
        .collect();
    threads.into_iter().for_each(|t| t.join().expect("no panic"));
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
}
