//! kimberlite-client: both faces, through both doors.

use std::time::Duration;

use kimberlite::core::{
    At, CallOptions, Client, Config, ExpectedOffset, StreamId, VerifiedHead, block_on, blocking,
    genesis_of, verify_blocks,
};
use kimberlite_server::{Server, ServerConfig, Tenants, TokenConfig};
use kimberlite_wire::constant::ANY_OFFSET;
use kimberlite_wire::{AppendKey, DataClass, ErrorCode, EventBatch, Role, Value, limit};

use crate::table::Table;

const NONE: CallOptions = CallOptions { timeout_ms: None, min_position: 0, stale: false };
const NO_TIME: CallOptions = CallOptions::timeout_ms(0);
const FOR_EVER: CallOptions = CallOptions::timeout_ms(u64::MAX);
/// A stream that does not exist.
const NOWHERE: StreamId = StreamId(77);

/// A server whose token `secret` is admin of every tenant, for as long as it is held.
pub fn server() -> (Server, Config) {
    let server = Server::start(ServerConfig::development("secret")).expect("starts");
    let config = Config::new([server.local_addr().to_string()]).token("secret");
    (server, config)
}

/// Every function of kimberlite-client refuses what it cannot take, at each door.
#[test]
fn client() {
    let mut table = Table::new("kimberlite-client");
    let (server, remote) = server();
    for config in [Config::new(["memory:"]), remote] {
        let client = block_on(Client::connect(config.clone())).expect("connects");
        let faces = Faces { client: &client, blocking: &client.clone().into() };
        let stream = faces.blocking.create_stream("events", DataClass::NonPhi, &NONE);
        let stream = stream.expect("a stream");
        streams_and_tenants(&mut table, &faces);
        appends(&mut table, &faces, stream);
        reads(&mut table, &faces, stream);
        queries(&mut table, &faces);
        results(&mut table, &client);
        walks(&mut table, &faces, stream);
        ends(&mut table, config);
    }
    a_reader(&mut table, &server);
    configurations(&mut table);
    proofs(&mut table);
    server.shutdown(Duration::from_secs(5)).expect("stops");
    table.finish(&[
        ("CallOptions::timeout_ms", "takes every number; the call judges it"),
        ("ExpectedOffset::from_number", "takes every number"),
        ("StreamId", "names a stream; the call judges it"),
        ("block_on", "runs every future"),
        ("Config::options", "takes every option; connect judges them, as the other rows show"),
    ]);
}

/// The two faces of one client.
struct Faces<'a> {
    client: &'a Client,
    blocking: &'a blocking::Client,
}

/// One row for each face.
macro_rules! refused {
    ($table:ident, $faces:ident, $method:ident $args:tt, $input:expr, $code:ident, $words:expr) => {
        $table.refused(
            concat!("Client::", stringify!($method)),
            $input,
            ErrorCode::$code,
            &$words,
            || block_on($faces.client.$method $args),
        );
        $table.refused(
            concat!("blocking::Client::", stringify!($method)),
            $input,
            ErrorCode::$code,
            &$words,
            || $faces.blocking.$method $args,
        );
    };
}

