//! Events in files: what `export` writes and `import` reads.

pub(crate) mod progress_file;
pub(crate) mod raw;
pub(crate) mod reader;

use clap::ValueEnum;
use kimberlite::limit;

/// The longest line of NDJSON that an event can make: JSON writes a byte as six at most.
pub(crate) const MAX_LINE_BYTES: u64 = 6 * limit::EVENT_BYTES + 1_024;

/// How events lie in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// One JSON object a line, as `read --format ndjson` writes it
    Ndjson,
    /// Binary records with checksums and an end mark, as docs/guides/cli.md lays them out
    Raw,
}
