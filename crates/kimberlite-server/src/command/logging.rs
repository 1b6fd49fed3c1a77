//! Where the log lines go.

use kimberlite_server::{LogConfig, LogFormat};
use kimberlite_wire::Error;
use tracing_subscriber::EnvFilter;

/// INVALID_ARGUMENT where the level is none.
pub(crate) fn check(config: &LogConfig) -> Result<(), Error> {
    filter(config).map(|_| ())
}

fn filter(config: &LogConfig) -> Result<EnvFilter, Error> {
    let level = &config.level;
    EnvFilter::try_new(level).map_err(|e| {
        Error::invalid(format!(
            "log.level {level:?}: {e}; use error, warn, info, debug, trace or a filter"
        ))
    })
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
