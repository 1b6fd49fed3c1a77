//! Programs in every language make calls and connects without end; what they hold after warm-up
//! may not grow.
//!
//! The programs say when a set point is reached and wait; their memory, open files and threads are
//! looked at from outside, and those of the server beside them.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::server::{Server, TOKEN, memory_of};

/// What resident memory may grow by in any case, from the second quarter of a phase to its last.
const MORE_PERCENT: u64 = 2;
/// How many more files and threads a process with a log may have: a file for each segment and footer
/// that came with what was appended, and threads for statements that met others at work.
const MORE: usize = 8;
/// How long threads and files may take to be gone after the last call.
const SETTLING: Duration = Duration::from_secs(2);

/// What is run.
pub struct Leaks {
    /// The program `kimberlite-server`; without it there is only the embedded database.
    pub program: Option<PathBuf>,
    /// A folder for data.
    pub folder: PathBuf,
    /// A language's name and the command of its program: NAME=COMMAND.
    pub clients: Vec<String>,
    /// How many calls each makes.
    pub calls: u64,
    /// How many connects each makes.
    pub connects: u64,
    /// What resident memory may grow by, in KiB, from the second quarter of a phase to its last:
    /// allocators keep and give back pages as they like, and take them by the MiB. 2,048 of them
    /// are 42 bytes with each of 100,000 calls.
    pub more_kib: u64,
}

/// What a process holds at one set point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Look {
    resident_kib: u64,
    files: usize,
    threads: usize,
}

impl Look {
    fn at(process: u32) -> Look {
        let count = |of| {
            std::fs::read_dir(format!("/proc/{process}/{of}")).map_or(0, std::iter::Iterator::count)
        };
        let resident_kib = memory_of(process, "VmRSS");
        Look { resident_kib, files: count("fd"), threads: count("task") }
    }
}

/// The looks at one phase.
struct Phase {
    name: String,
    client: Vec<Look>,
    server: Vec<Look>,
}

