//! Aligned columns for people.

use kimberlite::{Column, QueryResult, ValueRef};
use unicode_width::UnicodeWidthStr;

use super::RowWriter;
use crate::escape;
use crate::failure::Outcome;
use crate::output::Output;

/// The widths are those of the first rows: as many as this, or as many bytes.
const MEASURED_ROWS: usize = 1_000;
const MEASURED_BYTES: usize = 1 << 20;
/// The widest that a cell is shown to a person; other formats show all of it.
const MAX_CELL_WIDTH: usize = 80;

pub(super) struct Table {
    names: Vec<String>,
    widths: Vec<usize>,
    /// A column of numbers alone is put to the right.
    numeric: Vec<bool>,
    /// The first rows, until the widths are known.
    held: Vec<Vec<String>>,
    held_bytes: usize,
    begun: bool,
    rows: u64,
    raw: bool,
}

impl Table {
    pub(super) fn new(columns: &[Column], raw: bool) -> Table {
        let names: Vec<String> = columns.iter().map(|c| escape::text(&c.name)).collect();
        let widths = names.iter().map(|name| name.width()).collect();
        let numeric = vec![true; names.len()];
        let held = Vec::new();
        Table { names, widths, numeric, held, held_bytes: 0, begun: false, rows: 0, raw }
    }

    fn hold(&mut self, cells: Vec<String>) {
        for (width, cell) in self.widths.iter_mut().zip(&cells) {
            *width = (*width).max(cell.width());
        }
        self.held_bytes += cells.iter().map(String::len).sum::<usize>();
        self.held.push(cells);
    }

    fn begin(&mut self, out: &mut Output) -> Outcome<()> {
        self.begun = true;
        let header = self.line(&self.names);
        out.line(&out.styled("1", &header))?;
        let rules: Vec<String> = self.widths.iter().map(|width| "-".repeat(*width)).collect();
        out.line(&rules.join("  "))?;
        for cells in std::mem::take(&mut self.held) {
            out.line(&self.line(&cells))?;
        }
        Ok(())
    }

    fn line(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for (index, cell) in cells.iter().enumerate() {
            let pad = self.widths[index].saturating_sub(cell.width());
            if index > 0 {
                line.push_str("  ");
            }
            if self.numeric[index] {
                line.extend(std::iter::repeat_n(' ', pad));
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.extend(std::iter::repeat_n(' ', pad));
            }
        }
        line.truncate(line.trim_end().len());
        line
    }

    fn cell(&self, value: ValueRef<'_>, cut: bool) -> String {
        let mut text = String::new();
        match value {
            ValueRef::Null => text.push_str("NULL"),
            ValueRef::Int64(v) => text = v.to_string(),
            ValueRef::Float64(v) => text = format!("{v:?}"),
            ValueRef::Bool(v) => text = v.to_string(),
            ValueRef::String(v) if self.raw => text.push_str(v),
            ValueRef::String(v) => escape::push_text(&mut text, v),
            ValueRef::Bytes(v) if self.raw => text = String::from_utf8_lossy(v).into_owned(),
            ValueRef::Bytes(v) => escape::push_bytes(&mut text, v),
        }
        if cut && text.width() > MAX_CELL_WIDTH { shortened(&text) } else { text }
    }
}

/// The beginning of a text that is too wide.
fn shortened(text: &str) -> String {
    let mut short = String::new();
    for c in text.chars() {
        if short.width() + 2 > MAX_CELL_WIDTH {
            break;
        }
        short.push(c);
    }
    short.push('…');
    short
}

impl RowWriter for Table {
    fn rows(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()> {
        let cut = out.is_terminal && !self.raw;
        for row in rows.rows() {
            self.rows += 1;
            let mut cells = Vec::with_capacity(row.len());
            for index in 0..row.len() {
                let value = row.value(index)?;
                if !self.begun {
                    self.numeric[index] &=
                        matches!(value, ValueRef::Int64(_) | ValueRef::Float64(_) | ValueRef::Null);
                }
                cells.push(self.cell(value, cut));
            }
            if self.begun {
                out.line(&self.line(&cells))?;
                continue;
            }
            self.hold(cells);
            if self.held.len() >= MEASURED_ROWS || self.held_bytes >= MEASURED_BYTES {
                self.begin(out)?;
            }
        }
        Ok(())
    }

    fn finish(&mut self, out: &mut Output) -> Outcome<()> {
        if !self.begun {
            self.begin(out)?;
        }
        let end = if self.rows == 1 { "1 row".to_string() } else { format!("{} rows", self.rows) };
        out.line(&out.styled("2", &format!("({end})")))
    }
}
