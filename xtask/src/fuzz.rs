//! `cargo xtask fuzz`: sets up cargo-fuzz and runs the targets of `fuzz/`, two at a time.
//!
//! What the fuzzer finds new it keeps in `fuzz/corpus`, which is nobody's but this machine's; the
//! committed `fuzz/seeds` change only with `--minimise`.

mod crew;
mod stats;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::Deserialize;

use crate::process::{cargo, command, exists, quiet, run};
use crate::tools;
use stats::Stats;

/// The version of cargo-fuzz that is installed where none is there.
const CARGO_FUZZ: &str = "0.13.1";
/// One input may take this long before it counts as a hang.
const TIMEOUT_S: u64 = 25;
const MEMORY_MB: u64 = 3072;
/// Seeds that are longer than this are for this machine's corpus only.
const MAX_SEED_BYTES: u64 = 4096;
/// The most seeds of one target that are worth committing.
const MAX_SEEDS: usize = 250;

/// What the command line asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct Options {
    /// The targets; all where none is named.
    pub targets: Vec<String>,
    /// How long each target runs.
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    /// How many targets run at a time.
    #[arg(long, default_value_t = 2)]
    pub jobs: usize,
    /// Plants a bug for each target, which it must find within the time.
    #[arg(long)]
    pub planted: bool,
    /// Runs one target with this input only, as after a finding.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["planted", "minimise"])]
    pub replay: Option<PathBuf>,
    /// Takes over into fuzz/seeds what adds coverage, and only that.
    #[arg(long, conflicts_with = "planted")]
    pub minimise: bool,
}

#[derive(Deserialize)]
struct Manifest {
    bin: Vec<Bin>,
}

#[derive(Deserialize)]
struct Bin {
    name: String,
}

/// Everything that running a target needs.
struct Fuzzer {
    /// The repository's `fuzz`.
    folder: PathBuf,
    /// Where its programs are built.
    target: PathBuf,
    /// Where the fuzzing programs lie.
    programs: PathBuf,
    planted: bool,
}

/// Does what the command line asks for.
pub fn run_all(root: &Path, options: &Options) -> Result<(), String> {
    let targets = targets(root, &options.targets)?;
    let fuzzer = Fuzzer::build(root, options.planted)?;
    if let Some(file) = &options.replay {
        return match &targets[..] {
            [target] => fuzzer.replay(target, file),
            _ => Err("--replay takes one target: cargo xtask fuzz TARGET --replay FILE".into()),
        };
    }
    if options.minimise {
        return targets.iter().try_for_each(|target| fuzzer.minimise(target));
    }
    let results = crew::run(&targets, options.jobs, |target| fuzzer.fuzz(target, options.seconds));
    stats::print(&fuzzer.target, &results, options.planted)
}

/// The part `fuzz` of the tests: the seeds on stable Rust, then every target for a minute.
pub fn test(root: &Path) -> Result<(), String> {
    let manifest = "fuzz/Cargo.toml";
    let arguments =
        ["test", "--quiet", "--manifest-path", manifest, "--no-default-features", "--locked"];
    // What the crates stand on is there already, from the parts before this one.
    let target = crate::process::target(root);
    run(cargo(root, arguments).env("CARGO_TARGET_DIR", target))?;
    let options = Options {
        targets: Vec::new(),
        seconds: 60,
        jobs: 2,
        planted: false,
        replay: None,
        minimise: false,
    };
    run_all(root, &options)
}

/// The targets that were asked for, as fuzz/Cargo.toml lists them.
fn targets(root: &Path, wanted: &[String]) -> Result<Vec<String>, String> {
    let path = root.join("fuzz/Cargo.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let manifest: Manifest = toml::from_str(&text).map_err(|e| e.to_string())?;
    let known: Vec<String> = manifest.bin.into_iter().map(|bin| bin.name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(format!("there is no target {unknown:?}; there are {}", known.join(", ")));
    }
    Ok(if wanted.is_empty() { known } else { wanted.to_vec() })
}

/// The nightly toolchain's name.
fn nightly() -> String {
    std::env::var("KIMBERLITE_NIGHTLY").unwrap_or_else(|_| "nightly".to_string())
}

/// The target of the nightly compiler, such as x86_64-unknown-linux-gnu. The toolchain is installed
/// where it is missing.
fn host() -> Result<String, String> {
    let name = nightly();
    let missing = |e: String| {
        format!(
            "fuzzing needs the Rust toolchain {name:?}, which is not there:\n  rustup toolchain \
             install {name} --profile minimal\n(KIMBERLITE_NIGHTLY names another one.)\n{e}"
        )
    };
    if !exists("rustup") {
        return Err(missing("rustup is not in the path".to_string()));
    }
    let ask = || quiet(&mut command("rustup", ["run", &name, "rustc", "-vV"]));
    let about = ask().or_else(|_| {
        let install = ["toolchain", "install", &name, "--profile", "minimal"];
        run(&mut command("rustup", install)).and_then(|()| ask()).map_err(missing)
    })?;
    let host = about.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_string).ok_or_else(|| "rustc -vV does not name its host".to_string())
}

