//! Where the log lines go.

use kimberlite_server::{LogConfig, LogFormat};
use kimberlite_wire::Error;
use tracing_subscriber::EnvFilter;

/// INVALID_ARGUMENT where the level is none.
pub(crate) fn check(config: &LogConfig) -> Result<(), Error> {
    filter(config).map(|_| ())
}

/// The words that are levels; another word alone would be taken for the name of a part of the
/// program, whose lines alone are then shown.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

fn filter(config: &LogConfig) -> Result<EnvFilter, Error> {
    let level = &config.level;
    let refused = |why: &str| {
        Error::invalid(format!(
            "log.level {level:?}: {why}; use error, warn, info, debug, trace, or a filter such as \
             \"info,kimberlite=debug\""
        ))
    };
    let is_known = |part: &str| {
        part.contains('=') || LEVELS.iter().any(|known| part.trim().eq_ignore_ascii_case(known))
    };
    if let Some(part) = level.split(',').find(|part| !is_known(part)) {
        return Err(refused(&format!("{part:?} is no level")));
    }
    EnvFilter::try_new(level).map_err(|e| refused(&e.to_string()))
}

/// Sends log lines to standard error. INVALID_ARGUMENT where the level is none.
pub(crate) fn start(config: &LogConfig) -> Result<(), Error> {
    let filter = filter(config)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| Error::invalid(format!("the log cannot be started: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Levels and filters are taken; a word that is no level is not taken for a target's name.
    #[test]
    fn levels_are_checked() {
        let told = |level: &str| {
            let config = LogConfig { level: level.to_string(), ..LogConfig::default() };
            check(&config).map_err(|error| error.detail)
        };
        for level in ["info", "WARN", "info,kimberlite=debug", "kimberlite_server=trace"] {
            told(level).unwrap();
        }
        for level in ["loud", "", "info,loud", "info,kimberlite=verbose"] {
            let detail = told(level).unwrap_err();
            assert!(detail.contains("log.level") && detail.contains("debug"), "{detail}");
        }
    }
}
