//! `cargo xtask quickstart`: sets everything up and runs the same program in Rust, C and Python, on
//! an embedded database and against a server over TLS.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::process::{cargo, exists, run, shown, target};
use crate::python;
use crate::sdk::{PROFILE, build_server, cc, compile_c};
use crate::server::{Certificate, Server, Setup, Token};

/// The token of the quickstart's own server, which lives as long as this command.
const TOKEN: &str = "quickstart-token";

/// Builds, runs and explains.
pub fn run_programs(root: &Path) -> Result<(), String> {
    check_tools()?;
    let start = Instant::now();
    step("building the C library and kimberlite-server (the first time takes some minutes)");
    // Not quiet, so that there is something to see meanwhile.
    let packages = ["--package", "kimberlite-ffi", "--package", "kimberlite-server"];
    run(cargo(root, ["build", "--profile", PROFILE]).args(packages))?;
    step("building the Rust quickstart");
    run(&mut cargo(root, ["build", "--package", "kimberlite", "--example", "quickstart"]))?;
    let programs = programs(root)?;
    let folder = target(root).join("quickstart");
    // Old events would make the second run look different from the first.
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let (certificate, ca_file) = certificate(&folder)?;
    step("starting kimberlite-server over TLS with a certificate made just now");
    let server = start_server(root, &folder, certificate)?;
    let address = server.address.replace("127.0.0.1", "localhost");
    for (language, build) in &programs {
        let data = folder.join(format!("embedded-{language}"));
        step(&format!("{language}, embedded in {}", data.display()));
        show(build().arg(format!("embedded:{}", data.display())))?;
        step(&format!("{language}, tls://{address}"));
        show(build().arg(format!("tls://{address}")).arg(TOKEN).arg(&ca_file))?;
    }
    println!(
        "\nquickstart: {} programs, each embedded and over TLS, passed in {:.0} s",
        programs.len(),
        start.elapsed().as_secs_f64()
    );
    println!("next: README.md, docs/guides, and the programs themselves in examples/");
    Ok(())
}

fn check_tools() -> Result<(), String> {
    let mut missing = Vec::new();
    if !exists(&cc()) {
        missing.push("a C compiler (Debian: gcc libc6-dev)");
    }
    if !exists("python3") && !exists("python") {
        missing.push("Python 3.9 or newer (Debian: python3 python3-venv)");
    }
    if missing.is_empty() { Ok(()) } else { Err(format!("missing here: {}", missing.join(", "))) }
}

fn step(what: &str) {
    println!("\n== {what}");
}

fn show(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command).replace(TOKEN, "TOKEN"));
    run(command).map_err(|e| e.replace(TOKEN, "TOKEN"))
}

type Program = (&'static str, Box<dyn Fn() -> Command>);

/// How to start each language's program; its arguments are ADDRESS [TOKEN CA_FILE].
fn programs(root: &Path) -> Result<Vec<Program>, String> {
    let rust = target(root).join("debug/examples/quickstart");
    step("compiling examples/c/quickstart.c");
    let c = compile_c(root, &[root.join("examples/c/quickstart.c")], "quickstart", &[])?;
    step("preparing Python");
    python::command(root)?;
    let source = root.join("examples/python/quickstart.py");
    let root = root.to_path_buf();
    Ok(vec![
        ("rust", Box::new(move || Command::new(&rust))),
        ("c", Box::new(move || Command::new(&c))),
        (
            "python",
            Box::new(move || {
                // It was prepared above, so that it cannot fail to be found here.
                let mut python = python::command(&root).unwrap_or_else(|_| Command::new("python3"));
                python.arg(&source);
                python
            }),
        ),
    ])
}

/// A certificate for localhost, which is its own authority: server files and the clients' CA file.
pub fn certificate(folder: &Path) -> Result<(Certificate, PathBuf), String> {
    let names = vec!["localhost".to_string(), "127.0.0.1".to_string()];
    let made =
        rcgen::generate_simple_self_signed(names).map_err(|e| format!("certificate: {e}"))?;
    let certificate_file = folder.join("server.pem");
    let key_file = folder.join("server.key");
    let write = |path: &Path, text: String| {
        std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()))
    };
    write(&certificate_file, made.cert.pem())?;
    write(&key_file, made.signing_key.serialize_pem())?;
    Ok((Certificate { certificate_file: certificate_file.clone(), key_file }, certificate_file))
}

fn start_server(root: &Path, folder: &Path, certificate: Certificate) -> Result<Server, String> {
    let token =
        Token { name: "quickstart", text: TOKEN.into(), role: "admin", tenants: Some(vec![1]) };
    let setup = Setup {
        tokens: vec![token],
        tenants: vec![1],
        data_dir: Some(folder.join("server-data")),
        certificate: Some(certificate),
    };
    Server::start(&build_server(root)?, folder, &setup)
}
