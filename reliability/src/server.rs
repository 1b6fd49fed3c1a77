//! The real server as a process: started, stopped in every way, started again on the same folder.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The token of the tests' servers.
pub const TOKEN: &str = "storm";

/// How long a start or a graceful end may take before it counts as a failure.
const PATIENCE: Duration = Duration::from_secs(60);

/// How the server is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Ends it at once, in the middle of whatever it does.
    Kill,
    /// Asks it to end.
    Term,
    /// Stops its threads.
    Stop,
    /// Lets them go on.
    Continue,
}

/// A server process on a folder.
pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts the program on a folder, on a free port of loopback.
    pub fn start(program: &Path, folder: &Path) -> Result<Server, String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let (child, address) = spawn(program, folder)?;
        Ok(Server { program: program.into(), folder: folder.into(), child, address })
    }

    /// Starts it again on the same folder, after its end.
    pub fn start_again(&mut self) -> Result<(), String> {
        (self.child, self.address) = spawn(&self.program, &self.folder)?;
        Ok(())
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hits it; an ending signal is waited for.
    pub fn hit(&mut self, signal: Signal) -> Result<(), String> {
        let name = match signal {
            Signal::Kill => "-KILL",
            Signal::Term => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let sent = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        if !sent.map_err(|e| e.to_string())?.success() {
            return Err(format!("the server is gone before kill {name}:\n{}", self.log()));
        }
        if matches!(signal, Signal::Kill | Signal::Term) {
            let status = self.wait()?;
            if signal == Signal::Term && !status.success() {
                return Err(format!("the server ended with {status}:\n{}", self.log()));
            }
        }
        Ok(())
    }

    fn wait(&mut self) -> Result<std::process::ExitStatus, String> {
        let start = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(status);
            }
            if start.elapsed() > PATIENCE {
                return Err(format!("the server does not end:\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Its process.
    pub fn process(&self) -> u32 {
        self.child.id()
    }

    /// What `memory_of` tells of it.
    pub fn memory(&self, what: &str) -> u64 {
        memory_of(self.child.id(), what)
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to end.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A figure of a process's memory in KiB, by its name in /proc/PROCESS/status: `VmRSS` is what is
/// resident, `VmHWM` the most that was; 0 where the process is gone.
pub fn memory_of(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(what)?.strip_prefix(':'));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn spawn(program: &Path, folder: &Path) -> Result<(Child, SocketAddr), String> {
    let port_file = folder.join("port");
    // The port of an earlier start would be taken for this one's.
    let _ = std::fs::remove_file(&port_file);
    let log = folder.join("log");
    let errors = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
    let mut child = Command::new(program)
        .args(["--listen", "127.0.0.1:0", "--dev-token", TOKEN])
        .arg("--data-dir")
        .arg(folder.join("data"))
        .arg("--port-file")
        .arg(&port_file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .spawn()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let start = Instant::now();
    loop {
        let text = std::fs::read_to_string(&port_file).unwrap_or_default();
        if let Some(address) = text.strip_suffix('\n').and_then(address_of) {
            return Ok((child, address));
        }
        let ended = child.try_wait().map_err(|e| e.to_string())?;
        if ended.is_some() || start.elapsed() > PATIENCE {
            let log = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(format!("the server does not start on {}:\n{log}", folder.display()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn address_of(line: &str) -> Option<SocketAddr> {
    let port = line.parse::<u16>().ok().map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|| line.parse().ok())
}
