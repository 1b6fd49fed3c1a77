//! SQLite's tokens, as far as this module has to look at a statement itself: to find a name's place
//! for an error, to see that nothing follows the statement, and to recognise plain counts.

use std::borrow::Cow;
use std::ops::Range;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A bare name or keyword.
    Word,
    /// A name in double quotes, square brackets or back quotes.
    QuotedName,
    /// Decimal digits and nothing else.
    Digits,
    /// `?` or `?NNN`.
    Parameter,
    /// One or two characters of punctuation.
    Symbol,
    /// Anything else: strings, other numbers, other parameters, what is malformed.
    Other,
}

/// A token and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Token {
    /// What it is.
    pub(super) kind: Kind,
    /// Its bytes in the statement.
    pub(super) span: Range<usize>,
}

impl Token {
    /// Its text in the statement.
    pub(super) fn text<'a>(&self, sql: &'a str) -> &'a str {
        sql.get(self.span.clone()).unwrap_or("")
    }

    /// Whether it is this keyword.
    pub(super) fn is_word(&self, sql: &str, word: &str) -> bool {
        self.kind == Kind::Word && self.text(sql).eq_ignore_ascii_case(word)
    }

    /// Whether it is this punctuation.
    pub(super) fn is_symbol(&self, sql: &str, symbol: &str) -> bool {
        self.kind == Kind::Symbol && self.text(sql) == symbol
    }

    /// The name that it is, without quotes; `None` where it is none.
    pub(super) fn name<'a>(&self, sql: &'a str) -> Option<Cow<'a, str>> {
        let text = self.text(sql);
        match self.kind {
            Kind::Word => Some(Cow::Borrowed(text)),
            Kind::QuotedName => {
                let inner = text.get(1..text.len() - 1)?;
                let quote = text.get(..1)?;
                if quote == "[" || !inner.contains(quote) {
                    return Some(Cow::Borrowed(inner));
                }
                Some(Cow::Owned(inner.replace(&quote.repeat(2), quote)))
            }
            _ => None,
        }
    }
}

/// The tokens of a statement from byte `at` on, without space and comments.
pub(super) fn tokens(sql: &str, at: usize) -> Tokens<'_> {
    Tokens { sql, at }
}

/// An iterator over tokens.
pub(super) struct Tokens<'a> {
    sql: &'a str,
    at: usize,
}

impl Iterator for Tokens<'_> {
    type Item = Token;

    fn next(&mut self) -> Option<Token> {
        self.at = skip_space(self.sql, self.at);
        let bytes = self.sql.as_bytes();
        let first = *bytes.get(self.at)?;
        let start = self.at;
        let (kind, end) = match first {
            b'"' | b'`' => quoted(bytes, start, first, Kind::QuotedName),
            b'\'' => quoted(bytes, start, first, Kind::Other),
            b'[' => match position(bytes, start, |b| b == b']') {
                Some(end) => (Kind::QuotedName, end + 1),
                None => (Kind::Other, bytes.len()),
            },
            b'?' => (Kind::Parameter, run(bytes, start + 1, |b| b.is_ascii_digit())),
            b'0'..=b'9' => number(bytes, start),
            b'.' if bytes.get(start + 1).is_some_and(u8::is_ascii_digit) => {
                (Kind::Other, run(bytes, start + 1, is_name_byte))
            }
            b'@' | b':' | b'#' | b'$' => (Kind::Other, run(bytes, start + 1, is_name_byte)),
            _ if is_name_byte(first) => word(bytes, start),
            _ => symbol(bytes, start),
        };
        self.at = end;
        Some(Token { kind, span: start..end })
    }
}

/// The byte after the space and comments at `at`.
fn skip_space(sql: &str, mut at: usize) -> usize {
    let bytes = sql.as_bytes();
    loop {
        let rest = bytes.get(at..).unwrap_or(&[]);
        match rest {
            [b' ' | b'\t' | b'\n' | b'\x0c' | b'\r', ..] => at += 1,
            [0xef, 0xbb, 0xbf, ..] if at == 0 => at += 3,
            [b'-', b'-', ..] => at = position(bytes, at, |b| b == b'\n').unwrap_or(bytes.len()),
            [b'/', b'*', inner @ ..] => {
                let end = inner.windows(2).position(|pair| pair == b"*/");
                at = end.map_or(bytes.len(), |end| at + 2 + end + 2);
            }
            _ => return at,
        }
    }
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

fn position(bytes: &[u8], from: usize, wanted: impl Fn(u8) -> bool) -> Option<usize> {
    bytes.iter().skip(from).position(|&b| wanted(b)).map(|at| from + at)
}

fn run(bytes: &[u8], from: usize, belongs: impl Fn(u8) -> bool) -> usize {
    position(bytes, from, |b| !belongs(b)).unwrap_or(bytes.len())
}

/// A token in quotes, inside which a doubled quote stands for one.
fn quoted(bytes: &[u8], start: usize, quote: u8, kind: Kind) -> (Kind, usize) {
    let mut at = start + 1;
    while let Some(end) = position(bytes, at, |b| b == quote) {
        if bytes.get(end + 1) != Some(&quote) {
            return (kind, end + 1);
        }
        at = end + 2;
    }
    (Kind::Other, bytes.len())
}

fn number(bytes: &[u8], start: usize) -> (Kind, usize) {
    let end = run(bytes, start, |b| b.is_ascii_digit());
    match bytes.get(end) {
        Some(&b) if b == b'.' || is_name_byte(b) => {
            (Kind::Other, run(bytes, end, |b| b == b'.' || is_name_byte(b)))
        }
        _ => (Kind::Digits, end),
    }
}

fn word(bytes: &[u8], start: usize) -> (Kind, usize) {
    let end = run(bytes, start, is_name_byte);
    // A blob literal x'…' is one token.
    if end == start + 1
        && bytes[start].eq_ignore_ascii_case(&b'x')
        && bytes.get(end) == Some(&b'\'')
    {
        return quoted(bytes, end, b'\'', Kind::Other);
    }
    (Kind::Word, end)
}

fn symbol(bytes: &[u8], start: usize) -> (Kind, usize) {
    let pair = bytes.get(start..start + 2).unwrap_or(&[]);
    let double: &[&[u8]] = &[b"<=", b">=", b"==", b"<>", b"!=", b"||", b"->", b"<<", b">>"];
    if double.contains(&pair) {
        // `->>` is a token of its own.
        let longer = pair == b"->" && bytes.get(start + 2) == Some(&b'>');
        return (Kind::Symbol, start + if longer { 3 } else { 2 });
    }
    (Kind::Symbol, start + 1)
}

/// Where `name` stands first as a name in the statement.
pub(super) fn find_name(sql: &str, name: &str) -> Option<usize> {
    let matches =
        |token: &Token| token.name(sql).is_some_and(|found| found.eq_ignore_ascii_case(name));
    tokens(sql, 0).find(matches).map(|token| token.span.start)
}
