//! The error that every layer speaks.

use std::fmt;

use crate::codec::DecodeError;
use crate::generated::{ErrorBody, ErrorCode};

/// What settles an append whose outcome is unknown: append the same events again with it, and the
/// answer tells what became of them, without doing it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AppendKey {
    /// The producer that sent the append.
    pub producer_id: u64,
    /// The producer's number for it.
    pub sequence: u64,
}

/// An error: its code and number, and a detail that names what was wrong and what to do. It never
/// holds a token, event data or a parameter's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// What went wrong; `Unknown` for a number that this version does not know.
    pub code: ErrorCode,
    /// The number as it came; differs from the code's only where that is `Unknown`.
    pub number: u32,
    /// What was wrong with which field or bound.
    pub detail: String,
    /// By code: the actual next offset, the byte in a statement, the bound; else 0.
    pub value: u64,
    /// Where retryable: how long to wait first; 0 for no advice.
    pub retry_after_ms: u32,
    /// That the request which was answered so certainly changed nothing, where the code alone
    /// leaves that open, as STORAGE does.
    pub no_effect: bool,
    /// For an append that was sent and whose outcome is unknown: what settles it.
    pub outcome_unknown: Option<AppendKey>,
}

impl Error {
    /// An error with a detail. `Ok` is none: who passes it made a mistake, which is INTERNAL.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> Error {
        let code = if matches!(code, ErrorCode::Ok) { ErrorCode::Internal } else { code };
        Error {
            code,
            number: code.number(),
            detail: detail.into(),
            value: 0,
            retry_after_ms: 0,
            no_effect: false,
            outcome_unknown: None,
        }
    }

    /// The same with its value.
    pub fn with_value(mut self, value: u64) -> Error {
        self.value = value;
        self
    }

    /// The same of a request that certainly changed nothing.
    pub fn without_effect(mut self) -> Error {
        self.no_effect = true;
        self
    }

    /// Whether an append that was answered so, and sent only once, certainly did not happen.
    pub const fn is_refusal(&self) -> bool {
        self.no_effect
            || !matches!(
                self.code,
                ErrorCode::Timeout
                    | ErrorCode::Cancelled
                    | ErrorCode::Closed
                    | ErrorCode::Internal
                    | ErrorCode::Panic
                    | ErrorCode::Storage
                    | ErrorCode::Unknown
            )
    }

    /// Whether a fresh call may succeed later and cannot duplicate.
    pub const fn is_retryable(&self) -> bool {
        self.code.is_retryable()
    }

    /// INVALID_ARGUMENT.
    pub fn invalid(detail: impl Into<String>) -> Error {
        Error::new(ErrorCode::InvalidArgument, detail)
    }

    /// PROTOCOL.
    pub fn protocol(detail: impl Into<String>) -> Error {
        Error::new(ErrorCode::Protocol, detail)
    }

    /// LIMIT_EXCEEDED: `what` has `actual` where at most `bound` may be.
    pub fn limit(what: &str, actual: u64, bound: u64) -> Error {
        let detail = format!("{what} is {actual}; at most {bound} is allowed");
        Error::new(ErrorCode::LimitExceeded, detail).with_value(bound)
    }

    pub(crate) fn unknown_option(name: &str, kind: &str) -> Error {
        Error::invalid(format!("there is no option {name:?} that takes a {kind}"))
    }

    pub(crate) fn option_out_of_range(name: &str, value: u64, minimum: u64, maximum: u64) -> Error {
        Error::invalid(format!("option {name} is {value}; it must be from {minimum} to {maximum}"))
    }

    /// The body of the frame that carries it.
    pub fn to_body(&self) -> ErrorBody {
        ErrorBody {
            code: self.number,
            detail: self.detail.clone(),
            value: self.value,
            retry_after_ms: self.retry_after_ms,
            no_effect: self.no_effect,
        }
    }

    /// The error that a frame carried; PROTOCOL where it says that there is none.
    pub fn from_body(body: ErrorBody) -> Error {
        if body.code == ErrorCode::Ok.number() {
            return Error::protocol("the server sent an error with code 0");
        }
        let code = ErrorCode::from_number(body.code).unwrap_or(ErrorCode::Unknown);
        Error {
            code,
            number: body.code,
            detail: body.detail,
            value: body.value,
            retry_after_ms: body.retry_after_ms,
            no_effect: body.no_effect,
            outcome_unknown: None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.code.name(), self.number, self.code.message())?;
        if !self.detail.is_empty() {
            write!(f, " {}", self.detail)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<DecodeError> for Error {
    fn from(e: DecodeError) -> Error {
        Error::protocol(e.to_string())
    }
}
