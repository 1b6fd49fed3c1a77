//! The session against a model of the server, under seeded randomness: cuts, reordered answers,
//! delays, failing dials, refusals, forgotten producers.

mod cases;
mod random;
mod server;
mod world;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use kimberlite_wire::session::*;
use kimberlite_wire::*;

use crate::random::Random;
use crate::world::{Faults, World, append, read};

/// The data of the event that an append call of the simulation carries.
fn data_of(call: &Call) -> Bytes {
    EventBatch::from_wire(1, call.payload.clone(), crc32c::crc32c(&call.payload))
        .map(|batch| Bytes::copy_from_slice(batch.event(0).unwrap()))
        .unwrap()
}

fn random_call(random: &mut Random, number: u64, now_ms: u64) -> Call {
    let deadline_ms = now_ms + 50 + random.below(4000);
    match random.below(10) {
        0 => read(random.below(200_000), CallKind::Collect, deadline_ms),
        1 => read(random.below(200_000), CallKind::Stream, deadline_ms),
        _ => {
            let mut data = format!("append {number}").into_bytes();
            if random.chance(100) {
                data.resize(10_000, b'.');
            }
            append(1 + random.below(4), &data, deadline_ms)
        }
    }
}

/// Everything that must hold of appends, whatever happened.
fn check_appends(world: &World, settled: bool) {
    let mut places: HashMap<Bytes, (u64, u64)> = HashMap::new();
    for (stream_id, events) in &world.database.streams {
        for (offset, data) in events.iter().enumerate() {
            let before = places.insert(data.clone(), (*stream_id, offset as u64));
            assert!(before.is_none(), "an append was carried out twice");
        }
    }
    for started in world.calls.values() {
        let Request::Append(request) = &started.call.request else {
            continue;
        };
        let data = data_of(&started.call);
        let place = places.get(&data).copied();
        match started.result.as_ref().expect("every call ends") {
            Ok(Some(Answer { body: Response::Append(answer), .. })) => {
                let expected = Some((request.stream_id, answer.first_offset));
                assert_eq!(place, expected, "what was acknowledged is where the answer says");
            }
            Ok(other) => panic!("an append was answered with {other:?}"),
            Err(e) if e.outcome_unknown.is_some() => assert!(!settled || place.is_some()),
            Err(e) if e.code == ErrorCode::ProducerExpired => {}
            Err(e) => assert_eq!(place, None, "carried out in spite of {e}"),
        }
    }
}

/// Acknowledged appends of one stream stand in the order of their calls, but for those that were
/// refused once. Tells how many there are.
fn check_order(world: &World) -> u64 {
    let mut last: HashMap<u64, u64> = HashMap::new();
    let mut checked = 0;
    for started in world.calls.values() {
        let (Request::Append(request), Some(Ok(Some(answer)))) =
            (&started.call.request, &started.result)
        else {
            continue;
        };
        let Response::Append(answer) = &answer.body else { continue };
        if request.producer_id != 0 || world.database.refused.contains(&data_of(&started.call)) {
            continue;
        }
        let before = last.insert(request.stream_id, answer.first_offset);
        assert!(before.is_none_or(|before| before < answer.first_offset), "appends changed places");
        checked += 1;
    }
    checked
}

/// Settles every append whose outcome is unknown by its key, in a world without faults.
fn settle(world: &mut World) {
    world.faults = Faults::default();
    let unknown: Vec<(Call, AppendKey)> = world.calls.values().filter_map(unknown_of).collect();
    let mut keys = HashSet::new();
    for (mut call, key) in unknown {
        assert!(keys.insert(key), "two appends share a key");
        if let Request::Append(append) = &mut call.request {
            (append.producer_id, append.sequence) = (key.producer_id, key.sequence);
        }
        call.deadline_ms = world.now_ms + 30_000;
        world.start(call);
    }
    world.run();
}

fn unknown_of(started: &world::Started) -> Option<(Call, AppendKey)> {
    match &started.result {
        Some(Err(e)) => e.outcome_unknown.map(|key| (started.call.clone(), key)),
        _ => None,
    }
}

fn simulate(seed: u64, faults: Faults) -> World {
    let addresses = 1 + (seed % 3) as usize;
    let mut world = World::new(seed, addresses, faults);
    let mut at_ms = world.now_ms;
    for number in 0..400 {
        let call = random_call(&mut world.random, number, at_ms);
        world.start_at(at_ms, call);
        at_ms += world.random.below(12);
    }
    world.run();
    check_appends(&world, false);
    world.acknowledged = check_order(&world);
    if faults.expire == 0 {
        settle(&mut world);
        check_appends(&world, true);
    }
    world
}

/// Simulates as many seeds as KIMBERLITE_ROUNDS says, from KIMBERLITE_SEED on.
fn simulate_all(first_seed: u64, faults: Faults) {
    let number = |name| std::env::var(name).ok().and_then(|text: String| text.parse::<u64>().ok());
    let first_seed = number("KIMBERLITE_SEED").unwrap_or(first_seed);
    let count = number("KIMBERLITE_ROUNDS").unwrap_or(50);
    let (mut acknowledged, mut opened) = (0, 0);
    for seed in first_seed..first_seed + count {
        let world = simulate(seed, faults);
        acknowledged += world.acknowledged;
        opened += world.database.producers_opened;
    }
    assert!(faults.expire == 0 || opened > 2 * count, "producers expire: {opened}");
    assert!(acknowledged > 200 * count, "most appends get through: {acknowledged}");
}

/// Shows that nothing is lost, doubled, reordered or late where connections are cut, dials fail and
/// calls are cancelled.
#[test]
fn cuts_and_failing_dials() {
    let faults = Faults {
        dial_fails: 250,
        dial_hangs: 40,
        cut: 25,
        goaway: 5,
        cancel: 30,
        ..Faults::default()
    };
    simulate_all(0, faults);
}

/// Shows the same where servers also refuse, fall silent and send clients away.
#[test]
fn refusals_and_silence() {
    let faults = Faults {
        dial_fails: 100,
        cut: 10,
        overloaded: 40,
        unavailable: 20,
        silent: 10,
        goaway: 5,
        cancel: 10,
        ..Faults::default()
    };
    simulate_all(1_000_000, faults);
}

/// Shows that a server that forgets producers makes at most the appends of which a copy was lost
/// fail, and doubles none.
#[test]
fn expiring_producers() {
    let faults = Faults { cut: 10, expire: 10, dial_fails: 50, ..Faults::default() };
    simulate_all(2_000_000, faults);
}

/// Shows that nothing is doubled or reordered where all of it happens at once.
#[test]
fn everything_at_once() {
    let faults = Faults {
        dial_fails: 150,
        dial_hangs: 20,
        cut: 15,
        overloaded: 20,
        unavailable: 15,
        silent: 5,
        expire: 5,
        goaway: 5,
        cancel: 20,
    };
    simulate_all(3_000_000, faults);
}

/// Shows that without faults every call succeeds over one producer, in order.
#[test]
fn a_quiet_day() {
    for seed in 0..5 {
        let mut world = World::new(seed, 1, Faults::default());
        let at_ms = world.now_ms;
        for number in 0..3000 {
            let data = format!("append {number}");
            world
                .start_at(at_ms + number / 10, append(number % 5, data.as_bytes(), at_ms + 60_000));
        }
        world.run();
        assert!(world.calls.values().all(|call| matches!(call.result, Some(Ok(_)))));
        assert_eq!(world.database.producers_opened, 1);
        check_appends(&world, false);
        assert_eq!(check_order(&world), 3000);
    }
}
