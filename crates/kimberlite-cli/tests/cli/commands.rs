//! Each subcommand does what its help says, through either door.

use crate::common::{Home, exists};

/// Events from arguments, lines, NDJSON and whole files are appended, and every format of `read`
/// tells them; bytes that are not text survive.
#[test]
fn append_and_read() {
    for (home, _server) in Home::doors() {
        let done = home.ok(&["append", "s", "--create", "non-phi", "one", "two"]);
        assert!(done.starts_with("appended 2 events, offsets 0 to 1, position "), "{done}");
        assert_eq!(home.run_with(&["append", "s", "-q"], b"three\r\n\nfour").out, "");
        home.write("a.ndjson", "{\"a\": 1}\n\n[2]\n");
        home.ok(&["append", "s", "--format", "ndjson", "--file", "a.ndjson"]);
        home.write("b.bin", b"\xff\n\x1b[2J");
        home.ok(&["append", "s", "-f", "binary", "-F", "b.bin"]);
        let lines = home.ok(&["read", "s", "--format", "lines", "--to", "6"]);
        assert_eq!(lines, "one\ntwo\nthree\nfour\n{\"a\": 1}\n[2]\n");
        let text = home.ok(&["read", "s", "--from", "6"]);
        assert!(text.starts_with("6\t20") && text.ends_with("\t\\xff\\n\\x1b[2J\n"), "{text:?}");
        let raw = home.command(&["read", "s", "--from", "6", "--format", "raw"]).output();
        assert_eq!(raw.expect("runs").stdout, b"\xff\n\x1b[2J");
        let json = home.ok(&["read", "s", "--format", "json", "--from", "5"]);
        let json: serde_json::Value = serde_json::from_str(&json).expect("JSON");
        assert_eq!(
            (&json[0]["data"], &json[1]["data_base64"]),
            (&"[2]".into(), &"/wobWzJK".into())
        );
        assert_eq!(home.ok(&["read", "s", "--from", "7", "--format", "json"]), "[]\n");
        let some = home.ok(&["read", "s", "--from", "1", "-l", "2", "--format", "ndjson"]);
        assert_eq!(some.lines().count(), 2);
        assert_eq!(home.ok(&["tail", "s", "-n", "1", "--format", "lines"]).len(), 9);
    }
}

/// An append with an expected offset goes on across batches and refuses where something is there,
/// naming the offset that would do.
#[test]
fn expected_offsets() {
    for (home, _server) in Home::doors() {
        home.ok(&["streams", "create", "s", "--class", "non-phi"]);
        let args = ["append", "s", "--expected-offset", "0", "--batch", "2"];
        assert_eq!(home.run_with(&args, b"1\n2\n3\n4\n5\n").code, 0);
        let again = home.run_with(&args, b"6\n");
        assert_eq!(again.code, 6, "{again:?}");
        assert!(again.err.contains("--expected-offset 5"), "{again:?}");
        assert_eq!(home.ok(&["read", "s", "--format", "lines"]), "1\n2\n3\n4\n5\n");
    }
}

/// One statement in every format, with parameters of every type, as of a position and a time, and
/// several from standard input.
#[test]
fn query() {
    for (home, _server) in Home::doors() {
        let done = home.ok(&["append", "s", "--create", "phi", "a,\"b\"", ""]);
        let position = done.trim().rsplit(' ').next().expect("a position").to_string();
        home.ok(&["append", "s", "late\x1b[1m"]);
        let sql = "SELECT id, text, NULL AS n FROM s ORDER BY id";
        let table = home.ok(&["query", sql]);
        assert!(table.starts_with("id  text") && table.ends_with("(3 rows)\n"), "{table}");
        assert!(table.contains("late\\x1b[1m") && !table.contains('\x1b'), "{table}");
        let csv = home.ok(&["query", sql, "-f", "csv"]);
        assert!(csv.starts_with("id,text,n\r\n0,\"a,\"\"b\"\"\",\r\n1,\"\",\r\n"), "{csv:?}");
        let at = home.ok(&["query", sql, "-f", "ndjson", "--at-position", &position]);
        assert_eq!(
            at,
            "{\"id\":0,\"text\":\"a,\\\"b\\\"\",\"n\":null}\n{\"id\":1,\"text\":\"\",\"n\":null}\n"
        );
        let event = home.ok(&["read", "s", "--from", "1", "-l", "1", "--format", "ndjson"]);
        let event: serde_json::Value = serde_json::from_str(&event).expect("JSON");
        let time = event["timestamp"].as_str().expect("a time");
        assert_eq!(home.ok(&["query", sql, "-f", "ndjson", "--at-time", time]), at);
        // At that time there was no such stream.
        assert_eq!(home.run(&["query", sql, "--at-time", "2001-01-01"]).code, 2);
        let types = "SELECT typeof(?1) a, typeof(?2) b, typeof(?3) c, typeof(?4) d, ?5 e";
        let values = ["7", "-1.5", "text:7", "null", "base64:/w=="];
        let mut args = vec!["query", types, "-f", "ndjson"];
        args.extend(values.iter().flat_map(|value| ["-p", value]));
        let expected = "{\"a\":\"integer\",\"b\":\"real\",\"c\":\"text\",\"d\":\"null\",\
                        \"e\":{\"base64\":\"/w==\"}}\n";
        assert_eq!(home.ok(&args), expected);
        let script = home.run_with(&["query", "-f", "csv"], b"SELECT 1 a; -- no;\nSELECT ';' b");
        assert_eq!((script.code, script.out.as_str()), (0, "a\r\n1\r\nb\r\n;\r\n"), "{script:?}");
    }
}

