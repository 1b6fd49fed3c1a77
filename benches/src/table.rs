//! A table of single figures: the name, the median of the rounds, their spread, the budget.

use std::fmt::Write;

use crate::figures::{Figures, short};

/// One line of the table.
struct Row {
    name: String,
    figures: Figures,
    unit: &'static str,
    budget: String,
    ceiling: Option<f64>,
    newest: f64,
}

/// Lines in the order in which they first came.
#[derive(Default)]
pub struct Table(Vec<Row>);

impl Table {
    /// Adds the figure of a round to the line of its name.
    pub fn add(&mut self, name: impl Into<String>, figure: f64, unit: &'static str, budget: &str) {
        self.add_below(name, figure, unit, budget, None);
    }

    /// The same for a figure that `--check` does not let above a ceiling.
    pub fn add_below(
        &mut self,
        name: impl Into<String>,
        figure: f64,
        unit: &'static str,
        budget: &str,
        ceiling: Option<f64>,
    ) {
        let name = name.into();
        if let Some(row) = self.0.iter_mut().find(|row| row.name == name) {
            row.figures.push(figure);
            row.newest = figure;
        } else {
            let mut figures = Figures::default();
            figures.push(figure);
            self.0.push(Row {
                name,
                figures,
                unit,
                budget: budget.into(),
                ceiling,
                newest: figure,
            });
        }
    }

    /// The newest figure of a line.
    pub fn newest(&self, name: &str) -> Option<f64> {
        self.0.iter().find(|row| row.name == name).map(|row| row.newest)
    }

    /// The lines whose median is above their ceiling.
    pub fn above(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|row| {
            let ceiling = row.ceiling?;
            let median = row.figures.median();
            (median > ceiling).then(|| {
                let unit = row.unit;
                format!("{}: {} {unit}, above {ceiling} {unit}", row.name, short(median))
            })
        })
    }

    /// As Markdown.
    pub fn markdown(&self) -> String {
        let mut text = String::from("| work | median | lowest to highest | budget |\n");
        text += "| --- | --- | --- | --- |\n";
        for Row { name, figures, unit, budget, .. } in &self.0 {
            let (low, high) = (short(figures.low()), short(figures.high()));
            let median = short(figures.median());
            // Writing to a string does not fail.
            let _ = writeln!(text, "| {name} | {median} {unit} | {low} to {high} | {budget} |");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rounds meet in one line, and only a median above its ceiling is told.
    #[test]
    fn tells_what_is_above_its_ceiling() {
        let mut table = Table::default();
        for figure in [1.0, 9.0, 2.0] {
            table.add_below("calm", figure, "ms", "≤ 1 ms", Some(3.0));
            table.add_below("wild", figure, "ms", "", Some(1.5));
        }
        assert_eq!(table.above().collect::<Vec<_>>(), ["wild: 2.00 ms, above 1.5 ms"]);
        assert!(table.markdown().contains("| calm | 2.00 ms | 1.00 to 9.00 | ≤ 1 ms |\n"));
    }
}
