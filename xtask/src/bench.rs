//! `cargo xtask bench`: builds releases, starts servers, and measures beside the raw device.

mod peers;

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{cargo, command, output, quiet, run, shown, target};
use crate::quickstart::certificate;
use crate::server::{Certificate, Server, Setup, Token};
use crate::{python, sdk};

const TOKEN: &str = "bench-token";
const PAGE: &str = "docs/BENCHMARKS.md";
const BEGIN: &str = "<!-- measured -->\n";
const END: &str = "<!-- /measured -->";

/// Builds, measures, prints; with `write` also into docs/BENCHMARKS.md.
pub fn run_all(
    root: &Path,
    rounds: usize,
    write: bool,
    folder: Option<PathBuf>,
    beside_peers: bool,
) -> Result<(), String> {
    println!("building releases (the first time takes minutes)");
    let packages = ["kimberlite-ffi", "kimberlite-server", "kimberlite-bench"];
    let mut build = cargo(root, ["build", "--release"]);
    for package in packages {
        build.args(["--package", package]);
    }
    run(&mut build)?;
    let built = target(root).join("release");
    // It is emptied, so it is always one of our own.
    let folder = folder.map_or_else(|| target(root).join("bench"), |f| f.join("kimberlite-bench"));
    // Old databases would make the servers start with what earlier runs left.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let peers = if beside_peers { Some(peers::build(root)?) } else { None };
    let bench = measure(root, &built, &folder, rounds, peers)?;
    println!("\n{bench}");
    if write { fill(root, &bench) } else { Ok(()) }
}

fn measure(
    root: &Path,
    built: &Path,
    folder: &Path,
    rounds: usize,
    peers: Option<PathBuf>,
) -> Result<String, String> {
    let (tls, ca_file) = certificate(folder)?;
    let plain = start(built, &folder.join("plain"), None)?;
    let secure = start(built, &folder.join("tls"), Some(tls))?;
    let library = built.join(sdk::library_name());
    let overhead = compile(root, built, folder, "overhead")?;
    let cold = compile(root, built, folder, "cold_start")?;
    let stripped = folder.join(sdk::library_name());
    quiet(command("strip", ["--strip-unneeded", "-o"]).arg(&stripped).arg(&library))?;
    let interpreter = python::plain(root)?;
    let script = root.join("benches/overhead.py");
    let python = format!("{} {}", interpreter.get_program().to_string_lossy(), script.display());
    let address = secure.address.replace("127.0.0.1", "localhost");

    let mut bench = Command::new(built.join("kimberlite-bench"));
    bench
        .env("KIMBERLITE_LIBRARY", &library)
        .env("PYTHONPATH", root.join("sdks/python/src"))
        .arg("--folder")
        .arg(folder)
        .args(["--server", &plain.address, "--token", TOKEN, "--rounds", &rounds.to_string()])
        .arg("--sdk")
        .arg(format!("c={}", overhead.display()))
        .args(["--sdk", &format!("python={python}")])
        .args(["--sdk", &format!("python-asyncio={python} --asyncio")])
        .arg("--cold-start")
        .arg(format!(
            "{} {} tls://{address} {TOKEN} {}",
            cold.display(),
            library.display(),
            ca_file.display()
        ))
        .arg("--library")
        .arg(&stripped);
    if let Some(program) = peers {
        bench.arg("--peers").arg(program).env("PATH", peers::path(root));
    }
    let (well, text) = output(&mut bench)?;
    if well { Ok(text) } else { Err(format!("{} failed", shown(&bench))) }
}

fn start(built: &Path, folder: &Path, certificate: Option<Certificate>) -> Result<Server, String> {
    let token = Token { name: "bench", text: TOKEN.into(), role: "admin", tenants: None };
    let setup = Setup {
        tokens: vec![token],
        tenants: vec![1],
        data_dir: Some(folder.join("data")),
        certificate,
    };
    Server::start(&built.join("kimberlite-server"), folder, &setup)
}

fn compile(root: &Path, built: &Path, folder: &Path, name: &str) -> Result<PathBuf, String> {
    let program = folder.join(name);
    let mut compiler = command(sdk::cc(), ["-std=c11", "-D_POSIX_C_SOURCE=200809L", "-O2"]);
    compiler
        .arg("-I")
        .arg(root.join("crates/kimberlite-ffi"))
        .arg(root.join("benches").join(format!("{name}.c")))
        .arg("-o")
        .arg(&program)
        .arg("-L")
        .arg(built)
        .arg(format!("-Wl,-rpath,{}", built.display()));
    // The cold start loads the library itself, which is a part of what it measures.
    compiler.arg(if name == "cold_start" { "-ldl" } else { "-lkimberlite_ffi" });
    run(&mut compiler)?;
    Ok(program)
}

fn fill(root: &Path, table: &str) -> Result<(), String> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).map_err(|e| format!("{PAGE}: {e}"))?;
    let (head, rest) = page.split_once(BEGIN).ok_or(format!("{PAGE} has no {BEGIN}"))?;
    let (_, tail) = rest.split_once(END).ok_or(format!("{PAGE} has no {END}"))?;
    let new = format!("{head}{BEGIN}\n{table}\n{END}{tail}");
    std::fs::write(&path, new).map_err(|e| format!("{PAGE}: {e}"))?;
    println!("wrote {PAGE}");
    Ok(())
}
