//! Characters as SQLite reads them, whatever their bytes are, and `unhex`.
//!
//! SQLite's own `unhex` looks each character that is to be ignored up in a text of any length.

use memchr::memchr;

/// What a character of no UTF-8 is read as.
const REPLACEMENT: u32 = 0xfffd;

/// The characters of a text up to its first NUL, where SQLite ends it too.
#[derive(Clone, Copy)]
pub(super) struct Characters<'a>(pub(super) &'a [u8]);

impl<'a> Characters<'a> {
    pub(super) fn new(text: &'a [u8]) -> Characters<'a> {
        Characters(&text[..memchr(0, text).unwrap_or(text.len())])
    }

    /// The next character as SQLite reads it, whatever its bytes are.
    #[inline]
    pub(super) fn next(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        if *first < 0xc0 { Some(u32::from(*first)) } else { Some(self.longer(*first)) }
    }

    fn longer(&mut self, first: u8) -> u32 {
        let mut character = u32::from(match first {
            0xc0..=0xdf => first & 0x1f,
            0xe0..=0xef => first & 0x0f,
            0xf0..=0xf7 => first & 0x07,
            0xf8..=0xfb => first & 0x03,
            0xfc..=0xfd => first & 0x01,
            _ => 0,
        });
        while let Some((next, rest)) = self.0.split_first()
            && next & 0xc0 == 0x80
        {
            character = (character << 6).wrapping_add(u32::from(next & 0x3f));
            self.0 = rest;
        }
        let is_one = character >= 0x80 && character & 0xffff_f800 != 0xd800;
        if is_one { character } else { REPLACEMENT }
    }
}

/// The characters of a whole text, to be looked up in.
pub(super) fn character_set(text: &[u8]) -> Vec<u32> {
    let mut set = Vec::new();
    for mut part in text.split(|byte| *byte == 0).map(Characters) {
        while let Some(character) = part.next() {
            set.push(character);
        }
    }
    set.sort_unstable();
    set
}

/// Writes the bytes that a text's pairs of digits stand for, and tells how many they are; between
/// pairs stand characters to ignore. `None` where anything else stands there.
pub(super) fn unhex_to(text: &[u8], ignored: &[u32], out: &mut [u8]) -> Option<usize> {
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let mut text = Characters::new(text);
    let mut out = out.iter_mut();
    let mut written = 0;
    while let Some(first) = text.0.first() {
        let Some(high) = digit(*first) else {
            ignored.binary_search(&text.next()?).ok()?;
            continue;
        };
        let low = digit(*text.0.get(1)?)?;
        text.0 = &text.0[2..];
        *out.next()? = high << 4 | low;
        written += 1;
    }
    Some(written)
}
