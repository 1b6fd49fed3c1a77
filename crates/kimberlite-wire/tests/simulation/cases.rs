//! Single situations, each with what the session must say.

use bytes::Bytes;
use kimberlite_wire::session::*;
use kimberlite_wire::*;

use crate::world::{Faults, World, append, read};

fn error_of(world: &World, id: CallId) -> Error {
    match &world.calls[&id].result {
        Some(Err(e)) => e.clone(),
        _ => panic!("the call did not fail"),
    }
}

/// Shows that connecting fails with CONNECTION_FAILED, naming each address, once each was tried.
#[test]
fn nobody_is_there() {
    let mut world = World::new(1, 3, Faults { dial_fails: 1000, ..Faults::default() });
    let started_ms = world.now_ms;
    let id = world.connect(10_000);
    world.run();
    let error = error_of(&world, id);
    assert_eq!(error.code, ErrorCode::ConnectionFailed);
    for address in ["server0:5432", "server1:5432", "server2:5432", "connection refused"] {
        assert!(error.detail.contains(address), "{}", error.detail);
    }
    assert!(world.now_ms - started_ms < 1000, "it does not wait for the deadline");
}

/// Shows that addresses that do not answer are tried beside each other, and that the deadline
/// holds.
#[test]
fn nobody_answers() {
    let mut world = World::new(1, 3, Faults { dial_hangs: 1000, ..Faults::default() });
    let started_ms = world.now_ms;
    let id = world.connect(2_000);
    world.run();
    assert_eq!(error_of(&world, id).code, ErrorCode::ConnectionFailed);
    assert_eq!((world.dials, world.now_ms - started_ms), (3, 2_000));
}

/// Shows that a server's no to token, tenant or version ends connecting at once.
#[test]
fn refused_at_hello() {
    for code in [
        ErrorCode::AuthFailed,
        ErrorCode::PermissionDenied,
        ErrorCode::TenantNotFound,
        ErrorCode::VersionMismatch,
    ] {
        let mut world = World::new(1, 2, Faults::default());
        world.reject = Some(code);
        let deadline_ms = world.now_ms + 30_000;
        let ids = [world.connect(30_000), world.start(append(1, b"x", deadline_ms))];
        world.run();
        assert!(ids.iter().all(|id| error_of(&world, *id).code == code));
        assert!(world.now_ms < 1100, "at once");
        assert_eq!(world.dials, 1, "the other address is not asked");
    }
}

/// Shows that after a server was reached, calls that cannot be sent end with CLUSTER_UNAVAILABLE at
/// their deadline, and that a later server is found again.
#[test]
fn the_cluster_goes_and_comes_back() {
    let mut world = World::new(5, 2, Faults::default());
    world.connect(1_000);
    world.run();
    world.faults.dial_fails = 1000;
    world.cut_all();
    let deadline_ms = world.now_ms + 500;
    let ids = [append(1, b"x", deadline_ms), read(1, CallKind::Stream, deadline_ms)]
        .map(|call| world.start(call));
    world.run();
    assert_eq!(world.now_ms, deadline_ms);
    for id in ids {
        let error = error_of(&world, id);
        assert_eq!((error.code, error.outcome_unknown), (ErrorCode::ClusterUnavailable, None));
    }
    world.faults = Faults::default();
    let found = world.start(append(1, b"found", world.now_ms + 10_000));
    world.run();
    assert!(matches!(world.calls[&found].result, Some(Ok(_))));
}

/// Shows that an address that serves another database is refused, and that the error names both.
#[test]
fn another_database() {
    let mut world = World::new(9, 2, Faults::default());
    world.connect(1_000);
    world.run();
    // The server is lost, and whoever answers at the addresses afterwards has other data.
    world.log_ids.extend([(0, [9; 16]), (1, [9; 16])]);
    world.faults.cut = 1000;
    world.start(read(10, CallKind::Collect, world.now_ms + 100));
    world.run();
    world.faults.cut = 0;
    let refused = world.start(read(10, CallKind::Collect, world.now_ms + 1_000));
    world.run();
    let error = error_of(&world, refused);
    assert_eq!(error.code, ErrorCode::ClusterUnavailable);
    let (ours, theirs) = ("07".repeat(16), "09".repeat(16));
    assert!(error.detail.contains(&ours) && error.detail.contains(&theirs), "{}", error.detail);
}

