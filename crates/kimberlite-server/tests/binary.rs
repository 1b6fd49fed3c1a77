//! The real binary: flags, output, signals, and what survives a kill.
#![cfg(unix)]

mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use common::{ANY, PATIENCE, Raw, append, assert_error, events_of, read};
use kimberlite_wire::block::{BlockView, ChainVerifier, genesis};
use kimberlite_wire::frame::flag;
use kimberlite_wire::{
    DataClass, ErrorCode, EventBatch, QueryRequest, Request, Response, SubscribeRequest,
    VerifyRequest,
};

const TOKEN: &str = "the-development-token";

fn binary() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kimberlite-server"))
}

/// Runs the binary to its end.
fn run(args: &[&str]) -> Output {
    binary().args(args).stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// A server process with a folder of its own, killed when it is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Process {
    /// Starts one in a folder and waits until it serves.
    fn start(folder: &Path, args: &[&str]) -> Process {
        Process::start_as(binary(), folder, args)
    }

    /// The same with a command of one's own to start it.
    fn start_as(mut command: Command, folder: &Path, args: &[&str]) -> Process {
        let port_file = folder.join("port");
        let _ = std::fs::remove_file(&port_file);
        let child = command
            .args(["--listen", "127.0.0.1:0", "--port-file"])
            .arg(&port_file)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(std::fs::File::create(folder.join("stdout")).unwrap())
            .stderr(std::fs::File::create(folder.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut process = Process {
            child,
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            folder: folder.into(),
        };
        let end = Instant::now() + PATIENCE;
        let port = loop {
            if let Ok(port) = std::fs::read_to_string(&port_file) {
                break port.trim().parse().unwrap();
            }
            let ended = process.child.try_wait().unwrap();
            assert!(ended.is_none() && Instant::now() < end, "{}", process.errors());
            thread::sleep(Duration::from_millis(5));
        };
        process.address.set_port(port);
        process
    }

    fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("stdout")).unwrap()
    }

    fn errors(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &id]).status().unwrap().success());
    }

    /// Waits for the end and returns the exit code.
    fn exit_code(&mut self) -> Option<i32> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(Instant::now() < end, "it does not end");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Without a configuration it serves tenant 1 from ./kimberlite-data and prints a token that works;
/// with `--dev-token` that one works and is printed nowhere.
#[test]
fn a_plain_start_tells_how_to_connect() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &[]);
    let output = process.output();
    let token = output.split_whitespace().find(|word| word.starts_with("kmb_")).unwrap();
    assert!(output.contains(&process.address.to_string()), "{output}");
    assert!(output.contains("./kimberlite-data"), "{output}");
    assert!(folder.path().join("kimberlite-data").is_dir());
    let mut raw = Raw::connect(process.address);
    assert_eq!(raw.hello(1, token).unwrap().principal, "development");
    raw.create_stream("visits");
    assert!(!process.errors().contains(token), "the log holds the token");
    drop(process);
    let process = Process::start(folder.path(), &["--dev-token", TOKEN]);
    Raw::open(process.address, 1, TOKEN);
    assert!(!process.output().contains(TOKEN) && !process.errors().contains(TOKEN));
}

/// Connections are logged with who and from where, as text or as JSON, and never with data.
#[test]
fn connections_are_logged() {
    let folder = tempfile::tempdir().unwrap();
    for format in ["text", "json"] {
        let args = ["--memory", "--dev-token", TOKEN, "--log-format", format];
        let mut process = Process::start(folder.path(), &args);
        let mut raw = Raw::open(process.address, 1, TOKEN);
        let stream_id = raw.create_stream("visits");
        raw.append(stream_id, &[b"private event"]).unwrap();
        drop(raw);
        assert!(Raw::connect(process.address).hello(1, "a-wrong-guess").is_err());
        thread::sleep(Duration::from_millis(100));
        process.signal("-TERM");
        assert_eq!(process.exit_code(), Some(0));
        let log = process.errors();
        for words in ["connection open", "connection closed", "development", "127.0.0.1", "raw"] {
            assert!(log.contains(words), "{words} is not in {log}");
        }
        assert!(log.contains("AUTH_FAILED"), "{log}");
        for secret in [TOKEN, "private event", "a-wrong-guess"] {
            assert!(!log.contains(secret), "{secret} is in {log}");
        }
        assert!(log.lines().all(|line| line.starts_with('{') == (format == "json")), "{log}");
        if format == "json" {
            for field in [r#""principal":"development""#, r#""client":"raw""#] {
                assert!(log.contains(field), "{field} is not in {log}");
            }
        }
    }
}

