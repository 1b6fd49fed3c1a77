//! The C programs of crates/kimberlite-ffi/tests/c: plain, and under Valgrind where it is.

use std::path::Path;
use std::process::Command;

use crate::process::{exists, run};
use crate::sdk::{build_server, compile_c};

/// The folder of the C programs; each file `test_*.c` is one.
const FOLDER: &str = "crates/kimberlite-ffi/tests/c";

/// Compiles and runs each program.
pub fn run_every(root: &Path) -> Result<(), String> {
    let folder = root.join(FOLDER);
    let mut sources: Vec<_> = std::fs::read_dir(&folder)
        .map_err(|e| format!("{}: {e}", folder.display()))?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| {
            let name =
                path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
            name.starts_with("test_") && name.ends_with(".c")
        })
        .collect();
    sources.sort();
    if sources.is_empty() {
        return Err(format!("{} holds no test_*.c", folder.display()));
    }
    let server = build_server(root)?;
    for source in sources {
        let name = source.file_stem().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
        let program = compile_c(root, &source, &name, &["-lpthread"])?;
        println!("--- {name}");
        run(Command::new(&program).env("KIMBERLITE_SERVER", &server))?;
        if cfg!(target_os = "linux") && exists("valgrind") {
            println!("--- {name} under Valgrind");
            run(valgrind(&program).env("KIMBERLITE_SERVER", &server))?;
        }
    }
    Ok(())
}

fn valgrind(program: &Path) -> Command {
    let mut command = Command::new("valgrind");
    command
        .args(["--quiet", "--error-exitcode=99", "--leak-check=full"])
        .args(["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"])
        .arg(program);
    command
}
