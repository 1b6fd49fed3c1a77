//! Imports and exports that were interrupted anywhere: nothing twice, nothing left out.

use std::time::Duration;

use kimberlite::{DataClass, Offset};

use crate::common::{Home, client, ndjson, server};

fn events(home: &Home, stream: &str) -> Vec<String> {
    home.ok(&["read", stream, "--format", "lines"]).lines().map(str::to_string).collect()
}

fn expected(range: std::ops::Range<u64>) -> Vec<String> {
    range.map(|n| format!("event {n}")).collect()
}

/// Killed as soon as something was appended, then run again: every event is there once, in order,
/// and a third run imports nothing.
#[test]
fn import_after_a_kill() {
    const EVENTS: u64 = 20_000;
    let server = server();
    let home = Home::of(&server);
    let client = client(&server);
    let stream = client.create_stream("s", DataClass::NonPhi).expect("made");
    home.write("in.ndjson", ndjson(0..EVENTS));
    let subscription = client.subscribe(stream, Offset(0)).expect("subscribed");
    let import = ["import", "s", "in.ndjson", "--batch", "5"];
    let mut child = home.spawn(&import);
    let first = subscription.next(Some(Duration::from_secs(60))).expect("live");
    assert!(first.is_some(), "nothing came");
    child.kill().expect("it is there");
    child.wait().expect("it ends");
    let before = client.stream_info(stream).expect("there").next_offset;
    let done = home.ok(&["import", "s", "in.ndjson"]);
    assert_eq!(done, format!("imported: {EVENTS} events, offsets 0 to {}\n", EVENTS - 1));
    assert_eq!(events(&home, "s"), expected(0..EVENTS), "{before} were there after the kill");
    let again = home.ok(&["import", "s", "in.ndjson"]);
    assert!(again.starts_with("was imported before: 20000 events"), "{again}");
    assert_eq!(events(&home, "s").len() as u64, EVENTS);
}

/// A progress file that is behind, as after a kill between an append and the note of it, is made
/// good from the stream, in either format.
#[test]
fn import_finds_what_it_did() {
    let home = Home::new();
    home.run_with(&["append", "source", "--create", "non-phi"], lines(0..30).as_bytes());
    home.ok(&["export", "source", "--format", "raw", "-o", "in.raw"]);
    home.write("in.ndjson", ndjson(0..30));
    for (format, file) in [("ndjson", "in.ndjson"), ("raw", "in.raw")] {
        let stream = format!("s_{format}");
        let import = ["import", &stream, file, "--format", format, "--create", "non-phi"];
        home.ok(&["append", &stream, "--create", "non-phi", "earlier"]);
        home.ok(&import);
        let progress = format!("{file}.progress");
        let text = String::from_utf8(home.file(&progress)).expect("text");
        let mut value: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        value["finished"] = false.into();
        value["events"] = 0.into();
        value["last_start"] = 0.into();
        value["position"] = if format == "raw" { 16.into() } else { 0.into() };
        home.write(&progress, value.to_string());
        let again = home.ok(&import);
        assert!(again.contains("30 events, offsets 1 to 30"), "{again}");
        assert_eq!(events(&home, &stream)[1..], expected(0..30), "{format}");
    }
}

fn lines(range: std::ops::Range<u64>) -> String {
    range.map(|n| format!("event {n}\n")).collect()
}

/// A file that grew since is imported from where it ended; another file, another stream and events
/// of somebody else are conflicts, and nothing is appended.
#[test]
fn import_refuses_what_does_not_fit() {
    let home = Home::new();
    home.write("in.ndjson", ndjson(0..10));
    let import = ["import", "s", "in.ndjson", "--create", "non-phi"];
    home.ok(&import);
    let unfinished = |home: &Home| {
        let text = String::from_utf8(home.file("in.ndjson.progress")).expect("text");
        home.write("in.ndjson.progress", text.replace("\"finished\":true", "\"finished\":false"));
    };
    unfinished(&home);
    home.write("in.ndjson", ndjson(0..12));
    home.ok(&import);
    assert_eq!(events(&home, "s"), expected(0..12));

    unfinished(&home);
    home.write("in.ndjson", ndjson(100..112).replace("100", "99"));
    let other = home.run(&import);
    assert!(other.code == 6 && other.err.contains("not the file"), "{other:?}");

    home.write("in.ndjson", ndjson(0..20));
    home.ok(&["append", "s", "somebody else's"]);
    let foreign = home.run(&import);
    assert!(foreign.code == 6 && foreign.err.contains("somebody else"), "{foreign:?}");

    home.ok(&["streams", "create", "t", "--class", "non-phi"]);
    let moved = home.run(&["import", "t", "in.ndjson"]);
    assert!(moved.code == 6 && moved.err.contains("another stream"), "{moved:?}");
    assert_eq!(events(&home, "s").len(), 13);
}

