//! The scenarios: reads, renders and mutates them, and runs every SDK's runner over them.

pub mod file;
pub mod language;
mod mutate;
mod render;
mod report;
pub mod run;
pub mod schema;

use std::path::Path;

use serde_json::{Value as Json, json};

use file::{Door, Scenario};
use render::{Entry, ServerPlace};

/// Where the scenarios stand.
pub const FILE: &str = "test-fixtures/scenarios.yaml";

/// What is run: every scenario at each of its doors, or every mutant at its first door.
pub struct Plan {
    scenarios: Vec<Scenario>,
    mutants: bool,
}

impl Plan {
    pub fn load(path: &Path, mutants: bool) -> Result<Plan, String> {
        Ok(Plan { scenarios: file::load(path)?, mutants })
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
        for entry in entries {
            let places = mutate::expectations(&entry.render(server)?);
            for place in places {
                let index = mutants.len() as u64;
                let own = Entry { scenario: entry.scenario, door: entry.door, index };
                mutants.extend(mutate::mutant(&own.render(server)?, &place));
            }
        }
        Ok(mutants)
    }
}

/// `cargo xtask scenarios OUT`: renders for a runner that is called by hand.
pub fn render_to(root: &Path, path: &Path, out: &Path, mutants: bool) -> Result<(), String> {
    let plan = Plan::load(&root.join(path), mutants)?;
    let text = plan.json(None)?.to_string();
    std::fs::write(out, text).map_err(|e| format!("{}: {e}", out.display()))?;
    println!("wrote {} (embedded door only: no server was started)", out.display());
    Ok(())
}
