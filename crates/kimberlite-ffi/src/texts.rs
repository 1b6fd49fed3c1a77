//! The errors' static texts with a NUL behind them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::LazyLock;

use kimberlite_wire::ErrorCode;

/// Every name, message and remedy, made once. Nothing is locked to read it, so that the child of a
/// fork may read it too.
static TEXTS: LazyLock<HashMap<&'static str, CString>> = LazyLock::new(|| {
    let of = |code: ErrorCode| [code.name(), code.message(), code.remedy()];
    // The contract's texts hold no NUL.
    let c_string = |text: &'static str| (text, CString::new(text).unwrap_or_default());
    ErrorCode::ALL.into_iter().flat_map(of).map(c_string).collect()
});

/// Makes the texts now rather than when the first is asked for.
pub(crate) fn prepare() {
    LazyLock::force(&TEXTS);
}

/// A text of [`ErrorCode`] for C, valid for ever.
pub(crate) fn static_c_str(text: &'static str) -> &'static CStr {
    TEXTS.get(text).map(CString::as_c_str).unwrap_or_default()
}
