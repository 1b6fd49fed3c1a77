//! What the addresses of a configuration mean.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use kimberlite_wire::{DEFAULT_PORT, Error, limit};

/// Where a client's database is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Members of one database, in the configuration's order.
    Servers(Vec<ServerAddress>),
    /// A database in this process.
    Embedded(EmbeddedAddress),
}

/// A database in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EmbeddedAddress {
    /// In a folder.
    Folder(PathBuf),
    /// In memory, shared by everyone in the process who knows the name.
    SharedMemory(String),
    /// In memory, one client's own.
    PrivateMemory,
}

/// A server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServerAddress {
    pub(crate) tls: bool,
    /// A name or a number; without the brackets of an IPv6 address.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl std::fmt::Display for ServerAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "tls://" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}{open}{}{close}:{}", self.host, self.port)
    }
}

/// Understands a configuration's addresses. INVALID_ARGUMENT names the one that cannot be meant.
pub(crate) fn parse(addresses: &[String]) -> Result<Target, Error> {
    if addresses.is_empty() {
        return Err(Error::invalid("addresses is empty; name at least one"));
    }
    if addresses.len() as u64 > limit::ADDRESSES {
        let (actual, bound) = (addresses.len() as u64, limit::ADDRESSES);
        return Err(Error::limit("the number of addresses", actual, bound));
    }
    let mut servers = Vec::new();
    for address in addresses {
        match parse_embedded(address)? {
            None => servers.push(parse_server(address)?),
            Some(embedded) if addresses.len() == 1 => return Ok(Target::Embedded(embedded)),
            Some(_) => {
                return Err(bad(address, "is in this process; it must be the only address"));
            }
        }
    }
    Ok(Target::Servers(servers))
}

fn parse_embedded(address: &str) -> Result<Option<EmbeddedAddress>, Error> {
    if let Some(folder) = address.strip_prefix("embedded:") {
        if folder.is_empty() || folder.contains('\0') {
            return Err(bad(address, "names no folder; write embedded:<folder>"));
        }
        return Ok(Some(EmbeddedAddress::Folder(PathBuf::from(folder))));
    }
    Ok(address.strip_prefix("memory:").map(|name| match name {
        "" => EmbeddedAddress::PrivateMemory,
        name => EmbeddedAddress::SharedMemory(name.to_string()),
    }))
}

/// Understands `host`, `host:port`, `[v6]:port` and the same behind `tls://`.
pub(crate) fn parse_server(address: &str) -> Result<ServerAddress, Error> {
    let (tls, rest) = match address.strip_prefix("tls://") {
        Some(rest) => (true, rest),
        None => (false, address),
    };
    if rest.contains("://") {
        return Err(bad(address, "has an unknown scheme; only tls:// is known"));
    }
    let (host, port) = split_port(address, rest)?;
    let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '/' | '@' | '?' | '#' | '[' | ']');
    if host.is_empty() || !host.chars().all(plain) {
        return Err(bad(address, "has no valid host"));
    }
    Ok(ServerAddress { tls, host: host.to_string(), port })
}

fn split_port<'a>(address: &str, rest: &'a str) -> Result<(&'a str, u16), Error> {
    if let Some(inner) = rest.strip_prefix('[') {
        let (host, after) =
            inner.split_once(']').ok_or_else(|| bad(address, "has a [ without its ]"))?;
        // A zone, as in fe80::1%eth0, is the resolver's business.
        let number = host.split('%').next().unwrap_or(host);
        if number.parse::<Ipv6Addr>().is_err() {
            return Err(bad(address, "has no IPv6 address between [ and ]"));
        }
        return match after.strip_prefix(':') {
            None if after.is_empty() => Ok((host, DEFAULT_PORT)),
            None => Err(bad(address, "goes on behind the ]; only :port may stand there")),
            Some(port) => Ok((host, parse_port(address, port)?)),
        };
    }
    match rest.split_once(':') {
        None => Ok((rest, DEFAULT_PORT)),
        Some((_, port)) if port.contains(':') => {
            Err(bad(address, "has several colons; write an IPv6 address as [address]:port"))
        }
        Some((host, port)) => Ok((host, parse_port(address, port)?)),
    }
}

fn parse_port(address: &str, port: &str) -> Result<u16, Error> {
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    match port.parse::<u16>() {
        Ok(number) if digits && number > 0 => Ok(number),
        _ => Err(bad(address, "has no valid port; ports are from 1 to 65535")),
    }
}

fn bad(address: &str, why: &str) -> Error {
    Error::invalid(format!("address {address:?} {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse_one(address: &str) -> Result<Target, Error> {
        parse(&[address.to_string()])
    }

    /// Each form of a server's address gives its parts, the default port where none is named.
    #[test]
    fn understands_servers() {
        for (address, tls, host, port) in [
            ("db.example:7000", false, "db.example", 7000),
            ("db.example", false, "db.example", DEFAULT_PORT),
            ("127.0.0.1:1", false, "127.0.0.1", 1),
            ("[::1]:5432", false, "::1", 5432),
            ("[fe80::1%eth0]", false, "fe80::1%eth0", DEFAULT_PORT),
            ("tls://db.example", true, "db.example", DEFAULT_PORT),
            ("tls://[::1]:65535", true, "::1", 65535),
        ] {
            let expected = ServerAddress { tls, host: host.to_string(), port };
            assert_eq!(parse_one(address), Ok(Target::Servers(vec![expected])), "{address}");
        }
    }

    /// Each form of an address in this process is understood.
    #[test]
    fn understands_embedded() {
        let folder = EmbeddedAddress::Folder("/data/a b".into());
        let shared = EmbeddedAddress::SharedMemory("x".to_string());
        assert_eq!(parse_one("embedded:/data/a b"), Ok(Target::Embedded(folder)));
        assert_eq!(parse_one("memory:x"), Ok(Target::Embedded(shared)));
        let private = EmbeddedAddress::PrivateMemory;
        assert_eq!(parse_one("memory:"), Ok(Target::Embedded(private)));
    }

    /// A bad address is refused by name, and so is a mixture.
    #[test]
    fn names_the_bad_address() {
        for address in [
            "",
            ":5432",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "host:5x",
            "::1",
            "[::1",
            "[::1]x",
            "[nope]:1",
            "http://host",
            "tls://",
            "tls://host/path",
            "ho st",
            "user@host",
            "embedded:",
            "höst",
        ] {
            let error = parse_one(address).err().map(|e| (e.code, e.detail.clone()));
            let Some((code, detail)) = error else { panic!("{address:?} was taken") };
            assert_eq!(code, kimberlite_wire::ErrorCode::InvalidArgument);
            assert!(detail.contains(&format!("{address:?}")), "{detail}");
        }
        let mixed = parse(&["host".to_string(), "memory:".to_string()]);
        assert!(mixed.is_err_and(|e| e.detail.contains("memory:")));
        assert!(parse(&[]).is_err());
        let many = vec!["host".to_string(); limit::ADDRESSES as usize + 1];
        assert!(parse(&many).is_err_and(|e| e.code == kimberlite_wire::ErrorCode::LimitExceeded));
    }
}
