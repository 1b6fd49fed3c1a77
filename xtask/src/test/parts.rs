//! The parts of the tests, in the order in which they run: what is quick to fail comes first.

use std::path::Path;

use clap::ValueEnum;

use super::{Options, deny, wasm};
use crate::process::{cargo, command, run};
use crate::{c_tests, codegen, python, scenario};

/// A part of the tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Rust is formatted.
    Fmt,
    /// Dependencies' licences and sources are allowed.
    Deny,
    /// Generated files, promises, proofs and exports fit the contract.
    Codegen,
    /// Clippy finds nothing in any crate.
    Clippy,
    /// Rust's documentation builds without a warning.
    Docs,
    /// The crates' own tests.
    Rust,
    /// The protocol compiles to WebAssembly.
    Wasm,
    /// The C programs, plain and under Valgrind.
    C,
    /// The Python package: types, style, tests.
    Python,
    /// The shared scenarios in every SDK, embedded and on a server.
    Scenarios,
    /// Scenarios made false: every runner must notice.
    Mutants,
    /// Kills, cuts and pauses of a real server under load; histories of its clients, judged.
    Prove,
    /// The fuzz targets: their seeds on stable Rust, then each for a minute.
    Fuzz,
    /// The packages, installed in a clean place.
    Package,
    /// The quickstart, as a newcomer runs it.
    Quickstart,
}

impl Part {
    /// What a test run without names runs.
    pub const ALL: [Part; 15] = [
        Part::Fmt,
        Part::Deny,
        Part::Clippy,
        Part::Docs,
        Part::Rust,
        Part::Wasm,
        Part::C,
        Part::Codegen,
        Part::Python,
        Part::Scenarios,
        Part::Mutants,
        Part::Prove,
        Part::Fuzz,
        Part::Package,
        Part::Quickstart,
    ];

    /// The name on the command line.
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_string()).unwrap_or_default()
    }

    /// What it shows.
    pub fn about(self) -> String {
        let value = self.to_possible_value();
        value.and_then(|v| v.get_help().map(ToString::to_string)).unwrap_or_default()
    }

    /// The command that runs just this part.
    pub fn again(self, options: &Options) -> String {
        let mut text = format!("cargo xtask test {}", self.name());
        if self == Part::Scenarios || self == Part::Mutants {
            if let Some(file) = &options.file {
                text += &format!(" --file {}", file.display());
            }
            if options.mutate {
                text += " --mutate";
            }
            for sdk in &options.sdks {
                text += &format!(" --sdk {}", sdk.name());
            }
        }
        text
    }

    pub fn run(self, root: &Path, options: &Options) -> Result<(), String> {
        match self {
            Part::Fmt => run(&mut cargo(root, ["fmt", "--all", "--check"])),
            Part::Deny => deny::check(root),
            Part::Codegen => codegen::check(root),
            Part::Clippy => clippy(root),
            Part::Docs => docs(root),
            Part::Rust => {
                run(&mut cargo(root, ["test", "--workspace", "--locked", "--no-fail-fast"]))
            }
            Part::Wasm => wasm::check(root),
            Part::C => c_tests::run_every(root),
            Part::Python => python::test(root),
            Part::Scenarios => scenarios(root, options, options.mutate),
            Part::Mutants => scenarios(root, options, true),
            Part::Prove => crate::prove::test(root),
            Part::Fuzz => crate::fuzz::test(root),
            Part::Package => crate::package::test(root),
            Part::Quickstart => crate::quickstart::run_programs(root),
        }
    }
}

/// Builds the crates' reference; a warning is an error.
pub fn docs(root: &Path) -> Result<(), String> {
    let mut doc = cargo(root, ["doc", "--quiet", "--workspace", "--no-deps", "--locked"]);
    run(doc.env("RUSTDOCFLAGS", "-D warnings"))?;
    let index = crate::process::target(root).join("doc/kimberlite/index.html");
    println!("{}", index.display());
    Ok(())
}

fn clippy(root: &Path) -> Result<(), String> {
    let arguments =
        ["clippy", "--quiet", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run(&mut cargo(root, arguments))
}

fn scenarios(root: &Path, options: &Options, mutate: bool) -> Result<(), String> {
    let file = options.file.clone();
    let options = scenario::run::Options { file, mutate, sdks: options.sdks.clone() };
    scenario::run::run(root, &options)
}

/// Whether this process may change the machine.
pub fn is_root() -> bool {
    crate::process::quiet(&mut command("id", ["-u"])).is_ok_and(|id| id.trim() == "0")
}
