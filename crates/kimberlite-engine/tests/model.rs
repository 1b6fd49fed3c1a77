//! Any sequence of requests, any number of them in flight, and reopening in between: the engine
//! answers as a simple model of it does.

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use kimberlite_engine::{Engine, EngineOptions, Storage};
use kimberlite_log::{Disk, MemoryDisk};
use kimberlite_wire::*;
use proptest::prelude::*;
use support::*;

#[derive(Clone, Debug)]
enum Step {
    CreateStream,
    OpenProducer,
    Append(Append),
    /// Waits for everything that is in flight.
    Settle,
    Reopen,
}

#[derive(Clone, Debug)]
struct Append {
    stream: usize,
    producer: Option<usize>,
    /// How far back from the producer's next number.
    back: u64,
    /// How much of what it sent the producer says it knows.
    known: u64,
    expected: Expected,
    lens: Vec<usize>,
    fill: u8,
}

#[derive(Clone, Debug)]
enum Expected {
    Any,
    Right,
    Wrong(u64),
}

fn append() -> impl Strategy<Value = Append> {
    let expected = prop_oneof![
        3 => Just(Expected::Any),
        2 => Just(Expected::Right),
        1 => (0..5u64).prop_map(Expected::Wrong),
    ];
    let len = prop_oneof![8 => 0..200usize, 1 => 10_000..40_000usize, 1 => Just(300_000)];
    (
        0..4usize,
        proptest::option::of(0..3usize),
        prop_oneof![3 => Just(0u64), 1 => 0..4u64],
        0..6u64,
        expected,
        proptest::collection::vec(len, 1..5),
        any::<u8>(),
    )
        .prop_map(|(stream, producer, back, known, expected, lens, fill)| Append {
            stream,
            producer,
            back,
            known,
            expected,
            lens,
            fill: fill % 3,
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::CreateStream),
        1 => Just(Step::OpenProducer),
        14 => append().prop_map(Step::Append),
        2 => Just(Step::Settle),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default)]
struct Producer {
    id: u64,
    next: u64,
    acked_below: u64,
    done: BTreeMap<u64, (usize, Vec<Vec<u8>>, u64)>,
}

#[derive(Default)]
struct Model {
    streams: Vec<(u64, Vec<Vec<u8>>)>,
    producers: Vec<Producer>,
}

impl Model {
    /// What the engine is to answer: the first offset or the error.
    fn append(&mut self, append: &Append, list: &[Vec<u8>], expected: u64, key: Key) -> Judged {
        let events = &mut self.streams[append.stream].1;
        let next_offset = events.len() as u64;
        if let Some(producer) = append.producer.map(|at| &mut self.producers[at]) {
            if key.sequence == 0 || key.acked_below > key.sequence {
                return Err(ErrorCode::InvalidArgument);
            }
            if key.sequence < producer.acked_below {
                return Err(ErrorCode::InvalidArgument);
            }
            match producer.done.get(&key.sequence) {
                Some((stream, done, first)) if *stream == append.stream && done == list => {
                    return Ok(*first);
                }
                Some(_) => return Err(ErrorCode::InvalidArgument),
                None => {}
            }
            if expected != ANY && expected != next_offset {
                return Err(ErrorCode::OffsetMismatch);
            }
            producer.acked_below = producer.acked_below.max(key.acked_below);
            let acked_below = producer.acked_below;
            producer.done.retain(|sequence, _| *sequence >= acked_below);
            producer.done.insert(key.sequence, (append.stream, list.to_vec(), next_offset));
        } else if expected != ANY && expected != next_offset {
            return Err(ErrorCode::OffsetMismatch);
        }
        events.extend_from_slice(list);
        Ok(next_offset)
    }
}

type Judged = Result<u64, ErrorCode>;
type InFlight =
    Vec<(kimberlite_engine::BoxFuture<'static, Result<kimberlite_engine::Answer, Error>>, Judged)>;

fn settle(in_flight: &mut InFlight) {
    for (answer, expected) in in_flight.drain(..) {
        let judged = match block_on(answer) {
            Ok(answer) => match answer.body {
                Response::Append(done) => Ok(done.first_offset),
                other => panic!("another response: {other:?}"),
            },
            Err(error) => Err(error.code),
        };
        assert_eq!(judged, expected);
    }
}

fn run(steps: Vec<Step>) {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let options = || EngineOptions { storage: Storage::Disk(disk.clone()), ..small() };
    let mut engine = open(options());
    let mut ours = writer(&engine);
    let mut model = Model::default();
    let mut in_flight = InFlight::new();
    for step in steps {
        match step {
            Step::CreateStream => {
                let id = ours.stream(&format!("s{}", model.streams.len()));
                model.streams.push((id, Vec::new()));
            }
            Step::OpenProducer => {
                let id = ours.open_producer().unwrap();
                model.producers.push(Producer { id, next: 1, ..Producer::default() });
            }
            Step::Append(mut append) if !model.streams.is_empty() => {
                append.stream %= model.streams.len();
                let count = model.producers.len();
                append.producer = append.producer.filter(|_| count > 0).map(|at| at % count);
                in_flight.push(start(&ours, &mut model, &append));
            }
            Step::Append(_) => {}
            Step::Settle => settle(&mut in_flight),
            Step::Reopen => {
                settle(&mut in_flight);
                engine.close();
                engine = Engine::open(options()).unwrap();
                ours = writer(&engine);
            }
        }
    }
    settle(&mut in_flight);
    for (id, events) in &model.streams {
        assert_eq!(ours.data(*id), *events);
        let verified = ours.verify(*id).unwrap();
        assert_eq!((verified.valid, verified.count), (true, events.len() as u64));
    }
}

fn start(
    ours: &Caller,
    model: &mut Model,
    append: &Append,
) -> (kimberlite_engine::BoxFuture<'static, Result<kimberlite_engine::Answer, Error>>, Judged) {
    let list: Vec<Vec<u8>> = append.lens.iter().map(|len| vec![append.fill; *len]).collect();
    let mut key = NO_KEY;
    if let Some(at) = append.producer {
        let producer = &mut model.producers[at];
        let sequence = producer.next.saturating_sub(append.back);
        if append.back == 0 {
            producer.next += 1;
        }
        let acked_below = (sequence + 1).saturating_sub(append.known);
        key = Key { producer_id: producer.id, sequence, acked_below };
    }
    let (id, events) = &model.streams[append.stream];
    let id = *id;
    let expected = match append.expected {
        Expected::Any => ANY,
        Expected::Right => events.len() as u64,
        Expected::Wrong(by) => events.len() as u64 + by,
    };
    let judged = model.append(append, &list, expected, key);
    (ours.start_append(id, expected, &support::events(&list), key), judged)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Offsets, refusals, repeats and contents are those of the model, however requests fall into
    /// groups and however often the engine is reopened.
    #[test]
    fn the_engine_is_the_model(steps in proptest::collection::vec(step(), 1..120)) {
        run(steps);
    }
}
