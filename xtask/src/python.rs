//! The Python that tests and the quickstart use, a virtual environment below the target folder, and
//! what is tested with it.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{exists, quiet, run, shown, target};
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

/// Style, types, the types against what runs, and the tests with their coverage.
pub fn test(root: &Path) -> Result<(), String> {
    install_tools(root)?;
    let examples = root.join("examples/python");
    let examples = examples.to_string_lossy();
    let checks: [&[&str]; 6] = [
        &["-m", "ruff", "check", "--config", "pyproject.toml", ".", &examples],
        &["-m", "ruff", "format", "--check", "--config", "pyproject.toml", ".", &examples],
        &["-m", "mypy"],
        &["-m", "pyright"],
        // The sources are their own stubs: what they promise must be there at run time.
        &[
            "-m",
            "mypy.stubtest",
            "kimberlite",
            "--mypy-config-file=pyproject.toml",
            "--allowlist=tests/typing/stubtest-allowed.txt",
        ],
        // pyproject.toml holds the coverage that is demanded.
        &["-m", "pytest", "--quiet", "--cov=kimberlite", "tests"],
    ];
    // The tests start servers of their own.
    let server = sdk::build_server(root)?;
    for arguments in checks {
        let mut python = command(root)?;
        python.env("KIMBERLITE_SERVER", &server).args(arguments);
        println!("--- {}", shown(&python));
        run(&mut python)?;
    }
    Ok(())
}

/// Shows which package and which library a program gets, and fails where one lies elsewhere.
const WHERE: &str = "
import kimberlite, pathlib, sys
from kimberlite import _native
for path in (kimberlite.__file__, _native.library.path):
    print(path)
    place = pathlib.Path(sys.prefix).resolve()
    assert place in pathlib.Path(path).resolve().parents, f'{path} is not below {place}'
";

/// Installs a wheel in an environment of its own and runs the quickstart there, from a copy and
/// isolated, so that nothing of the sources is in reach.
pub fn test_wheel(root: &Path, wheel: &Path, folder: &Path) -> Result<(), String> {
    let place = folder.join("venv");
    run(plain(root)?.args(["-m", "venv"]).arg(&place))?;
    let program = place.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    let isolated = || {
        let mut python = Command::new(&program);
        python.env_remove("PYTHONPATH").env_remove("KIMBERLITE_LIBRARY");
        python.current_dir(folder).arg("-I");
        python
    };
    quiet(isolated().args(["-m", "pip", "install", "--quiet", "--no-index"]).arg(wheel))?;
    run(isolated().args(["-c", WHERE]))?;
    let source = root.join("examples/python/quickstart.py");
    let copy = folder.join("quickstart.py");
    std::fs::copy(&source, &copy).map_err(|e| format!("{}: {e}", source.display()))?;
    run(isolated().arg(&copy).arg("memory:"))
}
