//! Runs every SDK's runner over the same scenarios and compares what they executed.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use super::Plan;
use super::render::ServerPlace;
use super::report::{self, Report};
use crate::process;
use crate::sdk::{self, Sdk};
use crate::server::{self, Server, Setup, Token};

/// A tenant that no scenario uses; the token `stranger` belongs to it.
const STRANGERS_TENANT: u64 = 1;

/// How long one runner may take for all scenarios; it needs some seconds.
const RUNNER_TIMEOUT: Duration = Duration::from_secs(600);

/// What to run.
pub struct Options {
    /// The project's own where there is none.
    pub file: Option<PathBuf>,
    pub mutate: bool,
    /// Empty for all.
    pub sdks: Vec<Sdk>,
}

/// Runs the scenarios, prints the table and fails on any failure or difference.
pub fn run(root: &Path, options: &Options) -> Result<(), String> {
    let plan = Plan::load(root, options.file.as_deref(), options.mutate)?;
    let sdks = if options.sdks.is_empty() { Sdk::ALL.to_vec() } else { options.sdks.clone() };
    let server_program = sdk::build_server(root)?;
    let mut reports = Vec::new();
    let mut wrong = Vec::new();
    for sdk in sdks {
        println!(
            "--- {} scenarios, {}",
            if options.mutate { "mutated" } else { "all" },
            sdk.name()
        );
        let folder = process::target(root).join("scenarios").join(sdk.name());
        let path = folder.join("scenarios.json");
        let mut command = sdk.scenario_runner(root, &path)?;
        let (json, _server) = prepare(&plan, &server_program, &folder)?;
        let (success, text) = run_one(&mut command, &path, &json, options.mutate)?;
        let report = Report::parse(&text);
        if options.mutate {
            wrong.extend(survivors(sdk.name(), &json, &report));
        } else if !success || report.doors.values().any(|counts| counts.failed > 0) {
            wrong.push(format!("{}: see its FAIL lines above", sdk.name()));
        }
        reports.push((sdk.name(), report));
    }
    print!("{}", report::table(&reports));
    wrong.extend(report::differences(&reports));
    if wrong.is_empty() { Ok(()) } else { Err(wrong.join("\n")) }
}

/// Runs one runner; failures appear as they come, but those of mutants are what is wanted.
fn run_one(
    command: &mut Command,
    path: &Path,
    json: &Json,
    mutate: bool,
) -> Result<(bool, String), String> {
    std::fs::write(path, json.to_string()).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut text = String::new();
    let success = process::lines(command, RUNNER_TIMEOUT, |line| {
        if !(mutate && line.starts_with("FAIL ")) {
            println!("{line}");
        }
        text.push_str(line);
        text.push('\n');
    })?;
    Ok((success, text))
}

/// A server for this runner alone, and the scenarios rendered for it.
fn prepare(plan: &Plan, program: &Path, folder: &Path) -> Result<(Json, Server), String> {
    let tenants = plan.tenants()?;
    let token = |name: &'static str, role: &'static str, tenants: Option<Vec<u64>>| Token {
        name,
        text: format!("scenario-token-{name}"),
        role,
        tenants,
    };
    let tokens = vec![
        token("admin", "admin", None),
        token("writer", "writer", Some(tenants.clone())),
        token("reader", "reader", Some(tenants.clone())),
        token("stranger", "writer", Some(vec![STRANGERS_TENANT])),
    ];
    let texts = server::texts(&tokens);
    let setup = Setup { tokens, tenants, data_dir: None, certificate: None };
    let server = Server::start(program, folder, &setup)?;
    let place = ServerPlace { address: server.address.clone(), tokens: texts };
    Ok((plan.json(Some(&place))?, server))
}

/// The mutants that a runner did not fail.
fn survivors(sdk: &str, json: &Json, report: &Report) -> Vec<String> {
    let mutants: HashSet<(String, String)> = json["scenarios"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|e| Some((e["door"].as_str()?.to_string(), e["name"].as_str()?.to_string())))
        .collect();
    let mut alive: Vec<String> = mutants
        .difference(&report.failures)
        .map(|(door, name)| format!("{sdk}: the mutant {name} ({door}) passes"))
        .collect();
    alive.sort();
    let executed: u64 = report.doors.values().map(|counts| counts.executed).sum();
    if executed != mutants.len() as u64 {
        alive.push(format!("{sdk}: executed {executed} of {} mutants", mutants.len()));
    }
    alive
}