/// Keeps thirty-two appends under way until the connection is cut. Returns what was acknowledged.
fn append_until_cut(address: SocketAddr, stream_id: u64, writer: usize) -> Vec<(u64, Vec<u8>)> {
    let mut raw = Raw::open(address, 1, TOKEN);
    let mut under_way = HashMap::new();
    let mut done = Vec::new();
    for number in 0_u64.. {
        let event = format!("{writer} {number} {}", "x".repeat((number % 300) as usize));
        let event = event.into_bytes();
        let batch = EventBatch::from_events([&event]).unwrap();
        let (request, payload) = append(stream_id, ANY, &batch);
        let bytes = common::request_bytes(10 + number, &request, &payload, 0);
        if raw.stream.write_all(&bytes).is_err() {
            break;
        }
        under_way.insert(10 + number, event);
        if under_way.len() < 32 {
            continue;
        }
        // The kill may cut the answers anywhere.
        let Some(frame) = raw.receive() else { break };
        assert!(!frame.header.has(flag::ERROR), "{:?}", common::error_of(&frame));
        let answer = Response::decode(kimberlite_wire::Operation::Append, &frame.body).unwrap();
        let Response::Append(appended) = answer else { unreachable!() };
        let event = under_way.remove(&frame.header.request_id).unwrap();
        done.push((appended.first_offset, event));
    }
    done
}

/// Reads a whole stream as raw blocks and checks its chain from its beginning.
fn read_verified(raw: &mut Raw<std::net::TcpStream>, stream_id: u64, name: &str) -> Vec<Vec<u8>> {
    let start = genesis(1, stream_id, name, DataClass::NonPhi);
    let mut verifier = ChainVerifier::new(start, 0);
    let mut events = Vec::new();
    loop {
        let from = verifier.next_offset();
        let (_, payload) = raw.call(&read(stream_id, from, u64::MAX)).unwrap();
        if payload.is_empty() {
            break;
        }
        events.extend(events_of(&payload, from));
        let mut rest = &payload[..];
        while let Some((block, consumed)) = BlockView::parse(rest).unwrap() {
            verifier.check(&block).unwrap();
            rest = &rest[consumed..];
        }
    }
    let verify = Request::Verify(VerifyRequest { stream_id });
    let Response::Verify(verified) = raw.call(&verify).unwrap().0 else { panic!() };
    assert!(verified.valid, "{verified:?}");
    assert_eq!((verified.head, verified.count), (*verifier.head(), verifier.next_offset()));
    events
}

/// Killed again and again under load, the server still has every event that it acknowledged, at
/// the offset that it told, in each writer's order, and the chain fits.
#[test]
fn acknowledged_events_survive_kills() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev-token", TOKEN];
    let mut acknowledged: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut stream_id = 0;
    for round in 0..6_u64 {
        let mut process = Process::start(folder.path(), &args);
        stream_id = Raw::open(process.address, 1, TOKEN).create_stream("visits");
        let address = process.address;
        let writers: Vec<_> = (0..3)
            .map(|writer| {
                let name = (round * 3 + writer) as usize;
                thread::spawn(move || append_until_cut(address, stream_id, name))
            })
            .collect();
        thread::sleep(Duration::from_millis(150 + round * 60));
        process.child.kill().unwrap();
        for writer in writers {
            for (offset, event) in writer.join().unwrap() {
                assert!(acknowledged.insert(offset, event).is_none(), "offset {offset} twice");
            }
        }
    }
    let process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    let events = read_verified(&mut raw, stream_id, "visits");
    assert!(acknowledged.len() > 500, "{} appends", acknowledged.len());
    for (offset, event) in &acknowledged {
        assert_eq!(events.get(*offset as usize), Some(event), "offset {offset}");
    }
    let mut next = BTreeMap::new();
    for event in &events {
        let words: Vec<u64> =
            text(event).split(' ').take(2).map(|word| word.parse().unwrap()).collect();
        let expected = next.entry(words[0]).or_insert(0);
        assert_eq!(words[1], *expected, "writer {} lost its order", words[0]);
        *expected += 1;
    }
}

