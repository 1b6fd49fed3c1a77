//! The configuration as TOML.

use std::io::Read;
use std::path::Path;

use kimberlite_wire::Error;
use serde::Deserialize;
use toml::de::{DeTable, Deserializer};

use super::ServerConfig;
use super::bounds::BOUNDS;
use super::entry::{self, Entry};
use super::problems::Problems;
use crate::listen;

/// The configuration file with every option, its meaning and its default, all commented out.
pub const TEMPLATE: &str = include_str!("template.toml");
/// A larger file is none of ours.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// Mistakes that are looked for in one file.
const MAX_PROBLEMS: usize = 50;

/// What a configuration is looked at for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// To start a server: its addresses are resolved and its certificates read.
    Start,
    /// To reload tokens and certificates, which does not look at addresses.
    Reload,
    /// To see whether it is valid; no other file is looked at.
    Check,
}

impl ServerConfig {
    /// Reads TOML. INVALID_ARGUMENT names the line and the key of each mistake; an unknown key is
    /// one.
    pub fn from_toml(text: &str) -> Result<ServerConfig, Error> {
        let mut problems = Problems::default();
        let config = ServerConfig::read(text, &mut problems);
        problems.into_result()?;
        // It is only missing where there was a problem.
        Ok(config.unwrap_or_default())
    }

    /// Reads a TOML file. INVALID_ARGUMENT names the file, and the line and the key of each
    /// mistake.
    pub fn from_file(path: &Path) -> Result<ServerConfig, Error> {
        ServerConfig::from_toml(&read_file(path)?).map_err(|e| in_file(Some(path), e))
    }

    /// The configuration of a file, or the defaults, with what `finish` adds and overrides.
    /// INVALID_ARGUMENT tells everything that is wrong with the file, with what `finish` found and
    /// with the outcome, all at once.
    pub fn assemble(
        file: Option<&Path>,
        purpose: Purpose,
        finish: impl FnOnce(&mut ServerConfig) -> Vec<Error>,
    ) -> Result<ServerConfig, Error> {
        let mut problems = Problems::default();
        let read = match file {
            Some(path) => ServerConfig::read(&read_file(path)?, &mut problems),
            None => Some(ServerConfig::default()),
        };
        // Where the file is no TOML, nothing else is known.
        if let Some(mut config) = read {
            for error in finish(&mut config) {
                problems.about_tokens = true;
                problems.add(error.detail);
            }
            config.find_problems(&mut problems);
            if purpose == Purpose::Start {
                listen::resolve(&config, &mut problems);
                listen::resolve_admin(&config, &mut problems);
            }
            if let (Some(tls), true) = (&config.tls, purpose != Purpose::Check) {
                problems.note(crate::tls::load(tls));
            }
            problems.into_result().map_err(|e| in_file(file, e))?;
            return Ok(config);
        }
        problems.into_result().map_err(|e| in_file(file, e))?;
        Ok(ServerConfig::default())
    }

    /// Reads what can be read. An entry that cannot is noted and left out, so that the others are
    /// looked at all the same. Nothing where the text is no TOML at all.
    fn read(text: &str, problems: &mut Problems) -> Option<ServerConfig> {
        let mut left_out = Vec::new();
        for _ in 0..MAX_PROBLEMS {
            let mut table = match DeTable::parse(text) {
                Ok(table) => table,
                Err(error) => {
                    problems.add(describe(text, &error, None));
                    return None;
                }
            };
            for (place, _) in &left_out {
                entry::leave_out(table.get_mut(), place);
            }
            let entries = table.clone();
            let error = match ServerConfig::deserialize(Deserializer::from(table)) {
                Ok(config) => return Some(config),
                Err(error) => error,
            };
            let found = error.span().and_then(|span| entry::find(entries.get_ref(), &span, ""));
            let problem = describe(text, &error, found.as_ref());
            problems.add(problem.clone());
            // Without its place it cannot be left out.
            let entry = found?;
            problems.about_tokens |= entry.option.split('.').next() == Some("token");
            let left = (entry.place, problem);
            if left_out.contains(&left) {
                return None;
            }
            left_out.push(left);
        }
        None
    }
}

fn read_file(path: &Path) -> Result<String, Error> {
    let wrong =
        |why: String| Error::invalid(format!("the configuration file {}: {why}", path.display()));
    // A device has no end, and a file's length is not always told.
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(|e| wrong(e.to_string()))?;
    file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).map_err(|e| wrong(e.to_string()))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(wrong(format!("it is larger than {MAX_FILE_BYTES} bytes")));
    }
    Ok(text)
}

