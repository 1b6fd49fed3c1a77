//! A fuzzer's bytes as numbers, choices and byte strings.
//!
//! Everything is read from the front, one byte where one is enough, so that a changed byte changes
//! one decision and the rest keeps its meaning; where the bytes end, everything is zero. The layout
//! never depends on a library's version, so that seeds stay what they are.

/// Walks over a fuzzer's input.
#[derive(Clone, Debug)]
pub struct Input<'a> {
    rest: &'a [u8],
}

impl<'a> Input<'a> {
    /// Starts at the first byte.
    pub const fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes }
    }

    /// Whether every byte was used.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What was not used yet.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let count = self.rest.len().min(N);
        out[..count].copy_from_slice(&self.rest[..count]);
        self.rest = &self.rest[count..];
        out
    }

    /// One byte.
    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// Four bytes, little-endian.
    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    /// Eight bytes, little-endian.
    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A choice among `count`, at most 256 of them.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.u8()) % count.max(1)
    }

    /// One bit, from a byte of its own.
    pub fn flag(&mut self) -> bool {
        self.u8() & 1 == 1
    }

    /// A number that is mostly small and sometimes at an edge of its type.
    pub fn number(&mut self) -> u64 {
        match self.u8() {
            small @ 0..=199 => u64::from(small),
            200..=219 => u64::from(self.u16()),
            220..=234 => u64::from(self.u32()),
            235..=244 => self.u64(),
            edge => edge_number(edge),
        }
    }

    /// Up to as many bytes as the next byte says.
    pub fn short(&mut self) -> &'a [u8] {
        let count = usize::from(self.u8());
        self.take(count)
    }

    /// Up to as many bytes as the next two bytes say.
    pub fn long(&mut self) -> &'a [u8] {
        let count = usize::from(self.u16());
        self.take(count)
    }

    /// Up to `count` bytes.
    pub fn take(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        taken
    }

    /// A short text; what is no UTF-8 is replaced.
    pub fn text(&mut self) -> String {
        String::from_utf8_lossy(self.short()).into_owned()
    }
}

/// Numbers at which types and limits end.
fn edge_number(choice: u8) -> u64 {
    match choice {
        245 => u64::MAX,
        246 => u64::MAX - 1,
        247 => i64::MAX as u64,
        248 => 1 << 63,
        249 => u64::from(u32::MAX),
        250 => 1 << 32,
        251 => 65_536,
        252 => 16 << 20,
        253 => 8 << 20,
        254 => 256 << 10,
        _ => 4096,
    }
}
