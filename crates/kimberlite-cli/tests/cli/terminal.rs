//! In a real terminal: the shell, progress bars, colours, and data that would take it over.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};

use crate::common::{BINARY, Home, ndjson};

/// How long anything may take before a test gives up.
const PATIENCE: Duration = Duration::from_secs(120);
const PROMPT: &str = "kimberlite> ";

/// A command whose keyboard and screen are the test.
struct Terminal {
    child: Child,
    keyboard: File,
    screen: Receiver<Vec<u8>>,
    /// What was shown since the last match.
    seen: String,
    /// Everything that was shown.
    all: String,
}

impl Terminal {
    fn start(home: &Home, args: &[&str]) -> Terminal {
        Terminal::start_with(home, args, &[])
    }

    fn start_with(home: &Home, args: &[&str], variables: &[(&str, &str)]) -> Terminal {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
        grantpt(&master).expect("granted");
        unlockpt(&master).expect("unlocked");
        let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&master, size).expect("sized");
        let name = ptsname(&master, Vec::new()).expect("a name").into_string().expect("text");
        let slave = || Stdio::from(File::options().read(true).write(true).open(&name).expect("it"));
        // The terminal becomes the command's own, so that its Ctrl-C reaches it as a signal.
        let mut command = Command::new("setsid");
        command.args(["--ctty", "--wait", BINARY]).args(args);
        home.environment(&mut command);
        command.env("TERM", "xterm").envs(variables.iter().copied());
        command.stdin(slave()).stdout(slave()).stderr(slave());
        let child = command.spawn().expect("setsid of util-linux");
        drop(command);
        let keyboard = File::from(master);
        let mut reading = keyboard.try_clone().expect("a handle");
        let (sender, screen) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            // It fails once nobody holds the other side.
            while let Ok(count @ 1..) = reading.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
        });
        Terminal { child, keyboard, screen, seen: String::new(), all: String::new() }
    }

    fn keys(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    /// Waits until a text is shown, and returns what was shown before it.
    fn shows(&mut self, text: &str) -> String {
        let start = Instant::now();
        loop {
            if let Some(at) = self.seen.find(text) {
                let before = self.seen[..at].to_string();
                self.seen.drain(..at + text.len());
                return before;
            }
            match self.screen.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.add(&bytes),
                Err(e) => panic!("{text:?} was not shown ({e}); all: {:?}", self.all),
            }
        }
    }

    fn add(&mut self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        self.seen.push_str(&text);
        self.all.push_str(&text);
    }

    /// Waits for the end; the exit code, and everything that was shown.
    fn ends(mut self) -> (Option<i32>, String) {
        let start = Instant::now();
        loop {
            match self.screen.recv_timeout(PATIENCE.saturating_sub(start.elapsed())) {
                Ok(bytes) => self.add(&bytes),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(e) => panic!("it did not end ({e}); all: {:?}", self.all),
            }
        }
        let status = self.child.wait().expect("it ends");
        (status.code(), std::mem::take(&mut self.all))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // Only where a test failed is it still there.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn home() -> Home {
    let home = Home::new();
    home.ok(&["append", "visits", "--create", "non-phi", "check-up", "esc\x1b]0;title\x07"]);
    home
}

/// Statements run over one line or several; an error leaves the shell as it was; Ctrl-C drops what
/// is typed, Ctrl-D ends with success.
#[test]
fn the_shell_runs_statements() {
    let home = home();
    let mut shell = Terminal::start(&home, &["query"]);
    shell.shows(PROMPT);
    shell.keys("SELECT id, text FROM visits WHERE id = 0;\r");
    shell.shows("check-up");
    shell.shows("(1 row)");
    shell.shows(PROMPT);
    shell.keys("SELECT count(*) + 40\r");
    shell.keys("AS many FROM\r");
    shell.keys("visits;\r");
    shell.shows("42");
    shell.shows(PROMPT);
    shell.keys("SELEC 1;\r");
    shell.shows("QUERY_SYNTAX");
    shell.shows(PROMPT);
    shell.keys("SELECT 'never run'\x03");
    shell.shows(PROMPT);
    shell.keys("SELECT 70 + 7;\r");
    shell.shows("77");
    shell.shows(PROMPT);
    shell.keys("\x04");
    let (code, all) = shell.ends();
    assert_eq!(code, Some(0), "{all}");
    assert!(!all.contains("never run\r\n-"), "{all}");
}

