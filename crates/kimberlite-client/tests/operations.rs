//! Every operation means the same through every door: in memory, in a folder, over TCP, over TLS.

mod common;

use std::time::{Duration, Instant};

use common::{Door, NONE, doors, events, expected, stream, texts};
use kimberlite_client::{
    AppendKey, At, CallOptions, DataClass, ErrorCode, EventBatch, ExpectedOffset, Value, ValueRef,
    VerifiedHead, genesis_of, verify_blocks,
};

fn for_every_door(test: impl Fn(&Door)) {
    for door in doors() {
        eprintln!("through {}", door.name);
        test(&door);
        door.client.close(5_000).expect("it closes");
    }
}

/// Appends land where they say, refusals name the actual offset, and reads give back what was
/// appended, cut to what was asked for.
#[test]
fn appends_and_reads() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "visits");
        assert_eq!(client.create_stream("VISITS", DataClass::NonPhi, &NONE).ok(), Some(s));
        let e = client.create_stream("visits", DataClass::Phi, &NONE).expect_err("another class");
        assert_eq!(e.code, ErrorCode::StreamExists);
        let first = client.append(s, ExpectedOffset::Any, events(0..50), &NONE).expect("done");
        assert_eq!((first.first_offset, first.count), (0, 50));
        let second =
            client.append(s, ExpectedOffset::Exact(50), events(50..100), &NONE).expect("done");
        assert!(second.position > first.position && second.timestamp_ns >= first.timestamp_ns);
        let e = client.append(s, ExpectedOffset::Exact(7), events(0..1), &NONE).expect_err("gone");
        assert_eq!((e.code, e.value, e.outcome_unknown), (ErrorCode::OffsetMismatch, 100, None));

        let page = client.read(s, 0, 1000, 0, &NONE).expect("a page");
        assert_eq!(texts(&page), expected(0..100));
        assert_eq!((page.first_offset(), page.next_offset(), page.end_offset()), (0, 100, 100));
        assert_eq!(page.timestamps()[0], first.timestamp_ns);
        assert_eq!(page.timestamps()[99], second.timestamp_ns);
        assert_eq!(page.ends()[99] as usize, page.data().len());
        assert_eq!(page.lens().iter().sum::<u32>() as usize, page.data().len());
        let page = client.read(s, 45, 10, 0, &NONE).expect("a page");
        assert_eq!(texts(&page), expected(45..55));
        let page = client.read(s, 10, 1000, 20, &NONE).expect("a page");
        assert_eq!(texts(&page), expected(10..12), "16 bytes fit, 24 do not");
        let page = client.read(s, 10, 1000, 1, &NONE).expect("a page");
        assert_eq!(page.count(), 1, "at least one event");
        assert!(client.read(s, 100, 10, 0, &NONE).expect("the end").is_empty());
        let e = client.read(s, 101, 10, 0, &NONE).expect_err("beyond");
        assert_eq!((e.code, e.value), (ErrorCode::OffsetOutOfRange, 100));
        let e = client.read(s, 0, 0, 0, &NONE).expect_err("nothing asked for");
        assert_eq!(e.code, ErrorCode::InvalidArgument);
        let options = CallOptions { min_position: second.position, ..NONE };
        assert_eq!(client.read(s, 99, 10, 0, &options).expect("a page").count(), 1);
    });
}

