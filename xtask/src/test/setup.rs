//! What the tests need beside Rust: installed where that is possible, else told in one list.

use std::path::Path;
use std::process::Stdio;

use super::parts::{Part, is_root};
use super::wasm;
use crate::process::{command, exists, quiet, run, shown};
use crate::sdk;

/// Something that a part needs.
struct Need {
    what: &'static str,
    /// The packages of Debian and its kin, separated by spaces.
    package: &'static str,
    parts: &'static [Part],
    present: fn() -> bool,
}

const COMPILED: &[Part] = &[Part::C, Part::Scenarios, Part::Mutants];
const PYTHON: &[Part] =
    &[Part::Python, Part::Scenarios, Part::Mutants, Part::Prove, Part::Package, Part::Quickstart];

const NEEDS: &[Need] = &[
    Need {
        what: "a C compiler",
        package: "gcc",
        parts: Part::ALL.as_slice(),
        present: || exists(&sdk::cc()),
    },
    Need {
        what: "the C library's headers",
        package: "libc6-dev",
        parts: Part::ALL.as_slice(),
        present: || header("stdio.h"),
    },
    Need {
        what: "a C++ compiler, for the fuzzer",
        package: "g++",
        parts: &[Part::Fuzz],
        present: || exists("c++") || exists("g++") || exists("clang++"),
    },
    Need {
        what: "nm and objdump",
        package: "binutils",
        parts: &[Part::Codegen, Part::Package],
        present: || exists("nm"),
    },
    Need {
        what: "cJSON, for the scenarios in C",
        package: "libcjson-dev",
        parts: COMPILED,
        present: || header("cjson/cJSON.h"),
    },
    Need {
        what: "Clang, for the sanitizers",
        package: "clang",
        parts: &[Part::C],
        present: || exists("clang") || exists("clang-14"),
    },
    Need {
        what: "Clang's sanitizers",
        package: "libclang-rt-dev",
        parts: &[Part::C],
        present: sanitizers,
    },
    Need {
        what: "Valgrind",
        package: "valgrind",
        parts: &[Part::C],
        present: || !cfg!(target_os = "linux") || exists("valgrind"),
    },
    Need {
        what: "Rust for WebAssembly (or: rustup target add wasm32-unknown-unknown)",
        package: "rustc-web cargo-web rust-web-src",
        parts: &[Part::Wasm],
        present: wasm::is_ready,
    },
    Need {
        what: "Go 1.18 or newer, for the judge of histories",
        package: "golang-go",
        parts: &[Part::Prove],
        present: || exists("go"),
    },
    Need {
        what: "Python 3.9 or newer",
        package: "python3",
        parts: PYTHON,
        present: || exists("python3") || exists("python"),
    },
    Need {
        what: "Python's venv module",
        package: "python3-venv",
        parts: PYTHON,
        present: || {
            let python = if exists("python3") { "python3" } else { "python" };
            quiet(&mut command(python, ["-c", "import ensurepip, venv"])).is_ok()
        },
    },
];

fn header(name: &str) -> bool {
    let mut compiler = command(sdk::cc(), ["-E", "-x", "c", "-include", name, "-"]);
    compiler.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    compiler.status().is_ok_and(|status| status.success())
}

/// Whether Clang, where it is there at all, can link a program with its sanitizers.
fn sanitizers() -> bool {
    let Some(clang) = ["clang", "clang-14"].into_iter().find(|name| exists(name)) else {
        return false;
    };
    quiet(&mut command(clang, ["-print-runtime-dir"])).is_ok_and(|folder| {
        let entries = std::fs::read_dir(folder.trim()).into_iter().flatten().flatten();
        entries.into_iter().any(|entry| entry.file_name().to_string_lossy().contains("asan"))
    })
}

/// Installs what these parts lack, where apt-get is there and may; else the error lists it.
pub fn install(root: &Path, parts: &[Part]) -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS
        .iter()
        .filter(|need| need.parts.iter().any(|part| parts.contains(part)) && !(need.present)())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().flat_map(|need| need.package.split(' ')).collect();
    if exists("apt-get") && is_root() {
        println!("installing {}", packages.join(" "));
        apt(root, &["update", "--quiet=2"])?;
        let mut arguments = vec!["install", "--yes", "--quiet=2", "--no-install-recommends"];
        arguments.extend(&packages);
        apt(root, &arguments)?;
    }
    let missing: Vec<String> = missing
        .iter()
        .filter(|need| !(need.present)())
        .map(|need| format!("  {} (Debian: {})", need.what, need.package))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(format!(
        "these are missing here:\n{}\nOn Debian and Ubuntu: sudo apt-get install {}",
        missing.join("\n"),
        packages.join(" ")
    ))
}

fn apt(root: &Path, arguments: &[&str]) -> Result<(), String> {
    let mut apt = command("apt-get", arguments);
    apt.current_dir(root).env("DEBIAN_FRONTEND", "noninteractive");
    run(&mut apt).map_err(|e| format!("{}: {e}", shown(&apt)))
}
