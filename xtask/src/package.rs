//! `cargo xtask package`: what users install, made from this machine's build.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::process::{cargo, command, quiet, run, shown, target};
use crate::{python, sdk};

/// A package that can be made here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Package {
    /// The header and the libraries, as an archive.
    C,
    /// A wheel with the library inside.
    Python,
    /// The command and the server, as an archive.
    Cli,
}

impl Package {
    const ALL: [Package; 3] = [Package::C, Package::Python, Package::Cli];

    /// The archive's one folder: what it is, its version, its platform. None for a wheel.
    fn archive_name(self) -> Option<String> {
        let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
        let name = match self {
            Package::C => "kimberlite-c",
            Package::Cli => "kimberlite",
            Package::Python => return None,
        };
        Some(format!("{name}-{}-{arch}-{os}", env!("CARGO_PKG_VERSION")))
    }
}

/// What the library may come to in a package, with the names of its functions in it.
const MAX_LIBRARY_BYTES: u64 = 10_000_000;

/// Makes the packages, all where none is named, and returns their paths below target/packages.
pub fn make(
    root: &Path,
    packages: &[Package],
    profile: &str,
) -> Result<Vec<(Package, PathBuf)>, String> {
    let packages = if packages.is_empty() { &Package::ALL[..] } else { packages };
    // The one profile whose folder has another name.
    let built = target(root).join(if profile == "dev" { "debug" } else { profile });
    if packages.iter().any(|package| *package != Package::Cli) {
        println!("building the C library, profile {profile}");
        run(&mut cargo(root, ["build", "--profile", profile, "--package", "kimberlite-ffi"]))?;
        check_size(&built.join(sdk::library_name()))?;
    }
    let folder = target(root).join("packages");
    create(&folder)?;
    let mut made = Vec::new();
    for package in packages {
        let path = match package {
            Package::C => archive(*package, &folder, |to| c_tree(root, &built, to))?,
            Package::Python => wheel(root, &built, &folder)?,
            Package::Cli => {
                println!("building the programs, profile {profile}");
                let mut build = cargo(root, ["build", "--profile", profile]);
                run(build.args(["--package", "kimberlite-cli", "--package", "kimberlite-server"]))?;
                archive(*package, &folder, |to| cli_tree(root, &built, to))?
            }
        };
        let bytes = std::fs::metadata(&path).map(|m| m.len()).unwrap_or_default();
        println!("{} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
        made.push((*package, path));
    }
    Ok(made)
}

fn check_size(library: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(library).map_err(|e| format!("{}: {e}", library.display()))?;
    let bytes = metadata.len();
    println!("{}: {bytes} of at most {MAX_LIBRARY_BYTES} bytes", library.display());
    if bytes <= MAX_LIBRARY_BYTES {
        return Ok(());
    }
    Err(format!("{} has grown beyond {MAX_LIBRARY_BYTES} bytes: {bytes}", library.display()))
}

fn create(folder: &Path) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))
}

/// Packs what `fill` puts into the archive's folder.
fn archive(
    package: Package,
    folder: &Path,
    fill: impl FnOnce(&Path) -> Result<(), String>,
) -> Result<PathBuf, String> {
    let name = package.archive_name().ok_or("a wheel is no archive")?;
    let staging = folder.join(&name);
    // What an earlier build left behind must not be packed again.
    let _ = std::fs::remove_dir_all(&staging);
    create(&staging)?;
    fill(&staging)?;
    let archive = folder.join(format!("{name}.tar.gz"));
    run(command("tar", ["-czf"]).arg(&archive).arg("-C").arg(folder).arg(&name))?;
    Ok(archive)
}

fn copy(from: &Path, to: &Path) -> Result<(), String> {
    if let Some(folder) = to.parent() {
        create(folder)?;
    }
    std::fs::copy(from, to).map(|_| ()).map_err(|e| format!("{}: {e}", from.display()))
}

fn c_tree(root: &Path, built: &Path, staging: &Path) -> Result<(), String> {
    let mut install = command("sh", [root.join("packaging/c/install.sh")]);
    quiet(install.arg(staging).arg(built))?;
    copy(&root.join("LICENSE"), &staging.join("LICENSE"))?;
    copy(&root.join("examples/c/quickstart.c"), &staging.join("quickstart.c"))
}

/// Where completions are looked for below a prefix such as /usr/local.
const COMPLETIONS: [(&str, &str); 3] = [
    ("bash", "share/bash-completion/completions/kimberlite"),
    ("zsh", "share/zsh/site-functions/_kimberlite"),
    ("fish", "share/fish/vendor_completions.d/kimberlite.fish"),
];

fn cli_tree(root: &Path, built: &Path, staging: &Path) -> Result<(), String> {
    let bin = staging.join("bin");
    let program = |name: &str| format!("{name}{}", std::env::consts::EXE_SUFFIX);
    for name in ["kimberlite", "kimberlite-server"].map(program) {
        copy(&built.join(&name), &bin.join(&name))?;
    }
    copy(&root.join("LICENSE"), &staging.join("LICENSE"))?;
    copy(&root.join("packaging/cli/README.md"), &staging.join("README.md"))?;
    // The command tells both itself, so that they fit it.
    let program = bin.join(program("kimberlite"));
    quiet(Command::new(&program).args(["man", "--dir"]).arg(staging.join("share/man/man1")))?;
    for (shell, path) in COMPLETIONS {
        let path = staging.join(path);
        create(path.parent().unwrap_or(staging))?;
        let text = quiet(Command::new(&program).args(["completions", shell]))?;
        std::fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
    }
    Ok(())
}