/// An Arrow file holds the columns with their types, is not written over, and is refused where a
/// column has several types, with the cure.
#[test]
fn arrow_files() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x", "y"]);
    let sql = "SELECT id, data, text, id * 0.5 AS half, NULL AS n, text FROM s";
    home.ok(&["query", sql, "--format", "arrow", "-o", "a.arrow"]);
    let file = std::fs::File::open(home.path("a.arrow")).expect("the file");
    let reader = arrow_ipc::reader::FileReader::try_new(file, None).expect("an Arrow file");
    let schema = reader.schema();
    let columns: Vec<String> =
        schema.fields().iter().map(|f| format!("{} {}", f.name(), f.data_type())).collect();
    let expected =
        ["id Int64", "data Binary", "text Utf8", "half Float64", "n Null", "text_2 Utf8"];
    assert_eq!(columns, expected);
    assert_eq!(reader.map(|batch| batch.expect("a batch").num_rows()).sum::<usize>(), 2);
    let again = home.run(&["query", sql, "--format", "arrow", "-o", "a.arrow"]);
    assert_eq!(again.code, 6, "{again:?}");
    let mixed = "SELECT CASE id WHEN 0 THEN 1 ELSE 'x' END AS m FROM s";
    let mixed = home.run(&["query", mixed, "--format", "arrow"]);
    assert!(mixed.code == 2 && mixed.err.contains("CAST(m AS TEXT)"), "{mixed:?}");
}

/// A file that a statement is written into is there once it is whole: after a failure, also in the
/// middle, nothing is left, and the corrected command works.
#[test]
fn output_files_are_whole() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x", "y"]);
    let names = || {
        let entries = std::fs::read_dir(home.folder.path()).expect("there");
        entries.flatten().filter(|entry| entry.file_name() != "db").count()
    };
    let query = |sql: &str| home.run(&["query", sql, "-f", "csv", "-o", "out.csv"]);
    let late = "SELECT 1; SELECT abs(-9223372036854775807 - id) FROM s";
    for (sql, code) in [("SELEC 1", 2), ("SELECT * FROM missing", 2), (late, 1)] {
        let ran = query(sql);
        assert_eq!(ran.code, code, "{sql}: {ran:?}");
        assert_eq!(names(), 0, "{sql}");
    }
    assert_eq!(query("SELECT id FROM s").code, 0);
    assert_eq!((names(), home.file("out.csv")), (1, b"id\r\n0\r\n1\r\n".to_vec()));
    let again = query("SELECT 2");
    assert!(again.code == 6 && again.err.contains("there already"), "{again:?}");
    assert_eq!((names(), home.file("out.csv")), (1, b"id\r\n0\r\n1\r\n".to_vec()));
}

