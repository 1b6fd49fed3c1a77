//! Bad values of every option: exit code 2, and a message that names the option and its bound.

use crate::common::Home;

/// A row for each option that can be wrong before anything is done.
#[test]
fn bad_values_are_named() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x", "y", "z"]);
    home.write("empty", "");
    home.write("text", "not json\n");
    home.write("both", "{\"data\":\"a\",\"data_base64\":\"YQ==\"}\n");
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &["Usage"]),
        (&["nonsense"], &["nonsense"]),
        (&["read"], &["<STREAM>"]),
        (&["read", "s", "--tenant", "0"], &["--tenant", "0 is not in 1.."]),
        (&["read", "s", "--timeout-ms", "0"], &["--timeout-ms", "1..=86400000"]),
        (&["read", "s", "-a", "ho st"], &["address", "ho st"]),
        (&["read", "s", "-a", "localhost", "-a", "embedded:db"], &["only address"]),
        (&["read", "s", "-a", "localhost:0"], &["1 to 65535"]),
        (&["read", "s", "--token-file", "empty"], &["--token-file", "empty"]),
        (&["read", "s", "--token", "a", "--token-file", "b"], &["--token", "--token-file"]),
        (&["read", "s", "-a", "localhost:1", "--tls-ca", "x.pem"], &["tls_ca_file", "tls://"]),
        (&["read", "s", "--tls-cert", "x"], &["--tls-key"]),
        (&["read", "s", "--tls-key", "x"], &["--tls-cert"]),
        (&["read", "s", "--from", "-1"], &["-1"]),
        (&["read", "s", "--from", "2", "--to", "1"], &["--to is 1", "--from, 2"]),
        (&["read", "s", "--format", "xml"], &["--format", "text, json, ndjson, lines, raw"]),
        (&["append", "s", "--batch", "0", "e"], &["--batch", "1..=65536"]),
        (&["append", "s", "--batch", "65537", "e"], &["--batch", "1..=65536"]),
        (&["append", "s", "--expected-offset", "x", "e"], &["--expected-offset"]),
        (&["append", "s", "--create", "secret", "e"], &["--create", "phi, non-phi, deidentified"]),
        (&["append", "s", "e", "--file", "text"], &["--file"]),
        (&["append", "s", "--file", "."], &["folder"]),
        (&["append", "s", "-f", "ndjson", "-F", "text"], &["text, line 1", "JSON"]),
        (&["append", "_s", "--create", "phi", "e"], &["INVALID_ARGUMENT"]),
        (&["tail", "s", "-n", "many"], &["--lines", "many"]),
        (&["tail", "-f", "s", "--format", "json"], &["--format ndjson"]),
        (&["query", ""], &["no statement"]),
        (&["query", "SELEC 1"], &["QUERY_SYNTAX", "SELEC 1\n  ^"]),
        (&["query", "SELECT 1", "--at-position", "x"], &["--at-position"]),
        (&["query", "SELECT 1", "--at-time", "noon"], &["--at-time", "Unix seconds"]),
        (&["query", "SELECT 1", "--at-time", "1", "--at-position", "1"], &["--at-position"]),
        (&["query", "SELECT ?", "-p", "int:x"], &["--param", "64 bits"]),
        (&["query", "SELECT 1; SELECT 2", "-f", "arrow"], &["one statement"]),
        (&["streams", "create", "t"], &["--class"]),
        (&["streams", "create", "t", "--class", "x"], &["--class", "phi, non-phi"]),
        (&["import", "s", "text"], &["text, at byte 0", "data_base64"]),
        (&["import", "s", "both", "--progress", "p"], &["both data and data_base64"]),
        (&["import", "s", "text", "--format", "raw"], &["not in the raw format", "ndjson"]),
        (&["import", "s", "-", "--progress", "p"], &["--progress"]),
        (&["import", "s", "text", "--batch", "0"], &["--batch", "1..=65536"]),
        (&["export", "s", "--resume"], &["--output"]),
        (&["export", "s", "--resume", "-o", "text"], &["text", "not one of an export"]),
        (&["bench", "--seconds", "0"], &["--seconds", "1..=3600"]),
        (&["bench", "--in-flight", "1025"], &["--in-flight", "1..=1024"]),
        (&["bench", "--rate", "0"], &["--rate", "1..=1000000"]),
        (&["bench", "--batch", "65536", "--event-bytes", "8388608"], &["--batch", "16777216"]),
        (&["bench", "--event-bytes", "8388609"], &["--event-bytes", "0..=8388608"]),
        (&["dev", "--tenant", "0"], &["--tenant", "1.."]),
        (&["dev", "--listen", "nowhere"], &["listen"]),
        (&["completions", "dos"], &["bash"]),
    ];
    for (args, words) in rows {
        let ran = home.run(args);
        assert_eq!(ran.code, 2, "{args:?}: {ran:?}");
        for word in *words {
            assert!(ran.err.contains(word), "{args:?}: {word:?} is not in {}", ran.err);
        }
    }
    // Nothing of that was done, but for what came before a bad line.
    assert_eq!(home.ok(&["read", "s", "--format", "lines"]), "x\ny\nz\n");
}

