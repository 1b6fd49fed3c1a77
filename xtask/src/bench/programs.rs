//! What the experiment `sdks` runs beside the Rust client: the work in each language, empty programs
//! of their runtimes, a cold start, and the stripped library.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{command, quiet, run, target};
use crate::quickstart::certificate;
use crate::server::Certificate;
use crate::{python, sdk};

/// Everything that is built and found for it.
pub struct Programs {
    /// Name, program with its arguments, and the empty one.
    sdks: Vec<(&'static str, String, String)>,
    cold_start: String,
    certificate: Certificate,
    library: PathBuf,
    stripped: PathBuf,
    python_path: PathBuf,
}

impl Programs {
    /// Compiles the C programs, strips the library and sets the Python environment up.
    pub fn build(root: &Path, folder: &Path) -> Result<Programs, String> {
        let built = target(root).join("release");
        let library = built.join(sdk::library_name());
        let stripped = folder.join(sdk::library_name());
        quiet(command("strip", ["--strip-unneeded", "-o"]).arg(&stripped).arg(&library))?;
        let cold = compile(root, &built, folder, "cold_start", &["-ldl"])?;
        let c = compile(root, &built, folder, "sdk", &["-lkimberlite_ffi"])?;
        let empty_c = compile(root, &built, folder, "empty", &[])?;
        // It holds pyarrow, whose batches are measured too.
        python::install_tools(root)?;
        let interpreter = python::plain(root)?;
        let interpreter = interpreter.get_program().to_string_lossy().into_owned();
        let script =
            |name: &str| format!("{interpreter} {}", root.join("benches").join(name).display());
        let (work, empty) = (script("sdk.py"), script("runtime.py"));
        let text = |path: PathBuf| path.display().to_string();
        let sdks = vec![
            ("rust", text(built.join("throughput")), text(built.join("empty"))),
            ("c", text(c), text(empty_c)),
            ("python", work.clone(), empty.clone()),
            ("python-asyncio", format!("{work} --asyncio"), format!("{empty} --asyncio")),
        ];
        Ok(Programs {
            sdks,
            cold_start: format!("{} {}", cold.display(), library.display()),
            certificate: certificate(folder)?.0,
            library,
            stripped,
            python_path: root.join("sdks/python/src"),
        })
    }

    /// Tells kimberlite-bench of them.
    pub fn give(&self, bench: &mut Command) {
        bench.env("KIMBERLITE_LIBRARY", &self.library).env("PYTHONPATH", &self.python_path);
        for (name, work, empty) in &self.sdks {
            bench.args(["--sdk", &format!("{name}={work}")]);
            bench.args(["--empty", &format!("{name}={empty}")]);
        }
        bench.args(["--cold-start", &self.cold_start]).arg("--library").arg(&self.stripped);
        let Certificate { certificate_file, key_file } = &self.certificate;
        bench.arg("--tls").arg(certificate_file).arg(key_file);
    }
}

fn compile(
    root: &Path,
    built: &Path,
    folder: &Path,
    name: &str,
    libraries: &[&str],
) -> Result<PathBuf, String> {
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
        .arg(format!("-Wl,-rpath,{}", built.display()))
        .args(libraries);
    run(&mut compiler)?;
    Ok(program)
}