/// Tab completes keywords in the typed case, streams, columns and commands.
#[test]
fn the_shell_completes() {
    let home = home();
    let mut shell = Terminal::start(&home, &["query"]);
    shell.shows(PROMPT);
    shell.keys("sele\t 70 + 7 as seventy, tex\t fro\t vis\t where id = 0;\r");
    shell.shows("seventy");
    shell.shows("77");
    shell.shows("check-up");
    shell.shows(PROMPT);
    shell.keys(".str\t\r");
    shell.shows("data_class");
    shell.shows(PROMPT);
    shell.keys(".schema vis\t\r");
    shell.shows("timestamp_ns");
    shell.shows(PROMPT);
    shell.keys(".quit\r");
    assert_eq!(shell.ends().0, Some(0));
}

/// What was typed is there with the arrow key, also in the next shell, in a file for its owner
/// alone; what begins with a space is not kept.
#[test]
fn the_shell_remembers() {
    use std::os::unix::fs::PermissionsExt;
    let home = home();
    for _ in 0..2 {
        let mut shell = Terminal::start(&home, &["query"]);
        shell.shows(PROMPT);
        shell.keys("SELECT 70 + 7;\r");
        shell.shows("77");
        shell.shows(PROMPT);
        shell.keys(" SELECT 'secret';\r");
        shell.shows("(1 row)");
        shell.shows(PROMPT);
        shell.keys("\x04");
        assert_eq!(shell.ends().0, Some(0));
        let mut shell = Terminal::start(&home, &["query"]);
        shell.shows(PROMPT);
        shell.keys("\x1b[A\r");
        shell.shows("77");
        shell.shows(PROMPT);
        shell.keys("\x04");
        assert_eq!(shell.ends().0, Some(0));
    }
    let file = home.path(".local/state/kimberlite/history");
    let text = std::fs::read_to_string(&file).expect("the history");
    assert!(text.contains("70 + 7") && !text.contains("secret"), "{text}");
    let mode = std::fs::metadata(&file).expect("the history").permissions().mode();
    assert_eq!(mode & 0o077, 0, "{mode:o}");
}

/// The shell's own commands: format, moment, timing, help; a wrong one is named.
#[test]
fn the_shells_commands() {
    let home = home();
    let mut shell = Terminal::start(&home, &["query"]);
    for (keys, shown) in [
        (".help\r", ".schema STREAM"),
        (".format csv\r", PROMPT),
        ("SELECT 1 AS a, 2 AS b;\r", "a,b"),
        (".format arrow\r", "table, json, ndjson or csv"),
        (".at time 2001-01-01\r", PROMPT),
        ("SELECT 'n' || count(*) FROM visits;\r", "no such table"),
        (".at now\r", PROMPT),
        ("SELECT 'n' || count(*) FROM visits;\r", "n2"),
        (".at noon\r", ".at position NUMBER"),
        (".timing\r", "timing is on"),
        ("SELECT 1;\r", " ms)"),
        (".nonsense\r", "no command here"),
    ] {
        shell.shows(PROMPT);
        shell.keys(keys);
        if shown != PROMPT {
            shell.shows(shown);
        }
    }
    shell.shows(PROMPT);
    shell.keys("quit\r");
    assert_eq!(shell.ends().0, Some(0));
}