/// Wrong variables are named too, and options win over them.
#[test]
fn variables() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "x", "--tenant", "2"]);
    let run = |args: &[&str], tenant: &str| {
        let output = home.command(args).env("KIMBERLITE_TENANT", tenant).output();
        crate::common::ran(output.expect("runs"))
    };
    let bad = run(&["read", "s"], "none");
    assert!(bad.code == 2 && bad.err.contains("KIMBERLITE_TENANT is \"none\""), "{bad:?}");
    assert_eq!(run(&["read", "s"], "2").code, 0);
    assert_eq!(run(&["read", "s", "--tenant", "2"], "1").code, 0);
}

/// What is written as a number is one for the statement, also with zeros at its end; what may be a
/// key or a name stays text.
#[test]
fn numbers_are_numbers() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "longer than half a byte"]);
    let sql = "SELECT typeof(?), typeof(?), typeof(?), typeof(?), typeof(?)";
    let params = ["1.50", "1.0", "-0.50", "-7", "007"].map(|value| ["--param", value]).concat();
    let types = home.ok(&[&["query", sql, "--format", "csv"][..], &params].concat());
    assert!(types.trim_end().ends_with("real,real,real,integer,text"), "{types}");
    let none = "SELECT count(*) AS n FROM s WHERE length(data) < ?";
    let none = home.ok(&["query", none, "--param", "0.50", "--format", "csv"]);
    assert_eq!(none.lines().last(), Some("0"));
}

/// An event beyond the limit is refused with its place and the bound, however it comes.
#[test]
fn too_large() {
    let home = Home::new();
    home.ok(&["streams", "create", "s", "--class", "non-phi"]);
    let large = vec![b'x'; (8 << 20) + 1];
    let line = home.run_with(&["append", "s"], &large);
    assert!(
        line.code == 2 && line.err.contains("line 1") && line.err.contains("8388608"),
        "{line:?}"
    );
    let whole = home.run_with(&["append", "s", "-f", "binary"], &large);
    assert!(whole.code == 2 && whole.err.contains("8388608"), "{whole:?}");
    assert_eq!(home.run_with(&["append", "s"], &large[1..]).code, 0);
}

/// Numbers below zero are events where events stand, and named as wrong where offsets do; a moment
/// to come is told as that; a database without streams says so.
#[test]
fn what_new_users_try() {
    let home = Home::new();
    home.ok(&["append", "s", "--create", "non-phi", "-5", "-7.5"]);
    assert_eq!(home.ok(&["read", "s", "--format", "lines"]), "-5\n-7.5\n");
    let below = home.run(&["read", "s", "--from", "-1"]);
    assert!(below.code == 2 && below.err.contains("'-1' for '--from <OFFSET>'"), "{below:?}");
    let late = home.run(&["query", "SELECT 1", "--at-time", "2500-01-01"]);
    assert!(late.code == 2 && late.err.contains("still to come"), "{late:?}");
    let server = crate::common::server();
    let none = Home::of(&server).run(&["verify"]);
    assert_eq!((none.code, none.err.as_str()), (0, "there are no streams\n"));
}
