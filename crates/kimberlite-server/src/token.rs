//! Tokens: how they are made, kept and compared.
//!
//! A token is 256 random bits, or what an operator chose. The server keeps `SHA-256(salt ‖ token)`:
//! a hash slow by design would protect a guessable password, which random bits do not need, and it
//! would let strangers spend the server's time.

use std::fmt;

use kimberlite_wire::{Error, ErrorCode, limit};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

const SALT_BYTES: usize = 16;
const TOKEN_RANDOM_BYTES: usize = 32;
/// What a stored hash begins with, so that another function can follow one day.
const SCHEME: &str = "sha256:";

/// A new token: 256 random bits as text.
pub fn new_token() -> Result<String, Error> {
    let mut random = [0; TOKEN_RANDOM_BYTES];
    fill_random(&mut random)?;
    Ok(format!("kmb_{}", hex(&random)))
}

fn fill_random(out: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(out).map_err(|e| {
        Error::new(ErrorCode::Internal, format!("the system gives no random bytes: {e}"))
    })
}

/// The salted hash of a token. Its text form stands in the configuration.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash {
    salt: [u8; SALT_BYTES],
    digest: [u8; 32],
}

impl TokenHash {
    /// Hashes a token with a new salt. INVALID_ARGUMENT for an empty one, LIMIT_EXCEEDED for one
    /// of more than [`limit::TOKEN_BYTES`] bytes.
    pub fn of(token: &str) -> Result<TokenHash, Error> {
        if token.is_empty() {
            return Err(Error::invalid("the token is empty; give it at least one byte"));
        }
        if token.len() as u64 > limit::TOKEN_BYTES {
            let length = token.len() as u64;
            return Err(Error::limit("the token's length in bytes", length, limit::TOKEN_BYTES));
        }
        let mut salt = [0; SALT_BYTES];
        fill_random(&mut salt)?;
        Ok(TokenHash { salt, digest: digest(&salt, token) })
    }

    /// Whether this is the hash of `token`; takes the same time wherever they differ.
    pub fn matches(&self, token: &str) -> bool {
        digest(&self.salt, token).ct_eq(&self.digest).into()
    }

    /// Reads the text form. INVALID_ARGUMENT says what it should look like.
    pub fn parse(text: &str) -> Result<TokenHash, Error> {
        let parsed = text.strip_prefix(SCHEME).and_then(|rest| {
            let (salt, digest) = rest.split_once(':')?;
            Some(TokenHash { salt: unhex(salt)?, digest: unhex(digest)? })
        });
        // The text is not repeated: somebody may have put the token itself there.
        parsed.ok_or_else(|| {
            Error::invalid(
                "a token's hash must be sha256:<32 hex digits>:<64 hex digits>; \
                 `kimberlite-server token` makes one",
            )
        })
    }
}

fn digest(salt: &[u8; SALT_BYTES], token: &str) -> [u8; 32] {
    Sha256::new().chain_update(salt).chain_update(token.as_bytes()).finalize().into()
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{SCHEME}{}:{}", hex(&self.salt), hex(&self.digest))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(..)")
    }
}

impl Serialize for TokenHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TokenHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<TokenHash, D::Error> {
        let text = String::deserialize(deserializer)?;
        TokenHash::parse(&text).map_err(|e| serde::de::Error::custom(e.detail))
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

/// The tenants on which a token grants its role.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tenants {
    /// Every tenant, those created later too. In the configuration: `"*"`.
    All,
    /// These tenants.
    Some(Vec<u64>),
}

impl Tenants {
    /// Whether this one is among them.
    pub fn contains(&self, tenant_id: u64) -> bool {
        match self {
            Tenants::All => true,
            Tenants::Some(list) => list.contains(&tenant_id),
        }
    }

    /// Reads `*` or numbers with commas between, as a command line has them.
    pub fn parse(text: &str) -> Result<Tenants, Error> {
        if text.trim() == "*" {
            return Ok(Tenants::All);
        }
        let tenant = |part: &str| match part.trim().parse::<u64>() {
            Ok(id) if id != 0 => Ok(id),
            _ => Err(Error::invalid(format!(
                "tenants: {part:?} is no tenant; give numbers from 1 with commas between, or *"
            ))),
        };
        text.split(',').map(tenant).collect::<Result<_, _>>().map(Tenants::Some)
    }
}

impl Serialize for Tenants {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Tenants::All => serializer.serialize_str("*"),
            Tenants::Some(list) => list.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Tenants {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Tenants, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Text(String),
            List(Vec<u64>),
        }
        const WANTED: &str = "tenants must be a list of numbers from 1, or \"*\" for every tenant";
        match Written::deserialize(deserializer) {
            Ok(Written::Text(text)) if text == "*" => Ok(Tenants::All),
            Ok(Written::List(list)) if !list.is_empty() && !list.contains(&0) => {
                Ok(Tenants::Some(list))
            }
            _ => Err(serde::de::Error::custom(WANTED)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A hash survives its text form, tells the token from others, and never shows it.
    #[test]
    fn hashes_and_compares() {
        let hash = TokenHash::of("secret").unwrap();
        let again = TokenHash::parse(&hash.to_string()).unwrap();
        assert!(again == hash && again.matches("secret"));
        assert!(!again.matches("secreu") && !again.matches("") && !again.matches("secret "));
        assert!(TokenHash::of("secret").unwrap() != hash, "salts differ");
        assert_eq!(format!("{hash:?}"), "TokenHash(..)");
    }

    /// New tokens differ, hold 256 bits, and fit where tokens go.
    #[test]
    fn makes_tokens() {
        let (one, two) = (new_token().unwrap(), new_token().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.len(), 4 + 64);
        assert!(TokenHash::of(&one).unwrap().matches(&one));
    }

    /// What is no hash is refused without being repeated; so are tokens out of bounds.
    #[test]
    fn refuses_what_is_no_hash() {
        for text in ["", "secret", "sha256:", "sha256:00:00", "sha512:00:00"] {
            let detail = TokenHash::parse(text).unwrap_err().detail;
            assert!(!detail.contains("secret") && detail.contains("hex digits"), "{detail}");
        }
        assert_eq!(TokenHash::of("").unwrap_err().code, ErrorCode::InvalidArgument);
        let long = "x".repeat(limit::TOKEN_BYTES as usize + 1);
        assert_eq!(TokenHash::of(&long).unwrap_err().code, ErrorCode::LimitExceeded);
    }

    /// The command line's tenants are numbers or the star.
    #[test]
    fn parses_tenants() {
        assert_eq!(Tenants::parse("*").unwrap(), Tenants::All);
        assert_eq!(Tenants::parse("1, 2").unwrap(), Tenants::Some(vec![1, 2]));
        for text in ["", "0", "1,", "one", "-1"] {
            assert!(Tenants::parse(text).is_err(), "{text}");
        }
    }
}
