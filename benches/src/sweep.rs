//! Figures along one quantity that is varied: a table with a line for each of its values, and plots.

use std::fmt::Write;

use crate::figures::{Figures, short};
use crate::plot::{Axis, Plot, Point, Series};

/// One column: what is measured at every value.
struct Column {
    name: String,
    unit: &'static str,
    cells: Vec<(f64, Figures)>,
}

/// The figures of one or more columns along a quantity.
pub struct Sweep {
    quantity: String,
    /// How a value of the quantity is written.
    spell: fn(f64) -> String,
    columns: Vec<Column>,
}

impl Sweep {
    /// Nothing yet along `quantity`, whose values `spell` writes.
    pub fn new(quantity: impl Into<String>, spell: fn(f64) -> String) -> Sweep {
        Sweep { quantity: quantity.into(), spell, columns: Vec::new() }
    }

    /// Adds the figure of a round to a column, at a value of the quantity.
    pub fn add(&mut self, column: impl Into<String>, unit: &'static str, at: f64, figure: f64) {
        let name = column.into();
        let found = self.columns.iter().position(|column| column.name == name);
        let place = found.unwrap_or_else(|| {
            self.columns.push(Column { name, unit, cells: Vec::new() });
            self.columns.len() - 1
        });
        let Some(column) = self.columns.get_mut(place) else { return };
        if let Some((_, figures)) = column.cells.iter_mut().find(|(value, _)| *value == at) {
            figures.push(figure);
        } else {
            let mut figures = Figures::default();
            figures.push(figure);
            column.cells.push((at, figures));
        }
    }

    /// The median of a cell.
    #[cfg(test)]
    fn median(&self, column: &str, at: f64) -> Option<f64> {
        let column = self.columns.iter().find(|found| found.name == column)?;
        column.cells.iter().find(|(value, _)| *value == at).map(|(_, cell)| cell.median())
    }

    /// As Markdown: medians, a line for each value.
    pub fn markdown(&self) -> String {
        let mut text = format!("| {} |", self.quantity);
        for column in &self.columns {
            // Writing to a string does not fail.
            let _ = write!(text, " {}, {} |", column.name, column.unit);
        }
        text += "\n| --- |";
        text += &" --- |".repeat(self.columns.len());
        text += "\n";
        let mut values: Vec<f64> = Vec::new();
        for (value, _) in self.columns.iter().flat_map(|column| &column.cells) {
            if !values.contains(value) {
                values.push(*value);
            }
        }
        values.sort_by(f64::total_cmp);
        for value in values {
            let _ = write!(text, "| {} |", (self.spell)(value));
            for column in &self.columns {
                let cell = column.cells.iter().find(|(at, _)| *at == value);
                let shown = cell.map_or_else(String::new, |(_, cell)| short(cell.median()));
                let _ = write!(text, " {shown} |");
            }
            text += "\n";
        }
        text
    }

    /// The columns of these names as one plot; they share a unit.
    pub fn plot(&self, title: &str, names: &[&str], y: Axis) -> Plot {
        let chosen = names.iter().filter_map(|n| self.columns.iter().find(|c| c.name == *n));
        let series: Vec<Series> = chosen
            .map(|column| {
                let point = |(x, cell): &(f64, Figures)| Point {
                    x: *x,
                    low: cell.low(),
                    y: cell.median(),
                    high: cell.high(),
                };
                let mut points: Vec<Point> = column.cells.iter().map(point).collect();
                points.sort_by(|a, b| a.x.total_cmp(&b.x));
                Series { name: column.name.clone(), points }
            })
            .collect();
        let mut ticks: Vec<f64> = series.iter().flat_map(|s| &s.points).map(|p| p.x).collect();
        ticks.sort_by(f64::total_cmp);
        ticks.dedup();
        let x = Axis { label: self.quantity.clone(), log: true, spell: self.spell, ticks };
        Plot { title: title.into(), x, y, series }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures::count;

    /// Every value has its line, in order, and a column without a figure there leaves a gap.
    #[test]
    fn tells_a_line_for_each_value() {
        let mut sweep = Sweep::new("clients", count);
        sweep.add("ours", "events/s", 4.0, 40.0);
        for figure in [12.0, 10.0, 11.0] {
            sweep.add("ours", "events/s", 1.0, figure);
        }
        sweep.add("theirs", "events/s", 1.0, 5.0);
        assert_eq!(sweep.median("ours", 1.0), Some(11.0));
        let wanted = "| clients | ours, events/s | theirs, events/s |\n| --- | --- | --- |\n\
                      | 1 | 11.0 | 5.00 |\n| 4 | 40.0 |  |\n";
        assert_eq!(sweep.markdown(), wanted);
    }
}
