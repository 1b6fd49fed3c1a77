//! Runs one target with one input, without the fuzzer: `cargo run --example run
//! --no-default-features -- TARGET FILE`. With KIMBERLITE_FUZZ_TRACE set, `session` tells what it
//! does.

use kimberlite_fuzz::TARGETS;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [target, file] = &words[..] else { return Err("run TARGET FILE".into()) };
    let known = TARGETS.iter().find(|(name, _)| name == target);
    let (_, run) = known.ok_or_else(|| format!("there is no target {target:?}"))?;
    run(&std::fs::read(file)?);
    Ok(())
}
