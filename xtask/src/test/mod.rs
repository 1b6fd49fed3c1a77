//! `cargo xtask test`: sets up what the tests need and runs them, part by part.

mod deny;
mod parts;
mod setup;
mod wasm;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sdk::Sdk;

pub use parts::{Part, docs};

/// What the command line asked for.
pub struct Options {
    /// Empty for all.
    pub parts: Vec<Part>,
    pub file: Option<PathBuf>,
    pub mutate: bool,
    pub sdks: Vec<Sdk>,
}

/// Runs the parts, all of them even where one fails, and ends with a table of what happened.
pub fn run(root: &Path, options: &Options) -> Result<(), String> {
    let parts = if options.parts.is_empty() { Part::ALL.to_vec() } else { options.parts.clone() };
    setup::install(root, &parts)?;
    let mut results: Vec<(Part, Duration, Result<(), String>)> = Vec::new();
    for (i, part) in parts.iter().enumerate() {
        println!("\n=== {}/{} {}: {}", i + 1, parts.len(), part.name(), part.about());
        let start = Instant::now();
        let result = part.run(root, options);
        let seconds = start.elapsed().as_secs_f64();
        match &result {
            Ok(()) => println!("=== {} passed in {seconds:.0} s", part.name()),
            Err(error) => {
                eprintln!("{error}");
                println!(
                    "=== {} FAILED after {seconds:.0} s; again: {}",
                    part.name(),
                    part.again(options)
                );
            }
        }
        results.push((*part, start.elapsed(), result));
    }
    summary(&results, options)
}

fn summary(
    results: &[(Part, Duration, Result<(), String>)],
    options: &Options,
) -> Result<(), String> {
    println!("\npart        seconds  result");
    for (part, time, result) in results {
        let word = if result.is_ok() { "passed" } else { "FAILED" };
        println!("{:10} {:>8.0}  {word}", part.name(), time.as_secs_f64());
    }
    let total: Duration = results.iter().map(|(_, time, _)| *time).sum();
    let failed: Vec<String> =
        results.iter().filter(|r| r.2.is_err()).map(|r| r.0.again(options)).collect();
    println!("{} parts in {:.0} s, {} failed", results.len(), total.as_secs_f64(), failed.len());
    if failed.is_empty() {
        return Ok(());
    }
    Err(format!("run the failed parts again with:\n  {}", failed.join("\n  ")))
}
