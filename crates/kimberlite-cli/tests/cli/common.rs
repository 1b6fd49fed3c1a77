//! A home of its own for each test, the binary in it, and databases.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use kimberlite::Config;
use kimberlite::blocking::Client;
use kimberlite_server::{Server, ServerConfig};
use tempfile::TempDir;

/// The token of the tests' servers.
pub const TOKEN: &str = "secret";

/// The binary.
pub const BINARY: &str = env!("CARGO_BIN_EXE_kimberlite");

/// A folder that the command runs in, with nothing of the user's environment.
pub struct Home {
    pub folder: TempDir,
    /// The address that commands get unless they name one.
    pub address: String,
}

/// What a command came to.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Home {
    /// With an embedded database, which is not there yet.
    pub fn new() -> Home {
        Home { folder: tempfile::tempdir().expect("a folder"), address: "embedded:db".to_string() }
    }

    /// With a server's address.
    pub fn of(server: &Server) -> Home {
        Home { address: server.local_addr().to_string(), ..Home::new() }
    }

    /// Both doors: a folder, and a server that lives as long as it is kept.
    pub fn doors() -> Vec<(Home, Option<Server>)> {
        let server = server();
        vec![(Home::new(), None), (Home::of(&server), Some(server))]
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, bytes: impl AsRef<[u8]>) {
        std::fs::write(self.path(name), bytes).expect("a file is written");
    }

    pub fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).expect("the file is there")
    }

    /// The command, not yet started.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command.args(args);
        self.environment(&mut command);
        command
    }

    /// Gives a command this home and nothing else.
    pub fn environment(&self, command: &mut Command) {
        #[cfg(target_os = "linux")]
        hand_on_no_ignored_signals();
        let folder = self.folder.path();
        command.current_dir(folder).env("HOME", folder).env("KIMBERLITE_ADDRESS", &self.address);
        command.env("KIMBERLITE_TOKEN", TOKEN).stdin(Stdio::null());
        for name in ["KIMBERLITE_TENANT", "KIMBERLITE_HISTORY", "XDG_STATE_HOME", "NO_COLOR"] {
            command.env_remove(name);
        }
    }

    /// Runs it without input.
    pub fn run(&self, args: &[&str]) -> Ran {
        ran(self.command(args).output().expect("the command runs"))
    }

    /// Runs it with input.
    pub fn run_with(&self, args: &[&str], input: &[u8]) -> Ran {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the command starts");
        let mut stdin = child.stdin.take().expect("it has an input");
        let input = input.to_vec();
        let writer = std::thread::spawn(move || {
            // A command that fails early does not read everything.
            let _ = stdin.write_all(&input);
        });
        let output = child.wait_with_output().expect("the command ends");
        writer.join().expect("the input was written");
        ran(output)
    }

    /// Runs what must succeed, and returns what it wrote.
    pub fn ok(&self, args: &[&str]) -> String {
        let ran = self.run(args);
        assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{args:?}: {}", ran.out);
        ran.out
    }

    /// Starts it with piped output.
    pub fn spawn(&self, args: &[&str]) -> Child {
        let mut command = self.command(args);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }
}

/// What an output says.
pub fn ran(output: Output) -> Ran {
    Ran {
        code: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// A server in memory.
pub fn server() -> Server {
    Server::start(ServerConfig::development(TOKEN)).expect("a server starts")
}

/// A client of a server.
pub fn client(server: &Server) -> Client {
    let config = Config::new([server.local_addr().to_string()]).token(TOKEN);
    Client::connect(config).expect("connects")
}

/// A process hands on what signals it ignores, such as Ctrl-C where a shell started it in the
/// background, but not what it handles: commands hear every signal then.
#[cfg(target_os = "linux")]
fn hand_on_no_ignored_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let status = std::fs::read_to_string("/proc/self/status").expect("it is there");
        let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).expect("a mask");
        let ignored = u64::from_str_radix(mask.trim(), 16).expect("a number");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let _guard = runtime.as_ref().expect("a runtime").enter();
        for kind in [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::terminate()] {
            if ignored >> (kind.as_raw_value() - 1) & 1 == 1 {
                let _ = signal(kind).expect("it can be handled");
            }
        }
    });
}

/// Sends a signal to a process of the test's own.
#[cfg(unix)]
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    let id = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    rustix::process::kill_process(id.expect("a process id"), signal).expect("it is there");
}

/// Lines of NDJSON as an export writes them, without their times.
pub fn ndjson(events: std::ops::Range<u64>) -> String {
    events.map(|n| format!("{{\"data\":\"event {n}\"}}\n")).collect()
}

/// Where nothing listens.
pub fn dead_address() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

pub fn exists(path: impl AsRef<Path>) -> bool {
    path.as_ref().exists()
}