/// Large answers come in many frames and are put together again; empty events stay events.
#[test]
fn large_and_empty_events() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "large");
        let large = vec![7u8; 3 << 20];
        for _ in 0..4 {
            let batch = EventBatch::from_events([&large[..], &[], &[1]]).expect("fits");
            client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
        }
        let page = client.read(s, 0, 100, 0, &NONE).expect("a page");
        assert_eq!(page.count(), 12);
        for round in 0..4 {
            assert!(page.event(3 * round) == Some(&large[..]));
            assert!(page.event(3 * round + 1) == Some(&[]));
            assert_eq!(page.event(3 * round + 2), Some(&[1][..]));
        }
        let eight = vec![9u8; 8 << 20];
        let batch = EventBatch::from_events([&eight]).expect("fits");
        client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
        assert!(client.read(s, 12, 1, 0, &NONE).expect("a page").event(0) == Some(&eight));
        let subscription = client.subscribe(s, 12, &NONE).expect("subscribes");
        let page = subscription.next(Some(Duration::from_secs(10))).expect("no error");
        assert!(page.expect("a page").event(0) == Some(&eight), "larger than the window of credit");
    });
}

/// Raw blocks prove themselves from the genesis on; one changed bit is found.
#[test]
fn blocks_prove_themselves() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "proven");
        for i in 0..20 {
            let batch = events(i * 10..i * 10 + 10);
            client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
        }
        let info = client.stream_info(s, &NONE).expect("known");
        let mut proven = genesis_of(1, &info).expect("a class");
        while proven.next_offset < 200 {
            let blocks = client.read_blocks(s, proven.next_offset, 37, 0, &NONE).expect("blocks");
            assert_eq!(blocks.end_offset(), 200);
            proven = verify_blocks(proven, blocks.bytes()).expect("they prove themselves");
        }
        assert_eq!(proven, VerifiedHead { head: info.head, next_offset: 200 });
        let verified = client.verify(s, &NONE).expect("it walks");
        assert!(verified.valid && verified.count == 200 && verified.head == info.head);

        let blocks = client.read_blocks(s, 0, 1000, 0, &NONE).expect("blocks");
        let mut bytes = blocks.bytes().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        let start = genesis_of(1, &info).expect("a class");
        let e = verify_blocks(start, &bytes).expect_err("changed");
        assert_eq!(e.code, ErrorCode::Corruption);
        assert!(e.value < 200, "{e}");
        let other = VerifiedHead { head: [1; 32], next_offset: 0 };
        assert!(verify_blocks(other, blocks.bytes()).is_err(), "another stream's beginning");
    });
}

/// Pages walk over a whole stream and end at its end.
#[test]
fn pages_walk_to_the_end() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "walked");
        for i in 0..10 {
            client.append(s, ExpectedOffset::Any, events(i * 7..i * 7 + 7), &NONE).expect("done");
        }
        let pages: Vec<_> = client.pages(s, 5, 16).map(|page| page.expect("a page")).collect();
        assert_eq!(pages.iter().flat_map(texts).collect::<Vec<_>>(), expected(5..70));
        assert!(pages.iter().all(|page| page.count() <= 16));
        let errors: Vec<_> = client.pages(s, 99, 16).collect();
        assert!(errors.len() == 1 && errors[0].is_err(), "an error ends the walk");
    });
}

/// For a caller who takes his time the next page is read meanwhile, with the same result: nothing is
/// skipped or repeated, what is appended during the walk is found, and a walk may be left anywhere.
#[test]
fn slow_walks_read_ahead() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "slowly");
        client.append(s, ExpectedOffset::Any, events(0..40), &NONE).expect("done");
        let mut seen = Vec::new();
        for (turn, page) in client.pages(s, 0, 8).enumerate() {
            seen.extend(texts(&page.expect("a page")));
            std::thread::sleep(Duration::from_millis(2));
            if turn == 3 {
                client.append(s, ExpectedOffset::Any, events(40..47), &NONE).expect("done");
            }
        }
        assert_eq!(seen, expected(0..47));
        let mut left = client.pages(s, 0, 8);
        for _ in 0..3 {
            left.next().expect("more").expect("a page");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(left.next_offset(), 24);
    });
}