/// Shows that an unanswered append ends at its deadline with a key, which settles it.
#[test]
fn a_key_settles_an_unknown_outcome() {
    let mut world = World::new(3, 1, Faults::default());
    let first = world.start(append(1, b"first", world.now_ms + 1_000));
    world.run();
    assert!(matches!(world.calls[&first].result, Some(Ok(_))));
    world.faults.silent = 1000;
    let call = append(1, b"second", world.now_ms + 300);
    let unknown = world.start(call.clone());
    world.run();
    let error = error_of(&world, unknown);
    assert_eq!(error.code, ErrorCode::Timeout);
    let key = error.outcome_unknown.expect("an append that was sent carries its key");
    world.faults = Faults::default();
    // Later appends go on meanwhile and do not make the server forget the outcome.
    for number in 0..20u8 {
        world.start(append(1, &[number], world.now_ms + 5_000));
    }
    world.run();
    let mut again = Call { deadline_ms: world.now_ms + 5_000, ..call };
    if let Request::Append(append) = &mut again.request {
        (append.producer_id, append.sequence) = (key.producer_id, key.sequence);
    }
    let settled = world.start(again);
    world.run();
    let Some(Ok(Some(Answer { body: Response::Append(answer), .. }))) =
        &world.calls[&settled].result
    else {
        panic!("the key settles it")
    };
    assert_eq!(answer.first_offset, 1);
}

/// Shows that unknown outcomes that nobody settles make the session open a fresh producer rather
/// than wait, and that appends go on.
#[test]
fn unsettled_outcomes_do_not_block() {
    let mut world = World::new(4, 1, Faults::default());
    world.start(append(1, b"first", world.now_ms + 1_000));
    world.run();
    world.faults.silent = 1000;
    world.start(append(1, b"second", world.now_ms + 100));
    world.run();
    world.faults.silent = 0;
    for number in 0..3000u32 {
        world.start(append(1, &number.to_le_bytes(), world.now_ms + 60_000));
    }
    world.run();
    let failed = world.calls.values().filter(|c| matches!(c.result, Some(Err(_)))).count();
    assert_eq!((failed, world.database.producers_opened), (1, 2));
}

/// Shows that closing ends every call with CLOSED, an append under way with its key, and later
/// calls too.
#[test]
fn close_ends_everything() {
    let mut world = World::new(6, 1, Faults::default());
    world.start(append(1, b"first", world.now_ms + 1_000));
    world.run();
    world.faults.silent = 1000;
    let sent = world.start(append(1, b"sent", world.now_ms + 60_000));
    let reading = world.start(read(100_000, CallKind::Stream, world.now_ms + 60_000));
    world.run_for(50);
    world.session.close(world.now_ms);
    let late = world.start(read(1, CallKind::Collect, world.now_ms + 60_000));
    world.run();
    for id in [sent, reading, late] {
        assert_eq!(error_of(&world, id).code, ErrorCode::Closed);
    }
    assert!(error_of(&world, sent).outcome_unknown.is_some());
    assert_eq!(error_of(&world, late).outcome_unknown, None);
    assert_eq!((world.session.next_wake_ms(), world.session.pending_calls()), (None, 0));
}

/// Shows that a connection on which nothing comes back is found out by pings, and the append
/// carried on over another one.
#[test]
fn a_dead_connection_is_noticed() {
    let mut world = World::new(7, 1, Faults::default());
    world.start(append(1, b"first", world.now_ms + 1_000));
    world.run();
    world.stall();
    let id = world.start(append(1, b"second", world.now_ms + 20_000));
    world.run();
    assert!(matches!(world.calls[&id].result, Some(Ok(_))));
    assert_eq!(world.dials, 2);
    assert_eq!(world.database.streams[&1].len(), 2);
}

/// Shows that an answer larger than the option allows ends with LIMIT_EXCEEDED, that a read is cut
/// there instead, and that the connection lives on.
#[test]
fn an_answer_that_is_too_large() {
    let mut world = World::new(8, 1, Faults::default());
    let query = Request::Query(QueryRequest { at: 3 << 20, ..Default::default() });
    let (kind, deadline_ms) = (CallKind::Collect, world.now_ms + 60_000_000);
    let large = world.start(Call { request: query, payload: Bytes::new(), deadline_ms, kind });
    world.run();
    assert_eq!(error_of(&world, large).code, ErrorCode::LimitExceeded);
    let cut = world.start(read(3 << 20, CallKind::Collect, world.now_ms + 60_000_000));
    world.run();
    let Some(Ok(Some(answer))) = &world.calls[&cut].result else { panic!("a read is cut") };
    let bytes: usize = answer.payload.iter().map(Bytes::len).sum();
    assert!(answer.cut && (2 << 20..3 << 20).contains(&bytes), "{bytes}");
    let small = world.start(read(1000, CallKind::Collect, world.now_ms + 1_000));
    world.run();
    assert!(matches!(world.calls[&small].result, Some(Ok(_))));
    assert_eq!(world.dials, 1);
}

