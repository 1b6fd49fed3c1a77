//! The configuration as TOML.

use std::path::Path;

use kimberlite_wire::Error;

use super::ServerConfig;

/// The configuration file with every option, its meaning and its default, all commented out.
pub const TEMPLATE: &str = include_str!("template.toml");

impl ServerConfig {
    /// Reads TOML. INVALID_ARGUMENT names the line and the key; an unknown key is an error.
    pub fn from_toml(text: &str) -> Result<ServerConfig, Error> {
        toml::from_str(text).map_err(|e| Error::invalid(describe(text, &e)))
    }

    /// Reads a TOML file. INVALID_ARGUMENT names the file, the line and the key.
    pub fn from_file(path: &Path) -> Result<ServerConfig, Error> {
        let name = path.display();
        let text = std::fs::read_to_string(path)
            .map_err(|e| Error::invalid(format!("the configuration file {name}: {e}")))?;
        ServerConfig::from_toml(&text).map_err(|e| Error::invalid(format!("{name}: {}", e.detail)))
    }
}

/// The parser's message with the line's number and key, but never a text from the file: that may
/// be a token in the wrong place.
fn describe(text: &str, error: &toml::de::Error) -> String {
    let message = without_strings(error.message());
    let Some(line) = error.span().and_then(|span| {
        let before = text.get(..span.start)?;
        Some(before.matches('\n').count())
    }) else {
        return message;
    };
    let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key);
    match key.map(str::trim).filter(|key| is_key(key)) {
        Some(key) => format!("line {}, key {key}: {message}", line + 1),
        None => format!("line {}: {message}", line + 1),
    }
}

fn is_key(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-.".contains(&b))
}

/// Drops what serde quotes of a value of the wrong type.
fn without_strings(message: &str) -> String {
    const MARK: &str = "string \"";
    let message = message.trim_end();
    let Some(start) = message.find(MARK) else { return message.to_string() };
    let end = message.rfind('"').filter(|end| *end >= start + MARK.len()).unwrap_or(message.len());
    let rest = message.get(end + 1..).unwrap_or("");
    format!("{}a string{rest}", &message[..start])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::token::Tenants;
    use kimberlite_wire::Role;

    /// Uncomments the template's options, leaving out the example sections.
    fn uncommented() -> String {
        let mut skip = false;
        let mut text = String::new();
        for line in TEMPLATE.lines() {
            let bare = line.strip_prefix("# ").unwrap_or("");
            if bare.starts_with('[') {
                skip = bare == "[tls]" || bare == "[[token]]";
            }
            let option =
                bare.starts_with('[') || bare.split_once(" = ").is_some_and(|(key, _)| is_key(key));
            if option && !skip {
                text.push_str(bare);
                text.push('\n');
            }
        }
        text
    }

    /// The template names every option with its true default.
    #[test]
    fn template_states_the_defaults() {
        let text = uncommented();
        assert_eq!(ServerConfig::from_toml(&text).unwrap(), ServerConfig::default(), "{text}");
        let defaults = toml::to_string(&ServerConfig::default()).unwrap();
        for line in defaults.lines().filter(|line| !line.is_empty()) {
            let key = line.split(" = ").next().unwrap();
            assert!(key == "token" || text.contains(key), "the template lacks {key}");
        }
        assert_eq!(ServerConfig::from_toml(TEMPLATE).unwrap(), ServerConfig::default());
    }

    /// The example sections of the template can be used as they stand.
    #[test]
    fn template_examples_parse() {
        let start = TEMPLATE.find("# [tls]").unwrap();
        let text: String = TEMPLATE[start..]
            .lines()
            .filter_map(|line| line.strip_prefix("# "))
            .filter(|l| l.starts_with('[') || l.split_once(" = ").is_some_and(|(k, _)| is_key(k)))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = ServerConfig::from_toml(&text).unwrap();
        assert!(config.tls.unwrap().client_ca_file.is_some());
        assert_eq!(config.tokens[0].role, Role::Writer);
        assert_eq!(config.tokens[0].tenants, Tenants::Some(vec![1, 2]));
    }

    /// Mistakes are named by line and key, and texts of the file are not repeated.
    #[test]
    fn names_mistakes() {
        let cases = [
            ("listen = 5", "line 1, key listen"),
            ("\nmax_conections = 5", "max_conections"),
            ("[limits]\nmax_connections = -1", "line 2, key max_connections"),
            ("[limits]\nmax_connection = 1", "unknown field `max_connection`"),
            ("[[token]]\nname = \"a\"\nrole = \"boss\"\ntenants = [1]", "reader, writer or admin"),
            ("token = \"hush\"", "line 1, key token"),
            ("[[token]]\nname = \"a\"\ntoken = \"hush\"", "unknown field `token`"),
            ("[[token]]\nname = \"a\"\nrole = \"admin\"\ntenants = [1]\nhash = \"hush\"", "sha256"),
            ("[[token]]\nname = \"a\"\nrole = \"admin\"\ntenants = 7", "list of numbers"),
            ("[log]\nformat = \"xml\"", "unknown variant"),
            ("[tls]\nkey_file = \"k\"", "missing field `certificate_file`"),
        ];
        for (text, wanted) in cases {
            let detail = ServerConfig::from_toml(text).unwrap_err().detail;
            assert!(detail.contains(wanted), "{text:?} gave {detail:?}, not {wanted:?}");
            assert!(!detail.contains("hush"), "{detail}");
        }
    }

    /// Values out of bounds are refused with the bound in the message.
    #[test]
    fn checks_bounds() {
        let token = "[[token]]\nname = \"a\"\nrole = \"admin\"\ntenants = \"*\"\nhash = "
            .to_string()
            + &format!("\"sha256:{}:{}\"\n", "00".repeat(16), "00".repeat(32));
        ServerConfig::from_toml(&token).unwrap().check().unwrap();
        let cases = [
            ("listen = []", "from 1 to 64"),
            ("tenants = [0]", "from 1"),
            ("allow_plaintext = true", "no [tls]"),
            ("io_threads = 65", "io_threads is 65; it must be from 0 to 64"),
            ("[limits]\nmax_connections = 0", "max_connections is 0; it must be from 1"),
            ("[limits]\ninflight_requests = 5000", "from 1 to 4096"),
            ("[limits]\nconnection_queue_bytes = 1", "it must be from 17825792"),
            ("[storage]\nsegment_bytes = 5", "segment_bytes is 5"),
            ("[query]\nthreads = 0", "query.threads is 0"),
            ("[audit]\nwindow_ms = 9999999", "audit.window_ms is 9999999"),
        ];
        for (text, wanted) in cases {
            let config = ServerConfig::from_toml(&format!("{text}\n{token}")).unwrap();
            let detail = config.check().unwrap_err().detail;
            assert!(detail.contains(wanted), "{text:?} gave {detail:?}, not {wanted:?}");
        }
        let detail = ServerConfig::default().check().unwrap_err().detail;
        assert!(detail.contains("no token"), "{detail}");
    }
}
