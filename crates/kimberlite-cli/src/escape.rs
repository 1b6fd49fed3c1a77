//! Keeps control characters of data away from terminals: an event must not be able to move the
//! cursor, rewrite what stands above, change the title or answer as if it had been typed.

use std::fmt::Write;

/// Whether a character is shown by its code: it controls a terminal, or it changes the order or
/// the visibility of what stands around it. Joiners (U+200C, U+200D) are parts of words and emoji.
pub(crate) fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{200B}' | '\u{200E}' | '\u{200F}'
                | '\u{2028}'..='\u{202E}'
                | '\u{2060}'..='\u{2069}'
                | '\u{FEFF}')
}

/// Appends one character, by its code where it is unsafe.
fn push(out: &mut String, c: char) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        c if (c as u32) < 0x100 => write_code(out, format_args!("\\x{:02x}", c as u32)),
        c => write_code(out, format_args!("\\u{{{:x}}}", c as u32)),
    }
}

fn write_code(out: &mut String, code: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(code);
}

/// Appends text with its unsafe characters shown by their codes.
pub(crate) fn push_text(out: &mut String, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(is_unsafe) {
        out.push_str(&rest[..at]);
        let mut chars = rest[at..].chars();
        if let Some(c) = chars.next() {
            push(out, c);
        }
        rest = chars.as_str();
    }
    out.push_str(rest);
}

/// Text with its unsafe characters shown by their codes.
pub(crate) fn text(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    push_text(&mut out, text);
    out
}

/// Appends bytes as text; what is not UTF-8 is shown byte by byte.
pub(crate) fn push_bytes(out: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        push_text(out, chunk.valid());
        for byte in chunk.invalid() {
            write_code(out, format_args!("\\x{byte:02x}"));
        }
    }
}

/// Text whose line ends and tabs stay, and whose other unsafe characters are shown by their codes:
/// for text that has its lines.
pub(crate) fn lines(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\t' => out.push(c),
            c if is_unsafe(c) => push(&mut out, c),
            c => out.push(c),
        }
    }
    out
}

/// JSON whose strings hold no unsafe characters: what JSON leaves as it is (DEL, C1 controls,
/// changes of direction) becomes `\u…`, which means the same.
pub(crate) fn json(encoded: &str) -> String {
    let mut out = String::with_capacity(encoded.len());
    for c in encoded.chars() {
        if is_unsafe(c) && c != '\n' {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write_code(&mut out, format_args!("\\u{unit:04x}"));
            }
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Escape sequences in 7 and 8 bits, line ends and changes of direction are shown, not sent.
    #[test]
    fn shows_what_controls() {
        assert_eq!(
            text("a\x1b[31mb\u{9b}2Jc\u{202e}d\n\t\r\x7f\0"),
            "a\\x1b[31mb\\x9b2Jc\\u{202e}d\\n\\t\\r\\x7f\\x00"
        );
        assert_eq!(text("grüße 👋"), "grüße 👋");
        let mut out = String::new();
        push_bytes(&mut out, b"a\xff\x1b\xc3");
        assert_eq!(out, "a\\xff\\x1b\\xc3");
        assert_eq!(lines("a\n\tb\x1b"), "a\n\tb\\x1b");
        assert_eq!(json("\"a\u{9b}\u{7f}\u{2028}\""), "\"a\\u009b\\u007f\\u2028\"");
    }
}