/// Ctrl-C stops a statement that runs for long, and the shell goes on; SIGTERM ends the shell and
/// gives the terminal back.
#[test]
fn the_shell_stops_statements() {
    let home = home();
    let mut shell = Terminal::start(&home, &["query"]);
    shell.shows(PROMPT);
    let endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
                   SELECT count(*) FROM n;\r";
    shell.keys(endless);
    // Behind the echo of the line's end the terminal is a plain one again: the shell is at work.
    shell.shows("\x1b[?2004l");
    shell.keys("\x03");
    shell.shows("stopped");
    shell.shows(PROMPT);
    shell.keys("SELECT 70 + 7;\r");
    shell.shows("77");
    shell.shows(PROMPT);
    // The command is the only child of setsid, or setsid became it.
    let pid = i32::try_from(shell.child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.expect("a process id");
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
    assert_eq!(shell.ends().0, Some(143));
}

/// Escape sequences in data do not reach a terminal in any format but with --raw.
#[test]
fn data_cannot_take_the_terminal_over() {
    let home = home();
    for args in [
        &["read", "visits"][..],
        &["read", "visits", "--format", "lines"],
        &["read", "visits", "--format", "json"],
        &["tail", "visits"],
        &["query", "SELECT text FROM visits"],
        &["query", "SELECT data FROM visits", "-f", "csv"],
        &["query", "SELECT text AS \"a\x1b]0;b\" FROM visits", "-f", "ndjson"],
    ] {
        let (code, all) = Terminal::start(&home, args).ends();
        assert_eq!(code, Some(0), "{args:?}: {all:?}");
        assert!(all.contains("title") && !all.contains("\x1b]0;"), "{args:?}: {all:?}");
    }
    for args in [
        &["read", "visits", "--raw"][..],
        &["read", "visits", "--format", "raw"],
        &["query", "SELECT text FROM visits", "--raw"],
    ] {
        let (_, all) = Terminal::start(&home, args).ends();
        assert!(all.contains("\x1b]0;title"), "{args:?}: {all:?}");
    }
}

/// Colours are for terminals that want them.
#[test]
fn colours() {
    let home = home();
    let table = ["query", "SELECT text FROM visits"];
    let all = |variables: &[(&str, &str)]| Terminal::start_with(&home, &table, variables).ends().1;
    assert!(all(&[]).contains("\x1b[1m"));
    assert!(!all(&[("NO_COLOR", "1")]).contains('\x1b'));
    assert!(!all(&[("TERM", "dumb")]).contains('\x1b'));
    let error = Terminal::start_with(&home, &["read", "none"], &[]).ends();
    assert!(error.0 == Some(3) && error.1.contains("\x1b[1;31m"), "{error:?}");
    let error = Terminal::start_with(&home, &["read", "none"], &[("NO_COLOR", "1")]).ends();
    assert!(!error.1.contains('\x1b'), "{error:?}");
}

/// Imports and exports show how far they are, to the end.
#[test]
fn progress_bars() {
    let home = home();
    home.write("in.ndjson", ndjson(0..2_000));
    let args = ["import", "s", "in.ndjson", "--create", "non-phi", "--batch", "100"];
    let (code, all) = Terminal::start(&home, &args).ends();
    assert!(code == Some(0) && all.contains("import [") && all.contains("===="), "{all:?}");
    let (code, all) = Terminal::start(&home, &["export", "s", "-o", "out.ndjson"]).ends();
    assert!(code == Some(0) && all.contains("2,000/2,000 events"), "{all:?}");
}

/// Events typed into a terminal are appended at Ctrl-D; an Arrow file is not sent to one.
#[test]
fn typing_events() {
    let home = home();
    let mut append = Terminal::start(&home, &["append", "visits"]);
    append.shows("Ctrl-D ends");
    append.keys("typed\n\x04");
    append.shows("appended 1 event at offset 2");
    assert_eq!(append.ends().0, Some(0));
    let arrow = Terminal::start(&home, &["query", "SELECT 1", "--format", "arrow"]).ends();
    assert!(arrow.0 == Some(2) && arrow.1.contains("--output"), "{arrow:?}");
}

/// Ctrl-C in a terminal ends a command that follows, as the signal it is.
#[test]
fn ctrl_c_ends_tail() {
    let home = home();
    let mut tail = Terminal::start(&home, &["tail", "-f", "visits"]);
    tail.shows("check-up");
    tail.keys("\x03");
    assert_eq!(tail.ends().0, Some(130));
}