/// Typed cells by index and name, parameters of every type, results of a past cut.
#[test]
fn queries() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "visits");
        let first = client.append(s, ExpectedOffset::Any, events(0..10), &NONE).expect("done");
        client.append(s, ExpectedOffset::Any, events(10..30), &NONE).expect("done");
        let sql = "SELECT id, text, data AS raw, ? AS s, ?2 + 0.5 AS f, ?3 AS none, ?4 AS yes \
                   FROM visits WHERE id >= ?5 ORDER BY id";
        let params = [
            Value::String("hä".into()),
            Value::Int64(2),
            Value::Null,
            Value::Bool(true),
            Value::Int64(25),
        ];
        let result = client.query(sql, &params, At::Now, &NONE).expect("rows");
        assert_eq!((result.row_count(), result.column_count()), (5, 7));
        let row = result.row(1).expect("a row");
        assert_eq!(row.i64(0).ok(), Some(26));
        assert_eq!(row.str(1).ok(), Some("{\"n\":26}"));
        assert_eq!(row.bytes(2).ok(), Some(&b"{\"n\":26}"[..]));
        assert_eq!(row.value_by_name("S").ok(), Some(ValueRef::String("hä")));
        assert_eq!(row.f64(4).ok(), Some(2.5));
        assert_eq!((row.is_null(5).ok(), row.is_null(0).ok()), (Some(true), Some(false)));
        assert_eq!(row.bool(6).ok(), Some(true));
        let e = row.i64(1).expect_err("text");
        assert!(e.detail.contains("text") && !e.detail.contains("26"), "{e}");
        assert_eq!(row.value(7).expect_err("no such").code, ErrorCode::InvalidArgument);
        assert_eq!(row.value_by_name("x").expect_err("no").code, ErrorCode::InvalidArgument);
        assert_eq!(result.rows().count(), 5);
        assert!(result.row(5).is_none() && result.value(5, 0).is_err());

        let count = |at| {
            let result = client.query("SELECT count(*) FROM visits", &[], at, &NONE);
            result.map(|r| r.row(0).expect("a row").i64(0).expect("an integer"))
        };
        assert_eq!(count(At::Now).ok(), Some(30));
        assert_eq!(count(At::Position(first.position)).ok(), Some(10));
        let at = At::TimestampNs(u64::MAX);
        assert_eq!(count(at).expect_err("the future").code, ErrorCode::InvalidArgument);
        let e = client.query("SELEC 1", &[], At::Now, &NONE).expect_err("no SQL");
        assert_eq!(e.code, ErrorCode::QuerySyntax);
    });
}

/// A result that is too large for one answer says so, and a cursor gets all of it.
#[test]
fn cursors_get_what_is_too_large() {
    for_every_door(|Door { client, name, .. }| {
        let s = stream(client, "wide");
        client.append(s, ExpectedOffset::Any, events(0..1000), &NONE).expect("done");
        let sql = "SELECT a.id, hex(zeroblob(500)) AS pad FROM wide a, wide b LIMIT 80000";
        let e = client.query(sql, &[], At::Now, &NONE).expect_err("80 MB");
        assert_eq!(e.code, ErrorCode::LimitExceeded, "{name}: {e}");
        assert!(e.detail.contains("cursor"), "{e}");
        let mut cursor = client.query_cursor(sql, &[], At::Now, &NONE).expect("rows");
        assert_eq!(cursor.schema().column_index("PAD"), Some(1));
        let mut rows = 0;
        while let Some(batch) = cursor.next_batch().expect("a batch") {
            assert!(batch.rows().all(|row| row.str(1).is_ok_and(|pad| pad.len() == 1000)));
            rows += batch.row_count();
        }
        assert_eq!(rows, 80_000);
        assert!(cursor.next_batch().expect("still the end").is_none());

        let mut cursor = client.query_cursor(sql, &[], At::Now, &NONE).expect("rows");
        assert!(cursor.next_batch().expect("a batch").is_some());
        cursor.close();
        assert_eq!(cursor.next_batch().expect_err("closed").code, ErrorCode::Closed);
    });
}