/// SIGTERM ends in order with exit code 0 and tells the clients; what was acknowledged is there.
#[test]
fn sigterm_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev-token", TOKEN];
    let mut process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    raw.append(stream_id, &[b"one"]).unwrap();
    let subscribe = SubscribeRequest { stream_id, from_offset: 1, credit_bytes: 0 };
    let id = raw.send(&Request::Subscribe(subscribe), &[]);
    assert!(raw.receive_for(id).header.has(flag::MORE));
    process.signal("-TERM");
    assert_error(raw.answer(id), ErrorCode::ClusterUnavailable, "shutting down");
    assert_eq!(process.exit_code(), Some(0));
    let process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    assert_eq!(read_verified(&mut raw, stream_id, "visits"), [b"one"]);
}

/// A statement that cannot be interrupted does not hold SIGTERM up for longer than some seconds,
/// and the log is closed in good order all the same.
#[test]
fn a_statement_that_does_not_stop_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kimberlite.toml"), "shutdown_grace_ms = 100\n").unwrap();
    let args = ["--config", "kimberlite.toml", "--dev-token", TOKEN];
    let mut process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    raw.append(stream_id, &[b"one"]).unwrap();
    // One step of the statement: a search that compares nearly all of a long text at each place.
    let sql = "SELECT instr(hex(zeroblob(2000000)), hex(zeroblob(1000000)) || 'x')".to_string();
    let query = QueryRequest { sql, ..QueryRequest::default() };
    raw.send(&Request::Query(query), &[]);
    thread::sleep(Duration::from_millis(500));
    let start = Instant::now();
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(0), "{}", process.errors());
    assert!(start.elapsed() < Duration::from_secs(12), "{:?}", start.elapsed());
    let process = Process::start(folder.path(), &["--dev-token", TOKEN]);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    assert_eq!(read_verified(&mut raw, stream_id, "visits"), [b"one"]);
}

/// Where a write to the log fails, clients are told which step failed and that a restart is
/// needed, the exit code tells it too, and what was acknowledged is there afterwards.
#[test]
fn a_failed_log_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev-token", TOKEN];
    let mut process = Process::start(folder.path(), &args);
    let stream_id = Raw::open(process.address, 1, TOKEN).create_stream("visits");
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(0));
    // A bound on files' sizes makes the system refuse writes within the file that is there.
    let limited = r#"trap '' XFSZ; ulimit -f 128; exec "$0" "$@""#;
    let mut shell = Command::new("sh");
    shell.args(["-c", limited, env!("CARGO_BIN_EXE_kimberlite-server")]);
    let mut process = Process::start_as(shell, folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    raw.append(stream_id, &[b"one"]).unwrap();
    for _ in 0..2 {
        let refused = raw.append(stream_id, &[&vec![7; 300 << 10]]).unwrap_err();
        assert_eq!(refused.code, ErrorCode::Storage);
        for words in ["the write failed", "takes no more changes until the server"] {
            assert!(refused.detail.contains(words), "{refused} lacks {words:?}");
        }
    }
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(1));
    assert!(process.errors().contains("not closed cleanly"), "{}", process.errors());
    let process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    assert_eq!(read_verified(&mut raw, stream_id, "visits"), [b"one"]);
}

/// Where there is no room for an append, the server says that nothing of it was written; where the
/// write itself failed it does not, but for what comes after that.
#[test]
fn an_append_without_room_has_no_effect() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev-token", TOKEN];
    let mut process = Process::start(folder.path(), &args);
    let stream_id = Raw::open(process.address, 1, TOKEN).create_stream("visits");
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(0));
    let limited = |blocks: u32| {
        let script = format!(r#"trap '' XFSZ; ulimit -f {blocks}; exec "$0" "$@""#);
        let mut shell = Command::new("sh");
        shell.args(["-c", &script, env!("CARGO_BIN_EXE_kimberlite-server")]);
        Process::start_as(shell, folder.path(), &args)
    };
    let large = vec![7; 8_000_000];
    // Blocks of 512 bytes or of 1,024, as the shell has it: less than what is to be prepared.
    let process = limited(4096);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    raw.append(stream_id, &[b"one"]).unwrap();
    let refused = raw.append(stream_id, &[&large]).unwrap_err();
    assert!(refused.detail.contains("nothing of this group was written"), "{refused}");
    assert_eq!((refused.code, refused.no_effect), (ErrorCode::Storage, true));
    raw.append(stream_id, &[b"two"]).unwrap();
    drop(process);
    let process = limited(128);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    for no_effect in [false, true] {
        let refused = raw.append(stream_id, &[&large[..300 << 10]]).unwrap_err();
        assert_eq!((refused.code, refused.no_effect), (ErrorCode::Storage, no_effect), "{refused}");
    }
}

