//! Tokens, roles, tenants, guessing, and reloads.

use std::time::Duration;

use kimberlite_wire::{ErrorCode, Role, limit};

use super::common::{Raw, assert_error};
use super::{Stub, TOKEN, small};
use crate::{ServerConfig, Tenants, TokenConfig};

fn token(name: &str, role: Role, tenants: Tenants, token: &str) -> TokenConfig {
    TokenConfig::new(name, role, tenants, token).unwrap()
}

/// Welcome tells the principal, its role on the tenant, and the server's bounds.
#[test]
fn welcome_tells_who_one_is() {
    let (server, _) = Stub::server(|config| {
        config.tokens = vec![
            token("alice", Role::Writer, Tenants::Some(vec![1, 2]), "a"),
            token("bob", Role::Reader, Tenants::All, "b"),
        ];
    });
    let cases = [("a", 1, "alice", Role::Writer), ("a", 2, "alice", Role::Writer)];
    for (text, tenant, name, role) in cases.into_iter().chain([("b", 1, "bob", Role::Reader)]) {
        let mut raw = Raw::connect(server.local_addr());
        let welcome = raw.hello(tenant, text).unwrap();
        assert_eq!((welcome.principal.as_str(), welcome.role), (name, role.number()));
        assert_eq!(welcome.protocol_version, 1);
        assert_eq!(u64::from(welcome.max_request_bytes), limit::REQUEST_FRAME_BYTES);
        assert_eq!(u64::from(welcome.initial_credit_bytes), limit::INITIAL_CREDIT_BYTES);
        assert_eq!(welcome.log_id, server.engine().log_id());
    }
}

/// No token, a wrong one and one that is too long are told apart; the connection ends.
#[test]
fn wrong_tokens_are_refused() {
    let (server, stub) = Stub::server(|_| {});
    let long = "x".repeat(limit::TOKEN_BYTES as usize + 1);
    let cases = [
        ("", ErrorCode::AuthFailed, "no token"),
        ("Secret", ErrorCode::AuthFailed, "none of those"),
        (long.as_str(), ErrorCode::LimitExceeded, "length"),
    ];
    for (text, code, words) in cases {
        let mut raw = Raw::connect(server.local_addr());
        let result = raw.hello(1, text);
        assert!(text.is_empty() || !format!("{result:?}").contains(text), "{result:?}");
        assert_error(result, code, words);
        assert!(raw.receive().is_none());
    }
    assert_eq!(stub.started(), 0);
}

/// A tenant that the token does not name is denied.
#[test]
fn other_tenants_are_denied() {
    let (server, _) = Stub::server(|config| {
        config.tokens = vec![token("alice", Role::Writer, Tenants::Some(vec![2]), "a")];
    });
    let result = Raw::connect(server.local_addr()).hello(1, "a");
    assert_error(result, ErrorCode::PermissionDenied, "tenant 1");
}

/// After too many wrong tokens an address has to wait, with the right token too: otherwise the
/// answers would still tell which is right. Then it may go on.
#[test]
fn guessing_is_slowed() {
    let (server, _) = Stub::server(|config| {
        config.limits.auth_failures_burst = 3;
        config.limits.auth_failures_per_minute = 60;
    });
    for _ in 0..3 {
        let result = Raw::connect(server.local_addr()).hello(1, "guess");
        assert_error(result, ErrorCode::AuthFailed, "none of those");
    }
    let error = Raw::connect(server.local_addr()).hello(1, TOKEN).unwrap_err();
    assert_eq!(error.code, ErrorCode::Overloaded);
    assert!((1..=1_000).contains(&error.retry_after_ms), "{error:?}");
    std::thread::sleep(Duration::from_millis(u64::from(error.retry_after_ms) + 20));
    Raw::open(server.local_addr(), 1, TOKEN);
}

/// A reload lets new tokens in, closes the connections of those that were taken back or changed,
/// and leaves the others alone. A bad one changes nothing.
#[test]
fn reload_heeds_changed_tokens() {
    let keep = token("keep", Role::Reader, Tenants::Some(vec![1]), "k");
    let change = token("change", Role::Writer, Tenants::Some(vec![1]), "c");
    let start = ServerConfig {
        tokens: vec![keep.clone(), change.clone(), token("gone", Role::Admin, Tenants::All, "g")],
        ..ServerConfig::development(TOKEN)
    };
    let (server, _) = Stub::server(|config| *config = start.clone());
    let mut open = ["k", "c", "g"].map(|text| Raw::open(server.local_addr(), 1, text));
    let bad = ServerConfig { tokens: Vec::new(), ..start.clone() };
    assert_error(server.reload(&bad), ErrorCode::InvalidArgument, "no token");
    open.iter_mut().for_each(|raw| assert!(raw.call(&small(1)).is_ok()));

    let less = TokenConfig { role: Role::Reader, ..change };
    let new = token("new", Role::Reader, Tenants::Some(vec![1]), "n");
    server.reload(&ServerConfig { tokens: vec![keep, less, new], ..start }).unwrap();
    let [kept, changed, gone] = &mut open;
    for raw in [changed, gone] {
        assert_error(Err::<(), _>(raw.last_error()), ErrorCode::AuthFailed, "taken back");
    }
    kept.call(&small(1)).unwrap();
    Raw::open(server.local_addr(), 1, "n");
    Raw::open(server.local_addr(), 1, "c");
    assert!(Raw::connect(server.local_addr()).hello(1, "g").is_err());
}