/// A finished import goes on where its file grew, be it behind a line without an end, again and
/// again, in either format; what others appended meanwhile is a conflict only then.
#[test]
fn import_of_a_file_that_grows() {
    for (home, _server) in Home::doors() {
        let import = ["import", "s", "in.ndjson", "--create", "non-phi"];
        let grow = |text: &str, wanted: u64| {
            let mut bytes = std::fs::read(home.path("in.ndjson")).unwrap_or_default();
            bytes.extend_from_slice(text.as_bytes());
            home.write("in.ndjson", bytes);
            let done = home.ok(&import);
            let last = wanted.saturating_sub(1);
            assert!(done.starts_with(&format!("imported: {wanted} events")), "{done}");
            assert!(wanted == 0 || done.ends_with(&format!(", offsets 0 to {last}\n")), "{done}");
            let again = home.ok(&import);
            assert_eq!(again, format!("was {}", done.replace("imported", "imported before")));
            assert_eq!(events(&home, "s"), expected(0..wanted));
        };
        home.write("in.ndjson", "");
        home.ok(&import);
        grow(&ndjson(0..2), 2);
        grow(&ndjson(2..3), 3);
        grow(ndjson(3..5).trim_end(), 5);
        grow(&format!("\n{}", ndjson(5..6).trim_end()), 6);
        grow(&format!(" \r\n\n{}", ndjson(6..7)), 7);

        home.ok(&["append", "s", "somebody else's"]);
        assert!(home.ok(&import).starts_with("was imported before: 7 events"));
        home.write("in.ndjson", [home.file("in.ndjson"), ndjson(7..8).into_bytes()].concat());
        let foreign = home.run(&import);
        assert!(foreign.code == 6 && foreign.err.contains("somebody else"), "{foreign:?}");

        home.run_with(&["append", "source", "--create", "non-phi"], lines(0..3).as_bytes());
        let raw = ["import", "t", "in.raw", "--format", "raw", "--create", "non-phi"];
        for wanted in 3..6 {
            home.ok(&["export", "source", "--format", "raw", "-o", "in.raw", "--resume"]);
            assert!(home.ok(&raw).starts_with(&format!("imported: {wanted} events")));
            assert_eq!(events(&home, "t"), expected(0..wanted));
            home.ok(&["append", "source", &format!("event {wanted}")]);
        }
    }
}

/// A bad line stops it after what came before; with the line mended it goes on.
#[test]
fn import_goes_on_after_a_bad_line() {
    let home = Home::new();
    home.write("in.ndjson", format!("{}oops\n{}", ndjson(0..5), ndjson(5..9)));
    let import = ["import", "s", "in.ndjson", "--create", "non-phi"];
    let bad = home.run(&import);
    assert!(bad.code == 2 && bad.err.contains("goes on from there"), "{bad:?}");
    assert_eq!(events(&home, "s"), expected(0..5));
    home.write("in.ndjson", ndjson(0..9));
    home.ok(&import);
    assert_eq!(events(&home, "s"), expected(0..9));
}

/// Standard input is imported too, as far as it goes.
#[test]
fn import_from_a_pipe() {
    let home = Home::new();
    let args = ["import", "s", "-", "--create", "deidentified"];
    assert_eq!(home.run_with(&args, ndjson(0..7).as_bytes()).code, 0);
    assert_eq!(events(&home, "s"), expected(0..7));
}