/// A cursor's deadline is for each batch, through every door: a reader may pause for longer, and a
/// batch that does not come in time ends with TIMEOUT and stops the query, so that the next one
/// finds a thread to run on.
#[test]
fn a_cursor_s_deadline_is_for_each_batch() {
    let brief = CallOptions::timeout_ms(400);
    for_every_door(|Door { client, name, .. }| {
        let s = stream(client, "wide");
        client.append(s, ExpectedOffset::Any, events(0..1000), &NONE).expect("done");
        let sql = "SELECT a.id, hex(zeroblob(500)) AS pad FROM wide a, wide b LIMIT 20000";
        let mut cursor = client.query_cursor(sql, &[], At::Now, &brief).expect("rows");
        let mut rows = 0;
        while let Some(batch) = cursor.next_batch().expect("a batch") {
            if rows == 0 {
                std::thread::sleep(Duration::from_millis(600));
            }
            rows += batch.row_count();
        }
        assert_eq!(rows, 20_000, "{name}");

        let endless = "SELECT count(*) FROM wide a, wide b, wide c, wide d, wide e";
        for _ in 0..6 {
            let begun = Instant::now();
            let mut cursor = client.query_cursor(endless, &[], At::Now, &brief).expect("begun");
            let e = cursor.next_batch().expect_err("too long");
            assert_eq!(e.code, ErrorCode::Timeout, "{name}: {e}");
            assert!(e.detail.contains("400 ms"), "{name}: {e}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{name}: {:?}", begun.elapsed());
            assert_eq!(cursor.next_batch().expect_err("stopped").code, ErrorCode::Closed);
        }
        let one = client.query("SELECT 1", &[], At::Now, &NONE).expect("a thread is free");
        assert_eq!(one.row_count(), 1);
    });
}

/// A subscription gives what is there, then what comes, in order and once; a timeout gives nothing;
/// a close ends it.
#[test]
fn subscriptions_follow() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "followed");
        client.append(s, ExpectedOffset::Any, events(0..500), &NONE).expect("done");
        let subscription = client.subscribe(s, 100, &NONE).expect("subscribes");
        let writer = client.clone();
        let writing = std::thread::spawn(move || {
            for i in 50..100 {
                let batch = events(i * 10..i * 10 + 10);
                writer.append(s, ExpectedOffset::Exact(i * 10), batch, &NONE).expect("done");
            }
        });
        let mut seen = Vec::new();
        let mut kept = Vec::new();
        while seen.len() < 900 {
            let page = subscription.next(Some(Duration::from_secs(10))).expect("no error");
            let page = page.expect("a page in time");
            assert_eq!(page.first_offset(), 100 + seen.len() as u64);
            seen.extend(texts(&page));
            kept.push(page);
        }
        assert_eq!(seen, expected(100..1000));
        assert_eq!(subscription.next_offset(), 1000);
        writing.join().expect("no panic");
        let nothing = subscription.next(Some(Duration::from_millis(50))).expect("no error");
        assert!(nothing.is_none() && subscription.try_next().expect("no error").is_none());
        subscription.close();
        assert_eq!(subscription.next(None).expect_err("closed").code, ErrorCode::Closed);
        assert_eq!(texts(&kept[0])[0], expected(100..101)[0], "pages outlive it");
        let e = client.subscribe(s, 1001, &NONE).expect_err("beyond");
        assert_eq!(e.code, ErrorCode::OffsetOutOfRange);
    });
}

/// A reader that keeps every page still gets all events: pages that live on must not stop the rest.
#[test]
fn kept_pages_do_not_stop_a_subscription() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "kept");
        let megabyte = vec![3u8; 1 << 20];
        for _ in 0..20 {
            let batch = EventBatch::from_events([&megabyte]).expect("fits");
            client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
        }
        let subscription = client.subscribe(s, 0, &NONE).expect("subscribes");
        let mut kept = Vec::new();
        while kept.iter().map(|page: &kimberlite_client::Page| page.count()).sum::<usize>() < 20 {
            let page = subscription.next(Some(Duration::from_secs(10))).expect("no error");
            kept.push(page.expect("a page in time"));
        }
    });
}

