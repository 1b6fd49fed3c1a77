//! The Python that tests and the quickstart use: a virtual environment below the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{exists, quiet, target};
use crate::sdk;

/// The environment's interpreter; makes the environment where it is missing.
fn interpreter(root: &Path) -> Result<PathBuf, String> {
    let folder = target(root).join("python");
    let program = folder.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    if !program.exists() {
        let python = ["python3", "python"].into_iter().find(|name| exists(name));
        let python = python.ok_or("there is no python3; install Python 3.9 or newer")?;
        println!("making a Python environment in {}", folder.display());
        quiet(Command::new(python).args(["-m", "venv"]).arg(&folder))?;
    }
    Ok(program)
}

/// Python with nothing of ours.
pub fn plain(root: &Path) -> Result<Command, String> {
    Ok(Command::new(interpreter(root)?))
}

/// Python with the SDK's sources and the native library, which is built where it must be.
pub fn command(root: &Path) -> Result<Command, String> {
    let library = sdk::build_library(root)?.join(sdk::library_name());
    let mut command = Command::new(interpreter(root)?);
    command
        .current_dir(root.join("sdks/python"))
        .env("PYTHONPATH", root.join("sdks/python/src"))
        .env("KIMBERLITE_LIBRARY", library);
    Ok(command)
}

/// Installs what the SDK's tests and checks need: sdks/python/requirements-dev.txt.
pub fn install_tools(root: &Path) -> Result<(), String> {
    let requirements = root.join("sdks/python/requirements-dev.txt");
    let wanted = std::fs::read_to_string(&requirements)
        .map_err(|e| format!("{}: {e}", requirements.display()))?;
    let installed = target(root).join("python").join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    println!("installing sdks/python/requirements-dev.txt");
    let mut pip = Command::new(interpreter(root)?);
    quiet(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&installed, wanted).map_err(|e| format!("{}: {e}", installed.display()))
}
