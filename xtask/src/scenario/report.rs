//! Reads what a runner printed and compares runners.

use std::collections::{BTreeMap, HashSet};

/// What a runner counted for one door.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub executed: u64,
    pub steps: u64,
    pub checks: u64,
    pub failed: u64,
}

/// What a runner printed.
#[derive(Debug, Default)]
pub struct Report {
    pub doors: BTreeMap<String, Counts>,
    /// Door and name of each failed scenario.
    pub failures: HashSet<(String, String)>,
}

impl Report {
    pub fn parse(text: &str) -> Report {
        let mut report = Report::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("FAIL ") {
                if let Some((place, _)) = rest.split_once(':')
                    && let Some((door, name)) = place.split_once(' ')
                {
                    report.failures.insert((door.to_string(), name.to_string()));
                }
            } else if let Some((door, counts)) = closing(line) {
                report.doors.insert(door, counts);
            }
        }
        report
    }
}

/// `scenarios embedded: 55 executed, 300 steps, 410 checks, 0 failed`
fn closing(line: &str) -> Option<(String, Counts)> {
    let (door, counts) = line.strip_prefix("scenarios ")?.split_once(": ")?;
    let mut numbers = [0; 4];
    let mut parts = counts.split(", ");
    for (number, word) in numbers.iter_mut().zip(["executed", "steps", "checks", "failed"]) {
        let (count, unit) = parts.next()?.split_once(' ')?;
        *number = count.parse().ok().filter(|_| unit == word)?;
    }
    let [executed, steps, checks, failed] = numbers;
    Some((door.to_string(), Counts { executed, steps, checks, failed }))
}

/// A table of all runners' counts.
pub fn table(reports: &[(&str, Report)]) -> String {
    let head = ["SDK", "door", "executed", "steps", "checks", "failed"];
    let mut rows = vec![head.map(String::from)];
    for (sdk, report) in reports {
        for (door, c) in &report.doors {
            let numbers = [c.executed, c.steps, c.checks, c.failed].map(|n| n.to_string());
            let [executed, steps, checks, failed] = numbers;
            rows.push([sdk.to_string(), door.clone(), executed, steps, checks, failed]);
        }
    }
    let mut text = String::new();
    for row in rows {
        let [sdk, door, executed, steps, checks, failed] = row;
        text += &format!("{sdk:14} {door:9} {executed:>9} {steps:>7} {checks:>7} {failed:>7}\n");
    }
    text
}

/// What is wrong: doors or counts that differ between runners.
pub fn differences(reports: &[(&str, Report)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let Some((first_sdk, first)) = reports.first() else { return wrong };
    for (sdk, report) in reports {
        if report.doors.is_empty() {
            wrong.push(format!("{sdk}: no closing line `scenarios DOOR: … executed, …`"));
        }
        for (door, counts) in &report.doors {
            if first.doors.get(door) != Some(counts) {
                wrong.push(format!("{sdk} and {first_sdk} differ at the door {door}"));
            }
        }
        for door in first.doors.keys().filter(|door| !report.doors.contains_key(*door)) {
            wrong.push(format!("{sdk} did not execute the door {door}, which {first_sdk} did"));
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "FAIL embedded a@2.read.expected_count: step 2 read: 3 is not 2\n\
        scenarios embedded: 5 executed, 30 steps, 40 checks, 1 failed\n";

    /// The closing lines and the failed scenarios are understood.
    #[test]
    fn reads_a_runner() {
        let report = Report::parse(GOOD);
        let counts = Counts { executed: 5, steps: 30, checks: 40, failed: 1 };
        assert_eq!(report.doors.get("embedded"), Some(&counts));
        assert!(report.failures.contains(&("embedded".into(), "a@2.read.expected_count".into())));
        assert!(Report::parse("scenarios embedded: 5 executed").doors.is_empty());
    }

    /// Any difference in counts or doors between runners is found, and so is a silent runner.
    #[test]
    fn compares_runners() {
        let same = [("rust", Report::parse(GOOD)), ("c", Report::parse(GOOD))];
        assert_eq!(differences(&same), Vec::<String>::new());
        for other in [
            GOOD.replace("30 steps", "29 steps"),
            GOOD.replace("scenarios embedded", "scenarios server"),
            String::new(),
        ] {
            let reports = [("rust", Report::parse(GOOD)), ("c", Report::parse(&other))];
            assert!(!differences(&reports).is_empty(), "{other}");
        }
    }
}
