//! The real binary as a process of its own, whose memory can be measured.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long the tests wait for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The token of every tenant.
pub const TOKEN: &str = "the-development-token";

/// A server process with a folder of its own, killed when it is dropped.
pub struct Process {
    child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    folder: tempfile::TempDir,
}

impl Process {
    /// Starts one in memory with these lines of configuration, and waits until it serves.
    pub fn start(toml: &str) -> Process {
        Process::start_as(Command::new(env!("CARGO_BIN_EXE_kimberlite-server")), "--memory", toml)
    }

    /// The same with a log on the disk.
    pub fn start_on_disk(toml: &str) -> Process {
        let server = Command::new(env!("CARGO_BIN_EXE_kimberlite-server"));
        Process::start_as(server, "--data-dir=data", toml)
    }

    /// The same where it may have only so many files open.
    pub fn start_with_files(files: usize, toml: &str) -> Process {
        let mut shell = Command::new("sh");
        let limited = format!("ulimit -n {files}; exec \"$0\" \"$@\"");
        shell.args(["-c", &limited, env!("CARGO_BIN_EXE_kimberlite-server")]);
        Process::start_as(shell, "--memory", toml)
    }

    fn start_as(mut command: Command, storage: &str, toml: &str) -> Process {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("kimberlite.toml"), toml).unwrap();
        let child = command
            .args(["--config", "kimberlite.toml", storage, "--dev-token", TOKEN])
            .args(["--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"])
            .args(["--log-level", "warn", "--port-file"])
            .arg(path("port"))
            .current_dir(&folder)
            .stdin(Stdio::null())
            .stdout(File::create(path("stdout")).unwrap())
            .stderr(File::create(path("stderr")).unwrap())
            .spawn()
            .unwrap();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut process = Process { child, address: nowhere, admin: nowhere, folder };
        let end = Instant::now() + PATIENCE;
        while !process.folder.path().join("port").exists() {
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{}", process.errors());
            thread::sleep(Duration::from_millis(5));
        }
        let output = std::fs::read_to_string(process.folder.path().join("stdout")).unwrap();
        let after = |mark: &str, until: char| {
            let rest = &output[output.find(mark).unwrap() + mark.len()..];
            rest[..rest.find(until).unwrap()].parse().unwrap()
        };
        process.address = after("listens on ", '\n');
        process.admin = after("http://", '/');
        process
    }

    pub fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// Resident memory in bytes that is no part of a file.
    pub fn anonymous_bytes(&self) -> u64 {
        self.status_bytes("RssAnon:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10
    }

    /// Processor time that it has used, in hundredths of a second.
    pub fn processor_ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// Sends a signal of this name.
    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// What the admin port answers: the whole text.
    pub fn get(&self, path: &str) -> String {
        http(self.admin, &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"))
    }

    /// The metrics, by name with labels.
    pub fn metrics(&self) -> BTreeMap<String, f64> {
        let page = self.get("/metrics");
        let (_, page) = page.split_once("\r\n\r\n").unwrap();
        let lines = page.lines().filter(|line| !line.starts_with('#'));
        lines
            .filter_map(|line| line.rsplit_once(' '))
            .map(|(name, value)| (name.to_string(), value.parse().unwrap()))
            .collect()
    }

    /// Waits until something is so, or fails.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut is_so: impl FnMut(&BTreeMap<String, f64>) -> bool) {
        let end = Instant::now() + PATIENCE;
        loop {
            let metrics = self.metrics();
            if is_so(&metrics) {
                return;
            }
            assert!(Instant::now() < end, "never: {what}\n{metrics:#?}\n{}", self.errors());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a request and returns the whole answer.
pub fn http(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}
