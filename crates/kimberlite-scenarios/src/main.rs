//! Runs rendered scenarios through the Rust client: `kimberlite-scenarios SCENARIOS.json`.
//!
//! test-fixtures/README.md explains the file and what a runner does.

mod runner;
mod steps;
mod values;

use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: kimberlite-scenarios SCENARIOS.json");
        return ExitCode::from(2);
    };
    let file = std::fs::read_to_string(&path)
        .map_err(|e| e.to_string())
        .and_then(|text| serde_json::from_str(&text).map_err(|e| e.to_string()))
        .and_then(|file| runner::run(&file));
    match file {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{}: {error}", path.to_string_lossy());
            ExitCode::from(2)
        }
    }
}