/// The same key and events append once, whatever the number of attempts; other events are refused.
#[test]
fn a_key_appends_once() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "once");
        let producer_id = client.open_producer(&NONE).expect("a producer");
        let key = AppendKey { producer_id, sequence: 1 };
        let append = |key, range: std::ops::Range<u64>| {
            client.append_with_key(key, s, ExpectedOffset::Any, events(range), &NONE)
        };
        let first = append(key, 0..5).expect("done");
        assert_eq!(append(key, 0..5).ok(), Some(first));
        assert_eq!(append(key, 0..4).expect_err("others").code, ErrorCode::InvalidArgument);
        let second = append(AppendKey { producer_id, sequence: 2 }, 0..5).expect("done");
        assert_eq!((second.first_offset, append(key, 0..5).ok()), (5, Some(first)));
        assert_eq!(client.stream_info(s, &NONE).expect("known").next_offset, 10);
    });
}

/// A key whose producer or sequence is 0 belongs to no append, and is refused rather than taken for
/// a wish for a fresh number.
#[test]
fn a_key_of_zero_is_refused() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "zero");
        let producer_id = client.open_producer(&NONE).expect("a producer");
        for (producer_id, sequence, named) in
            [(0, 0, "key.producer_id"), (0, 1, "key.producer_id"), (producer_id, 0, "key.sequence")]
        {
            let key = AppendKey { producer_id, sequence };
            let any = ExpectedOffset::Any;
            let e = client.append_with_key(key, s, any, events(0..1), &NONE).expect_err("no key");
            assert_eq!((e.code, e.outcome_unknown), (ErrorCode::InvalidArgument, None));
            assert!(e.detail.contains(named), "{}", e.detail);
        }
        assert_eq!(client.stream_info(s, &NONE).expect("known").next_offset, 0);
    });
}

/// A caller that numbers its own appends is not held up by their number: after thousands, each of
/// the last 1,024 can still be asked for again, one before them cannot, and none is appended twice.
#[test]
fn an_own_producer_lives_on() {
    const MANY: u64 = 3_000;
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "own");
        let producer_id = client.open_producer(&NONE).expect("a producer");
        let append = |sequence: u64| {
            let key = AppendKey { producer_id, sequence };
            let batch = events(sequence..sequence + 1);
            client.append_with_key(key, s, ExpectedOffset::Any, batch, &NONE)
        };
        let done: Vec<_> = (1..=MANY).map(|sequence| append(sequence).expect("done")).collect();
        // From the newest to the oldest and back: no repeat closes the window for another.
        for sequence in [MANY, MANY - 1, MANY - 1_023, MANY - 500, MANY] {
            let again = append(sequence).expect("still known");
            assert_eq!(again, done[sequence as usize - 1], "sequence {sequence}");
        }
        let e = append(MANY - 1_024).expect_err("forgotten");
        assert_eq!(e.code, ErrorCode::InvalidArgument, "{}", e.detail);
        assert_eq!(append(MANY + 1).expect("done").first_offset, MANY);
        assert_eq!(client.stream_info(s, &NONE).expect("known").next_offset, MANY + 1);
    });
}

/// Thousands of appends at a time, more than a producer may have outstanding, all land, and in the
/// order in which they were called.
#[test]
fn many_appends_keep_their_order() {
    const MANY: u64 = 3_000;
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "many");
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        let local = tokio::task::LocalSet::new();
        let offsets: Vec<u64> = local.block_on(&runtime, async {
            let append = |i| {
                let client = client.to_async();
                tokio::task::spawn_local(async move {
                    let any = ExpectedOffset::Any;
                    client.append(s, any, events(i..i + 1), &NONE).await.expect("done").first_offset
                })
            };
            let tasks: Vec<_> = (0..MANY).map(append).collect();
            let mut offsets = Vec::new();
            for task in tasks {
                offsets.push(task.await.expect("no panic"));
            }
            offsets
        });
        assert_eq!(offsets, (0..MANY).collect::<Vec<_>>());
        let pages = client.pages(s, 0, 1_000).map(|page| page.expect("a page"));
        assert_eq!(pages.flat_map(|page| texts(&page)).collect::<Vec<_>>(), expected(0..MANY));
    });
}

