//! Each exit code, and that the message names the cause and the cure.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::common::{Home, Ran, client, dead_address, server};

fn failed(ran: &Ran, code: i32, words: &[&str]) {
    assert_eq!(ran.code, code, "{ran:?}");
    for word in words {
        assert!(ran.err.contains(word), "{word:?} is not in {ran:?}");
    }
}

/// 3: what is not there is named, with what to do.
#[test]
fn not_found() {
    let home = Home::new();
    failed(&home.run(&["read", "s"]), 3, &["no database in \"db\"", "streams create"]);
    // A folder where nothing of a database is may be one where a disk is not mounted.
    std::fs::create_dir(home.path("empty")).expect("made");
    for command in [&["verify"][..], &["streams", "list"], &["query", "SELECT 1"]] {
        let ran = home.run(&[command, &["-a", "embedded:empty"]].concat());
        failed(&ran, 3, &["no database in \"empty\""]);
    }
    assert_eq!(std::fs::read_dir(home.path("empty")).expect("there").count(), 0);
    home.ok(&["append", "s", "--create", "non-phi", "x"]);
    for command in ["read", "tail", "append", "verify", "export"] {
        let ran = home.run(&[command, "missing"]);
        failed(&ran, 3, &["missing", "STREAM_NOT_FOUND", "streams list"]);
    }
    failed(&home.run(&["read", "s", "--from", "2"]), 3, &["--from is 2", "0 to 1"]);
    failed(&home.run(&["import", "s", "none.ndjson"]), 3, &["none.ndjson"]);
    failed(&home.run(&["append", "s", "--file", "none.txt"]), 3, &["none.txt"]);
    let server = server();
    let home = Home::of(&server);
    failed(&home.run(&["streams", "list", "--tenant", "9"]), 3, &["TENANT_NOT_FOUND", "--tenant"]);
}

/// 4: a wrong token, or none. The token itself is never repeated.
#[test]
fn refused() {
    let server = server();
    let home = Home::of(&server);
    let wrong = home.run(&["streams", "list", "--token", "not-this-one"]);
    failed(&wrong, 4, &["AUTH_FAILED", "check the token"]);
    assert!(!wrong.err.contains("not-this-one"));
    let none = home.command(&["streams", "list"]).env_remove("KIMBERLITE_TOKEN").output();
    failed(&crate::common::ran(none.expect("runs")), 4, &["--token-file"]);
    home.write("token", "secret\n");
    home.ok(&["streams", "list", "--token-file", "token"]);
}

/// 5: nobody listens.
#[test]
fn unavailable() {
    let home = Home { address: dead_address(), ..Home::new() };
    let ran = home.run(&["read", "s", "--timeout-ms", "500"]);
    failed(&ran, 5, &["CONNECTION_FAILED", &home.address, "kimberlite dev"]);
}

/// 6: what is already there is left as it is: a file that is to be written, a port in use.
#[test]
fn conflict() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x"]);
    home.write("there", "precious");
    failed(&home.run(&["export", "s", "-o", "there"]), 6, &["there already", "--resume"]);
    assert_eq!(home.file("there"), b"precious");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let ran = home.run(&["dev", "--listen", &address]);
    assert!(ran.code != 0 && ran.err.contains("--listen 127.0.0.1:0"), "{ran:?}");
}

/// `dev` serves this machine alone, and names no option that it does not have.
#[test]
fn dev_stays_on_this_machine() {
    let ran = Home::new().run(&["dev", "--listen", "0.0.0.0:0"]);
    assert!(ran.code != 0 && ran.err.contains("--listen localhost:5432"), "{ran:?}");
    assert!(!ran.err.contains("insecure") && ran.err.contains("kimberlite-server"), "{ran:?}");
}

