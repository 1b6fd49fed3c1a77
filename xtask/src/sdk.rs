//! How each SDK is built for tests and where its scenario runner stands.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{self, cargo, run, target};
use crate::python;

/// The SDKs that run here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Sdk {
    Rust,
    C,
    Python,
    PythonAsyncio,
}

impl Sdk {
    pub const ALL: [Sdk; 4] = [Sdk::Rust, Sdk::C, Sdk::Python, Sdk::PythonAsyncio];

    pub const fn name(self) -> &'static str {
        match self {
            Sdk::Rust => "rust",
            Sdk::C => "c",
            Sdk::Python => "python",
            Sdk::PythonAsyncio => "python-asyncio",
        }
    }

    /// Builds the runner; the command runs the scenarios that `file` will hold.
    pub fn scenario_runner(self, root: &Path, file: &Path) -> Result<Command, String> {
        match self {
            Sdk::Rust => {
                run(&mut cargo(root, ["build", "--package", "kimberlite-scenarios"]))?;
                let mut command = Command::new(target(root).join("debug/kimberlite-scenarios"));
                command.arg(file);
                Ok(command)
            }
            Sdk::C => {
                let sources = c_runner_sources(root)?;
                let program = compile_c(root, &sources, "c-scenarios", &["-lcjson", "-lm"])?;
                let mut command = Command::new(program);
                command.arg(file);
                Ok(command)
            }
            Sdk::Python | Sdk::PythonAsyncio => {
                let mut command = python::command(root)?;
                command.arg(root.join("sdks/python/tests/run_scenarios.py")).arg(file);
                if self == Sdk::PythonAsyncio {
                    command.arg("--asyncio");
                }
                Ok(command)
            }
        }
    }
}

/// The profile of what other languages load: quick at run time, without the cost of a release.
pub const PROFILE: &str = "fast";

/// Builds the C library; returns the folder that it stands in.
pub fn build_library(root: &Path) -> Result<PathBuf, String> {
    run(&mut cargo(root, ["build", "--profile", PROFILE, "--package", "kimberlite-ffi"]))?;
    Ok(target(root).join(PROFILE))
}

/// Builds the server; returns its path.
pub fn build_server(root: &Path) -> Result<PathBuf, String> {
    build_program(root, "kimberlite-server")
}

/// Builds the program that is called like its package; returns its path.
pub fn build_program(root: &Path, package: &str) -> Result<PathBuf, String> {
    run(&mut cargo(root, ["build", "--profile", PROFILE, "--package", package]))?;
    Ok(target(root).join(PROFILE).join(package))
}

/// The C library's file name on this platform.
pub const fn library_name() -> &'static str {
    if cfg!(windows) {
        "kimberlite_ffi.dll"
    } else if cfg!(target_os = "macos") {
        "libkimberlite_ffi.dylib"
    } else {
        "libkimberlite_ffi.so"
    }
}

/// The C compiler: CC, else the first of the usual names.
pub fn cc() -> String {
    let usual = || ["cc", "gcc", "clang"].into_iter().find(|name| process::exists(name));
    std::env::var("CC").ok().or_else(|| usual().map(String::from)).unwrap_or_else(|| "cc".into())
}

/// The C runner's files: scenario*.c beside the C tests.
fn c_runner_sources(root: &Path) -> Result<Vec<PathBuf>, String> {
    let folder = root.join("crates/kimberlite-ffi/tests/c");
    let entries = std::fs::read_dir(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let mut sources: Vec<PathBuf> = entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            name.starts_with("scenario") && name.ends_with(".c")
        })
        .map(|entry| entry.path())
        .collect();
    sources.sort();
    Ok(sources)
}

/// Compiles a C program against the C library and returns its path.
pub fn compile_c(
    root: &Path,
    sources: &[PathBuf],
    name: &str,
    more: &[&str],
) -> Result<PathBuf, String> {
    let library = build_library(root)?;
    let folder = target(root).join("c");
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let program = folder.join(name);
    let mut command = Command::new(cc());
    command
        .args([
            "-std=c11",
            "-D_GNU_SOURCE",
            "-O1",
            "-g",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Werror",
        ])
        .arg("-I")
        .arg(root.join("crates/kimberlite-ffi"))
        .args(sources)
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(&library)
        .arg("-lkimberlite_ffi")
        .arg(format!("-Wl,-rpath,{}", library.display()))
        .args(more);
    run(&mut command)?;
    Ok(program)
}