/// Dropping an append's future leaves a number without an outcome; later appends go on past any
/// number of those.
#[test]
fn dropped_appends_hold_nothing_up() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "dropped");
        let core = client.to_async();
        for i in 0..200 {
            let append = core.append(s, ExpectedOffset::Any, events(i..i + 1), &NONE);
            let mut append = std::pin::pin!(append);
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            let _ = append.as_mut().poll(&mut context);
        }
        for i in 0..300 {
            client.append(s, ExpectedOffset::Any, events(i..i + 1), &NONE).expect("done");
        }
        let next = client.stream_info(s, &NONE).expect("known").next_offset;
        assert!((300..=500).contains(&next), "{next}");
    });
}

/// Streams and tenants are listed; what does not exist is named so.
#[test]
fn lists_and_lookups() {
    for_every_door(|Door { client, .. }| {
        let ids: Vec<_> = (0..5).map(|i| stream(client, &format!("s{i}"))).collect();
        let listed = client.list_streams(&NONE).expect("a list");
        let named: Vec<_> = listed.iter().filter(|s| !s.name.starts_with('_')).collect();
        assert_eq!(named.iter().map(|s| s.stream_id).collect::<Vec<_>>(), ids.map_ids());
        assert_eq!(client.stream_by_name("S3", &NONE).expect("known").stream_id, ids[3].0);
        let e = client.stream_by_name("nope", &NONE).expect_err("unknown");
        assert_eq!(e.code, ErrorCode::StreamNotFound);
        let e = client.stream_info(0.into(), &NONE).expect_err("none");
        assert_eq!(e.code, ErrorCode::InvalidArgument);
        let e = client.append(9999.into(), ExpectedOffset::Any, events(0..1), &NONE);
        assert_eq!(e.expect_err("unknown").code, ErrorCode::StreamNotFound);
        assert!(client.create_tenant(5, &NONE).expect("admin"));
        assert!(client.list_tenants(&NONE).expect("admin").contains(&5));
        client.delete_tenant(5, &NONE).expect("admin");
        assert!(!client.list_tenants(&NONE).expect("admin").contains(&5));
        let options = CallOptions { timeout_ms: Some(0), ..NONE };
        let e = client.list_streams(&options).expect_err("no time");
        assert_eq!(e.code, ErrorCode::InvalidArgument);
    });
}

trait MapIds {
    fn map_ids(&self) -> Vec<u64>;
}

impl MapIds for Vec<kimberlite_client::StreamId> {
    fn map_ids(&self) -> Vec<u64> {
        self.iter().map(|id| id.0).collect()
    }
}

