//! A kimberlite-server of our own for tests and the quickstart: its own process, on a free port.

use std::collections::HashMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use crate::process;

/// How long a server may take to start; it needs some milliseconds.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// A token of the configuration.
pub struct Token {
    pub name: &'static str,
    pub text: String,
    pub role: &'static str,
    /// None for every tenant.
    pub tenants: Option<Vec<u64>>,
}

/// Certificate and key of a server, as PEM files.
pub struct Certificate {
    pub certificate_file: PathBuf,
    pub key_file: PathBuf,
}

/// What a server is started with.
pub struct Setup {
    pub tokens: Vec<Token>,
    pub tenants: Vec<u64>,
    /// None keeps the database in memory.
    pub data_dir: Option<PathBuf>,
    pub certificate: Option<Certificate>,
}

impl Setup {
    fn toml(&self) -> String {
        let mut text = String::from("listen = [\"127.0.0.1:0\"]\n");
        match &self.data_dir {
            Some(folder) => {
                let _ = writeln!(text, "data_dir = {:?}", folder.display().to_string());
            }
            None => text.push_str("memory = true\n"),
        }
        // Scenarios show wrong tokens on purpose, thousands where they are mutated.
        let _ = write!(
            text,
            "tenants = {:?}\n\n[limits]\nauth_failures_burst = 1000000\n\
             auth_failures_per_minute = 1000000\n",
            self.tenants
        );
        if let Some(tls) = &self.certificate {
            let _ = write!(
                text,
                "\n[tls]\ncertificate_file = {:?}\nkey_file = {:?}\n",
                tls.certificate_file.display().to_string(),
                tls.key_file.display().to_string()
            );
        }
        for token in &self.tokens {
            let tenants = token
                .tenants
                .as_ref()
                .map_or("\"*\"".to_string(), |tenants| format!("{tenants:?}"));
            let _ = write!(
                text,
                "\n[[token]]\nname = {:?}\nrole = {:?}\ntenants = {tenants}\nhash = {:?}\n",
                token.name,
                token.role,
                hash(&token.text)
            );
        }
        text
    }
}

/// The salted hash that the configuration holds. These servers live for one test on loopback, so
/// that a fixed salt is as good as any.
fn hash(token: &str) -> String {
    let salt = [0x6b; 16];
    let digest = Sha256::new().chain_update(salt).chain_update(token.as_bytes()).finalize();
    format!("sha256:{}:{}", hex(&salt), hex(&digest))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A running server; dropping it stops it.
pub struct Server {
    child: Child,
    /// host:port.
    pub address: String,
    log: PathBuf,
}

impl Server {
    /// Starts `program` in `folder`, which gets its configuration, port file and log.
    pub fn start(program: &Path, folder: &Path, setup: &Setup) -> Result<Server, String> {
        std::fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let config = folder.join("server.toml");
        let port_file = folder.join("server.port");
        let log = folder.join("server.log");
        std::fs::write(&config, setup.toml()).map_err(|e| format!("{}: {e}", config.display()))?;
        // A port of an earlier server would be taken for this one's.
        let _ = std::fs::remove_file(&port_file);
        let errors = std::fs::File::create(&log).map_err(|e| format!("{}: {e}", log.display()))?;
        let mut command = Command::new(program);
        command.arg("--config").arg(&config).arg("--port-file").arg(&port_file);
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors)
            .spawn()
            .map_err(|e| format!("{}: {e}", process::shown(&command)))?;
        let mut server = Server { child, address: String::new(), log };
        server.address = server.wait(&port_file)?;
        Ok(server)
    }

    fn wait(&mut self, port_file: &Path) -> Result<String, String> {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(port_file).unwrap_or_default();
            // A line that is not yet whole has no end.
            if let Some(line) = text.lines().next().filter(|_| text.ends_with('\n')) {
                return Ok(match line.parse::<u16>() {
                    Ok(port) => format!("127.0.0.1:{port}"),
                    Err(_) => line.to_string(),
                });
            }
            let ended = self.child.try_wait().map_err(|e| e.to_string())?;
            if ended.is_some() || start.elapsed() > START_TIMEOUT {
                return Err(format!("kimberlite-server does not start:\n{}", self.log()));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself; then there is nothing to stop.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tokens that scenarios and quickstart use, by name.
pub fn texts(tokens: &[Token]) -> HashMap<String, String> {
    tokens.iter().map(|token| (token.name.to_string(), token.text.clone())).collect()
}
