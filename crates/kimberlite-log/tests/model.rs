//! Random lives of a log against a plain list of entries: groups of any shape, crashes, failures,
//! full disks and reopenings in any order. A failing case prints its steps and seed.

mod common;

use std::sync::Arc;

use common::{Kept, Opened, append, bare, check_recovered, command, open_log, rounds};
use kimberlite_log::{EntryDraft, EntryKind, Fault, FaultyDisk, LogOptions, Tear};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;

#[derive(Clone, Debug)]
enum Step {
    /// A group of entries of these body lengths; the flag: commands, which may use the reserve.
    Commit(Vec<usize>, bool),
    /// A clean shutdown and a new start.
    Close,
    /// The process ends and starts again.
    Restart,
    /// The power goes now.
    PowerCycle(Tear),
    /// Something goes wrong so many operations from now.
    Arm(u64, Fault),
    /// So much space is left; none for no bound.
    Space(Option<u64>),
}

fn tears() -> impl Strategy<Value = Tear> {
    prop_oneof![1 => Just(Tear::Lose), 1 => Just(Tear::Keep), 3 => Just(Tear::Random)]
}

fn steps() -> impl Strategy<Value = Step> {
    let len = prop_oneof![4 => 0..600usize, 2 => 600..5000usize, 1 => 5000..40_000usize];
    prop_oneof![
        12 => (vec(len, 1..8), prop::bool::weighted(0.2)).prop_map(|(l, r)| Step::Commit(l, r)),
        1 => Just(Step::Close),
        1 => Just(Step::Restart),
        2 => tears().prop_map(Step::PowerCycle),
        2 => (0..12u64, prop_oneof![Just(Fault::Crash), Just(Fault::Error)])
            .prop_map(|(ahead, fault)| Step::Arm(ahead, fault)),
        1 => prop_oneof![Just(None), (0..40_000u64).prop_map(Some)].prop_map(Step::Space),
    ]
}

struct Life {
    disk: FaultyDisk,
    options: LogOptions,
    log: Option<Opened>,
    acknowledged: Vec<Kept>,
    under_way: Vec<Kept>,
}

impl Life {
    /// Opens the log, however often that takes, and holds it against the model.
    fn open(&mut self) {
        self.log = None;
        for _ in 0..20 {
            if self.disk.crashed() {
                self.disk = self.disk.power_cycle(Tear::Random);
            }
            match open_log(Arc::new(self.disk.clone()), self.options) {
                Ok(log) => {
                    check_recovered(&log, &self.acknowledged, &self.under_way, "reopened");
                    self.acknowledged = log.entries.iter().map(|(kept, _)| kept.clone()).collect();
                    self.under_way.clear();
                    self.log = Some(log);
                    return;
                }
                Err(e) => {
                    assert_eq!(e.code, kimberlite_wire::ErrorCode::Storage, "{e}");
                    self.disk.set_capacity(None);
                }
            }
        }
        panic!("the log cannot be opened");
    }

    fn commit(&mut self, lens: &[usize], control: bool) {
        if self.log.as_ref().is_none_or(|log| log.writer.failure().is_some()) {
            self.open();
        }
        let Some(log) = &mut self.log else { return };
        let first = 1 + self.acknowledged.len() as u64;
        let draft = |(number, len): (usize, &usize)| match (control, *len) {
            (true, len) => command(first + number as u64, len),
            (false, 0) => bare(EntryKind::Time, first + number as u64),
            (false, len) => append(first + number as u64, len),
        };
        let group: Vec<EntryDraft> = lens.iter().enumerate().map(draft).collect();
        let result = match control {
            true => log.writer.commit_reserved(&group),
            false => log.writer.commit(&group),
        };
        let group = group.iter().map(Kept::from);
        match result {
            Ok(places) => {
                assert_eq!(places.len(), lens.len());
                self.acknowledged.extend(group);
            }
            Err(_) if log.writer.failure().is_some() => self.under_way = group.collect(),
            Err(e) => assert!(e.detail.contains("once there is space"), "{e}"),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(lens, control) => self.commit(lens, *control),
            Step::Close => {
                // A close that fails is as good as a crash.
                let _ = self.log.take().map(|log| log.writer.close());
                self.open();
            }
            Step::Restart => {
                self.disk = self.disk.restart();
                self.open();
            }
            Step::PowerCycle(tear) => {
                self.disk = self.disk.power_cycle(*tear);
                self.open();
            }
            Step::Arm(ahead, fault) => self.disk.fail_at(self.disk.operations() + ahead, *fault),
            Step::Space(left) => {
                self.disk.set_capacity(left.map(|left| self.disk.used() + left));
            }
        }
    }
}

fn live(seed: u64, segment_bytes: u64, reserve_bytes: u64, background: bool, steps: &[Step]) {
    let disk = FaultyDisk::new(seed);
    let disk = if background { disk.with_background() } else { disk };
    let options = LogOptions { segment_bytes, reserve_bytes, index_cache_bytes: 1 << 20 };
    let (log, acknowledged, under_way) = (None, Vec::new(), Vec::new());
    let mut life = Life { disk, options, log, acknowledged, under_way };
    life.open();
    for step in steps {
        life.step(step);
    }
    life.disk = life.disk.power_cycle(Tear::Random);
    life.disk.set_capacity(None);
    life.open();
}

/// As many lives as KIMBERLITE_ROUNDS says; with KIMBERLITE_SEED, those that follow from it.
fn config() -> ProptestConfig {
    let seeds = rounds(400);
    let rng_seed = match std::env::var("KIMBERLITE_SEED") {
        Ok(_) => RngSeed::Fixed(seeds.start),
        Err(_) => RngSeed::Random,
    };
    let cases = (seeds.end - seeds.start) as u32;
    ProptestConfig { cases, rng_seed, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever happens, the log is a list: what was acknowledged, in order, and nothing else but
    /// whole entries of the one group that was under way.
    #[test]
    fn a_log_is_a_list(
        seed in any::<u64>(),
        segment_bytes in prop_oneof![Just(4096u64), 4096..40_000u64],
        reserve_bytes in prop_oneof![Just(0u64), Just(8192)],
        background in prop::bool::weighted(0.3),
        steps in vec(steps(), 1..40),
    ) {
        live(seed, segment_bytes, reserve_bytes, background, &steps);
    }
}