/// 7: a raw file with a changed byte is not imported beyond it, and one that was cut short says so.
#[test]
fn not_verified() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "first", "second"]);
    home.ok(&["export", "s", "--format", "raw", "-o", "s.raw"]);
    let whole = home.file("s.raw");
    let mut bytes = whole.clone();
    let at = bytes.windows(6).position(|part| part == b"second").expect("it is there");
    bytes[at] ^= 1;
    home.write("bad.raw", &bytes);
    let bad = home.run(&["import", "t", "bad.raw", "--format", "raw", "--create", "non-phi"]);
    failed(&bad, 7, &["bad.raw", "offset 1", "checksum"]);
    assert_eq!(home.ok(&["read", "t", "--format", "lines"]), "first\n");
    home.write("cut.raw", &whole[..whole.len() - 30]);
    let cut = home.run(&["import", "u", "cut.raw", "--format", "raw", "--create", "non-phi"]);
    failed(&cut, 2, &["cut.raw was cut short after 1 events", "export --resume"]);
    home.write("cut.raw", &whole);
    home.ok(&["import", "u", "cut.raw", "--format", "raw"]);
    assert_eq!(home.ok(&["read", "u", "--format", "lines"]), "first\nsecond\n");
}

/// 7: a byte that changed on the disk is found, whoever walks the chain, and told with the place;
/// other streams and what stands before it are still good.
#[test]
fn damaged_log() {
    let home = Home::new();
    home.ok(&["append", "sound", "--create", "non-phi", "whole"]);
    home.ok(&["append", "hurt", "--create", "non-phi", "first", "second"]);
    for event in ["third", "a marked event", "fifth"] {
        home.ok(&["append", "hurt", event]);
    }
    let segment = "db/segment-00000000000000000001";
    let mut bytes = home.file(segment);
    let mark = b"a marked event";
    let at = bytes.windows(mark.len()).position(|part| part == mark).expect("it is there");
    bytes[at] ^= 1;
    home.write(segment, bytes);
    for args in [&["verify"][..], &["verify", "--local"]] {
        let ran = home.run(args);
        failed(&ran, 7, &["1 of ", "restore them from a backup"]);
        assert!(ran.out.contains("ok   sound: 1 events"), "{ran:?}");
        assert!(ran.out.contains("BAD  hurt: the block at offset 3 does not fit"), "{ran:?}");
    }
    failed(&home.run(&["read", "hurt", "--from", "3"]), 7, &["CORRUPTION", "offset 3"]);
    let before = home.ok(&["read", "hurt", "--to", "3", "--format", "lines"]);
    assert_eq!(before, "first\nsecond\nthird\n");
}

/// 8: an append whose answer never comes. The proxy passes the append on and swallows what comes
/// back.
#[test]
fn unknown_outcome() {
    let server = server();
    let home = Home::of(&server);
    home.ok(&["streams", "create", "s", "--class", "non-phi"]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address").to_string();
    let target = server.local_addr();
    std::thread::spawn(move || {
        for inbound in listener.incoming().flatten() {
            let outbound = TcpStream::connect(target).expect("the server is there");
            swallow_after(inbound, outbound, b"the marked event");
        }
    });
    let args = ["append", "s", "the marked event", "-a", &address, "--timeout-ms", "1500"];
    let ran = home.run(&args);
    failed(&ran, 8, &["whether the last batch was appended is not known", "read the stream's end"]);
    assert_eq!(client(&server).stream_by_name("s").expect("there").next_offset, 1);
}

/// Copies both ways, the answers only until the mark was asked for.
fn swallow_after(inbound: TcpStream, outbound: TcpStream, mark: &'static [u8]) {
    let seen = Arc::new(AtomicBool::new(false));
    let copy = |mut from: TcpStream, mut to: TcpStream, seen: Arc<AtomicBool>, requests: bool| {
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                let bytes = &buffer[..count];
                if requests && bytes.windows(mark.len()).any(|part| part == mark) {
                    seen.store(true, Ordering::SeqCst);
                }
                if (requests || !seen.load(Ordering::SeqCst)) && to.write_all(bytes).is_err() {
                    return;
                }
            }
        })
    };
    let (in_two, out_two) = (inbound.try_clone(), outbound.try_clone());
    copy(inbound, outbound, seen.clone(), true);
    copy(out_two.expect("a handle"), in_two.expect("a handle"), seen, false);
}