/// Shows that the session moves to the leader that a server names, and that nothing is lost on the
/// way.
#[test]
fn the_leader_is_followed() {
    let mut world = World::new(10, 3, Faults::default());
    world.leader = "server2:5432".to_string();
    for number in 0..200u32 {
        let at_ms = world.now_ms + u64::from(number);
        world.start_at(at_ms, append(1, &number.to_le_bytes(), at_ms + 5_000));
    }
    world.run();
    assert!(world.calls.values().all(|call| matches!(call.result, Some(Ok(_)))));
    assert_eq!(world.addresses_dialled.last(), Some(&2));
    assert!(world.dials <= 4, "two servers, and no circles: {}", world.dials);
}

/// Shows that a subscription that loses its connection ends with a retryable error, so that its
/// owner resumes where it was.
#[test]
fn a_cut_subscription_is_retryable() {
    let mut world = World::new(11, 1, Faults::default());
    let request = Request::Subscribe(SubscribeRequest {
        stream_id: 1,
        from_offset: 100_000,
        credit_bytes: 0,
    });
    let deadline_ms = world.now_ms + 60_000;
    let kind = CallKind::Stream;
    let id = world.start(Call { request, payload: Default::default(), deadline_ms, kind });
    world.run_for(1000);
    assert_eq!(world.calls[&id].chunks.concat().len(), 100_000);
    world.faults.cut = 1000;
    world.start(read(1, CallKind::Collect, world.now_ms + 100));
    world.run_for(100);
    let error = error_of(&world, id);
    assert!(error.is_retryable(), "{error}");
}

fn all_succeeded(world: &World) -> bool {
    world.calls.values().all(|call| matches!(call.result, Some(Ok(_))))
}

/// Events of a stream as the numbers that the test gave them.
fn numbers(world: &World, stream_id: u64) -> Vec<u32> {
    let number = |data: &bytes::Bytes| u32::from_le_bytes(data[..].try_into().unwrap());
    world.database.streams[&stream_id].iter().map(number).collect()
}

/// Shows that appends move to another connection in order when a server sends its clients away,
/// and without waiting for anything but those under way.
#[test]
fn goaway_moves_appends_in_order() {
    let mut world = World::new(12, 2, Faults::default());
    world.start(append(2, b"the producer is open", world.now_ms + 1_000));
    world.run();
    let started_ms = world.now_ms;
    // Each time some are under way when the goaway comes, and some are called behind it.
    for round in 0..6u32 {
        for number in 0..20 {
            world.start(append(1, &(20 * round + number).to_le_bytes(), started_ms + 5_000));
        }
        if round % 2 == 0 {
            world.send_away();
            world.run_for(8);
        } else {
            world.run();
        }
    }
    assert!(all_succeeded(&world));
    assert_eq!(numbers(&world, 1), (0..120).collect::<Vec<u32>>());
    assert!(world.dials >= 4 && world.now_ms - started_ms < 1_000);
}

/// Shows that a full window of appends without answers gets through after its connection is lost,
/// with more waiting behind it, in order.
#[test]
fn a_full_window_is_sent_again() {
    let mut world = World::new(13, 1, Faults::default());
    world.start(append(1, &0u32.to_le_bytes(), world.now_ms + 1_000));
    world.run();
    world.faults.silent = 1000;
    for number in 1..3000u32 {
        let stream_id = 1 + u64::from(number % 2);
        world.start(append(stream_id, &number.to_le_bytes(), world.now_ms + 60_000));
    }
    world.run_for(100);
    assert_eq!(world.database.streams.values().map(Vec::len).sum::<usize>(), 1025);
    world.faults.silent = 0;
    world.cut_all();
    world.run();
    assert!(all_succeeded(&world));
    for stream_id in [1, 2] {
        assert!(numbers(&world, stream_id).is_sorted());
    }
}

