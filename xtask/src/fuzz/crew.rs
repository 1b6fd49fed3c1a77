//! Runs targets, a few at a time.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::stats::Stats;

/// A target and what became of it.
pub type Outcome = (String, Result<Stats, String>);

/// Runs `work` for each target, `jobs` at a time; results come in the order of the targets.
pub fn run(
    targets: &[String],
    jobs: usize,
    work: impl Fn(&str) -> Result<Stats, String> + Sync,
) -> Vec<Outcome> {
    let next = AtomicUsize::new(0);
    let results: Mutex<Vec<(usize, Outcome)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, targets.len().max(1)) {
            scope.spawn(|| {
                while let Some((index, target)) = {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    targets.get(index).map(|target| (index, target))
                } {
                    println!("{target} runs");
                    let outcome = (target.clone(), work(target));
                    let mut results = results.lock().unwrap_or_else(|e| e.into_inner());
                    results.push((index, outcome));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap_or_else(|e| e.into_inner());
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, outcome)| outcome).collect()
}