/// 1: what has no code of its own, as a full disk.
#[cfg(target_os = "linux")]
#[test]
fn plain_failure() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x"]);
    let full = std::fs::File::options().write(true).open("/dev/full").expect("it is there");
    let output = home.command(&["read", "s"]).stdout(full).output().expect("runs");
    failed(&crate::common::ran(output), 1, &["standard output", "No space left"]);
}

/// 1: a limit on the size of files is told like a full disk; the export goes on where there is more
/// room.
#[cfg(target_os = "linux")]
#[test]
fn files_that_grow_too_large() {
    let server = server();
    let home = Home::of(&server);
    let event = "x".repeat(300_000);
    let lines = [event.as_str(); 4].join("\n");
    home.run_with(&["append", "s", "--create", "non-phi"], lines.as_bytes());
    // Blocks of 512 bytes or of 1,024, as the shell has it.
    let script = "ulimit -f 600; exec \"$0\" export s -o out.ndjson";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, crate::common::BINARY]);
    home.environment(&mut command);
    let ran = crate::common::ran(command.output().expect("it runs"));
    failed(&ran, 1, &["out.ndjson: File too large", "--resume goes on from there"]);
    home.ok(&["export", "s", "-o", "out.ndjson", "--resume"]);
    home.ok(&["export", "s", "-o", "whole.ndjson"]);
    assert!(home.file("out.ndjson") == home.file("whole.ndjson"));
}

/// 1: a database that has no room says that nothing was written, and nothing else: no doubt about
/// the outcome, and no log lines unless they are asked for.
#[cfg(unix)]
#[test]
fn a_database_without_room() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "first"]);
    home.write("big", "x".repeat(8_000_000));
    let run = |options: &str| {
        // Blocks of 512 bytes or of 1,024, as the shell has it.
        let script = format!("ulimit -f 4096; exec \"$0\" append s -f binary -F big {options}");
        let mut command = std::process::Command::new("sh");
        command.args(["-c", &script, crate::common::BINARY]);
        home.environment(&mut command);
        crate::common::ran(command.output().expect("it runs"))
    };
    let ran = run("");
    failed(&ran, 1, &["STORAGE", "nothing of this group was written"]);
    assert!(!ran.err.contains("not known") && !ran.err.contains("ERROR"), "{ran:?}");
    let loud = run("-v");
    failed(&loud, 1, &["a group could not be committed"]);
    assert_eq!(home.ok(&["read", "s", "--format", "lines"]), "first\n");
    home.ok(&["append", "s", "-q", "-f", "binary", "-F", "big"]);
}

/// 1: a server that has no room says the same, and what comes after it is appended.
#[cfg(unix)]
#[test]
fn a_server_without_room() {
    use std::io::BufRead;
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "first"]);
    home.write("big", "x".repeat(8_000_000));
    let script = "ulimit -f 4096; exec \"$0\" dev --listen 127.0.0.1:0 --data-dir db";
    let mut command = std::process::Command::new("sh");
    command.args(["-c", script, crate::common::BINARY]);
    home.environment(&mut command);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
    let mut server = command.spawn().expect("it starts");
    let mut lines = std::io::BufReader::new(server.stdout.take().expect("piped")).lines();
    let mut after = |mark: &str| {
        let line = lines.by_ref().flatten().find(|line| line.contains(mark)).expect(mark);
        line.split_whitespace().nth(1).expect("a value").to_string()
    };
    let (address, token) = (after("address  "), after("token  "));
    let with = |args: &[&str]| home.run(&[args, &["-a", &address, "--token", &token]].concat());
    let ran = with(&["append", "s", "-f", "binary", "-F", "big"]);
    failed(&ran, 1, &["STORAGE", "nothing of this group was written"]);
    assert!(!ran.err.contains("not known"), "{ran:?}");
    assert_eq!(with(&["append", "s", "second"]).code, 0);
    assert_eq!(with(&["read", "s", "--format", "lines"]).out, "first\nsecond\n");
    crate::common::signal(&server, rustix::process::Signal::INT);
    assert_eq!(server.wait().expect("it ends").code(), Some(0));
}

