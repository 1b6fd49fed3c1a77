//! The layout of message bodies: fixed-width little-endian integers, `u64` length prefixes; byte
//! for byte what bincode 1 writes with its fixed-width integers. docs/PROTOCOL.md describes it.

use std::fmt;

use crate::generated::limit;

/// Why a body could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecodeError {
    field: &'static str,
    what: &'static str,
}

impl DecodeError {
    /// An error about the field under way.
    pub const fn new(what: &'static str) -> DecodeError {
        DecodeError { field: "", what }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.field.is_empty() {
            write!(f, "the message {}", self.what)
        } else {
            write!(f, "the message's field {} {}", self.field, self.what)
        }
    }
}

impl std::error::Error for DecodeError {}

/// Walks over a body.
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Starts at the body's first byte.
    pub const fn new(body: &'a [u8]) -> Reader<'a> {
        Reader { rest: body }
    }

    /// Whether every byte was read.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// How many bytes were not read yet.
    pub const fn len(&self) -> usize {
        self.rest.len()
    }

    /// Takes `count` bytes.
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) =
            self.rest.split_at_checked(count).ok_or(DecodeError::new("ends too early"))?;
        self.rest = rest;
        Ok(taken)
    }

    /// Takes `N` bytes as an array.
    pub fn take_array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (taken, rest) =
            self.rest.split_first_chunk().ok_or(DecodeError::new("ends too early"))?;
        self.rest = rest;
        Ok(*taken)
    }

    /// Takes a `u64` length and as many bytes.
    pub fn take_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let count = u64::take(self)?;
        // A length beyond the address space cannot be there either.
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    /// Takes a field that an answer has had from the first version on, so that one without it is
    /// no answer.
    pub fn required<T: Field>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        if self.is_empty() {
            return Err(DecodeError { field: name, what: "is missing" });
        }
        T::take(self)
            .map_err(|e| if e.field.is_empty() { DecodeError { field: name, ..e } } else { e })
    }

    /// Takes a message's field, or its default where the body ended before it: a message only
    /// gains fields at its end, so an older peer's is a prefix of ours.
    pub fn field<T: Field + Default>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        if self.is_empty() {
            return Ok(T::default());
        }
        T::take(self)
            .map_err(|e| if e.field.is_empty() { DecodeError { field: name, ..e } } else { e })
    }
}

/// A type that message bodies hold.
pub trait Field: Sized {
    /// Appends its bytes.
    fn put(&self, out: &mut Vec<u8>);
    /// Takes it from the reader.
    fn take(reader: &mut Reader<'_>) -> Result<Self, DecodeError>;
}

macro_rules! number {
    ($($kind:ty),*) => {$(
        impl Field for $kind {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }

            fn take(reader: &mut Reader<'_>) -> Result<$kind, DecodeError> {
                reader.take_array().map(<$kind>::from_le_bytes)
            }
        }
    )*};
}

number!(u8, u16, u32, u64, i64, f64);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }

    fn take(reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match u8::take(reader)? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::new("is neither 0 nor 1")),
        }
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.as_bytes());
    }

    fn take(reader: &mut Reader<'_>) -> Result<String, DecodeError> {
        let text = std::str::from_utf8(reader.take_bytes()?);
        text.map(str::to_string).map_err(|_| DecodeError::new("is not valid UTF-8"))
    }
}

impl<const N: usize> Field for [u8; N] {
    fn put(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn take(reader: &mut Reader<'_>) -> Result<[u8; N], DecodeError> {
        reader.take_array()
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        (self.len() as u64).put(out);
        self.iter().for_each(|element| element.put(out));
    }

    fn take(reader: &mut Reader<'_>) -> Result<Vec<T>, DecodeError> {
        let count = u64::take(reader)?;
        if count > limit::LIST_ELEMENTS {
            return Err(DecodeError::new("is a list of more than 65536 elements"));
        }
        // Grown as the elements really arrive: a lying count takes no memory.
        let mut list = Vec::new();
        for _ in 0..count {
            list.push(T::take(reader)?);
        }
        Ok(list)
    }
}

/// Appends a byte string: its length, then its bytes.
pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    (bytes.len() as u64).put(out);
    out.extend_from_slice(bytes);
}

/// Appends as a byte string what `write` appends.
pub fn put_nested(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    0u64.put(out);
    write(out);
    let length = (out.len() - start - 8) as u64;
    out[start..start + 8].copy_from_slice(&length.to_le_bytes());
}
