//! What libFuzzer says about a run, and the counts of all runs on this machine.

use std::collections::BTreeMap;
use std::path::Path;

use super::crew::Outcome;

/// One run of one target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub executions: u64,
    pub seconds: u64,
    /// Edges of the program that were reached.
    pub edges: u64,
    pub corpus: u64,
    pub peak_mb: u64,
    /// What the run found.
    pub found: Option<String>,
}

impl Stats {
    /// Reads what a run printed.
    pub fn read(text: &str, found: Option<String>) -> Stats {
        let last = |mark: &str| {
            let value = text.lines().rev().find_map(|line| {
                let (_, rest) = line.split_once(mark)?;
                let rest = rest.trim_start();
                let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
                rest[..digits].parse::<u64>().ok()
            });
            value.unwrap_or(0)
        };
        // A run that ends early prints no final count; its last line of progress has one.
        let progress = text.lines().rev().find_map(|line| {
            let (count, _) = line.strip_prefix('#')?.split_once(|c: char| !c.is_ascii_digit())?;
            count.parse::<u64>().ok()
        });
        let seconds = text.lines().rev().find_map(|line| {
            let (_, rest) = line.split_once("runs in ")?;
            rest.split(' ').next()?.parse::<u64>().ok()
        });
        let executions = last("stat::number_of_executed_units:").max(progress.unwrap_or(0));
        let rate = last("stat::average_exec_per_sec:");
        Stats {
            executions,
            seconds: seconds.unwrap_or_else(|| executions.checked_div(rate).unwrap_or(0)),
            edges: last("cov: "),
            corpus: last("corp: "),
            peak_mb: last("stat::peak_rss_mb:").max(last("rss: ")),
            found,
        }
    }
}

/// Prints a table, adds to the counts, and fails where a target found something, or, with planted
/// bugs, where it found nothing.
pub fn print(target: &Path, results: &[Outcome], planted: bool) -> Result<(), String> {
    let file = target.join("executions.toml");
    let known = std::fs::read_to_string(&file).ok().and_then(|text| toml::from_str(&text).ok());
    let mut totals: BTreeMap<String, u64> = known.unwrap_or_default();
    let mut wrong = Vec::new();
    println!("\ntarget    seconds  executions      in all    edges  corpus  MB   result");
    for (name, result) in results {
        let stats = match result {
            Ok(stats) => stats,
            Err(e) => {
                wrong.push(format!("{name}: {e}"));
                continue;
            }
        };
        let total = totals.entry(name.clone()).or_default();
        *total += if planted { 0 } else { stats.executions };
        let word = match (&stats.found, planted) {
            (None, false) => "nothing found",
            (Some(_), false) => "FOUND SOMETHING",
            (Some(_), true) => "the planted bug was found",
            (None, true) => "THE PLANTED BUG WAS NOT FOUND",
        };
        println!(
            "{name:9} {:>7} {:>11} {total:>11} {:>8} {:>7} {:>4}  {word}",
            stats.seconds, stats.executions, stats.edges, stats.corpus, stats.peak_mb
        );
        match (&stats.found, planted) {
            (Some(found), false) => wrong.push(format!("{name} found something:\n  {found}")),
            (None, true) => wrong.push(format!("{name} did not find its planted bug")),
            (Some(_), true) | (None, false) => {}
        }
    }
    let all: u64 = totals.values().sum();
    println!("{all} executions on this machine so far");
    let text = toml::to_string(&totals).map_err(|e| e.to_string())?;
    std::fs::write(&file, text).map_err(|e| format!("{}: {e}", file.display()))?;
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers of a run are read from its end, whether it ended by itself or by a finding.
    #[test]
    fn reads_what_libfuzzer_prints() {
        let quiet = "#2\tINITED cov: 12 ft: 13 corp: 1/1b exec/s: 0 rss: 40Mb\n\
                     #900\tDONE   cov: 345 ft: 999 corp: 67/1Kb lim: 9 exec/s: 450 rss: 55Mb\n\
                     Done 900 runs in 2 second(s)\n\
                     stat::number_of_executed_units: 900\nstat::peak_rss_mb:              56\n";
        let expected =
            Stats { executions: 900, seconds: 2, edges: 345, corpus: 67, peak_mb: 56, found: None };
        assert_eq!(Stats::read(quiet, None), expected);
        let cut = "#128\tNEW    cov: 20 ft: 21 corp: 3/9b exec/s: 64 rss: 41Mb\npanicked at x\n";
        let stats = Stats::read(cut, Some("x".to_string()));
        assert_eq!((stats.executions, stats.edges, stats.peak_mb), (128, 20, 41));
    }
}
