//! Where the shell keeps what was typed.

use std::path::PathBuf;

use super::Lines;
use crate::output::note;

/// Names the file; empty for none.
const HISTORY_VARIABLE: &str = "KIMBERLITE_HISTORY";

/// What was typed, in a file that only its owner reads; statements may hold what others must not
/// see.
pub(super) struct History {
    path: Option<PathBuf>,
}

/// Reads what earlier shells left. Without a file the shell still has its own lines.
pub(super) fn open(lines: &mut Lines) -> History {
    let Some(path) = path() else { return History { path: None } };
    let made = path.parent().map_or(Ok(()), std::fs::create_dir_all);
    if let Err(e) = made {
        note(&format!("no history is kept: {}: {e}", path.display()));
        return History { path: None };
    }
    // It is not there before the first line.
    let _ = lines.load_history(&path);
    History { path: Some(path) }
}

impl History {
    /// Adds a line, at once: the shell may be ended by a signal.
    pub(super) fn add(&self, lines: &mut Lines, line: &str) {
        let added = lines.add_history_entry(line.trim_end());
        if let (Ok(true), Some(path)) = (added, &self.path) {
            // Losing the history must not stop the work.
            let _ = lines.append_history(path);
        }
    }
}

fn path() -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(HISTORY_VARIABLE) {
        return (!path.is_empty()).then(|| PathBuf::from(path));
    }
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".local/state")))?;
    Some(state.join("kimberlite/history"))
}