/// An export that was cut anywhere is finished to the same bytes; one that is whole stays; what
/// was appended since is added.
#[test]
fn export_after_any_cut() {
    let home = Home::new();
    home.run_with(&["append", "s", "--create", "non-phi"], lines(0..12).as_bytes());
    home.run_with(&["append", "s", "-f", "binary"], b"\xff\xfe\n\n");
    for format in ["ndjson", "raw"] {
        let export = |name: &str, resume: &[&str]| {
            home.ok(&[&["export", "s", "--format", format, "-o", name], resume].concat())
        };
        export("whole", &[]);
        let whole = home.file("whole");
        let tail = whole.len() - 90;
        for cut in [0, 1, 15, 16, 17, 60, 100, tail, tail + 40, whole.len() - 1, whole.len()] {
            home.write("cut", &whole[..cut]);
            export("cut", &["--resume"]);
            assert_eq!(home.file("cut"), whole, "{format}, cut at {cut}");
            std::fs::remove_file(home.path("cut")).expect("it is there");
        }
        home.ok(&["append", "s", "more"]);
        export("whole", &["--resume"]);
        export("anew", &["--resume"]);
        assert_eq!(home.file("whole"), home.file("anew"));
        for name in ["whole", "anew"] {
            std::fs::remove_file(home.path(name)).expect("it is there");
        }
    }
}

/// What is no export stays as it is, whole lines or not.
#[test]
fn export_leaves_other_files_alone() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "a", "b"]);
    home.ok(&["export", "s", "-o", "whole"]);
    let noted = [&home.file("whole")[..], b"a note"].concat();
    for other in [&b"an only copy"[..], b"{\"my\":\"settings\"}", &noted] {
        home.write("file", other);
        let ran = home.run(&["export", "s", "-o", "file", "--resume"]);
        assert!(ran.code == 2 && ran.err.contains("not one of an export"), "{ran:?}");
        assert_eq!(home.file("file"), other);
    }
    assert_eq!(home.ok(&["export", "s", "-o", "-"]).as_bytes(), home.file("whole"));
}

/// A file that begins later than the range would never be complete.
#[test]
fn export_refuses_a_later_beginning() {
    let home = Home::new();
    home.run_with(&["append", "s", "--create", "non-phi"], lines(0..9).as_bytes());
    home.ok(&["export", "s", "-o", "part", "--from", "3"]);
    let ran = home.run(&["export", "s", "-o", "part", "--resume"]);
    assert!(ran.code == 6 && ran.err.contains("begins with the event of offset 3"), "{ran:?}");
    home.ok(&["export", "s", "-o", "part", "--resume", "--from", "3"]);
}

/// A file of another stream, or of another range, is not gone on with.
#[test]
fn export_refuses_what_does_not_fit() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "a", "b"]);
    home.ok(&["append", "t", "--create", "non-phi", "a", "c", "d"]);
    for format in ["ndjson", "raw"] {
        let file = format!("s.{format}");
        home.ok(&["export", "s", "--format", format, "-o", &file]);
        let before = home.file(&file);
        let other = home.run(&["export", "t", "--format", format, "-o", &file, "--resume"]);
        assert!(other.code == 6 && other.err.contains("not this stream's"), "{other:?}");
        let range = ["export", "s", "--format", format, "-o", &file, "--resume", "--to", "1"];
        assert_eq!(home.run(&range).code, 6);
        assert_eq!(home.file(&file), before);
    }
}

/// What was exported from one stream and imported into another is the same, byte for byte.
#[test]
fn there_and_back() {
    let home = Home::new();
    let all: Vec<u8> = (0..=255).collect();
    home.run_with(&["append", "s", "--create", "non-phi", "-f", "binary"], &all);
    home.run_with(&["append", "s", "-f", "binary"], b"");
    home.run_with(&["append", "s"], "grüße \u{2028} \u{1f44b}\n\u{9b}\x7f\n".as_bytes());
    for format in ["ndjson", "raw"] {
        let stream = format!("back_{format}");
        home.ok(&["export", "s", "--format", format, "-o", format]);
        home.ok(&["import", &stream, format, "--format", format, "--create", "non-phi"]);
        let bytes = |stream: &str| {
            let sql = format!("SELECT id, hex(data) FROM {stream} ORDER BY id");
            home.ok(&["query", &sql, "-f", "csv"])
        };
        assert_eq!(bytes(&stream), bytes("s"), "{format}");
    }
}