impl Fuzzer {
    /// Builds every target, or says what is missing.
    fn build(root: &Path, planted: bool) -> Result<Fuzzer, String> {
        let host = host()?;
        let tool = tools::installed(root, "cargo-fuzz", CARGO_FUZZ, &[])?;
        let folder = root.join("fuzz");
        let own = || folder.join("target");
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(own, PathBuf::from);
        // By itself it builds each crate in one unit, so that large ones keep a core idle.
        let mut build = command(tool, ["fuzz", "build", "--codegen-units", "16"]);
        if planted {
            build.args(["--features", "planted"]);
        }
        build.arg("--target-dir").arg(&target).current_dir(&folder);
        // Cargo's own variables name the stable toolchain that runs this program.
        build.env("RUSTUP_TOOLCHAIN", nightly()).env_remove("CARGO").env_remove("RUSTC");
        run(&mut build)?;
        let programs = target.join(host).join("release");
        Ok(Fuzzer { folder, target, programs, planted })
    }

    /// A target's program with the options that every run has.
    fn program(&self, target: &str) -> Command {
        let mut program = command(self.programs.join(target), [] as [&str; 0]);
        program
            .current_dir(&self.folder)
            .env("ASAN_OPTIONS", "detect_odr_violation=0:abort_on_error=1:detect_leaks=0")
            .env("RUST_BACKTRACE", "1")
            .args([format!("-timeout={TIMEOUT_S}"), format!("-rss_limit_mb={MEMORY_MB}")]);
        let dictionary = self.folder.join("dictionaries").join(format!("{target}.dict"));
        if dictionary.exists() {
            program.arg(format!("-dict={}", dictionary.display()));
        }
        program
    }

    fn seeds(&self, target: &str) -> PathBuf {
        self.folder.join("seeds").join(target)
    }

    /// Where findings go and, with a planted bug, what was found on the way to it.
    fn places(&self, target: &str) -> Result<(PathBuf, PathBuf), String> {
        let base = if self.planted { self.target.join("planted") } else { self.folder.clone() };
        let corpus = base.join("corpus").join(target);
        if self.planted && corpus.exists() {
            std::fs::remove_dir_all(&corpus).map_err(|e| format!("{}: {e}", corpus.display()))?;
        }
        let artifacts = base.join("artifacts").join(target);
        for folder in [&corpus, &artifacts] {
            std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        }
        Ok((corpus, artifacts))
    }

    /// Runs a target for so long, or until it finds something.
    fn fuzz(&self, target: &str, seconds: u64) -> Result<Stats, String> {
        let (corpus, artifacts) = self.places(target)?;
        let log = artifacts.join("last-run.log");
        let file = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut program = self.program(target);
        program
            .args([format!("-max_total_time={seconds}"), "-print_final_stats=1".to_string()])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus)
            .arg(self.seeds(target))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        let status = program.status().map_err(|e| format!("{target}: {e}"))?;
        let text = std::fs::read(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let text = String::from_utf8_lossy(&text);
        let found = if status.success() { None } else { Some(self.finding(target, &text, &log)) };
        Ok(Stats::read(&text, found))
    }

    /// What a run found, and how to see it again.
    fn finding(&self, target: &str, text: &str, log: &Path) -> String {
        let told = ["panicked at", "ERROR:", "SUMMARY:"];
        let lines = text.lines().filter(|line| told.iter().any(|word| line.contains(word)));
        let what: Vec<&str> = lines.take(3).collect();
        let file = text.lines().find_map(|line| line.split_once("Test unit written to "));
        let file = file.map_or("(no input was kept)", |(_, file)| file.trim());
        format!(
            "{}\n  the input: {file}\n  the log: {}\n  again: cargo xtask fuzz {target} --replay \
             {file}\n  once mended, keep it: cp {file} fuzz/seeds/{target}/",
            what.join("\n  "),
            log.display()
        )
    }

    fn replay(&self, target: &str, file: &Path) -> Result<(), String> {
        let path = file.canonicalize().map_err(|e| format!("{}: {e}", file.display()))?;
        run(self.program(target).arg(path))
    }

    /// Keeps the fewest and smallest inputs that reach what all of them reach.
    fn minimise(&self, target: &str) -> Result<(), String> {
        let (corpus, _) = self.places(target)?;
        let merged = self.target.join("minimised").join(target);
        if merged.exists() {
            std::fs::remove_dir_all(&merged).map_err(|e| e.to_string())?;
        }
        std::fs::create_dir_all(&merged).map_err(|e| e.to_string())?;
        let seeds = self.seeds(target);
        let mut program = self.program(target);
        program.arg("-set_cover_merge=1").args([&merged, &seeds, &corpus]);
        quiet(&mut program)?;
        let small = |path: &PathBuf| {
            path.metadata().is_ok_and(|about| about.len() <= MAX_SEED_BYTES && about.is_file())
        };
        let listed = std::fs::read_dir(&merged).map_err(|e| e.to_string())?;
        let mut kept: Vec<PathBuf> =
            listed.flatten().map(|entry| entry.path()).filter(small).collect();
        kept.sort_by_key(|path| path.metadata().map_or(0, |about| about.len()));
        kept.truncate(MAX_SEEDS);
        std::fs::remove_dir_all(&seeds).map_err(|e| e.to_string())?;
        std::fs::create_dir_all(&seeds).map_err(|e| e.to_string())?;
        for path in &kept {
            let name = path.file_name().unwrap_or_default();
            std::fs::copy(path, seeds.join(name)).map_err(|e| e.to_string())?;
        }
        println!("{target}: {} seeds", kept.len());
        Ok(())
    }
}