/// Runs every program at every door and tells what was seen; fails where something grew.
pub fn run(leaks: &Leaks) -> Result<String, String> {
    println!("| program | door | phase | of | MiB after warm-up, middle, end | files | threads |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let mut grown = Vec::new();
    for client in &leaks.clients {
        let (name, command) = client.split_once('=').ok_or("--client NAME=COMMAND")?;
        for door in ["server", "embedded"] {
            let Some(phases) = observe(leaks, name, command, door)? else { continue };
            for phase in &phases {
                let looks = [("client", &phase.client), ("server", &phase.server)];
                for (of, looks) in looks.into_iter().filter(|(_, looks)| !looks.is_empty()) {
                    println!("| {name} | {door} | {} | {of} | {} |", phase.name, told(looks));
                    let has_log = door == "embedded" || of == "server";
                    let more = if has_log { MORE } else { 0 };
                    if let Err(e) = judge(looks, leaks.more_kib, more) {
                        grown.push(format!("{name}, {door}, {}, {of}: {e}", phase.name));
                    }
                }
            }
        }
    }
    match grown.is_empty() {
        true => Ok(format!("{} calls and {} connects each: flat", leaks.calls, leaks.connects)),
        false => Err(grown.join("\n")),
    }
}

/// Runs one program at one door; nothing where there is no such door.
fn observe(
    leaks: &Leaks,
    name: &str,
    command: &str,
    door: &str,
) -> Result<Option<Vec<Phase>>, String> {
    let folder = leaks.folder.join(format!("{name}-{door}"));
    let server = match (door, &leaks.program) {
        ("server", None) => return Ok(None),
        ("server", Some(program)) => Some(Server::start(program, &folder)?),
        _ => None,
    };
    std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let (place, wrong) = match &server {
        // Port 1 is nobody's here, and refuses at once.
        Some(server) => (server.address().to_string(), "127.0.0.1:1".to_string()),
        None => {
            let file = folder.join("no-folder");
            std::fs::write(&file, "").map_err(|e| format!("{}: {e}", file.display()))?;
            let place = format!("embedded:{}", folder.join("data").display());
            (place, format!("embedded:{}", file.display()))
        }
    };
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().ok_or("a client's command is empty")?)
        .args(words)
        .args([&place, &wrong, TOKEN])
        .args([leaks.calls.to_string(), leaks.connects.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{command}: {e}"))?;
    let process = server.as_ref().map(Server::process);
    let phases = attend(&mut child, process).map_err(|e| format!("{name}, {door}: {e}"));
    if phases.is_err() {
        // It may have ended already; then there is nothing to end.
        let _ = child.kill();
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    match phases {
        Ok(_) if !status.success() => Err(format!("{name}, {door}: {status}")),
        phases => phases.map(Some),
    }
}

/// Looks at a program whenever it says so, until it ends.
fn attend(child: &mut Child, server: Option<u32>) -> Result<Vec<Phase>, String> {
    let mut phases: Vec<Phase> = Vec::new();
    let output: ChildStdout = child.stdout.take().ok_or("no output")?;
    let mut answer = child.stdin.take().ok_or("no input")?;
    for line in BufReader::new(output).lines() {
        let line = line.map_err(|e| e.to_string())?;
        let name = line.strip_prefix("mark ").ok_or_else(|| format!("it says {line:?}"))?;
        if phases.last().is_none_or(|phase| phase.name != name) {
            phases.push(Phase { name: name.into(), client: Vec::new(), server: Vec::new() });
        }
        let Some(phase) = phases.last_mut() else { continue };
        phase.client.push(settled(child.id(), &phase.client));
        if let Some(server) = server {
            phase.server.push(settled(server, &phase.server));
        }
        writeln!(answer, "go on").map_err(|e| e.to_string())?;
    }
    match phases.iter().map(|phase| phase.name.as_str()).collect::<Vec<_>>()[..] {
        ["calls", "connects"] => Ok(phases),
        _ => Err("it ended early".to_string()),
    }
}

/// A look once no more files are open and no more threads there than at the looks before, or after a
/// while in any case: what a call leaves behind is cleared away beside the next ones.
fn settled(process: u32, before: &[Look]) -> Look {
    let start = Instant::now();
    let files = before.iter().map(|look| look.files).max().unwrap_or(usize::MAX);
    let threads = before.iter().map(|look| look.threads).max().unwrap_or(usize::MAX);
    loop {
        let look = Look::at(process);
        if (look.files <= files && look.threads <= threads) || start.elapsed() > SETTLING {
            return look;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn median(looks: &[Look]) -> u64 {
    let mut sorted: Vec<u64> = looks.iter().map(|look| look.resident_kib).collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// The second quarter of the looks, and the last.
fn quarters(looks: &[Look]) -> (&[Look], &[Look]) {
    let quarter = looks.len() / 4;
    (&looks[quarter..2 * quarter], &looks[looks.len() - quarter..])
}

/// Fails where memory grew, or where at the end there are more files or threads than ever in the
/// first half: a pool may still start a thread then.
fn judge(looks: &[Look], more_kib: u64, more: usize) -> Result<(), String> {
    let Some(last) = looks.last().filter(|_| looks.len() >= 8) else {
        return Err(format!("{} looks are too few", looks.len()));
    };
    let (before, after) = quarters(looks);
    let (before, after) = (median(before), median(after));
    if after > before + more_kib.max(before * MORE_PERCENT / 100) {
        return Err(format!("memory grows: {before} KiB, and later {after}"));
    }
    let first_half = &looks[..looks.len() / 2];
    let most = |of: fn(&Look) -> usize| first_half.iter().map(of).max().unwrap_or(0);
    let (files, threads) = (most(|look| look.files) + more, most(|look| look.threads) + more);
    if last.files > files || last.threads > threads {
        return Err(format!(
            "files {files} and later {}, threads {threads} and later {}",
            last.files, last.threads
        ));
    }
    Ok(())
}

fn told(looks: &[Look]) -> String {
    let mib = |kib: u64| kib as f64 / 1024.0;
    let (Some(first), Some(last)) = (looks.first(), looks.last()) else { return String::new() };
    let (before, after) = quarters(looks);
    format!(
        "{:.1}, {:.1}, {:.1} | {} then {} | {} then {}",
        mib(first.resident_kib),
        mib(median(before)),
        mib(median(after)),
        first.files,
        last.files,
        first.threads,
        last.threads
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looks(at: impl Fn(u64) -> (u64, usize, usize)) -> Vec<Look> {
        let look = |(resident_kib, files, threads)| Look { resident_kib, files, threads };
        (0..=20).map(|number| look(at(number))).collect()
    }

    /// What swings and what grows at first passes; memory, files or threads that grow to the end do
    /// not, nor does a run that ended before there was much to see.
    #[test]
    fn growth_is_found() {
        judge(&looks(|n| (10_000 + n * 397 % 900, 9, 3)), 1024, 0).unwrap();
        judge(&looks(|n| (10_000 + n.min(5) * 2_000, 9, 3 + n.min(3) as usize)), 1024, 0).unwrap();
        judge(&looks(|n| (10_000 + n * 50, 9, 3)), 1024, 0).unwrap();
        let memory = judge(&looks(|n| (10_000 + n * 120, 9, 3)), 1024, 0).unwrap_err();
        assert!(memory.contains("memory grows"), "{memory}");
        let files = judge(&looks(|n| (10_000, 9 + n as usize, 3)), 1024, 0).unwrap_err();
        assert!(files.contains("files"), "{files}");
        let threads = judge(&looks(|n| (10_000, 9, 3 + n as usize / 10)), 1024, 0).unwrap_err();
        assert!(threads.contains("threads"), "{threads}");
        assert!(judge(&looks(|_| (1, 1, 1))[..5], 1024, 0).unwrap_err().contains("too few"));
    }
}
