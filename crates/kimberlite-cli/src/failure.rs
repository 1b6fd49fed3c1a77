//! How a command fails: what went wrong, what to do, and the exit code.

use std::fmt;
use std::io;

use kimberlite::{Error, ErrorCode};

/// The exit codes. They are part of what the command promises: docs/guides/cli.md lists them.
pub(crate) mod exit {
    /// Everything was done.
    pub(crate) const OK: u8 = 0;
    /// It failed in a way that has no code of its own.
    pub(crate) const FAILED: u8 = 1;
    /// An argument, an option, a statement or the input cannot be meant.
    pub(crate) const USAGE: u8 = 2;
    /// There is no such stream, tenant, offset or file.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// The token is unknown or does not allow it.
    pub(crate) const REFUSED: u8 = 4;
    /// No server could be reached, or none answered in time; trying again may help.
    pub(crate) const UNAVAILABLE: u8 = 5;
    /// Something else is already there: another next offset, another data class, a file.
    pub(crate) const CONFLICT: u8 = 6;
    /// Stored data does not fit its hash chain or its checksums.
    pub(crate) const NOT_VERIFIED: u8 = 7;
    /// An append was cut short: whether it happened is not known.
    pub(crate) const UNKNOWN_OUTCOME: u8 = 8;
    /// Added to the number of the signal that ended the command.
    pub(crate) const SIGNAL: u8 = 128;
}

/// Why a command did not do what it was asked to.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something went wrong that is worth a message.
    Told {
        /// The exit code.
        code: u8,
        /// What went wrong, on one line.
        message: String,
        /// What to do about it, where there is something to say.
        cure: Option<String>,
    },
    /// Whoever read standard output has closed it: they had enough.
    OutputClosed,
    /// A signal ended the command.
    Signal(Signal),
}

/// A signal that ends the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// SIGHUP: the terminal is gone.
    Hangup,
    /// SIGINT: Ctrl-C.
    Interrupt,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    /// The number that the exit code tells.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Signal::Hangup => 1,
            Signal::Interrupt => 2,
            Signal::Terminate => 15,
        }
    }
}

/// What every command returns.
pub(crate) type Outcome<T> = Result<T, Failure>;

impl Failure {
    /// A failure with its exit code.
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure::Told { code, message: message.into(), cure: None }
    }

    /// A plain failure.
    pub(crate) fn failed(message: impl Into<String>) -> Failure {
        Failure::new(exit::FAILED, message)
    }

    /// Something that the caller gave cannot be meant.
    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(exit::USAGE, message)
    }

    /// Says what to do about it, in place of what was said before.
    pub(crate) fn cure(self, text: impl Into<String>) -> Failure {
        match self {
            Failure::Told { code, message, .. } => {
                Failure::Told { code, message, cure: Some(text.into()) }
            }
            other => other,
        }
    }

    /// Says how to go on, behind the cure. A signal has no message that it could stand behind.
    pub(crate) fn go_on(self, text: &str) -> Failure {
        match self {
            Failure::Told { code, message, cure } => {
                let cure = cure.map_or(text.to_string(), |cure| format!("{cure}\n  {text}"));
                Failure::Told { code, message, cure: Some(cure) }
            }
            Failure::Signal(_) => {
                crate::output::note(text);
                self
            }
            Failure::OutputClosed => self,
        }
    }

    /// Puts what was attempted before the message.
    pub(crate) fn during(self, what: impl fmt::Display) -> Failure {
        match self {
            Failure::Told { code, message, cure } => {
                Failure::Told { code, message: format!("{what}: {message}"), cure }
            }
            other => other,
        }
    }

    /// A file that could not be opened, read or written.
    pub(crate) fn file(path: &std::path::Path, error: &io::Error) -> Failure {
        let code = match error.kind() {
            io::ErrorKind::NotFound => exit::NOT_FOUND,
            _ => exit::FAILED,
        };
        Failure::new(code, format!("{}: {error}", path.display()))
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Failure::Told { code, .. } => *code,
            Failure::OutputClosed => exit::OK,
            Failure::Signal(signal) => exit::SIGNAL + signal.number(),
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        let code = if error.outcome_unknown.is_some() {
            exit::UNKNOWN_OUTCOME
        } else {
            code_of(error.code)
        };
        let message = if error.detail.is_empty() {
            error.code.message().trim_end_matches('.').to_string()
        } else {
            error.detail.clone()
        };
        let message = format!("{message} [{}]", error.code.name());
        Failure::Told { code, message, cure: cure_of(error.code).map(str::to_string) }
    }
}

