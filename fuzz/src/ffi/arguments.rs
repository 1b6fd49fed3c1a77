//! What is passed to the functions.

use std::ffi::c_char;

use kimberlite_ffi::*;

use super::World;
use crate::input::Input;

/// What an untouched output is filled with.
const UNTOUCHED: u8 = 0xa5;
/// Lengths that no memory and no request has; the ABI refuses them before it looks.
const ABSURD: [usize; 3] = [usize::MAX, usize::MAX / 2 + 1, 1 << 40];

/// Memory that a call may read, in allocations of their exact length.
#[derive(Default)]
pub(super) struct Arena {
    bytes: Vec<Box<[u8]>>,
    words: Vec<Box<[u32]>>,
    params: Vec<Box<[KmbQueryParam]>>,
    options: Vec<Box<KmbCallOptions>>,
}

impl Arena {
    /// Gives everything back, once no call uses it any more.
    pub(super) fn clear(&mut self) {
        *self = Arena::default();
    }

    pub(super) fn keep(&mut self, bytes: &[u8]) -> *const u8 {
        self.bytes.push(bytes.into());
        self.bytes.last().map_or(std::ptr::null(), |bytes| bytes.as_ptr())
    }

    /// Bytes and their length, or something that is neither.
    pub(super) fn data(&mut self, input: &mut Input<'_>) -> (*const u8, usize) {
        let shape = input.u8();
        let bytes = input.short();
        match shape {
            0..=239 => (self.keep(bytes), bytes.len()),
            240..=244 => (std::ptr::null(), 0),
            245..=249 => (std::ptr::null(), bytes.len()),
            shape => (self.keep(bytes), ABSURD[usize::from(shape) % ABSURD.len()]),
        }
    }

    /// Text by pointer and length: one of these, or what the script says.
    pub(super) fn text(&mut self, input: &mut Input<'_>, known: &[&str]) -> (*const c_char, usize) {
        let choice = input.u8();
        if choice < 128
            && let Some(text) = known.get(usize::from(choice) % known.len().max(1))
        {
            return (self.keep(text.as_bytes()).cast(), text.len());
        }
        let (data, len) = self.data(input);
        (data.cast(), len)
    }

    /// Text with a NUL behind it.
    pub(super) fn c_text(&mut self, input: &mut Input<'_>, known: &[&str]) -> *const c_char {
        let choice = input.u8();
        let mut bytes = match known.get(usize::from(choice) % known.len().max(1)) {
            Some(text) if choice < 128 => text.as_bytes().to_vec(),
            _ if choice > 250 => return std::ptr::null(),
            _ => input.short().to_vec(),
        };
        bytes.push(0);
        self.keep(&bytes).cast()
    }

    /// The lengths of packed events: they add up, or not.
    pub(super) fn lens(&mut self, input: &mut Input<'_>, data_len: usize) -> (*const u32, usize) {
        let shape = input.u8();
        let count = usize::from(shape % 8);
        let mut lens: Vec<u32> = (0..count).map(|_| u32::from(input.u8())).collect();
        if shape < 128 && data_len < 1000 {
            // Mostly right: each takes what is left, the last one all of it.
            let mut left = data_len as u32;
            for (index, len) in lens.iter_mut().enumerate() {
                *len = if index + 1 == count { left } else { (*len).min(left) };
                left -= *len;
            }
        }
        self.words.push(lens.into());
        let pointer = self.words.last().map_or(std::ptr::null(), |lens| lens.as_ptr());
        match shape {
            250..=251 => (std::ptr::null(), count),
            252..=255 => (pointer, ABSURD[count % ABSURD.len()]),
            _ => (pointer, count),
        }
    }

    /// Options of a call: none, or some, with a deadline that keeps the fuzzer from waiting.
    pub(super) fn call(&mut self, input: &mut Input<'_>) -> *const KmbCallOptions {
        let shape = input.u8();
        if shape < 160 {
            return std::ptr::null();
        }
        let options = KmbCallOptions {
            timeout_ms: 1 + u64::from(input.u8() % 30),
            min_position: input.number(),
            flags: u32::from(shape >= 200 && input.flag()),
            reserved: u32::from(shape == 255),
            reserved_2: u64::from(shape == 254),
        };
        self.options.push(Box::new(options));
        self.options.last().map_or(std::ptr::null(), |options| &raw const **options)
    }

