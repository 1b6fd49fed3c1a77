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
    let mut wanted = String::new();
    // The first one takes the second one in.
    for path in [&requirements, &root.join("sdks/python/requirements-test.txt")] {
        wanted += &std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    let installed = target(root).join("python").join("installed.txt");
    if std::fs::read_to_string(&installed).is_ok_and(|text| text == wanted) {
        return Ok(());
    }
    println!("installing sdks/python/requirements-dev.txt");
    let mut pip = Command::new(interpreter(root)?);
    quiet(pip.args(["-m", "pip", "install", "--quiet", "--requirement"]).arg(&requirements))?;
    std::fs::write(&installed, wanted).map_err(|e| format!("{}: {e}", installed.display()))
}

/// Style, types, the types against what runs, the reference without a warning, and the tests with
/// their coverage; the tests once more on the lowest and the newest Python.
pub fn test(root: &Path) -> Result<(), String> {
    install_tools(root)?;
    let examples = root.join("examples/python");
    let examples = examples.to_string_lossy();
    let reference = target(root).join("python-docs");
    let reference = reference.to_string_lossy();
    let checks: [&[&str]; 7] = [
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
        &["-m", "sphinx", "-q", "-W", "--keep-going", "-b", "html", "docs", &reference],
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
    other_versions(root, &server)
}

/// The lowest and the newest Python that the package claims, from its classifiers.
fn claimed_versions(project: &str) -> Result<[String; 2], String> {
    let mut minors: Vec<u32> = project
        .split("Programming Language :: Python :: 3.")
        .skip(1)
        .filter_map(|rest| rest.split('"').next()?.parse().ok())
        .collect();
    minors.sort_unstable();
    match minors[..] {
        [lowest, .., newest] => Ok([lowest, newest].map(|minor| format!("3.{minor}"))),
        _ => Err("sdks/python/pyproject.toml claims fewer than two versions of Python".into()),
    }
}

/// An interpreter of a version: on the path, else pyenv's.
fn interpreter_of(version: &str) -> Option<PathBuf> {
    let tells = |program: &Path| {
        let code = "import sys; print('%d.%d' % sys.version_info[:2])";
        quiet(Command::new(program).args(["-c", code])).is_ok_and(|text| text.trim() == version)
    };
    let root = std::env::var_os("PYENV_ROOT").map(PathBuf::from);
    let root = root.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".pyenv")));
    let installed = root.and_then(|root| std::fs::read_dir(root.join("versions")).ok());
    let of_pyenv = installed.into_iter().flatten().flatten().filter_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let fits = name.strip_prefix(version).is_some_and(|rest| rest.starts_with('.'));
        fits.then(|| entry.path().join("bin/python"))
    });
    std::iter::once(PathBuf::from(format!("python{version}"))).chain(of_pyenv).find(|p| tells(p))
}

/// Runs the tests on the lowest and the newest Python that the package claims. One that is not here
/// is left out with a word, or, where CI is set, fails.
fn other_versions(root: &Path, server: &Path) -> Result<(), String> {
    let package = root.join("sdks/python");
    let read = |name: &str| {
        let path = package.join(name);
        std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
    };
    let requirements = read("requirements-test.txt")?;
    for version in claimed_versions(&read("pyproject.toml")?)? {
        let Some(python) = interpreter_of(&version) else {
            let missing = format!(
                "Python {version}, which the package claims, is not here; install it, such as by \
                 `pyenv install {version}`"
            );
            if std::env::var_os("CI").is_some() {
                return Err(missing);
            }
            println!("--- left out: {missing}");
            continue;
        };
        let place = target(root).join(format!("python-{version}"));
        let program = place.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
        let installed = place.join("installed.txt");
        if std::fs::read_to_string(&installed).is_ok_and(|text| text != requirements)
            || !installed.exists()
        {
            println!("making an environment of Python {version} in {}", place.display());
            quiet(Command::new(python).args(["-m", "venv", "--clear"]).arg(&place))?;
            quiet(
                Command::new(&program)
                    .args(["-m", "pip", "install", "--quiet", "--requirement"])
                    .arg(package.join("requirements-test.txt")),
            )?;
            std::fs::write(&installed, &requirements)
                .map_err(|e| format!("{}: {e}", installed.display()))?;
        }
        let library = sdk::build_library(root)?.join(sdk::library_name());
        let mut tests = Command::new(&program);
        tests
            .current_dir(&package)
            .env("PYTHONPATH", package.join("src"))
            .env("KIMBERLITE_LIBRARY", library)
            .env("KIMBERLITE_SERVER", server)
            .args(["-m", "pytest", "--quiet", "tests"]);
        println!("--- Python {version}: {}", shown(&tests));
        run(&mut tests)?;
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

/// What a project with the installed package, and no word about it, finds: the fixture, and no
/// library loaded where nobody asks for it.
const FIXTURE_TESTS: &str = "
import sys

def test_nothing_is_loaded_unasked():
    assert 'kimberlite' not in sys.modules

def test_the_fixture_is_there(kimberlite_client):
    assert kimberlite_client.streams() == []
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
    let requirements = root.join("sdks/python/requirements-test.txt");
    let pytest = ["-m", "pip", "install", "--quiet", "pytest", "--constraint"];
    quiet(isolated().args(pytest).arg(&requirements))?;
    let tests = folder.join("test_fixture.py");
    std::fs::write(&tests, FIXTURE_TESTS).map_err(|e| format!("{}: {e}", tests.display()))?;
    run(isolated().args(["-m", "pytest", "--quiet", "-p", "no:cacheprovider"]).arg(&tests))?;
    let source = root.join("examples/python/quickstart.py");
    let copy = folder.join("quickstart.py");
    std::fs::copy(&source, &copy).map_err(|e| format!("{}: {e}", source.display()))?;
    run(isolated().arg(&copy).arg("memory:"))
}
