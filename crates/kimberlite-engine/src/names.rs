//! What a stream may be called.

use kimberlite_wire::{Error, limit};

/// The name of every tenant's audit stream. No stream of a client can have it: it is reserved.
pub(crate) const AUDIT_STREAM: &str = "_audit";

const RESERVED_PREFIXES: [&str; 3] = ["_", "sqlite_", "pragma_"];
/// SQL knows these as functions that give tables, which would hide streams of the same names.
const TABLE_FUNCTIONS: [&str; 4] = ["json_each", "json_tree", "jsonb_each", "jsonb_tree"];

/// The form in which two names are the same name: ASCII letters in lower case, as SQL folds them.
pub(crate) fn fold(name: &str) -> String {
    name.to_ascii_lowercase()
}

/// Whether it is the name of the audit stream.
pub(crate) fn is_audit(name: &str) -> bool {
    name.eq_ignore_ascii_case(AUDIT_STREAM)
}

/// Whether a client may create a stream of this name. INVALID_ARGUMENT or LIMIT_EXCEEDED says why
/// it may not.
pub(crate) fn check(name: &str) -> Result<(), Error> {
    if name.is_empty() {
        let bound = limit::STREAM_NAME_BYTES;
        let detail = format!("name is empty; a stream's name has 1 to {bound} bytes");
        return Err(Error::invalid(detail));
    }
    if name.len() as u64 > limit::STREAM_NAME_BYTES {
        let bound = limit::STREAM_NAME_BYTES;
        return Err(Error::limit("the length of name in bytes", name.len() as u64, bound));
    }
    if let Some((at, _)) = name.char_indices().find(|(_, character)| character.is_control()) {
        let detail = format!("name has a control character at byte {at}; use none");
        return Err(Error::invalid(detail));
    }
    let folded = fold(name);
    if TABLE_FUNCTIONS.contains(&&*folded) {
        let detail = format!("name is {name:?}, which is reserved: a function of SQL; use another");
        return Err(Error::invalid(detail));
    }
    match RESERVED_PREFIXES.iter().find(|prefix| folded.starts_with(*prefix)) {
        Some(prefix) => {
            let detail = format!("name starts with {prefix:?}, which is reserved; use another");
            Err(Error::invalid(detail))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use kimberlite_wire::ErrorCode;

    use super::*;

    /// The bounds on length, control characters and reserved prefixes, whatever their case.
    #[test]
    fn names_are_checked() {
        let long = "x".repeat(255);
        for good in
            ["a", "Events", "patients.vitals", "größe", "with space", "a_", "json_eaches", &long]
        {
            check(good).unwrap_or_else(|e| panic!("{good:?}: {e}"));
        }
        let bad = ["", "_a", "_", "sqlite_x", "SQLite_x", "PRAGMA_x", "a\nb", "a\u{7f}", "\u{85}"];
        for bad in bad {
            assert_eq!(check(bad).unwrap_err().code, ErrorCode::InvalidArgument, "{bad:?}");
        }
        for function in ["json_each", "JSON_Each", "json_tree", "jsonb_each", "JSONB_TREE"] {
            let error = check(function).unwrap_err();
            assert_eq!(error.code, ErrorCode::InvalidArgument, "{function}");
            assert!(error.detail.contains("reserved"), "{error}");
        }
        let long = check(&"x".repeat(256)).unwrap_err();
        assert_eq!((long.code, long.value), (ErrorCode::LimitExceeded, 255));
    }

    /// Folding touches ASCII letters only, as SQL's names do.
    #[test]
    fn folding_is_ascii() {
        assert_eq!(fold("VitalsÄ"), "vitalsÄ");
    }
}
