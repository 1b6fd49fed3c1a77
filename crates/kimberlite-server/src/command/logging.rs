//! Where the log lines go.

use kimberlite_server::{LogConfig, LogFormat};
use kimberlite_wire::Error;
use tracing_subscriber::EnvFilter;

/// Sends log lines to standard error. INVALID_ARGUMENT where the level is none.
pub(crate) fn start(config: &LogConfig) -> Result<(), Error> {
    let level = &config.level;
    let filter = EnvFilter::try_new(level).map_err(|e| {
        Error::invalid(format!(
            "log.level {level:?}: {e}; use error, warn, info, debug, trace or a filter"
        ))
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|e| Error::invalid(format!("the log cannot be started: {e}")))
}