/// Streams are made, listed and described; names with escape sequences are shown by their codes.
#[test]
fn streams() {
    for (home, _server) in Home::doors() {
        home.ok(&["streams", "create", "visits", "--class", "phi"]);
        home.ok(&["streams", "create", "visits", "--class", "phi"]);
        let other = home.run(&["streams", "create", "visits", "--class", "non-phi"]);
        assert_eq!(other.code, 6, "{other:?}");
        home.ok(&["append", "visits", "12345"]);
        let list = home.ok(&["streams", "list"]);
        assert_eq!(list.lines().count(), 2, "{list}");
        assert!(list.lines().last().is_some_and(|line| line.ends_with("PHI           visits")));
        let info = home.ok(&["streams", "info", "visits", "--format", "ndjson"]);
        let info: serde_json::Value = serde_json::from_str(&info).expect("JSON");
        assert_eq!((&info["next_offset"], &info["data_bytes"]), (&1.into(), &5.into()));
        assert!(home.ok(&["streams", "info", "visits"]).contains("class     PHI\n"));
    }
}

/// The chain is verified by the database and on this side, with the same head, for all streams and
/// for named ones.
#[test]
fn verify() {
    for (home, _server) in Home::doors() {
        for name in ["a", "b"] {
            home.run_with(&["append", name, "--create", "non-phi", "--batch", "1"], b"1\n2\n3\n");
        }
        let all = home.ok(&["verify"]);
        assert_eq!(all.lines().count(), 3, "{all}");
        let audit = all.lines().find(|line| line.starts_with("ok   _audit: "));
        assert_eq!(home.ok(&["verify", "_audit"]).lines().next(), audit, "{all}");
        assert_eq!(home.ok(&["verify", "--local"]), all);
        let one = home.ok(&["verify", "b", "--local"]);
        assert!(one.starts_with("ok   b: 3 events, head ") && all.contains(&one), "{one}");
    }
}

/// A short load on either door tells rates and percentiles.
#[test]
fn bench() {
    for (home, _server) in Home::doors() {
        let load = ["bench", "--seconds", "1", "--in-flight", "4", "--batch", "3"];
        let ran = home.run(&load);
        assert_eq!(ran.code, 0, "{ran:?}");
        let out = &ran.out;
        assert!(out.contains("append  ") && out.contains("read    "), "{out}");
        assert_eq!(out.matches("p99.9").count(), 2, "{out}");
        let open = home.run(&["bench", "--seconds", "1", "--rate", "20", "--work", "append"]);
        assert!(open.out.contains("(20 started a second"), "{open:?}");
        let reads = home.run(&["bench", "--work", "read"]);
        assert!(reads.code == 0 && !reads.out.contains("append  "), "{reads:?}");
    }
}

/// Completions for every shell, the manual page, and a page for every subcommand.
#[test]
fn completions_and_pages() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(home.ok(&["completions", shell]).contains("expected-offset"), "{shell}");
    }
    assert!(home.ok(&["man"]).contains("Exit codes"));
    home.ok(&["man", "--dir", "pages"]);
    assert!(exists(home.path("pages/kimberlite.1")));
    assert!(exists(home.path("pages/kimberlite-streams-create.1")));
    for command in ["dev", "append", "read", "tail", "query", "verify", "import", "export", "bench"]
    {
        assert!(exists(home.path(&format!("pages/kimberlite-{command}.1"))), "{command}");
        assert!(home.ok(&[command, "--help"]).contains("Usage: kimberlite"), "{command}");
    }
}

/// TLS: with the authority the server is trusted; without it, and without TLS, it is not reached.
#[test]
fn tls() {
    let home = Home::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_string()]).expect("made");
    home.write("server.pem", made.cert.pem());
    home.write("server.key", made.signing_key.serialize_pem());
    let tls = kimberlite_server::TlsConfig {
        certificate_file: home.path("server.pem"),
        key_file: home.path("server.key"),
        client_ca_file: None,
    };
    let config = kimberlite_server::ServerConfig {
        tls: Some(tls),
        ..kimberlite_server::ServerConfig::development(crate::common::TOKEN)
    };
    let server = kimberlite_server::Server::start(config).expect("a server starts");
    let address = format!("tls://localhost:{}", server.local_addr().port());
    let home = Home { address, ..home };
    home.ok(&["append", "s", "x", "--create", "non-phi", "--tls-ca", "server.pem"]);
    let numbered = format!("tls://{}", server.local_addr());
    let named = ["--tls-server-name", "localhost", "--tls-ca", "server.pem"];
    home.ok(&[&["read", "s", "-a", &numbered], &named[..]].concat());
    let ran = home.run(&["read", "s", "--timeout-ms", "2000"]);
    assert!(ran.code == 5 && ran.err.contains("certificate"), "{ran:?}");
}
