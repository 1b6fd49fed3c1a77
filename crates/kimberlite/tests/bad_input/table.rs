//! The table: what is run, what was found wrong, and which functions have a row.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kimberlite_wire::block::BlockError;
use kimberlite_wire::codec::DecodeError;
use kimberlite_wire::events::PackedError;
use kimberlite_wire::{Error, ErrorCode};

use crate::surface;

/// A refusal: its code, where it has one, and its words.
pub struct Refusal {
    code: Option<ErrorCode>,
    words: String,
}

impl From<Error> for Refusal {
    fn from(e: Error) -> Refusal {
        Refusal { code: Some(e.code), words: e.detail }
    }
}

macro_rules! uncoded {
    ($($kind:ty),*) => {$(
        impl From<$kind> for Refusal {
            fn from(e: $kind) -> Refusal {
                Refusal { code: None, words: e.to_string() }
            }
        }
    )*};
}

uncoded!(BlockError, DecodeError, PackedError);

/// One crate's rows.
pub struct Table {
    crate_name: &'static str,
    tried: BTreeSet<String>,
    wrong: Vec<String>,
}

impl Table {
    pub fn new(crate_name: &'static str) -> Table {
        Table { crate_name, tried: BTreeSet::new(), wrong: Vec::new() }
    }

    /// A row: `call` gives `function` bad `input` and is refused with this code and, among others,
    /// these words: the field's name, and its value or its bound.
    pub fn refused<T, E: Into<Refusal>>(
        &mut self,
        function: &str,
        input: &str,
        code: impl Into<Option<ErrorCode>>,
        words: &[&str],
        call: impl FnOnce() -> Result<T, E>,
    ) {
        let code = code.into();
        let Some(result) = self.run(function, input, call) else { return };
        let Err(refusal) = result.map_err(Into::into) else {
            return self.note(function, input, "was taken");
        };
        if refusal.code != code {
            self.note(function, input, &format!("{:?}: {}", refusal.code, refusal.words));
        }
        for word in words.iter().filter(|word| !refusal.words.contains(**word)) {
            self.note(function, input, &format!("{:?} lacks {word:?}", refusal.words));
        }
    }

    /// A row of a function that has another way to refuse, or nothing to refuse: `call` tells
    /// whether it did what it promises. A panic is wrong here too.
    pub fn holds(&mut self, function: &str, input: &str, call: impl FnOnce() -> bool) {
        if self.run(function, input, call) == Some(false) {
            self.note(function, input, "did not do what it promises");
        }
    }

    fn run<T>(&mut self, function: &str, input: &str, call: impl FnOnce() -> T) -> Option<T> {
        self.tried.insert(function.to_string());
        let result = catch_unwind(AssertUnwindSafe(call));
        if result.is_err() {
            self.note(function, input, "panicked");
        }
        result.ok()
    }

    fn note(&mut self, function: &str, input: &str, what: &str) {
        self.wrong.push(format!("{function}, given {input}: {what}"));
    }

    /// Fails where a row was wrong, where a public function that takes anything has neither a row
    /// nor a reason in `exempt`, and where one of these names a function that is not there.
    ///
    /// An exempt name may begin with `*::` for any type.
    pub fn finish(mut self, exempt: &[(&str, &str)]) {
        let functions = surface::functions(self.crate_name);
        assert!(functions.len() > 2, "{}: hardly a function was found", self.crate_name);
        let is = |name: &str, function: &str| match name.strip_prefix("*::") {
            Some(method) => function.ends_with(&format!("::{method}")),
            None => name == function,
        };
        for function in &functions {
            let excused = exempt.iter().any(|(name, _)| is(name, function));
            match (self.tried.contains(function), excused) {
                (false, false) => self.wrong.push(format!("{function} has no row with bad input")),
                (true, true) => self.wrong.push(format!("{function} has a row and is exempt")),
                _ => {}
            }
        }
        for name in &self.tried {
            // A method without arguments may have a row: what it refuses was given elsewhere.
            let kind = name.rsplit_once("::").map_or(name.as_str(), |(kind, _)| kind);
            if !functions.contains(name) && !functions.iter().any(|f| f.starts_with(kind)) {
                self.wrong.push(format!("{name} has a row, but is no public function"));
            }
        }
        for (name, reason) in exempt {
            if !functions.iter().any(|function| is(name, function)) {
                self.wrong.push(format!("{name} is exempt, but is no public function"));
            }
            assert!(!reason.is_empty(), "{name} is exempt without a reason");
        }
        assert!(self.wrong.is_empty(), "{}:\n  {}", self.crate_name, self.wrong.join("\n  "));
    }
}
