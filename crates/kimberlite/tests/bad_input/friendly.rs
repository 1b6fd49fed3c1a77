//! kimberlite: what Rust users call, with and without `await`.

use kimberlite::core::block_on;
use kimberlite::{
    AppendKey, At, CallOptions, Client, Config, DataClass, ErrorCode, Offset, StreamId, blocking,
};

use crate::table::Table;

/// A stream that does not exist.
const NOWHERE: StreamId = StreamId(77);

/// Every function of kimberlite refuses what it cannot take.
#[test]
fn friendly() {
    let mut table = Table::new("kimberlite");
    let client = block_on(Client::connect("memory:")).expect("connects");
    let blocking = blocking::Client::from(client.clone());
    let stream = blocking.create_stream("events", DataClass::NonPhi).expect("a stream");
    let faces = Faces { client: &client, blocking: &blocking };
    calls(&mut table, &faces, stream);
    queries(&mut table, &faces);
    let (invalid, nowhere) = (ErrorCode::InvalidArgument, ["nowhere://"]);
    table.refused("Client::connect", "no address", invalid, &nowhere, || {
        block_on(Client::connect("nowhere://")).map(drop)
    });
    table.refused("blocking::Client::connect", "no address", invalid, &nowhere, || {
        blocking::Client::connect(Config::new(["nowhere://"])).map(drop)
    });
    let (no_time, words) = (CallOptions::timeout_ms(0), ["timeout_ms is 0", "86400000"]);
    table.refused("Client::with_options", "no time", invalid, &words, || {
        block_on(client.with_options(no_time).list_streams())
    });
    table.refused("blocking::Client::with_options", "no time", invalid, &words, || {
        blocking.with_options(no_time).list_streams()
    });
    table.finish(&[("Offset", "names a place; the call judges it")]);
}

/// The two faces of one client.
struct Faces<'a> {
    client: &'a Client,
    blocking: &'a blocking::Client,
}

/// One row for each face.
macro_rules! refused {
    (
        $table:ident, $faces:ident, $method:ident $(<$kind:ty>)? ($($arg:expr),*),
        $input:expr, $code:ident, $words:expr
    ) => {
        $table.refused(
            concat!("Client::", stringify!($method)),
            $input,
            ErrorCode::$code,
            &$words,
            || block_on($faces.client.$method $(::<$kind>)? ($($arg),*)),
        );
        $table.refused(
            concat!("blocking::Client::", stringify!($method)),
            $input,
            ErrorCode::$code,
            &$words,
            || $faces.blocking.$method $(::<$kind>)? ($($arg),*),
        );
    };
}

fn calls(t: &mut Table, f: &Faces<'_>, stream: StreamId) {
    let none: [&str; 0] = [];
    let last = Offset(u64::MAX);
    let key = AppendKey { producer_id: 1, sequence: 0 };
    refused!(t, f, create_stream("", DataClass::Phi), "no name", InvalidArgument, ["name", "255"]);
    refused!(t, f, append(stream, none), "no events", InvalidArgument, ["events", "at least one"]);
    refused!(t, f, append(NOWHERE, ["x"]), "another stream", StreamNotFound, ["77"]);
    refused!(
        t,
        f,
        append_at(stream, Offset(3), ["x"]),
        "another offset",
        OffsetMismatch,
        ["expected_offset", "3", "0"]
    );
    refused!(
        t,
        f,
        append_at(stream, last, ["x"]),
        "the number of any",
        InvalidArgument,
        ["expected_offset is 18446744073709551615"]
    );
    refused!(
        t,
        f,
        append_with_key(key, stream, ["x"]),
        "sequence 0",
        InvalidArgument,
        ["key.sequence is 0"]
    );
    refused!(
        t,
        f,
        read(stream, Offset(1), 1),
        "an offset beyond the end",
        OffsetOutOfRange,
        ["from_offset", "1", "0"]
    );
    refused!(t, f, read(stream, last, 0), "no events", InvalidArgument, ["max_events is 0"]);
    refused!(t, f, subscribe(stream, last), "the last offset", OffsetOutOfRange, ["from_offset"]);
    refused!(t, f, verify(NOWHERE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, verify_locally(NOWHERE), "another stream", StreamNotFound, ["77"]);
    refused!(t, f, stream_info(StreamId(0)), "stream 0", InvalidArgument, ["stream_id is 0"]);
    refused!(t, f, stream_by_name("nope"), "another name", StreamNotFound, ["nope"]);
    refused!(t, f, create_tenant(0), "tenant 0", InvalidArgument, ["tenant_id is 0"]);
    refused!(t, f, delete_tenant(9), "another tenant", TenantNotFound, ["9"]);
    let (invalid, words) = (ErrorCode::InvalidArgument, ["page_events is 0", "at least 1"]);
    t.refused("Client::pages", "no events", invalid, &words, || {
        block_on(f.client.pages(stream, Offset::START, 0).next())
    });
    t.refused("blocking::Client::pages", "no events", invalid, &words, || {
        f.blocking.pages(stream, Offset::START, 0).next().transpose()
    });
}

fn queries(t: &mut Table, f: &Faces<'_>) {
    refused!(t, f, query("SELEC 1", ()), "no SQL", QuerySyntax, ["SELEC"]);
    refused!(
        t,
        f,
        query("SELECT ?", ()),
        "a missing parameter",
        InvalidArgument,
        ["params holds 0", "takes 1"]
    );
    refused!(
        t,
        f,
        query_at("SELECT 1", (), At::Position(u64::MAX)),
        "a future position",
        InvalidArgument,
        ["at", "18446744073709551615"]
    );
    refused!(t, f, query_as<(i64, i64)>("SELECT 1", ()), "another width", InvalidArgument,
        ["1 columns", "2"]);
    refused!(t, f, query_as<(i64,)>("SELECT 'x'", ()), "another type", InvalidArgument,
        ["column 0", "String", "integer"]);
    refused!(
        t,
        f,
        query_cursor("SELECT 1", (1,)),
        "a parameter too many",
        InvalidArgument,
        ["params holds 1", "takes 0"]
    );
}
