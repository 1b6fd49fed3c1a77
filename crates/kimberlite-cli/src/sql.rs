//! Where statements end.

/// The statements of a text, without the semicolons between them; what holds nothing but space and
/// comments is left out. The last may lack its semicolon.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let mut statements = Vec::new();
    let mut start = 0;
    let mut scanner = Scanner::new(text);
    let mut has_words = false;
    while let Some(part) = scanner.next() {
        match part {
            Part::Semicolon(at) => {
                if has_words {
                    statements.push(text[start..at].trim());
                }
                start = at + 1;
                has_words = false;
            }
            Part::Word => has_words = true,
            Part::Blank => {}
        }
    }
    if has_words {
        statements.push(text[start..].trim());
    }
    statements
}

/// Whether a text ends where a statement may be run: behind a semicolon, outside of quotes and
/// comments, or with nothing in it.
pub(crate) fn is_complete(text: &str) -> bool {
    let mut scanner = Scanner::new(text);
    let mut open = false;
    while let Some(part) = scanner.next() {
        match part {
            Part::Semicolon(_) => open = false,
            Part::Word => open = true,
            Part::Blank => {}
        }
    }
    !open && !scanner.unclosed
}

enum Part {
    /// A semicolon that ends a statement, and where it is.
    Semicolon(usize),
    /// Something of a statement.
    Word,
    /// Space or a comment.
    Blank,
}

/// Walks over quotes and comments.
struct Scanner<'a> {
    text: &'a str,
    at: usize,
    /// The text ends within quotes or a comment.
    unclosed: bool,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Scanner<'a> {
        Scanner { text, at: 0, unclosed: false }
    }

    fn next(&mut self) -> Option<Part> {
        let rest = &self.text[self.at..];
        let first = rest.chars().next()?;
        match first {
            ';' => {
                self.at += 1;
                Some(Part::Semicolon(self.at - 1))
            }
            // A doubled quote within is the end and a new beginning, which comes to the same.
            '\'' | '"' | '`' => Some(self.to(first, 1)),
            '[' => Some(self.to(']', 1)),
            '-' if rest.starts_with("--") => {
                self.at += rest.find('\n').unwrap_or(rest.len());
                Some(Part::Blank)
            }
            '/' if rest.starts_with("/*") => {
                match rest[2..].find("*/") {
                    Some(end) => self.at += end + 4,
                    None => {
                        self.unclosed = true;
                        self.at = self.text.len();
                    }
                }
                Some(Part::Blank)
            }
            c => {
                self.at += c.len_utf8();
                Some(if c.is_whitespace() { Part::Blank } else { Part::Word })
            }
        }
    }

    /// Walks behind the next `end`.
    fn to(&mut self, end: char, skip: usize) -> Part {
        match self.text[self.at + skip..].find(end) {
            Some(found) => self.at += skip + found + end.len_utf8(),
            None => {
                self.unclosed = true;
                self.at = self.text.len();
            }
        }
        Part::Word
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Semicolons in quotes, names and comments end nothing; empty statements are left out.
    #[test]
    fn splits_statements() {
        assert_eq!(split("SELECT 1; SELECT ';'';' ;;"), ["SELECT 1", "SELECT ';'';'"]);
        assert_eq!(
            split("-- a;\nSELECT \"a;\" /* ; */ FROM [b;]"),
            ["-- a;\nSELECT \"a;\" /* ; */ FROM [b;]"]
        );
        assert!(split(" ; -- nothing\n").is_empty());
        assert_eq!(split("SELECT 'é;"), ["SELECT 'é;"]);
    }

    /// A line is run once its statement has ended, and never within quotes or a comment.
    #[test]
    fn knows_the_end() {
        for whole in ["", " ", "SELECT 1;", "SELECT ';';", "SELECT 1; -- done", "-- nothing"] {
            assert!(is_complete(whole), "{whole}");
        }
        for part in ["SELECT 1", "SELECT ';", "SELECT 1; SELECT", "/* a;", "SELECT \"a;\n"] {
            assert!(!is_complete(part), "{part}");
        }
    }
}