fn in_file(file: Option<&Path>, error: Error) -> Error {
    match file {
        Some(path) => Error::invalid(format!("{}: {}", path.display(), error.detail)),
        None => error,
    }
}

/// What is wrong, with the line's number and the key, but never a text from the file: that may be a
/// token in the wrong place.
fn describe(text: &str, error: &toml::de::Error, entry: Option<&Entry>) -> String {
    let bound = entry.and_then(|e| BOUNDS.iter().find(|bound| bound.option == e.option));
    let message = match bound {
        Some(bound) => {
            let value = entry.and_then(|e| e.value.as_deref());
            bound.problem(value.unwrap_or("no number"))
        }
        None => without_strings(error.message()),
    };
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

    /// A file without an end is refused, not read until memory is full.
    #[cfg(target_os = "linux")]
    #[test]
    fn files_are_bounded() {
        let refused = read_file(Path::new("/dev/zero")).unwrap_err();
        assert!(refused.detail.contains("larger than 1048576 bytes"), "{refused}");
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
            (
                "[limits]\nmax_connections = -1",
                "is -1; it must be a whole number from 1 to 1000000",
            ),
            ("[limits]\nidle_timeout_ms = 1.5", "idle_timeout_ms is 1.5; it must be a whole"),
            ("io_threads = \"hush\"", "io_threads is no number; it must be"),
            ("query = { rows = 99999999999999999999 }", "query.rows is 99999999999999999999;"),
            ("[limits]\nmax_connection = 1", "unknown field `max_connection`"),
            ("[[token]]\nname = \"a\"\nrole = \"boss\"\ntenants = [1]", "reader, writer or admin"),
            ("[[token]]\nname = \"a\"\nrole = \"hush\"\ntenants = [1]", "reader, writer or admin"),
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

    /// Every mistake is told at once: of several lines, of a token beside a good one, and beside
    /// them what is out of bounds.
    #[test]
    fn every_mistake_is_told_at_once() {
        let hash = format!("hash = \"sha256:{}:{}\"", "00".repeat(16), "00".repeat(32));
        let good = format!("[[token]]\nname = \"a\"\nrole = \"admin\"\ntenants = \"*\"\n{hash}\n");
        let bad = "[[token]]\nname = \"b\"\nrole = \"boss\"\ntenants = [1]\n";
        let worse = "[[token]]\nrole = \"boss\"\nname = \"\"\nhash = 7\nright = 1\n[[token]]\n";
        let text = format!(
            "io_threads = -1\nmemory = 3\ntenants = [0]\nlisten = [\"[::1]:9\", \"[::1]:9\"]\n\
             [limits]\nmax_conections = 3\nidle_timeout_ms = 1\n{good}{bad}{hash}\n{worse}"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let finish = |_: &mut ServerConfig| vec![Error::invalid("a flag is wrong")];
        let assembled = ServerConfig::assemble(Some(file.path()), Purpose::Check, finish);
        let detail = assembled.unwrap_err().detail;
        for words in [
            "there are 18 problems:",
            "line 1, key io_threads: io_threads is -1; it must be a whole number from 0 to 64",
            "line 2, key memory",
            "line 6",
            "max_conections",
            "line 15, key role: the role is unknown; use reader, writer or admin",
            "line 18: tenants must be a list",
            "line 19, key role: the role is unknown; use reader, writer or admin",
            "line 21, key hash: invalid type: integer `7`",
            "line 22, key right: unknown field `right`",
            "line 23: missing field `name`",
            "line 23: missing field `role`",
            "line 23: tenants must be a list",
            "line 23: missing field `hash`",
            "a token's name is \"\"",
            "tenants holds 0",
            "listen names \"[::1]:9\" more than once",
            "limits.idle_timeout_ms is 1; it must be a whole number from 100 to 86400000",
            "a flag is wrong",
        ] {
            assert!(detail.contains(words), "{words:?} is not in {detail}");
        }
        assert!(!detail.contains("no token"), "{detail}");
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
            ("io_threads = 65", "io_threads is 65; it must be a whole number from 0 to 64"),
            (
                "[limits]\nmax_connections = 0",
                "max_connections is 0; it must be a whole number from 1",
            ),
            ("[limits]\ninflight_requests = 5000", "from 1 to 4096"),
            ("[limits]\nconnection_queue_bytes = 1", "it must be a whole number from 17825792"),
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