/// A folder whose segments are gone while its states are there is refused by the segment's name; one
/// whose states are gone as well is opened as an empty database, and the log says so. A new folder
/// and an intact one give no such warning.
#[test]
fn lost_segments_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let args = ["--dev-token", TOKEN];
    let warning = "starting an EMPTY database";
    for _ in 0..2 {
        let mut process = Process::start(folder.path(), &args);
        process.signal("-TERM");
        assert_eq!(process.exit_code(), Some(0));
        assert!(!process.errors().contains(warning), "{}", process.errors());
    }
    let remove = |prefix: &str| {
        for entry in std::fs::read_dir(folder.path().join("kimberlite-data")).unwrap() {
            let path = entry.unwrap().path();
            if path.file_name().unwrap().to_str().unwrap().starts_with(prefix) {
                std::fs::remove_file(path).unwrap();
            }
        }
    };
    remove("segment-");
    let listen = ["--listen", "127.0.0.1:0"];
    let output = binary().args(args).args(listen).current_dir(&folder).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("segment 1"), "{}", text(&output.stderr));
    remove("state-");
    remove("footer-");
    let process = Process::start(folder.path(), &args);
    assert!(process.errors().contains(warning), "{}", process.errors());
    Raw::open(process.address, 1, TOKEN).create_stream("visits");
}

/// A second signal ends it at once where the first one waits for a request; not so within a
/// second of the first, because some senders signal twice to ask once.
#[test]
fn a_second_signal_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("kimberlite.toml"), "shutdown_grace_ms = 60000\n").unwrap();
    let args = ["--config", "kimberlite.toml", "--dev-token", TOKEN, "--memory"];
    let mut process = Process::start(folder.path(), &args);
    let mut raw = Raw::open(process.address, 1, TOKEN);
    let stream_id = raw.create_stream("visits");
    raw.append(stream_id, &[&vec![7; 3 << 20]]).unwrap();
    // It waits for credit that never comes.
    let id = raw.send(&read(stream_id, 0, 1), &[]);
    raw.receive_for(id);
    process.signal("-TERM");
    thread::sleep(Duration::from_millis(100));
    process.signal("-INT");
    thread::sleep(Duration::from_millis(1_300));
    assert!(process.child.try_wait().unwrap().is_none(), "it did not wait");
    process.signal("-TERM");
    assert_eq!(process.exit_code(), Some(1));
}