/// The option `max_response_bytes` bounds pages, not what can be read: walks and local
/// verification get on, also over an event that is larger than the option.
#[test]
fn small_answers_hold_large_streams() {
    let server = common::server();
    let mut configs = [common::config(&server), kimberlite_client::Config::new(["memory:"])];
    for config in &mut configs {
        config.options.max_response_bytes = 1 << 20;
        let client = kimberlite_client::blocking::Client::connect(config.clone()).expect("opens");
        let s = stream(&client, "large");
        for _ in 0..4 {
            let batch = EventBatch::from_events(vec![[7u8; 1000]; 1000]).expect("fits");
            client.append(s, ExpectedOffset::Any, batch, &NONE).expect("done");
        }
        let huge = EventBatch::from_events([vec![8u8; 3 << 20]]).expect("fits");
        client.append(s, ExpectedOffset::Any, huge, &NONE).expect("done");
        client.append(s, ExpectedOffset::Any, events(4001..4011), &NONE).expect("done");
        let pages = client.pages(s, 0, 100_000).map(|page| page.expect("a page"));
        assert_eq!(pages.map(|page| page.count()).sum::<usize>(), 4011);
        let page = client.read(s, 4000, 10, 0, &NONE).expect("a page");
        assert_eq!(page.lens()[0], 3 << 20);
        let told = client.stream_info(s, &NONE).expect("told");
        let found = client.verify_locally(s, &NONE).expect("it walks");
        assert!(found.valid && found.count == 4011 && found.head == told.head);
        // A stream of tiny blocks takes far more bytes than its data.
        let tiny = stream(&client, "tiny");
        let small: Vec<_> = (0..12_000).map(|n| events(n..n + 1)).collect();
        for batch in small.into_iter().step_by(4) {
            client.append(tiny, ExpectedOffset::Any, batch, &NONE).expect("done");
        }
        let pages = client.pages(tiny, 0, 100_000).map(|page| page.expect("a page"));
        assert_eq!(pages.map(|page| page.count()).sum::<usize>(), 3_000);
    }
}

/// What was buffered before a close is not handed out after it.
#[test]
fn nothing_comes_after_a_close() {
    for_every_door(|Door { client, .. }| {
        let s = stream(client, "closed");
        client.append(s, ExpectedOffset::Any, events(0..5_000), &NONE).expect("done");
        let subscription = client.subscribe(s, 0, &NONE).expect("subscribes");
        let mut cursor =
            client.query_cursor("SELECT id FROM closed", &[], At::Now, &NONE).expect("runs");
        let mut pages = client.pages(s, 0, 10);
        assert!(cursor.next_batch().expect("rows").is_some());
        assert!(pages.next().is_some_and(|page| page.is_ok()));
        std::thread::sleep(Duration::from_millis(20));
        client.close(5_000).expect("it closes");
        let closed = |e: Option<ErrorCode>| assert_eq!(e, Some(ErrorCode::Closed));
        closed(subscription.next(Some(Duration::ZERO)).err().map(|e| e.code));
        closed(cursor.next_batch().err().map(|e| e.code));
        closed(pages.next().and_then(Result::err).map(|e| e.code));
    });
}

/// Cells come as whatever integer they fit into, and by index as well as by name.
#[test]
fn integer_cells() {
    let client = common::memory();
    let sql = "SELECT 300 AS n, -1 AS minus, 4294967296 AS wide";
    let result = client.query(sql, &[], At::Now, &NONE).expect("runs");
    let row = result.row(0).expect("one row");
    assert_eq!(row.get::<i32>("n").ok(), Some(300));
    assert_eq!(row.get::<u16>(0).ok(), Some(300));
    assert_eq!(row.get::<Option<u32>>(String::from("N")).ok(), Some(Some(300)));
    assert_eq!(row.get::<usize>("wide").ok(), usize::try_from(1u64 << 32).ok());
    for (error, kind) in [
        (row.get::<u8>("n").expect_err("too large"), "u8"),
        (row.get::<u32>("minus").expect_err("negative"), "u32"),
        (row.get::<i32>(2).expect_err("too large"), "i32"),
    ] {
        assert_eq!(error.code, ErrorCode::InvalidArgument);
        assert!(error.detail.ends_with(&format!("the range of {kind}")), "{error}");
    }
    assert!(row.get::<i64>(3).is_err_and(|e| e.code == ErrorCode::InvalidArgument));
    let row: (u8, i8) = (44, -1);
    let sql = "SELECT 44, -1";
    let result = client.query(sql, &[], At::Now, &NONE).expect("runs");
    assert_eq!(result.rows_as::<(u8, i8)>().ok(), Some(vec![row]));
}