fn wheel(root: &Path, built: &Path, folder: &Path) -> Result<PathBuf, String> {
    python::install_tools(root)?;
    let library = built.join(sdk::library_name());
    let tag = wheel_platform(&library)?;
    let mut build = python::plain(root)?;
    build
        .current_dir(root.join("sdks/python"))
        .env("KIMBERLITE_WHEEL_LIBRARY", &library)
        .env("KIMBERLITE_WHEEL_PLATFORM", &tag)
        .args(["-m", "build", "--wheel", "--no-isolation", "--outdir"])
        .arg(folder);
    quiet(&mut build)?;
    let path = folder.join(format!("kimberlite-{}-py3-none-{tag}.whl", env!("CARGO_PKG_VERSION")));
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("{} was not made by {}", path.display(), shown(&build)))
    }
}

/// The wheel's platform tag: on Linux, by the newest glibc symbol that the library needs.
fn wheel_platform(library: &Path) -> Result<String, String> {
    let arch = std::env::consts::ARCH;
    if cfg!(windows) {
        return Ok(if arch == "aarch64" { "win_arm64".into() } else { "win_amd64".into() });
    }
    if cfg!(target_os = "macos") {
        let arch = if arch == "aarch64" { "arm64" } else { arch };
        return Ok(format!("macosx_11_0_{arch}"));
    }
    let symbols = quiet(command("objdump", ["-T"]).arg(library))?;
    let minor = newest_glibc(&symbols).ok_or("the library names no version of glibc")?;
    Ok(format!("manylinux_2_{minor}_{arch}"))
}

fn newest_glibc(symbols: &str) -> Option<u32> {
    symbols
        .split(|c: char| c.is_whitespace() || c == '(' || c == ')')
        .filter_map(|word| word.strip_prefix("GLIBC_2."))
        .filter_map(|version| version.split('.').next()?.parse().ok())
        .max()
}

/// Installs the packages in a clean place and runs the quickstart, or the programs, from there.
pub fn test(root: &Path) -> Result<(), String> {
    // The profile that the other tests built already; what is packed is the same.
    let made = make(root, &[], sdk::PROFILE)?;
    let folder = target(root).join("package-test");
    let _ = std::fs::remove_dir_all(&folder);
    create(&folder)?;
    for (package, path) in &made {
        println!("--- what {} holds", path.display());
        let Some(name) = package.archive_name() else {
            python::test_wheel(root, path, &folder)?;
            continue;
        };
        run(command("tar", ["-xzf"]).arg(path).arg("-C").arg(&folder))?;
        let unpacked = folder.join(name);
        if *package == Package::C {
            test_c(root, &unpacked)?;
        } else if cfg!(unix) {
            run(command("sh", [root.join("packaging/cli/test.sh")]).arg(&unpacked))?;
        }
    }
    Ok(())
}

fn test_c(root: &Path, unpacked: &Path) -> Result<(), String> {
    if cfg!(unix) {
        run(command("sh", [root.join("packaging/c/test.sh")]).arg(unpacked))?;
    }
    let program = unpacked.join("quickstart");
    let mut compiler = command(sdk::cc(), ["-std=c11", "-D_POSIX_C_SOURCE=200809L"]);
    compiler
        .arg(unpacked.join("quickstart.c"))
        .arg(format!("-I{}", unpacked.join("include").display()))
        .arg(format!("-L{}", unpacked.join("lib").display()))
        .args(["-lkimberlite_ffi", "-lpthread", "-o"])
        .arg(&program)
        .arg(format!("-Wl,-rpath,{}", unpacked.join("lib").display()));
    run(&mut compiler)?;
    run(Command::new(&program).arg("memory:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A library of the greatest size is packed, and one more byte is too much.
    #[test]
    fn a_library_has_a_greatest_size() {
        let path = std::env::temp_dir().join(format!("kimberlite-size-{}", std::process::id()));
        let file = std::fs::File::create(&path).expect("the folder can be written");
        file.set_len(MAX_LIBRARY_BYTES).expect("a sparse file takes no room");
        let greatest = check_size(&path);
        file.set_len(MAX_LIBRARY_BYTES + 1).expect("a sparse file takes no room");
        let beyond = check_size(&path);
        std::fs::remove_file(&path).expect("it was just made");
        greatest.expect("it fits");
        assert!(beyond.expect_err("it does not fit").contains("grown beyond 10000000 bytes"));
    }

    /// The newest glibc is found among versions that do not sort as text.
    #[test]
    fn finds_the_newest_glibc() {
        let symbols =
            "0 DF *UND* 0 (GLIBC_2.2.5) free\n0 DF *UND* 0 (GLIBC_2.17) x\n0 (GLIBC_2.9) y\n";
        assert_eq!(newest_glibc(symbols), Some(17));
        assert_eq!(newest_glibc("nothing"), None);
    }
}
