//! The scenarios: reads, renders and mutates them, and runs every SDK's runner over them.

mod check;
pub mod file;
pub mod language;
mod mutate;
mod render;
mod report;
pub mod run;
pub mod schema;

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value as Json, json};

use check::Names;
use file::{Door, Scenario};
use render::{Entry, ServerPlace};

use crate::contract::Contract;

/// Where the scenarios stand.
pub const FILE: &str = "test-fixtures/scenarios.yaml";

/// What is run: every scenario at each of its doors, or every mutant at its first door.
pub struct Plan {
    scenarios: Vec<Scenario>,
    mutants: bool,
}

impl Plan {
    /// Reads a file and checks every scenario of it; the project's own file where none is given.
    pub fn load(root: &Path, file: Option<&Path>, mutants: bool) -> Result<Plan, String> {
        let path = file.map_or_else(|| root.join(FILE), PathBuf::from);
        let scenarios = file::load(&path)?;
        let names = Names::of(&Contract::load(root)?);
        names.check(&scenarios).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Plan { scenarios, mutants })
    }

    /// Every scenario at every door that it names.
    fn entries(&self) -> Vec<Entry<'_>> {
        let doors = self.scenarios.iter().flat_map(|scenario| {
            // A runner's comparing does not depend on the door, so that a mutant needs one only.
            let count = if self.mutants { 1 } else { scenario.doors.len() };
            scenario.doors.iter().take(count).map(move |door| (scenario, *door))
        });
        doors.zip(0..).map(|((scenario, door), index)| Entry { scenario, door, index }).collect()
    }

    /// Tenants that the server has from the start.
    pub fn tenants(&self) -> Result<Vec<u64>, String> {
        let place = ServerPlace { address: "unknown:1".into(), tokens: Default::default() };
        let last = self.rendered(Some(&place))?.len() as u64;
        Ok((0..last).flat_map(render::tenants_of).collect())
    }

    /// The JSON that runners read; without a server only the embedded door's.
    pub fn json(&self, server: Option<&ServerPlace>) -> Result<Json, String> {
        Ok(json!({ "scenarios": self.rendered(server)? }))
    }

    fn rendered(&self, server: Option<&ServerPlace>) -> Result<Vec<Json>, String> {
        let entries = self.entries();
        let entries = entries.iter().filter(|e| e.door == Door::Embedded || server.is_some());
        if !self.mutants {
            return entries.map(|entry| entry.render(server)).collect();
        }
        let mut mutants = Vec::new();
        let mut misspelt = HashSet::new();
        for entry in entries {
            let rendered = entry.render(server)?;
            let own = |mutants: &Vec<Json>| {
                let index = mutants.len() as u64;
                Entry { scenario: entry.scenario, door: entry.door, index }.render(server)
            };
            for place in mutate::expectations(&rendered) {
                mutants.extend(mutate::mutant(&own(&mutants)?, &place));
            }
            for place in mutate::keys(&rendered) {
                // A runner looks at keys by their places, so that one mutant of each kind is enough.
                if misspelt.insert(place.kind()) {
                    mutants.extend(mutate::misspelt(&own(&mutants)?, &place));
                }
            }
        }
        Ok(mutants)
    }
}

/// `cargo xtask scenarios OUT`: renders for a runner that is called by hand.
pub fn render_to(
    root: &Path,
    file: Option<&Path>,
    out: &Path,
    mutants: bool,
) -> Result<(), String> {
    let plan = Plan::load(root, file, mutants)?;
    let text = plan.json(None)?.to_string();
    std::fs::write(out, text).map_err(|e| format!("{}: {e}", out.display()))?;
    println!("wrote {} (embedded door only: no server was started)", out.display());
    Ok(())
}
