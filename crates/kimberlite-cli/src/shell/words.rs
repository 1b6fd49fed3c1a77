//! What a word in the shell can become.

use crate::escape;

const COMMANDS: [&str; 7] = [".at", ".format", ".help", ".quit", ".schema", ".streams", ".timing"];
const COLUMNS: [&str; 5] = ["id", "timestamp", "data", "timestamp_ns", "text"];
const TABLES: [&str; 2] = ["_streams", "_audit"];
const KEYWORDS: [&str; 48] = [
    "ALL",
    "AND",
    "AS",
    "ASC",
    "AVG",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "COALESCE",
    "COUNT",
    "CROSS",
    "DESC",
    "DISTINCT",
    "ELSE",
    "END",
    "EXCEPT",
    "EXISTS",
    "FROM",
    "GLOB",
    "GROUP",
    "HAVING",
    "IN",
    "INNER",
    "INTERSECT",
    "IS",
    "JOIN",
    "LEFT",
    "LIKE",
    "LIMIT",
    "MAX",
    "MIN",
    "NOT",
    "NULL",
    "OFFSET",
    "ON",
    "OR",
    "ORDER",
    "OVER",
    "PARTITION",
    "SELECT",
    "SUM",
    "THEN",
    "UNION",
    "USING",
    "WHEN",
    "WHERE",
    "WITH",
];

/// Where the word that is being typed begins.
pub(super) fn start(before: &str) -> usize {
    let of_word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '"' | '.');
    before
        .rfind(|c: char| !of_word(c))
        .map_or(0, |at| at + before[at..].chars().next().map_or(1, char::len_utf8))
}

/// What the word can become, in order: commands at the line's beginning; else streams, columns and
/// keywords.
pub(super) fn candidates(before: &str, word: &str, streams: &[String]) -> Vec<String> {
    let begins = |candidate: &str| {
        candidate.get(..word.len()).is_some_and(|head| head.eq_ignore_ascii_case(word))
    };
    if word.starts_with('.') {
        let at_start = before.trim_start() == word;
        let commands = COMMANDS.iter().filter(|command| at_start && begins(command));
        return commands.map(|command| command.to_string()).collect();
    }
    let mut found: Vec<String> = Vec::new();
    let named = streams.iter().filter(|name| !name.contains(escape::is_unsafe));
    for name in named.map(|name| as_sql(name)).chain(TABLES.map(String::from)) {
        let bare = name.trim_start_matches('"');
        if begins(&name) || begins(bare) {
            found.push(name);
        }
    }
    if word.is_empty() {
        // After FROM only tables make sense; elsewhere everything would be too much.
        return found;
    }
    found.extend(COLUMNS.iter().filter(|c| begins(c)).map(|c| c.to_string()));
    let lower = word.chars().all(|c| !c.is_uppercase());
    let keywords = KEYWORDS.iter().filter(|keyword| begins(keyword));
    found.extend(keywords.map(|k| if lower { k.to_ascii_lowercase() } else { k.to_string() }));
    found
}

/// A name as SQL wants it: in quotes unless it is a plain word that is no keyword.
fn as_sql(name: &str) -> String {
    let plain = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name));
    if plain { name.to_string() } else { format!("\"{}\"", name.replace('"', "\"\"")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Words become streams (quoted where SQL wants that), columns, keywords in the typed case,
    /// or commands at the beginning.
    #[test]
    fn completes() {
        let streams = ["visits".to_string(), "visit log".to_string(), "a\x1bb".to_string()];
        let of = |before: &str| candidates(before, &before[start(before)..], &streams);
        assert_eq!(of("SELECT * FROM vis"), ["visits", "\"visit log\""]);
        assert_eq!(of("SELECT * FROM \"vis"), ["\"visit log\""]);
        assert_eq!(of("sel"), ["select"]);
        assert_eq!(of("SEL"), ["SELECT"]);
        assert_eq!(of("SELECT time"), ["timestamp", "timestamp_ns"]);
        assert_eq!(of(".st"), [".streams"]);
        assert!(of("SELECT .st").is_empty() && of("a").iter().all(|c| !c.contains('\x1b')));
    }
}