/// Shows that an append that was refused for want of room is not overtaken by those called after
/// the refusal.
#[test]
fn a_refused_append_keeps_its_place() {
    let mut world = World::new(14, 1, Faults::default());
    world.connect(1_000);
    world.run();
    world.start(append(1, &0u32.to_le_bytes(), world.now_ms + 5_000));
    world.run();
    world.faults.overloaded = 1000;
    world.start(append(1, &1u32.to_le_bytes(), world.now_ms + 5_000));
    while world.database.refused.is_empty() {
        world.run_for(1);
    }
    world.run_for(50);
    world.faults.overloaded = 0;
    for number in 2..20u32 {
        world.start(append(1, &number.to_le_bytes(), world.now_ms + 5_000));
    }
    world.run();
    assert!(all_succeeded(&world));
    assert_eq!(numbers(&world, 1), (0..20).collect::<Vec<u32>>());
}

/// Shows that a call that was to settle an unknown outcome, and could not, says so again.
#[test]
fn a_key_that_could_not_settle_is_given_back() {
    let mut world = World::new(15, 1, Faults::default());
    world.connect(1_000);
    world.run();
    world.faults.overloaded = 1000;
    let key = AppendKey { producer_id: 1, sequence: 5 };
    let mut call = append(1, b"once more", world.now_ms + 500);
    if let Request::Append(append) = &mut call.request {
        (append.producer_id, append.sequence) = (key.producer_id, key.sequence);
    }
    let id = world.start(call);
    world.run();
    let error = error_of(&world, id);
    assert_eq!((error.code, error.outcome_unknown), (ErrorCode::Timeout, Some(key)));
}

/// Shows that an append that was refused to the end, and of which no copy was lost, says that it
/// did not happen.
#[test]
fn a_refusal_to_the_end_is_retryable() {
    let mut world = World::new(16, 1, Faults::default());
    world.start(append(1, b"first", world.now_ms + 1_000));
    world.run();
    world.faults.overloaded = 1000;
    let id = world.start(append(1, b"second", world.now_ms + 500));
    world.run();
    let error = error_of(&world, id);
    assert_eq!((error.code, error.outcome_unknown), (ErrorCode::Overloaded, None));
}

/// Shows that cancelled calls are let pass one after the other without harm to the connection.
#[test]
fn many_calls_are_cancelled() {
    let mut world = World::new(17, 1, Faults::default());
    for _ in 0..30 {
        let ids: Vec<CallId> = (0..100)
            .map(|_| world.start(read(10_000, CallKind::Stream, world.now_ms + 5_000)))
            .collect();
        world.run_for(10);
        ids.iter().for_each(|id| world.session.cancel(*id, world.now_ms));
        world.run_for(200);
        assert!(ids.iter().all(|id| world.calls[id].result.is_some()));
    }
    assert_eq!(world.dials, 2, "the pool, and no connection in place of another");
}

/// Shows that a call that grants nothing gets its first credit and no more, and that a server that
/// sends on is left and the call told.
#[test]
fn more_than_was_granted() {
    for lies in [false, true] {
        let mut world = World::new(18, 1, Faults::default());
        (world.lies, world.grants_nothing) = (lies, true);
        let id = world.start(read(100_000, CallKind::Stream, world.now_ms + 2_000));
        world.run();
        let received: usize = world.calls[&id].chunks.iter().map(bytes::Bytes::len).sum();
        if lies {
            assert_eq!((error_of(&world, id).code, received), (ErrorCode::Protocol, 32_000));
        } else {
            assert_eq!((error_of(&world, id).code, received), (ErrorCode::Timeout, 40_000));
        }
    }
}

/// Shows that a busy connection makes the pool grow to its size at once, and that a tick leaves
/// nothing due. The fuzz target `session` found a tick that dialled one connection of two.
#[test]
fn a_pool_grows_at_once() {
    let mut world = World::new(4, 1, Faults::default());
    let options = ClientOptions { pool_connections: 4, ..ClientOptions::default() };
    let config = SessionConfig {
        addresses: vec!["server0:5432".to_string()],
        tenant_id: 1,
        auth_token: "secret".to_string(),
        client_version: "0.1.0".to_string(),
        options,
        seed: 4,
    };
    world.session = Session::new(config, world.now_ms);
    world.connect(1_000);
    world.run();
    for _ in 0..9 {
        world.start(read(10, CallKind::Collect, world.now_ms + 1_000));
    }
    world.session.tick(world.now_ms);
    assert!(world.session.next_wake_ms().is_none_or(|at_ms| at_ms > world.now_ms));
    world.run();
    assert_eq!(world.dials, 4);
}
