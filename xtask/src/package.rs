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
}

impl Package {
    const ALL: [Package; 2] = [Package::C, Package::Python];
}

/// What the library may come to in a package, with the names of its functions in it.
const MAX_LIBRARY_BYTES: u64 = 10_000_000;

/// Makes the packages, all where none is named, and returns their paths below target/packages.
pub fn make(root: &Path, packages: &[Package], profile: &str) -> Result<Vec<PathBuf>, String> {
    let packages = if packages.is_empty() { &Package::ALL[..] } else { packages };
    println!("building the C library, profile {profile}");
    run(&mut cargo(root, ["build", "--profile", profile, "--package", "kimberlite-ffi"]))?;
    let built = target(root).join(profile);
    check_size(&built.join(sdk::library_name()))?;
    let folder = target(root).join("packages");
    create(&folder)?;
    let mut made = Vec::new();
    for package in packages {
        let path = match package {
            Package::C => c_archive(root, &built, &folder)?,
            Package::Python => wheel(root, &built, &folder)?,
        };
        let bytes = std::fs::metadata(&path).map(|m| m.len()).unwrap_or_default();
        println!("{} ({:.1} MB)", path.display(), bytes as f64 / 1e6);
        made.push(path);
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

/// The name of the C archive's one folder: what it is, its version, its platform.
fn archive_name() -> String {
    let (os, arch) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("kimberlite-c-{}-{arch}-{os}", env!("CARGO_PKG_VERSION"))
}

fn c_archive(root: &Path, built: &Path, folder: &Path) -> Result<PathBuf, String> {
    let name = archive_name();
    let staging = folder.join(&name);
    // What an earlier build left behind must not be packed again.
    let _ = std::fs::remove_dir_all(&staging);
    create(&staging)?;
    let mut install = command("sh", [root.join("packaging/c/install.sh")]);
    quiet(install.arg(&staging).arg(built))?;
    for (from, to) in [("LICENSE", "LICENSE"), ("examples/c/quickstart.c", "quickstart.c")] {
        let from = root.join(from);
        std::fs::copy(&from, staging.join(to)).map_err(|e| format!("{}: {e}", from.display()))?;
    }
    let archive = folder.join(format!("{name}.tar.gz"));
    run(command("tar", ["-czf"]).arg(&archive).arg("-C").arg(folder).arg(&name))?;
    Ok(archive)
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

/// Installs the packages in a clean place and runs the quickstart from there.
pub fn test(root: &Path) -> Result<(), String> {
    // The profile that the other tests built already; what is packed is the same.
    let made = make(root, &[], sdk::PROFILE)?;
    let folder = target(root).join("package-test");
    let _ = std::fs::remove_dir_all(&folder);
    create(&folder)?;
    for path in &made {
        println!("--- the quickstart from {}", path.display());
        if path.extension().is_some_and(|e| e == "whl") {
            python::test_wheel(root, path, &folder)?;
        } else {
            test_archive(root, path, &folder)?;
        }
    }
    Ok(())
}

fn test_archive(root: &Path, archive: &Path, folder: &Path) -> Result<(), String> {
    run(command("tar", ["-xzf"]).arg(archive).arg("-C").arg(folder))?;
    let unpacked = folder.join(archive_name());
    if cfg!(unix) {
        run(command("sh", [root.join("packaging/c/test.sh")]).arg(&unpacked))?;
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
