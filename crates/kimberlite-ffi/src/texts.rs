//! Static texts with a NUL behind them.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::sync::{LazyLock, Mutex, PoisonError};

/// Every text that was asked for, kept for ever: they come from a closed list (the errors' names,
/// messages and remedies).
static TEXTS: LazyLock<Mutex<HashMap<&'static str, &'static CStr>>> = LazyLock::new(Mutex::default);

/// The same text for C, valid for ever.
pub(crate) fn static_c_str(text: &'static str) -> &'static CStr {
    let mut texts = TEXTS.lock().unwrap_or_else(PoisonError::into_inner);
    texts.entry(text).or_insert_with(|| {
        // The contract's texts hold no NUL.
        Box::leak(CString::new(text).unwrap_or_default().into_boxed_c_str())
    })
}
