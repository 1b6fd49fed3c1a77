//! What is known about the terminal, if there is one.

use std::io::IsTerminal;

/// Whether colours are wanted on a stream that is or is not a terminal.
fn colours_on(is_terminal: bool) -> bool {
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    is_terminal && !set("NO_COLOR") && std::env::var_os("TERM").is_none_or(|term| term != "dumb")
}

/// Whether standard output takes colours.
pub(crate) fn stdout_colours() -> bool {
    colours_on(std::io::stdout().is_terminal())
}

/// Whether standard error takes colours.
pub(crate) fn stderr_colours() -> bool {
    colours_on(std::io::stderr().is_terminal())
}

#[cfg(unix)]
static SAVED: std::sync::OnceLock<rustix::termios::Termios> = std::sync::OnceLock::new();

/// Remembers how the terminal is set, before the line editor changes it.
pub(crate) fn save() {
    #[cfg(unix)]
    if let Ok(attributes) = rustix::termios::tcgetattr(std::io::stdin()) {
        // Only the first state counts: it is the one that was found.
        let _ = SAVED.set(attributes);
    }
}

/// Sets the terminal as it was when it was saved. Does nothing where it was not.
pub(crate) fn restore() {
    #[cfg(unix)]
    if let Some(attributes) = SAVED.get() {
        let when = rustix::termios::OptionalActions::Now;
        // Where that fails the terminal is gone, and nobody is left to tell.
        let _ = rustix::termios::tcsetattr(std::io::stdin(), when, attributes);
    }
}
