//! Pipes: a reader that goes, a writer that pauses, and nothing for terminals in them.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::Duration;

use crate::common::{Home, client, server};

/// `| head`: a reader that has enough ends the command, quietly and with success.
#[test]
fn a_closed_pipe_is_no_failure() {
    let home = Home::new();
    let lines: String = (0..50_000).map(|n| format!("event number {n}\n")).collect();
    home.run_with(&["append", "s", "--create", "non-phi"], lines.as_bytes());
    for args in [
        &["read", "s"][..],
        &["query", "SELECT id, text FROM s"],
        &["query", "SELECT id, text FROM s", "-f", "csv"],
        &["export", "s"],
    ] {
        let mut child = home.spawn(args);
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        out.read_line(&mut first).expect("a line comes");
        assert!(!first.is_empty());
        drop(out);
        let output = child.wait_with_output().expect("it ends");
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!((output.status.code(), err.as_str()), (Some(0), ""), "{args:?}");
    }
}

/// A command that follows a quiet stream ends when its reader goes, without a further event.
#[cfg(unix)]
#[test]
fn a_quiet_tail_notices_too() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x"]);
    let mut child = home.spawn(&["tail", "-f", "s"]);
    let mut byte = [0];
    child.stdout.as_mut().expect("piped").read_exact(&mut byte).expect("an event comes");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}

/// Lines of spaces are events; empty ones are not.
#[test]
fn lines_of_spaces() {
    let home = Home::new();
    let ran = home.run_with(&["append", "s", "--create", "non-phi"], b"   \n\nfoo\r\n\r\n\t");
    assert!(ran.out.starts_with("appended 3 events"), "{ran:?}");
    assert_eq!(home.ok(&["read", "s", "--format", "lines"]), "   \nfoo\n\t\n");
}

/// Where an append cannot be told, the message says that it was done: nobody is to repeat it.
#[cfg(target_os = "linux")]
#[test]
fn an_append_that_cannot_be_told() {
    let home = Home::new();
    let mut command = home.command(&["append", "s", "z", "--create", "non-phi"]);
    command.stdout(std::fs::File::options().write(true).open("/dev/full").expect("it is there"));
    let ran = crate::common::ran(command.output().expect("it runs"));
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("appended 1 event at offset 0"), "{ran:?}");
    assert!(ran.err.contains("could not be told: standard output: No space"), "{ran:?}");
}

/// Lines are appended as they come, while the pipe stays open; and `tail -f` shows them at once.
#[test]
fn lines_are_live() {
    let server = server();
    let home = Home::of(&server);
    let client = client(&server);
    let stream = client.create_stream("s", kimberlite::DataClass::NonPhi).expect("made");
    let subscription = client.subscribe(stream, kimberlite::Offset(0)).expect("subscribed");
    let mut tail = home.spawn(&["tail", "-f", "s", "--format", "lines"]);
    let mut shown = BufReader::new(tail.stdout.take().expect("piped")).lines();
    let mut append = home.spawn(&["append", "s"]);
    let mut stdin = append.stdin.take().expect("piped");
    for text in ["one", "two"] {
        writeln!(stdin, "{text}").expect("it takes a line");
        let page =
            subscription.next(Some(Duration::from_secs(60))).expect("live").expect("in time");
        assert_eq!(page.event(0), Some(text.as_bytes()));
        assert_eq!(shown.next().expect("a line").expect("text"), text);
    }
    drop(stdin);
    let output = append.wait_with_output().expect("it ends");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("appended 2 events"));
    tail.kill().expect("it is there");
    tail.wait().expect("it ends");
}

/// Off a terminal there are no colours, no bars and no escape sequences in any output, error or
/// help.
#[test]
fn no_escapes_in_pipes() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "a\x1b[31mb\u{9b}c"]);
    home.write("in.ndjson", crate::common::ndjson(0..10));
    for args in [
        &["read", "s"][..],
        &["read", "s", "--format", "ndjson"],
        &["tail", "s"],
        &["query", "SELECT text, data FROM s"],
        &["query", "SELECT text FROM s", "-f", "json"],
        &["query", "oops"],
        &["streams", "list"],
        &["import", "t", "in.ndjson", "--create", "non-phi"],
        &["export", "t", "-o", "out.ndjson"],
        &["read", "s", "--what"],
        &["--help"],
    ] {
        let ran = home.run(args);
        let all = format!("{}{}", ran.out, ran.err);
        assert!(!all.contains(['\x1b', '\u{9b}']), "{args:?}: {all:?}");
    }
}
