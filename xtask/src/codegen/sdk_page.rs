//! The tables of docs/SDK.md: what the contract's names become in each language.

use std::fmt::Write as _;

use super::python;
use crate::contract::{Contract, ErrorSpec, pascal};

/// A language: its title, and what an error is called there.
type Language = (&'static str, fn(&ErrorSpec) -> String);

/// A new language is one more row.
const LANGUAGES: [Language; 3] = [
    ("Rust", |error| format!("ErrorCode::{}", pascal(&error.name))),
    ("C", |error| format!("KMB_ERR_{}", error.name)),
    ("Python", python::class),
];

/// Each error's name in each language.
pub fn errors(contract: &Contract) -> String {
    let titles: Vec<&str> = LANGUAGES.iter().map(|(title, _)| *title).collect();
    let mut out = format!("| number | error | {} |\n", titles.join(" | "));
    let _ = writeln!(out, "| --- | --- |{}", " --- |".repeat(titles.len()));
    for error in contract.errors.iter().filter(|error| error.number != 0) {
        let names: Vec<String> =
            LANGUAGES.iter().map(|(_, name)| format!("`{}`", name(error))).collect();
        let _ = writeln!(out, "| {} | `{}` | {} |", error.number, error.name, names.join(" | "));
    }
    out
}
