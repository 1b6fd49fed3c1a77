//! `kimberlite-server token`.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::Path;

use kimberlite_server::{ServerConfig, Tenants, TokenConfig, new_token, parse_role};
use kimberlite_wire::{Error, limit};
use serde::Serialize;

use super::args::TokenArgs;
use super::print;

/// Makes a token, prints it once, and prints or appends its lines of the configuration.
pub(crate) fn make(args: &TokenArgs) -> Result<(), Error> {
    let role = parse_role(&args.role)?;
    let tenants = Tenants::parse(&args.tenants)?;
    let token = if args.token_stdin { read_token()? } else { new_token()? };
    let entry = TokenConfig::new(&args.name, role, tenants, &token)?;
    entry.check()?;
    let lines = lines(&entry)?;
    let mut text = String::new();
    if !args.token_stdin {
        text += &format!("The token of {}, shown this once:\n\n{token}\n\n", args.name);
    }
    match &args.config {
        Some(file) => {
            let taken = |other: &TokenConfig| {
                // The same token in several entries is one holder with several roles.
                !args.again && other.name == args.name && !other.hash.matches(&token)
            };
            append(file, &lines, taken)?;
            let file = file.display();
            text += &format!("Its hash was added to {file}; SIGHUP lets a server read it.\n");
        }
        None => text += &format!("Add to the configuration file:\n\n{lines}"),
    }
    print(&text)
}

/// Reads a token from standard input, without the end of its line.
fn read_token() -> Result<String, Error> {
    let mut text = String::new();
    // One byte more than a token and its line end may have, so that a longer one is noticed.
    let mut input = std::io::stdin().take(limit::TOKEN_BYTES + 3);
    input
        .read_to_string(&mut text)
        .map_err(|e| Error::invalid(format!("the token on standard input: {e}")))?;
    Ok(text.trim_end_matches(['\r', '\n']).to_string())
}

/// The entry as it stands in the configuration.
fn lines(entry: &TokenConfig) -> Result<String, Error> {
    #[derive(Serialize)]
    struct Section<'a> {
        token: [&'a TokenConfig; 1],
    }
    toml::to_string(&Section { token: [entry] })
        .map_err(|e| Error::invalid(format!("the token's lines: {e}")))
}

/// Appends to a configuration that was valid and will be; creates it readable by its owner only.
/// INVALID_ARGUMENT where an entry of it has taken the name.
fn append(file: &Path, lines: &str, taken: impl Fn(&TokenConfig) -> bool) -> Result<(), Error> {
    let name = file.display();
    let failed = |e: std::io::Error| Error::invalid(format!("{name}: {e}"));
    let before = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(e) => return Err(failed(e)),
    };
    let invalid = |e: Error| Error::invalid(format!("{name}: {}", e.detail));
    let config = ServerConfig::from_toml(&before).map_err(invalid)?;
    if let Some(other) = config.tokens.iter().find(|other| taken(other)) {
        return Err(Error::invalid(format!(
            "{name}: there is a token named {:?} already, and the log and _audit could not tell \
             their holders apart; choose another name, or say --again to give the same holder \
             one more token",
            other.name
        )));
    }
    let separator = match before.as_str() {
        "" => "",
        text if text.ends_with('\n') => "\n",
        _ => "\n\n",
    };
    let added = format!("{separator}{lines}");
    ServerConfig::from_toml(&format!("{before}{added}")).map_err(invalid)?;
    let mut options = OpenOptions::new();
    options.append(true).create(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut out = options.open(file).map_err(failed)?;
    out.write_all(added.as_bytes()).and_then(|()| out.sync_all()).map_err(failed)
}
