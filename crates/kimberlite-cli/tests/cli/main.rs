//! The command as it is run: the real binary, against real servers, folders, pipes and terminals.

mod codes;
mod commands;
mod common;
mod guide;
mod options;
mod pipes;
mod resume;
#[cfg(target_os = "linux")]
mod terminal;