/// `token` prints a token once with its lines; `--add` appends them, and SIGHUP lets it in.
#[test]
fn tokens_are_made_added_and_reloaded() {
    let made = run(&["token", "--name", "alice", "--role", "writer", "--tenants", "1,2"]);
    assert!(made.status.success(), "{}", text(&made.stderr));
    let made = text(&made.stdout);
    let token = made.split_whitespace().find(|word| word.starts_with("kmb_")).unwrap();
    assert_eq!(made.matches(token).count(), 1);
    let lines = &made[made.find("[[token]]").unwrap()..];
    assert!(lines.contains("tenants = [1, 2]") && lines.contains("hash = \"sha256:"), "{lines}");

    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kimberlite.toml");
    std::fs::write(&file, format!("memory = true\n\n{lines}")).unwrap();
    let process = Process::start(folder.path(), &["--config", "kimberlite.toml"]);
    assert_eq!(Raw::connect(process.address).hello(2, token).unwrap().principal, "alice");
    assert!(!process.output().contains("sha256") && !process.output().contains("token  "));

    let mut adding = binary()
        .args(["token", "--name", "bob", "--role", "reader", "--tenants", "*", "--token-stdin"])
        .args(["--add", "--config"])
        .arg(&file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    adding.stdin.take().unwrap().write_all(b"bobs own token\n").unwrap();
    let mut said = String::new();
    adding.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(adding.wait().unwrap().success() && !said.contains("bobs own token"), "{said}");
    let hello = || Raw::connect(process.address).hello(1, "bobs own token");
    assert_error(hello(), ErrorCode::AuthFailed, "");
    process.signal("-HUP");
    let end = Instant::now() + PATIENCE;
    while hello().is_err() {
        assert!(Instant::now() < end, "{}", process.errors());
        thread::sleep(Duration::from_millis(50));
    }
}

/// `--add` refuses a name that is in the file already and leaves the file as it is, but for
/// `--again` and for the same token with another role.
#[test]
fn token_names_are_unique() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kimberlite.toml");
    let add = |more: &[&str]| {
        let mut adding = binary()
            .args(["token", "--name", "bob", "--role", "reader", "--tenants", "1,7"])
            .args(["--add", "--config"])
            .arg(&file)
            .args(more)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Who refuses or makes a token of its own does not read it.
        let _ = adding.stdin.take().unwrap().write_all(b"bobs own token\n");
        text(&adding.wait_with_output().unwrap().stderr)
    };
    assert_eq!(add(&["--token-stdin"]), "");
    let before = std::fs::read_to_string(&file).unwrap();
    let error = add(&[]);
    assert!(error.contains("a token named \"bob\"") && error.contains("--again"), "{error}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);
    assert_eq!(add(&["--token-stdin"]), "");
    assert_eq!(add(&["--again"]), "");
    assert_eq!(std::fs::read_to_string(&file).unwrap().matches("[[token]]").count(), 3);
    let process = Process::start(folder.path(), &["--config", "kimberlite.toml", "--memory"]);
    assert!(process.output().contains("tenants   1, 7\n"), "{}", process.output());
}

/// What is wrong with the command line or the configuration is said in one line, by name.
#[test]
fn mistakes_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kimberlite.toml");
    let fails = |toml: &str, args: &[&str], words: &str| {
        std::fs::write(&file, toml).unwrap();
        let output = binary()
            .args(["--config", file.to_str().unwrap()])
            .args(args)
            .current_dir(&folder)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(1));
        let error = text(&output.stderr);
        assert!(error.contains(words), "{error:?} lacks {words:?}");
        assert_eq!(error.lines().count() > 1, error.contains(" problems:"), "{error:?}");
    };
    fails("max_conections = 3", &["--memory"], "unknown field `max_conections`");
    fails("max_conections = 3", &["--memory"], "no token is configured");
    fails("io_threads = -1", &["--dev-token", "x", "--log-level", "a=b=c"], "2 problems");
    fails("", &["--dev-token", "x", "--admin-listen", "0.0.0.0:0"], "--admin-exposed");
    fails("[limits]\nmax_connections = 0", &["--dev-token", "x"], "from 1 to 1000000");
    fails("", &["--memory"], "no token is configured");
    fails("", &["--dev-token", ""], "--dev-token: the token is empty");
    fails("", &["--dev-token", "x", "--listen", "0.0.0.0:0"], "insecure_listen = true");
    fails("", &["--dev-token", "x", "--listen", "nonsense:port"], "host:port");
    fails("", &["--dev-token", "x", "--log-level", "a=b=c"], "log.level");
    fails("", &["--dev-token", "x", "--tenant", "0"], "tenants holds 0");
    fails("[tls]\ncertificate_file = \"c\"\nkey_file = \"k\"", &["--dev-token", "x"], "tls.cert");
    let output = run(&["--config", "/nonexistent/kimberlite.toml"]);
    assert!(text(&output.stderr).contains("/nonexistent/kimberlite.toml"));
    let output = run(&["token", "--name", "a", "--role", "boss", "--tenants", "1"]);
    assert!(text(&output.stderr).contains("reader, writer or admin"));
}

/// A port in use and a folder in use are named.
#[test]
fn what_is_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start(folder.path(), &["--dev-token", TOKEN]);
    let address = process.address.to_string();
    let output = run(&["--dev-token", TOKEN, "--memory", "--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains(&address), "{}", text(&output.stderr));
    // `localhost` is both loopback addresses, or another program would answer on one of them.
    if let Ok(other) = std::net::TcpListener::bind("[::1]:0") {
        let port = other.local_addr().unwrap().port();
        let listen = format!("localhost:{port}");
        let output = run(&["--dev-token", TOKEN, "--memory", "--listen", &listen]);
        let error = text(&output.stderr);
        assert!(error.contains(&format!("[::1]:{port}")), "{error}");
    }
    let data = folder.path().join("kimberlite-data");
    let output = run(&[
        "--dev-token",
        TOKEN,
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        data.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("kimberlite-data"), "{}", text(&output.stderr));
}

/// The printed configuration is valid as it stands, but for its lack of tokens.
#[test]
fn the_configuration_is_explained() {
    for args in [&["config"][..], &["--print-config"]] {
        let output = run(args);
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("# max_connections = 4096"));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kimberlite.toml");
    std::fs::write(&file, run(&["config"]).stdout).unwrap();
    let output = run(&["config", "--check", file.to_str().unwrap()]);
    assert!(text(&output.stderr).contains("no token"), "{}", text(&output.stderr));
}