/// 2: an empty name, and the name of the stream that is not one of the caller's, are told as that.
#[test]
fn names_that_name_no_stream() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x"]);
    failed(&home.run(&["append", "", "x"]), 2, &["the stream's name is empty"]);
    failed(&home.run(&["append", "", "x", "--create", "phi"]), 2, &["name is empty"]);
    for command in ["read", "tail", "append", "export"] {
        failed(&home.run(&[command, "_audit"]), 2, &["SELECT text FROM _audit"]);
    }
    home.ok(&["query", "SELECT text FROM _audit"]);
}

/// 143 and 130: the signal is told, and an embedded database is left in good order.
#[cfg(unix)]
#[test]
fn signals() {
    use rustix::process::Signal;
    for (number, code) in [(Signal::TERM, 143), (Signal::INT, 130)] {
        let home = Home::new();
        home.ok(&["append", "s", "--create", "non-phi", "x"]);
        let mut child = home.spawn(&["tail", "-f", "s"]);
        // Once the event is there, the command is at work.
        let mut byte = [0];
        child.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("an event comes");
        crate::common::signal(&child, number);
        assert_eq!(child.wait().expect("it ends").code(), Some(code));
        home.ok(&["verify"]);
    }
}

/// A signal that the command was started to ignore, as by `nohup` or in a shell's background, stays
/// ignored: it goes on, and hears the others.
#[cfg(target_os = "linux")]
#[test]
fn ignored_signals_stay_ignored() {
    use rustix::process::Signal;
    use std::io::BufRead;
    let server = server();
    let home = Home::of(&server);
    home.ok(&["append", "s", "--create", "non-phi", "first"]);
    let mut command = std::process::Command::new("sh");
    let script = "trap '' INT; exec \"$0\" tail -f s --format lines";
    command.args(["-c", script, crate::common::BINARY]);
    home.environment(&mut command);
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "first");
    crate::common::signal(&child, Signal::INT);
    home.ok(&["append", "s", "second"]);
    assert_eq!(lines.next().expect("it goes on").expect("text"), "second");
    crate::common::signal(&child, Signal::TERM);
    assert_eq!(child.wait().expect("it ends").code(), Some(143));
}

/// 0: a development server says how to connect, serves, ends at Ctrl-C and removes its folder.
#[cfg(unix)]
#[test]
fn dev_server() {
    use std::io::BufRead;
    let home = Home::new();
    let mut child = home.spawn(&["dev", "--listen", "127.0.0.1:0", "--tenant", "3"]);
    let mut lines = std::io::BufReader::new(child.stdout.take().expect("piped")).lines();
    let mut after = |mark: &str| {
        let line = lines.by_ref().flatten().find(|line| line.contains(mark)).expect(mark);
        line.split_whitespace().nth(1).expect("a value").to_string()
    };
    let (address, token) = (after("address  "), after("token  "));
    let folder = after("database  ");
    for language in ["Rust", "Python", "C "] {
        after(language);
    }
    after("Ctrl-C");
    let connection = ["-a", &address, "--token", &token, "--tenant", "3"];
    let with = |args: &[&str]| home.ok(&[args, &connection].concat());
    with(&["append", "s", "hello", "--create", "non-phi"]);
    assert_eq!(with(&["read", "s", "--format", "lines"]), "hello\n");
    assert!(crate::common::exists(&folder));
    crate::common::signal(&child, rustix::process::Signal::INT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
    assert!(!crate::common::exists(&folder), "{folder} was left behind");
}
