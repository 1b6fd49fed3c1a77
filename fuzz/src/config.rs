//! The server's configuration: TOML as an operator writes it, and the flags over it.

use clap::Parser;
use kimberlite_server::{Purpose, ServerConfig, TEMPLATE, Tenants};
use kimberlite_wire::{Error, Role};

use crate::PLANTED;
use crate::input::Input;

/// The binary's own flags, which its library does not give away.
#[allow(dead_code, missing_docs)]
#[path = "../../crates/kimberlite-server/src/command/args.rs"]
mod args;

/// A text that stands for a secret; no refusal may repeat it.
pub const SECRET: &str = "kmb_5ecre7";

/// The input: TOML or flags, then the text; flags are lines.
pub fn run(input: &[u8]) {
    let mut input = Input::new(input);
    match input.below(3) {
        0 => toml(&String::from_utf8_lossy(input.rest())),
        1 => {
            let (mut text, at) = (TEMPLATE.replace("\n# ", "\n"), usize::from(input.u16()));
            let at = (0..=at % text.len()).rev().find(|at| text.is_char_boundary(*at));
            let patch = input.text();
            let at = at.unwrap_or(0);
            let end = (at + input.below(64)).min(text.len());
            let end = (end..=text.len()).find(|end| text.is_char_boundary(*end));
            text.replace_range(at..end.unwrap_or(text.len()), &patch);
            toml(&text);
        }
        _ => flags(&String::from_utf8_lossy(input.rest())),
    }
}

fn toml(text: &str) {
    let config = match ServerConfig::from_toml(text) {
        Ok(config) => config,
        Err(e) => return refused(&e, text),
    };
    let written = toml::to_string(&config).expect("a configuration can be written");
    let again = ServerConfig::from_toml(&written).expect("and what was written be read");
    assert_eq!(again, config, "a configuration changes when it is written and read:\n{written}");
    match check(&config) {
        Ok(()) => is_sound(&config),
        Err(e) => refused(&e, text),
    }
}

fn flags(text: &str) {
    let words = std::iter::once("kimberlite-server").chain(text.lines());
    // Of the file that --config names nothing is read: TOML has its own part.
    let Ok(args) = args::Args::try_parse_from(words) else { return };
    let mut config = ServerConfig::default();
    args.apply(&mut config);
    let assembled = ServerConfig::assemble(None, Purpose::Check, |config| {
        args.apply(config);
        Vec::new()
    });
    assert_eq!(assembled.is_ok(), config.check().is_ok(), "two checks, two answers");
    if check(&config).is_ok() {
        is_sound(&config);
    }
    assert!(args.listen.is_empty() || config.listen == args.listen, "--listen is lost");
    assert!(!args.memory || config.memory, "--memory is lost");
    assert!(args.tenant.is_empty() || config.tenants == args.tenant, "--tenant is lost");
    assert_eq!(config.tls.is_some(), args.tls_cert.is_some() && args.tls_key.is_some());
}

fn check(config: &ServerConfig) -> Result<(), Error> {
    if PLANTED && config.tls.is_some() && config.log.level == "trace" && config.query.threads > 64 {
        // The planted bug: with TLS and all log lines one bound is not looked at.
        return Ok(());
    }
    config.check()
}

/// The bounds that the template states, looked at once more.
fn is_sound(config: &ServerConfig) {
    let day_ms = 86_400_000;
    assert!((1..=64).contains(&config.listen.len()), "listen");
    assert!(!config.tenants.contains(&0), "tenants");
    assert!(config.io_threads <= 64 && config.shutdown_grace_ms <= day_ms);
    assert!(config.tls.is_some() || !config.allow_plaintext, "allow_plaintext");
    assert!((1..=64).contains(&config.query.threads), "query.threads");
    assert!((1..=day_ms).contains(&config.query.timeout_ms), "query.timeout_ms");
    assert!((1..=1 << 40).contains(&config.query.memory_bytes), "query.memory_bytes");
    assert!((32 << 20..=2 << 30).contains(&config.storage.segment_bytes), "segment_bytes");
    assert!(config.audit.window_ms <= 3_600_000, "audit.window_ms");
    let limits = &config.limits;
    assert!((1..=1_000_000).contains(&limits.max_connections), "max_connections");
    assert!((1..=4096).contains(&limits.inflight_requests), "inflight_requests");
    assert!((10..=600_000).contains(&limits.handshake_timeout_ms), "handshake_timeout_ms");
    assert!((100..=day_ms).contains(&limits.idle_timeout_ms), "idle_timeout_ms");
    assert!(!config.tokens.is_empty(), "tokens");
    for token in &config.tokens {
        assert!(token.role != Role::None && (1..=255).contains(&token.name.len()), "token");
        if let Tenants::Some(tenants) = &token.tenants {
            assert!(!tenants.is_empty() && !tenants.contains(&0), "token.tenants");
        }
    }
    assert!(!config.tenants_from_start().contains(&0));
}

/// A refusal says something, and repeats no text of the file: that may be a token.
fn refused(error: &Error, text: &str) {
    assert!(!error.detail.is_empty(), "a refusal without a word");
    let keeps = !secret_is_a_value(text) || !error.detail.contains(SECRET);
    assert!(keeps, "a text of the file is repeated: {error}");
}

/// Whether the secret stands in the file as a plain text value, and nowhere else.
fn secret_is_a_value(text: &str) -> bool {
    let is_value = |line: &str| {
        line.split_once('=').is_some_and(|(key, value)| {
            let value = value.trim();
            let quoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            let key_is_bare = key.trim().bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            key_is_bare
                && !key.contains(SECRET)
                && quoted.is_some_and(|text| !text.contains(['"', '\\']))
        })
    };
    let mut lines = text.lines().filter(|line| line.contains(SECRET));
    // The name of a token is told in refusals, so that it is no place for a secret.
    let named = |line: &str| line.trim_start().starts_with("name");
    !text.contains("\"\"\"")
        && !text.contains("'''")
        && lines.all(|line| is_value(line) && !named(line))
}
