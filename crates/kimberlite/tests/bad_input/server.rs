//! kimberlite-server: its configuration, its tokens, and the server itself.

use std::path::Path;
use std::time::Duration;

use kimberlite_server::{
    Purpose, Server, ServerConfig, Tenants, TokenConfig, TokenHash, parse_role,
};
use kimberlite_wire::{Error, ErrorCode, Role};

use crate::table::Table;

/// Every function of kimberlite-server refuses what it cannot take.
#[test]
fn server() {
    let mut table = Table::new("kimberlite-server");
    configuration(&mut table);
    tokens(&mut table);
    servers(&mut table);
    table.finish(&[
        ("ServerConfig::development", "takes every text; Server::start judges it"),
        ("Tenants::contains", "compares every number"),
        ("TokenHash::matches", "compares every text"),
    ]);
}

fn configuration(t: &mut Table) {
    let invalid = ErrorCode::InvalidArgument;
    let from_toml = "ServerConfig::from_toml";
    for (input, words, text) in [
        ("no TOML", &["="][..], "listen"),
        ("an unknown name", &["nonsense"], "nonsense = 1"),
        ("another type", &["io_threads"], "io_threads = \"many\""),
        ("a negative number", &["io_threads", "-1"], "io_threads = -1"),
    ] {
        t.refused(from_toml, input, invalid, words, || ServerConfig::from_toml(text));
    }
    let assemble = "ServerConfig::assemble";
    t.refused(assemble, "no file", invalid, &["/nowhere.toml"], || {
        ServerConfig::assemble(Some(Path::new("/nowhere.toml")), Purpose::Check, |_| Vec::new())
    });
    let words = ["io_threads is 65", "0 to 64", "query.timeout_ms is 0", "a flag"];
    t.refused(assemble, "several mistakes", invalid, &words, || {
        ServerConfig::assemble(None, Purpose::Check, |config| {
            config.io_threads = 65;
            config.query.timeout_ms = 0;
            vec![Error::invalid("a flag is wrong")]
        })
    });
    t.refused("ServerConfig::from_file", "no file", invalid, &["/nowhere.toml"], || {
        ServerConfig::from_file(Path::new("/nowhere.toml"))
    });
}

fn tokens(t: &mut Table) {
    let (invalid, limit) = (ErrorCode::InvalidArgument, ErrorCode::LimitExceeded);
    let long = "x".repeat(4097);
    t.refused("TokenHash::of", "nothing", invalid, &["token", "empty"], || TokenHash::of(""));
    t.refused("TokenHash::of", "4097 bytes", limit, &["token", "4097", "4096"], || {
        TokenHash::of(&long)
    });
    for text in ["", "sha256", "sha256:zz:zz", "md5:00:00", "sha256:é:é"] {
        t.refused("TokenHash::parse", text, invalid, &["hash", "64 hex digits"], || {
            TokenHash::parse(text)
        });
    }
    for text in ["", "x", "-1", "1,,2", "18446744073709551616"] {
        t.refused("Tenants::parse", text, invalid, &["tenant"], || Tenants::parse(text));
    }
    t.refused("parse_role", "another word", invalid, &["boss", "reader", "admin"], || {
        parse_role("boss")
    });
    let new = |name: &str, role, tenants, token: &str| {
        TokenConfig::new(name, role, tenants, token)?.check()
    };
    let some = || Tenants::Some(vec![1]);
    let row = "TokenConfig::new";
    t.refused(row, "no name", invalid, &["name", "255"], || new("", Role::Reader, some(), "s"));
    t.refused(row, "no role", invalid, &["role", "reader"], || new("a", Role::None, some(), "s"));
    t.refused(row, "no tenant", invalid, &["tenant"], || {
        new("a", Role::Reader, Tenants::Some(vec![]), "s")
    });
    t.refused(row, "no token", invalid, &["token"], || new("a", Role::Reader, some(), ""));
}

fn servers(t: &mut Table) {
    let invalid = ErrorCode::InvalidArgument;
    let mut start = |input: &str, words: &[&str], change: &dyn Fn(&mut ServerConfig)| {
        t.refused("Server::start", input, invalid, words, || {
            let mut config = ServerConfig::development("secret");
            change(&mut config);
            Server::start(config).map(drop)
        });
    };
    start("no address", &["listen", "0", "1"], &|c| c.listen.clear());
    start("no place", &["listen", "nowhere"], &|c| c.listen = vec!["nowhere".into()]);
    start("tenant 0", &["tenants holds 0"], &|c| c.tenants = vec![0]);
    start("many threads", &["io_threads is 65", "0 to 64"], &|c| c.io_threads = 65);
    start("no time", &["query.timeout_ms is 0", "1 to"], &|c| c.query.timeout_ms = 0);
    start("tiny segments", &["storage.segment_bytes is 1"], &|c| c.storage.segment_bytes = 1);
    start("no token", &["token"], &|c| c.tokens.clear());
    t.refused("ServerConfig::check", "no connection", invalid, &["max_connections is 0"], || {
        let mut config = ServerConfig::development("secret");
        config.limits.max_connections = 0;
        config.check()
    });
    t.refused("Server::start", "an empty token", invalid, &["token"], || {
        Server::start(ServerConfig::development("")).map(drop)
    });
    let running = Server::start(ServerConfig::development("secret")).expect("starts");
    t.refused("Server::reload", "no token", invalid, &["token"], || {
        let mut config = ServerConfig::development("secret");
        config.tokens.clear();
        running.reload(&config)
    });
    t.holds("Server::shutdown", "the longest time", || running.shutdown(Duration::MAX).is_ok());
}