fn streams_and_tenants(t: &mut Table, f: &Faces<'_>) {
    let class = DataClass::NonPhi;
    let long = "x".repeat(256);
    refused!(t, f, create_stream("", class, &NONE), "no name", InvalidArgument, ["name", "255"]);
    refused!(
        t,
        f,
        create_stream(&long, class, &NONE),
        "a long name",
        LimitExceeded,
        ["name", "256", "255"]
    );
    refused!(
        t,
        f,
        create_stream("a\nb", class, &NONE),
        "a control character",
        InvalidArgument,
        ["name", "control"]
    );
    refused!(
        t,
        f,
        create_stream("_x", class, &NONE),
        "a reserved name",
        InvalidArgument,
        ["name", "\"_\"", "reserved"]
    );
    refused!(
        t,
        f,
        create_stream("events", DataClass::Phi, &NONE),
        "another class",
        StreamExists,
        ["events", "NonPHI"]
    );
    refused!(
        t,
        f,
        create_stream("x", class, &NO_TIME),
        "no time",
        InvalidArgument,
        ["timeout_ms is 0", "1 to 86400000"]
    );
    refused!(
        t,
        f,
        stream_info(StreamId(0), &NONE),
        "stream 0",
        InvalidArgument,
        ["stream_id is 0"]
    );
    refused!(t, f, stream_info(NOWHERE, &NONE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, stream_by_name("nope", &NONE), "another name", StreamNotFound, ["nope"]);
    refused!(t, f, stream_by_name("", &NONE), "no name", InvalidArgument, ["name"]);
    refused!(
        t,
        f,
        list_streams(&FOR_EVER),
        "too much time",
        InvalidArgument,
        ["timeout_ms is 18446744073709551615", "86400000"]
    );
    refused!(t, f, create_tenant(0, &NONE), "tenant 0", InvalidArgument, ["tenant_id is 0"]);
    refused!(t, f, delete_tenant(0, &NONE), "tenant 0", InvalidArgument, ["tenant_id is 0"]);
    refused!(t, f, delete_tenant(9, &NONE), "another tenant", TenantNotFound, ["9"]);
    refused!(t, f, list_tenants(&NO_TIME), "no time", InvalidArgument, ["timeout_ms is 0"]);
}

fn batch() -> EventBatch {
    EventBatch::from_events(["x"]).expect("fits")
}

fn appends(t: &mut Table, f: &Faces<'_>, stream: StreamId) {
    let any = ExpectedOffset::Any;
    let last = ExpectedOffset::Exact(ANY_OFFSET);
    refused!(t, f, append(NOWHERE, any, batch(), &NONE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, append(StreamId(0), any, batch(), &NONE), "stream 0", StreamNotFound, ["0"]);
    refused!(
        t,
        f,
        append(stream, ExpectedOffset::Exact(5), batch(), &NONE),
        "another offset",
        OffsetMismatch,
        ["expected_offset", "5", "0"]
    );
    refused!(
        t,
        f,
        append(stream, last, batch(), &NONE),
        "the number of any",
        InvalidArgument,
        ["expected_offset is 18446744073709551615"]
    );
    refused!(
        t,
        f,
        append(stream, any, batch(), &NO_TIME),
        "no time",
        InvalidArgument,
        ["timeout_ms is 0"]
    );
    let key = |producer_id, sequence| AppendKey { producer_id, sequence };
    refused!(
        t,
        f,
        append_with_key(key(0, 1), stream, any, batch(), &NONE),
        "producer 0",
        InvalidArgument,
        ["key.producer_id is 0"]
    );
    refused!(
        t,
        f,
        append_with_key(key(1, 0), stream, any, batch(), &NONE),
        "sequence 0",
        InvalidArgument,
        ["key.sequence is 0"]
    );
    refused!(
        t,
        f,
        append_with_key(key(u64::MAX, u64::MAX), stream, any, batch(), &NONE),
        "another producer",
        ProducerExpired,
        ["18446744073709551615"]
    );
    let stop = kimberlite::core::Stop::default();
    let until = "Client::append_until";
    let invalid = ErrorCode::InvalidArgument;
    t.refused(until, "producer 0", invalid, &["key.producer_id is 0"], || {
        let key = Some(key(0, 1));
        block_on(f.client.append_until(&stop, key, stream, any, batch(), &NONE))
    });
    t.refused(until, "the number of any", invalid, &["expected_offset"], || {
        block_on(f.client.append_until(&stop, None, stream, last, batch(), &NONE))
    });
    refused!(t, f, open_producer(&NO_TIME), "no time", InvalidArgument, ["timeout_ms is 0"]);
}

fn reads(t: &mut Table, f: &Faces<'_>, stream: StreamId) {
    let future = CallOptions { min_position: u64::MAX, timeout_ms: Some(30), stale: false };
    refused!(
        t,
        f,
        read(stream, 0, 0, 0, &NONE),
        "no events",
        InvalidArgument,
        ["max_events is 0", "at least 1"]
    );
    refused!(
        t,
        f,
        read(stream, 1, 1, 0, &NONE),
        "an offset beyond the end",
        OffsetOutOfRange,
        ["from_offset", "1", "0"]
    );
    refused!(
        t,
        f,
        read(stream, u64::MAX, u64::MAX, u64::MAX, &NONE),
        "the last offset",
        OffsetOutOfRange,
        ["18446744073709551615", "0"]
    );
    refused!(t, f, read(NOWHERE, 0, 1, 0, &NONE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, read(stream, 0, 1, 0, &future), "a future position", Timeout, []);
    refused!(
        t,
        f,
        read_blocks(stream, 0, 0, 0, &NONE),
        "no events",
        InvalidArgument,
        ["max_events is 0"]
    );
    refused!(
        t,
        f,
        read_blocks(stream, 1, 1, 0, &NONE),
        "an offset beyond the end",
        OffsetOutOfRange,
        ["from_offset", "1", "0"]
    );
    refused!(
        t,
        f,
        subscribe(stream, 1, &NONE),
        "an offset beyond the end",
        OffsetOutOfRange,
        ["from_offset", "1", "0"]
    );
    refused!(t, f, subscribe(NOWHERE, 0, &NONE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, subscribe(stream, 0, &NO_TIME), "no time", InvalidArgument, ["timeout_ms is 0"]);
    refused!(t, f, verify(NOWHERE, &NONE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, verify_locally(NOWHERE, &NONE), "another stream", StreamNotFound, ["77"]);
    let invalid = ErrorCode::InvalidArgument;
    t.refused("Client::pages", "no events", invalid, &["page_events is 0", "at least 1"], || {
        block_on(f.client.pages(stream, 0, 0).next())
    });
    t.refused("blocking::Client::pages", "no events", invalid, &["page_events is 0"], || {
        f.blocking.pages(stream, 0, 0).next().unwrap_or(Ok(no_page()))
    });
    t.refused("Pages::with_options", "no time", invalid, &["timeout_ms is 0"], || {
        block_on(f.client.pages(stream, 0, 1).with_options(NO_TIME).next())
    });
    t.refused("blocking::Pages::with_options", "no time", invalid, &["timeout_ms is 0"], || {
        f.blocking.pages(stream, 0, 1).with_options(NO_TIME).next().unwrap_or(Ok(no_page()))
    });
}

/// Any page, where none is wanted.
fn no_page() -> kimberlite::core::Page {
    let client = blocking::Client::connect(Config::new(["memory:"])).expect("connects");
    let stream = client.create_stream("s", DataClass::NonPhi, &NONE).expect("a stream");
    client.read(stream, 0, 1, 0, &NONE).expect("a page")
}

fn queries(t: &mut Table, f: &Faces<'_>) {
    let long = " ".repeat(limit::SQL_BYTES as usize + 1);
    let many = vec![Value::Null; limit::QUERY_PARAMS as usize + 1];
    macro_rules! both {
        (
            $sql:expr, $params:expr, $at:expr, $options:expr,
            $input:expr, $code:ident, $words:expr
        ) => {
            refused!(t, f, query($sql, $params, $at, $options), $input, $code, $words);
            refused!(t, f, query_cursor($sql, $params, $at, $options), $input, $code, $words);
        };
    }
    both!("", &[], At::Now, &NONE, "no statement", QuerySyntax, ["statement is empty"]);
    both!("SELEC 1", &[], At::Now, &NONE, "no SQL", QuerySyntax, ["SELEC"]);
    both!("SELECT 1; SELECT 2", &[], At::Now, &NONE, "two statements", QuerySyntax, ["one"]);
    both!("SELECT * FROM nope", &[], At::Now, &NONE, "another table", QuerySyntax, ["nope"]);
    both!("DELETE FROM events", &[], At::Now, &NONE, "a change", QueryExecution, ["read"]);
    both!("SELECT 1\0", &[], At::Now, &NONE, "a NUL", QuerySyntax, ["NUL"]);
    both!(
        &long,
        &[],
        At::Now,
        &NONE,
        "a long statement",
        LimitExceeded,
        ["sql", "1048577", "1048576"]
    );
    both!(
        "SELECT ?",
        &[],
        At::Now,
        &NONE,
        "a missing parameter",
        InvalidArgument,
        ["params", "1", "0"]
    );
    both!(
        "SELECT 1",
        &[Value::Null],
        At::Now,
        &NONE,
        "a parameter too many",
        InvalidArgument,
        ["params", "0", "1"]
    );
    both!(
        "SELECT 1",
        &many,
        At::Now,
        &NONE,
        "too many parameters",
        LimitExceeded,
        ["params", "32767", "32766"]
    );
    both!(
        "SELECT 1",
        &[],
        At::TimestampNs(u64::MAX),
        &NONE,
        "a future time",
        InvalidArgument,
        ["at", "18446744073709551615"]
    );
    both!(
        "SELECT 1",
        &[],
        At::Position(u64::MAX),
        &NONE,
        "a future position",
        InvalidArgument,
        ["at", "18446744073709551615"]
    );
    both!("SELECT 1", &[], At::Now, &NO_TIME, "no time", InvalidArgument, ["timeout_ms is 0"]);
}

/// Rows and cells that are not there, and cells of other types.
fn results(t: &mut Table, client: &Client) {
    let invalid = ErrorCode::InvalidArgument;
    let sql = "SELECT 'x' AS name, 1.5 AS half, x'00' AS data";
    let result = block_on(client.query(sql, &[], At::Now, &NONE)).expect("a result");
    let row = result.row(0).expect("a row");
    t.holds("QueryResult::row", "an index behind the last", || {
        result.row(1).is_none() && result.row(usize::MAX).is_none()
    });
    t.holds("QueryResult::column_index", "another name", || result.column_index("nope").is_none());
    t.refused(
        "QueryResult::value",
        "a row behind the last",
        invalid,
        &["row is 1", "1 rows"],
        || result.value(1, 0).map(drop),
    );
    let words = ["column is 3", "3 columns"];
    t.refused("QueryResult::value", "a column behind the last", invalid, &words, || {
        result.value(0, 3).map(drop)
    });
    t.refused("Row::value", "a column behind the last", invalid, &words, || row.value(3));
    t.refused("Row::is_null", "a column behind the last", invalid, &words, || row.is_null(3));
    t.refused("Row::value_by_name", "another name", invalid, &["nope"], || {
        row.value_by_name("nope")
    });
    t.refused("Row::get", "another name", invalid, &["nope"], || row.get::<i64>("nope"));
    t.refused("Row::get", "another type", invalid, &["name", "String"], || row.get::<i64>("name"));
    t.refused("Row::i64", "text", invalid, &["column 0", "name", "String", "integer"], || {
        row.i64(0)
    });
    t.refused("Row::f64", "bytes", invalid, &["column 2", "data", "Bytes", "number"], || {
        row.f64(2)
    });
    t.refused("Row::str", "a number", invalid, &["column 1", "half", "text"], || row.str(1));
    t.refused("Row::bytes", "a number", invalid, &["column 1", "half", "bytes"], || row.bytes(1));
    t.refused("Row::bool", "text", invalid, &["column 0", "name", "truth"], || row.bool(0));
    for column in [3, usize::MAX] {
        t.refused("Row::i64", "a column behind the last", invalid, &["column is"], || {
            row.i64(column)
        });
    }
    t.refused("QueryResult::rows_as", "another width", invalid, &["3 columns", "2"], || {
        result.rows_as::<(String, f64)>()
    });
    t.holds("RowCursor::column_index", "another name", || {
        let cursor = block_on(client.query_cursor(sql, &[], At::Now, &NONE)).expect("a cursor");
        cursor.column_index("nope").is_none()
    });
}

/// Pages and subscriptions that are there: what is asked of them beyond their end, or for ever.
fn walks(t: &mut Table, f: &Faces<'_>, stream: StreamId) {
    f.blocking.append(stream, ExpectedOffset::Any, batch(), &NONE).expect("appended");
    let page = f.blocking.read(stream, 0, 10, 0, &NONE).expect("a page");
    t.holds("Page::event", "an index behind the last", || {
        page.event(0) == Some(b"x") && page.event(1).is_none() && page.event(usize::MAX).is_none()
    });
    t.holds("Subscription::next", "the longest time", || {
        let subscription = block_on(f.client.subscribe(stream, 0, &NONE)).expect("subscribed");
        block_on(subscription.next(Some(Duration::MAX))).is_ok_and(|page| page.is_some())
    });
    t.holds("blocking::Subscription::next", "the longest time, and none", || {
        let subscription = f.blocking.subscribe(stream, 0, &NONE).expect("subscribed");
        let first = subscription.next(Some(Duration::MAX));
        let then = subscription.next(Some(Duration::ZERO));
        first.is_ok_and(|page| page.is_some()) && then.is_ok_and(|page| page.is_none())
    });
}

/// Closing with the shortest and the longest time, again, and calls after it.
fn ends(t: &mut Table, config: Config) {
    let client = block_on(Client::connect(config)).expect("connects");
    let face: blocking::Client = client.clone().into();
    t.holds("Client::close", "no time", || {
        block_on(client.close(0)).is_ok_and(|()| true) || block_on(client.close(5_000)).is_ok()
    });
    t.holds("blocking::Client::close", "the longest time", || face.close(u64::MAX).is_ok());
    t.refused("Client::list_streams", "a closed client", ErrorCode::Closed, &["closed"], || {
        face.list_streams(&NONE)
    });
}

/// A reader who appends is told of the append, not only of the producer that is opened for it.
fn a_reader(t: &mut Table, server: &Server) {
    let mut config = ServerConfig::development("secret");
    let tenants = Tenants::Some(vec![1]);
    let reader = TokenConfig::new("ann", Role::Reader, tenants, "look").expect("a token");
    config.tokens.push(reader);
    server.reload(&config).expect("reloaded");
    let config = Config::new([server.local_addr().to_string()]).token("look");
    let client = block_on(Client::connect(config)).expect("connects");
    let words = ["append", "needs the role Writer", "tenant 1", "\"ann\" has Reader"];
    let denied = ErrorCode::PermissionDenied;
    t.refused("Client::append", "a reader's client", denied, &words, || {
        block_on(client.append(StreamId(1), ExpectedOffset::Any, batch(), &NONE))
    });
}

/// What a configuration holds is judged by connect.
fn configurations(t: &mut Table) {
    let (invalid, limit) = (ErrorCode::InvalidArgument, ErrorCode::LimitExceeded);
    let memory = || Config::new(["memory:"]);
    let tls = || Config::new(["tls://127.0.0.1:1"]);
    let mut connect = |row: &str, input: &str, code, words: &[&str], config: Config| {
        for name in [row, "Client::connect", "blocking::Client::connect"] {
            let input = format!("{row} with {input}");
            t.refused(name, &input, code, words, || match name {
                "blocking::Client::connect" => blocking::Client::connect(config.clone()).map(drop),
                _ => block_on(Client::connect(config.clone())).map(drop),
            });
        }
    };
    let none: [&str; 0] = [];
    connect("Config::new", "no address", invalid, &["addresses"], Config::new(none));
    connect("Config::new", "65", limit, &["addresses", "65", "64"], Config::new(vec!["a"; 65]));
    for odd in ["", ":1", "a:0", "a:65536", "a:b", "http://a", "embedded:", "tls://"] {
        connect("Config::new", odd, invalid, &[&format!("{odd:?}")], Config::new([odd]));
    }
    connect("Config::new", "a mixture", invalid, &["memory:"], Config::new(["memory:", "a:1"]));
    connect("Config::tenant", "0", invalid, &["tenant_id is 0"], memory().tenant(0));
    let long = "x".repeat(4097);
    connect(
        "Config::token",
        "4097 bytes",
        limit,
        &["auth_token", "4097", "4096"],
        memory().token(long),
    );
    connect(
        "Config::timeout_ms",
        "0",
        invalid,
        &["timeout_ms is 0", "1 to"],
        memory().timeout_ms(0),
    );
    let config = memory().connect_timeout_ms(86_400_001);
    let words = ["connect_timeout_ms is 86400001", "86400000"];
    connect("Config::connect_timeout_ms", "too much", invalid, &words, config);
    let config = tls().tls_ca_file("/nowhere.pem");
    connect("Config::tls_ca_file", "no file", invalid, &["tls_ca_file", "/nowhere.pem"], config);
    let config = tls().tls_client_cert("/nowhere.pem", "");
    let words = ["tls_client_cert_file", "tls_client_key_file"];
    connect("Config::tls_client_cert", "no key", invalid, &words, config);
    let config = tls().tls_server_name("a b");
    connect("Config::tls_server_name", "no name", invalid, &["tls_server_name", "a b"], config);
    let config = Config::new(["127.0.0.1:1"]).tls_server_name("a");
    connect("Config::tls_server_name", "no TLS", invalid, &["tls_server_name", "tls://"], config);
}

fn proofs(t: &mut Table) {
    let class = kimberlite_wire::StreamInfo { data_class: 9, ..Default::default() };
    let words = ["data_class", "9"];
    t.refused("genesis_of", "an unknown class", ErrorCode::InvalidDataClass, &words, || {
        genesis_of(1, &class)
    });
    let proven = VerifiedHead { head: [0; 32], next_offset: 4 };
    let corruption = ErrorCode::Corruption;
    t.refused("verify_blocks", "other bytes", corruption, &["offset 4", "magic"], || {
        verify_blocks(proven, b"garbage")
    });
    t.refused("verify_blocks", "a cut block", corruption, &["offset 4", "cut short"], || {
        verify_blocks(proven, b"KMBK")
    });
}
