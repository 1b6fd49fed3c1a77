//! The errors' static texts with a NUL behind them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::LazyLock;

use kimberlite_wire::ErrorCode;

/// Every name, message and remedy, made once. Nothing is locked to read it, so that the child of a
/// fork may read it too.
static TEXTS: LazyLock<HashMap<&'static str, &'static CStr>> = LazyLock::new(|| {
    let of = |code: ErrorCode| [code.name(), code.message(), code.remedy()];
    ErrorCode::ALL.into_iter().flat_map(of).map(|text| (text, leaked(text))).collect()
});

fn leaked(text: &str) -> &'static CStr {
    // The contract's texts hold no NUL.
    Box::leak(CString::new(text).unwrap_or_default().into_boxed_c_str())
}

/// Makes the texts now rather than when the first is asked for.
pub(crate) fn prepare() {
    LazyLock::force(&TEXTS);
}

/// A text of [`ErrorCode`] for C, valid for ever.
pub(crate) fn static_c_str(text: &'static str) -> &'static CStr {
    TEXTS.get(text).copied().unwrap_or_default()
}