    /// Parameters of a statement, of types that exist and others.
    pub(super) fn params(&mut self, input: &mut Input<'_>) -> (*const KmbQueryParam, usize) {
        let shape = input.u8();
        let params: Vec<KmbQueryParam> = (0..shape % 4).map(|_| self.param(input)).collect();
        let count = params.len();
        self.params.push(params.into());
        let pointer = self.params.last().map_or(std::ptr::null(), |params| params.as_ptr());
        match shape {
            0..=247 => (pointer, count),
            248..=251 => (std::ptr::null(), count),
            _ => (pointer, ABSURD[count % ABSURD.len()]),
        }
    }

    fn param(&mut self, input: &mut Input<'_>) -> KmbQueryParam {
        let kind = u32::from(input.u8() % 9);
        let value = match kind {
            KMB_PARAM_STRING => KmbParamValue { str: self.c_text(input, &["orders"]) },
            KMB_PARAM_BYTES | KMB_PARAM_TEXT => {
                let (data, len) = self.data(input);
                KmbParamValue { bytes: KmbBytes { data, len } }
            }
            KMB_PARAM_BOOL => KmbParamValue { i64: i64::from(input.u8()) },
            KMB_PARAM_FLOAT64 => KmbParamValue { f64: f64::from_bits(input.u64()) },
            _ => KmbParamValue { i64: input.number() as i64 },
        };
        // Sometimes a type that does not exist.
        let r#type = if kind == 8 { input.u32() | 128 } else { kind };
        KmbQueryParam { r#type, value }
    }
}

/// The place of an output, which may be NULL or lie anywhere.
pub(super) struct Slot<T> {
    bytes: Box<[u8]>,
    place: usize,
    _type: std::marker::PhantomData<T>,
}

impl<T> Slot<T> {
    pub(super) fn new(input: &mut Input<'_>) -> Slot<T> {
        let place = input.u8();
        // NULL, aligned or not.
        let place = if place > 250 { usize::MAX } else { usize::from(place & 1) };
        let bytes = vec![UNTOUCHED; size_of::<T>() + 1].into();
        Slot { bytes, place, _type: std::marker::PhantomData }
    }

    pub(super) fn is_null(&self) -> bool {
        self.place == usize::MAX
    }

    pub(super) fn pointer(&mut self) -> *mut T {
        if self.is_null() {
            return std::ptr::null_mut();
        }
        self.bytes[self.place..].as_mut_ptr().cast()
    }

    /// What was written; on failure nothing may have been.
    pub(super) fn take(&self, error: KmbError) -> Option<T> {
        if error == KMB_OK {
            // Written, as the function says; any bits are a T, as the ABI has only plain types.
            return (!self.is_null()).then(|| unsafe {
                self.bytes[self.place..].as_ptr().cast::<T>().read_unaligned()
            });
        }
        let untouched = self.bytes.iter().all(|byte| *byte == UNTOUCHED);
        assert!(untouched, "an output is written in spite of error {error}");
        None
    }
}

/// An error that may come of what a caller passes; defects have others.
pub(super) fn check_error(error: KmbError) {
    let defects = [KMB_ERR_PANIC, KMB_ERR_INTERNAL, KMB_ERR_FORKED];
    assert!(!defects.contains(&error), "error {error} tells of a defect");
    unsafe {
        for text in [kmb_error_name(error), kmb_error_message(error), kmb_error_remedy(error)] {
            assert!(!text.is_null() && !std::ffi::CStr::from_ptr(text).is_empty());
        }
    }
}

impl World {
    /// A handle of this list, mostly; else NULL, another type's or a number.
    pub(super) fn handle<T>(&self, list: &[*mut T], input: &mut Input<'_>) -> *mut T {
        let choice = input.u8();
        let of = |index: usize| list.get(index).copied().unwrap_or(std::ptr::null_mut());
        let other = usize::from(choice);
        match choice {
            0..=219 => of(list.len().saturating_sub(1 + other % list.len().max(1))),
            220..=229 => std::ptr::null_mut(),
            230..=234 => self.clients.get(other % self.clients.len()).map_or(of(0), |c| c.cast()),
            235..=239 => self.queues.get(other % self.queues.len()).map_or(of(0), |q| q.cast()),
            _ => std::ptr::without_provenance_mut(input.u64() as usize),
        }
    }
}
