//! `instr`, `replace` and `trim` in time linear in their values.
//!
//! SQLite's own take the product of the lengths, within one step of its machine, which nothing
//! interrupts: minutes for values of megabytes. These answer the same for every value, those that
//! are not UTF-8 included, and are tested against SQLite's.

use memchr::memmem;

/// The most bytes of characters to trim or to ignore. They are looked up one by one.
pub(super) const SET_BYTES: usize = 4096;

/// Bytes of the longest character.
const CHARACTER_BYTES: usize = 4;

/// Whether a byte goes on with a character rather than beginning one.
fn continues(byte: u8) -> bool {
    byte & 0xc0 == 0x80
}

/// The number of the byte, from 1, where `needle` begins in `haystack`; 0 where it does not occur.
pub(super) fn byte_position(haystack: &[u8], needle: &[u8]) -> usize {
    memmem::find(haystack, needle).map_or(0, |at| at + 1)
}

/// The same in characters. Beyond the first, bytes that continue one begin none.
pub(super) fn character_position(haystack: &[u8], needle: &[u8]) -> usize {
    if haystack.starts_with(needle) {
        return 1;
    }
    if needle.first().is_some_and(|first| continues(*first)) {
        return 0;
    }
    match memmem::find(haystack, needle) {
        None => 0,
        Some(at) => 2 + haystack[1..at].iter().filter(|byte| !continues(**byte)).count(),
    }
}

/// A replacement that is measured, so that its result is allocated once.
pub(super) struct Replacement<'a> {
    text: &'a [u8],
    pattern: memmem::Finder<'a>,
    by: &'a [u8],
    /// Bytes of the result.
    pub(super) bytes: usize,
}

impl<'a> Replacement<'a> {
    /// The replacement of every `pattern`, which is not empty, from the left.
    pub(super) fn new(text: &'a [u8], pattern: &'a [u8], by: &'a [u8]) -> Replacement<'a> {
        let finder = memmem::Finder::new(pattern);
        let count = finder.find_iter(text).count();
        let bytes = text.len() - count * pattern.len() + count.saturating_mul(by.len());
        Replacement { text, pattern: finder, by, bytes }
    }

    /// Writes the result to `out`, which has room for it.
    pub(super) fn write(&self, out: &mut [u8]) {
        let (mut from, mut written) = (0, 0);
        let mut put = |bytes: &[u8]| {
            out[written..written + bytes.len()].copy_from_slice(bytes);
            written += bytes.len();
        };
        for at in self.pattern.find_iter(self.text) {
            put(&self.text[from..at]);
            put(self.by);
            from = at + self.pattern.needle().len();
        }
        put(&self.text[from..]);
    }
}

/// Characters to trim. Where several fit, as only in bytes that are not UTF-8, the first one given
/// is taken away.
pub(super) struct TrimSet {
    single: [Option<u32>; 256],
    /// Longer ones and their places, sorted.
    longer: Vec<([u8; CHARACTER_BYTES], u32)>,
}

impl TrimSet {
    /// The characters of a text up to its first NUL, where SQLite ends it too; `None` where one of
    /// them is longer than any of UTF-8.
    pub(super) fn new(characters: &[u8]) -> Option<TrimSet> {
        let mut set = TrimSet { single: [None; 256], longer: Vec::new() };
        let mut rest = characters.split(|byte| *byte == 0).next().unwrap_or(&[]);
        for place in 0.. {
            let Some(first) = rest.first() else { break };
            let more = if *first >= 0xc0 {
                rest[1..].iter().take_while(|byte| continues(**byte)).count()
            } else {
                0
            };
            let (character, after) = rest.split_at(1 + more);
            if more == 0 {
                set.single[usize::from(*first)].get_or_insert(place);
            } else {
                set.longer.push((key(character)?, place));
            }
            rest = after;
        }
        set.longer.sort_unstable();
        set.longer.dedup_by_key(|(key, _)| *key);
        Some(set)
    }

    /// The text without such characters at its beginning.
    pub(super) fn trim_start<'t>(&self, mut text: &'t [u8]) -> &'t [u8] {
        while let Some(bytes) = self.fitting(|bytes| text.get(..bytes)) {
            text = &text[bytes..];
        }
        text
    }

    /// The text without such characters at its end.
    pub(super) fn trim_end<'t>(&self, mut text: &'t [u8]) -> &'t [u8] {
        while let Some(bytes) = self.fitting(|bytes| text.get(text.len().checked_sub(bytes)?..)) {
            text = &text[..text.len() - bytes];
        }
        text
    }

    /// The length of the character given first among those that fit.
    fn fitting<'t>(&self, end: impl Fn(usize) -> Option<&'t [u8]>) -> Option<usize> {
        (1..=CHARACTER_BYTES)
            .filter_map(|bytes| Some((self.place(end(bytes)?)?, bytes)))
            .min()
            .map(|(_, bytes)| bytes)
    }

    fn place(&self, character: &[u8]) -> Option<u32> {
        match character {
            [byte] => self.single[usize::from(*byte)],
            [first, rest @ ..] if *first >= 0xc0 && rest.iter().all(|byte| continues(*byte)) => {
                let key = key(character)?;
                let at = self.longer.binary_search_by_key(&key, |(key, _)| *key).ok()?;
                Some(self.longer[at].1)
            }
            _ => None,
        }
    }
}

/// A character of several bytes; the zeros that fill it up are part of none.
fn key(character: &[u8]) -> Option<[u8; CHARACTER_BYTES]> {
    let mut key = [0; CHARACTER_BYTES];
    key.get_mut(..character.len())?.copy_from_slice(character);
    Some(key)
}