/// The exit code of each error. Numbers that a later version adds are plain failures.
fn code_of(code: ErrorCode) -> u8 {
    match code {
        ErrorCode::StreamNotFound | ErrorCode::TenantNotFound | ErrorCode::OffsetOutOfRange => {
            exit::NOT_FOUND
        }
        ErrorCode::InvalidArgument
        | ErrorCode::InvalidDataClass
        | ErrorCode::InvalidUtf8
        | ErrorCode::LimitExceeded
        | ErrorCode::QuerySyntax => exit::USAGE,
        ErrorCode::AuthFailed | ErrorCode::PermissionDenied => exit::REFUSED,
        ErrorCode::ConnectionFailed
        | ErrorCode::ClusterUnavailable
        | ErrorCode::Overloaded
        | ErrorCode::Timeout => exit::UNAVAILABLE,
        ErrorCode::OffsetMismatch | ErrorCode::StreamExists => exit::CONFLICT,
        ErrorCode::Corruption => exit::NOT_VERIFIED,
        _ => exit::FAILED,
    }
}

/// What a user of the command can do; the contract's own advice is for programs.
fn cure_of(code: ErrorCode) -> Option<&'static str> {
    Some(match code {
        ErrorCode::ConnectionFailed => {
            "check --address and that the server runs; `kimberlite dev` starts one to try"
        }
        ErrorCode::AuthFailed => "give the token by --token-file FILE or KIMBERLITE_TOKEN",
        ErrorCode::PermissionDenied => "use a token with the role and the tenant that it names",
        ErrorCode::TenantNotFound => "check --tenant",
        ErrorCode::StreamNotFound => {
            "`kimberlite streams list` shows what is there, `kimberlite streams create` makes one"
        }
        ErrorCode::Timeout => "give it more time by --timeout-ms",
        ErrorCode::ClusterUnavailable | ErrorCode::Overloaded => "try again after a moment",
        ErrorCode::StreamExists => "use another name, or that data class",
        ErrorCode::VersionMismatch => "install versions that fit each other",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error keeps its name, gets the exit code of its kind, and one whose outcome is unknown
    /// says so before anything else.
    #[test]
    fn errors_have_codes() {
        let of = |code| Failure::from(Error::new(code, "x")).code();
        assert_eq!(of(ErrorCode::StreamNotFound), exit::NOT_FOUND);
        assert_eq!(of(ErrorCode::QuerySyntax), exit::USAGE);
        assert_eq!(of(ErrorCode::AuthFailed), exit::REFUSED);
        assert_eq!(of(ErrorCode::Timeout), exit::UNAVAILABLE);
        assert_eq!(of(ErrorCode::OffsetMismatch), exit::CONFLICT);
        assert_eq!(of(ErrorCode::Corruption), exit::NOT_VERIFIED);
        assert_eq!(of(ErrorCode::Storage), exit::FAILED);
        let key = kimberlite::AppendKey { producer_id: 1, sequence: 1 };
        let cut = Error { outcome_unknown: Some(key), ..Error::new(ErrorCode::Timeout, "") };
        assert_eq!(Failure::from(cut).code(), exit::UNKNOWN_OUTCOME);
        assert_eq!(Failure::Signal(Signal::Terminate).code(), 143);
    }
}
