//! The rows of a query, in every format, batch by batch.

mod arrow;
mod csv;
mod json;
mod table;

use clap::ValueEnum;
use kimberlite::{Column, QueryResult};

use crate::failure::Outcome;
use crate::output::Output;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum RowFormat {
    /// Aligned columns; control characters are shown by their codes
    Table,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Ndjson,
    /// Comma-separated values with a line of names, as in RFC 4180
    Csv,
    /// An Arrow IPC file, which pandas, Polars and DuckDB read
    Arrow,
}

/// Writes the rows of one statement.
pub(crate) trait RowWriter {
    /// Writes some rows.
    fn rows(&mut self, out: &mut Output, rows: &QueryResult) -> Outcome<()>;
    /// Writes what is left, and the end.
    fn finish(&mut self, out: &mut Output) -> Outcome<()>;
}

/// The writer of a format. With `raw`, control characters of the data reach a terminal.
pub(crate) fn writer(format: RowFormat, raw: bool, columns: &[Column]) -> Box<dyn RowWriter> {
    match format {
        RowFormat::Table => Box::new(table::Table::new(columns, raw)),
        RowFormat::Json => Box::new(json::Json::new(columns, false)),
        RowFormat::Ndjson => Box::new(json::Json::new(columns, true)),
        RowFormat::Csv => Box::new(csv::Csv::new(columns, raw)),
        RowFormat::Arrow => Box::new(arrow::Arrow::new(columns)),
    }
}

/// The columns' names, each made unique: the second `n` becomes `n_2`.
fn unique_names(columns: &[Column]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(columns.len());
    for column in columns {
        let mut name = column.name.clone();
        let mut number = 2;
        while names.contains(&name) {
            name = format!("{}_{number}", column.name);
            number += 1;
        }
        names.push(name);
    }
    names
}
