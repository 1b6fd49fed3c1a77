//! A kimberlite-server as a process of its own, whose memory and starts can be measured.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::lab::TOKEN;
use crate::{Failure, stats};

/// How long a start may take; a large log that must be scanned takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(300);

/// A running server; dropping it kills it.
pub struct Server {
    child: Child,
    /// host:port.
    pub address: String,
    /// The database's folder.
    pub data: PathBuf,
}

impl Server {
    /// Starts it on `folder`/data and waits until it serves.
    pub fn start(built: &Path, folder: &Path, flags: &[&str]) -> Result<Server, Failure> {
        std::fs::create_dir_all(folder)?;
        let data = folder.join("data");
        let port_file = folder.join("server.port");
        let log = folder.join("server.log");
        // A port of an earlier server would be taken for this one's.
        let _ = std::fs::remove_file(&port_file);
        let mut command = Command::new(built.join("kimberlite-server"));
        command
            .args(["--listen", "127.0.0.1:0", "--tenant", "1", "--dev-token", TOKEN])
            .args(["--log-level", "warn"])
            .args(flags)
            .arg("--data-dir")
            .arg(&data)
            .arg("--port-file")
            .arg(&port_file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log)?);
        let child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
        let mut server = Server { child, address: String::new(), data };
        let started = Instant::now();
        while server.address.is_empty() {
            let text = std::fs::read_to_string(&port_file).unwrap_or_default();
            // A line that is not yet whole has no end.
            if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
                let port = line.rsplit(':').next().unwrap_or(line);
                server.address = format!("127.0.0.1:{port}");
            } else if server.child.try_wait()?.is_some() || started.elapsed() > START_TIMEOUT {
                let told = std::fs::read_to_string(&log).unwrap_or_default();
                return Err(format!("kimberlite-server does not start: {told}").into());
            } else {
                std::thread::sleep(Duration::from_micros(500));
            }
        }
        Ok(server)
    }

    /// Its resident memory in MB.
    pub fn resident_mb(&self) -> Result<f64, Failure> {
        Ok(stats::resident_bytes(self.child.id())? / 1e6)
    }

    /// Asks it to stop, and waits until it has.
    #[cfg(unix)]
    pub fn stop(mut self) -> Result<(), Failure> {
        let id = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let id = id.ok_or("the server has no process number")?;
        rustix::process::kill_process(id, rustix::process::Signal::TERM)?;
        let ended = self.child.wait()?;
        if ended.success() { Ok(()) } else { Err(format!("the server ended with {ended}").into()) }
    }

    /// Elsewhere there is no gentle way.
    #[cfg(not(unix))]
    pub fn stop(self) -> Result<(), Failure> {
        Ok(())
    }

    /// Kills it, as a crash would.
    pub fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
