//! What an experiment hands in: text, tables and plots, written into the report's folder.

use crate::experiment::Experiment;
use crate::lab::Lab;
use crate::plot::Plot;
use crate::table::Table;
use crate::{Failure, stats};

/// The parts of a report in their order.
#[derive(Default)]
pub struct Report {
    body: String,
    plots: Vec<(String, String)>,
    above: Vec<String>,
}

impl Report {
    /// A paragraph or a table of Markdown.
    pub fn text(&mut self, text: &str) {
        self.body += text.trim_end();
        self.body += "\n\n";
    }

    /// A table of single figures, whose ceilings are judged in the end.
    pub fn table(&mut self, table: &Table) {
        self.above.extend(table.above());
        self.text(&table.markdown());
    }

    /// A plot, as a file of this name beside the page.
    pub fn plot(&mut self, name: &str, plot: &Plot) {
        self.plots.push((format!("{name}.svg"), plot.svg()));
        self.text(&format!("![{}](benchmarks/{name}.svg)", plot.title));
    }

    /// Writes everything; with `--check` it fails where a figure is above its ceiling.
    pub fn finish(&self, lab: &Lab, experiment: Experiment) -> Result<(), Failure> {
        let arguments = &lab.arguments;
        let rounds = match arguments.rounds {
            1 => "One round".to_string(),
            rounds => format!("Medians of {rounds} rounds"),
        };
        let (before, after) = (&lab.load_before, stats::load());
        let quick = if arguments.quick { ", quick: no figures to quote" } else { "" };
        let head = format!(
            "{}. {rounds}{quick}; load average {before} when it began, {after} when it ended.\n\n",
            arguments.made_by
        );
        let page = arguments.out.join(format!("{experiment}.md"));
        for (name, svg) in &self.plots {
            std::fs::write(arguments.out.join(name), svg)?;
        }
        std::fs::write(&page, format!("{head}{}", self.body))?;
        if arguments.check && !self.above.is_empty() {
            return Err(format!("above the ceiling:\n  {}", self.above.join("\n  ")).into());
        }
        Ok(())
    }
}
