//! Recognises statements that only count the events in a range, which the index answers.
//!
//! `SELECT COUNT(*) FROM <name> [WHERE <key> <op> <integer or parameter> [AND …]]` and nothing else
//! is recognised; SQLite has compiled the statement before, so that names and syntax are known to
//! be right. Whatever looks different, or has a parameter that is no number, is left to SQLite.

use kimberlite_wire::Value;

use super::bounds::{Bounds, Comparison, Key, Operand};
use super::token::{Kind, Token, tokens};

/// The conditions of a statement that only counts; `None` where it is anything else.
pub(super) fn recognise(sql: &str, params: &[Value]) -> Option<Bounds> {
    let tokens: Vec<Token> = tokens(sql, 0).take(MAX_TOKENS + 1).collect();
    if tokens.len() > MAX_TOKENS {
        return None;
    }
    let mut parser = Parser { sql, params, tokens: &tokens, at: 0, largest_parameter: 0 };
    let bounds = parser.statement()?;
    (parser.at == tokens.len()).then_some(bounds)
}

const MAX_TOKENS: usize = 64;

struct Parser<'a> {
    sql: &'a str,
    params: &'a [Value],
    tokens: &'a [Token],
    at: usize,
    largest_parameter: usize,
}

impl Parser<'_> {
    fn statement(&mut self) -> Option<Bounds> {
        self.word("SELECT")?;
        self.word("COUNT")?;
        self.symbol("(")?;
        self.symbol("*")?;
        self.symbol(")")?;
        self.alias()?;
        self.word("FROM")?;
        self.name()?;
        self.alias()?;
        let mut bounds = Bounds::new();
        if self.word("WHERE").is_some() {
            self.condition(&mut bounds)?;
            while self.word("AND").is_some() {
                self.condition(&mut bounds)?;
            }
        }
        while self.symbol(";").is_some() {}
        Some(bounds)
    }

    /// `AS name` or nothing. An alias without AS is left to SQLite: it might be a keyword.
    fn alias(&mut self) -> Option<()> {
        match self.word("AS") {
            Some(()) => self.name(),
            None => Some(()),
        }
    }

    fn condition(&mut self, bounds: &mut Bounds) -> Option<()> {
        let key = self.key()?;
        if self.word("BETWEEN").is_some() {
            let low = self.operand()?;
            self.word("AND")?;
            let high = self.operand()?;
            bounds.narrow(key, Comparison::AtLeast, low);
            bounds.narrow(key, Comparison::AtMost, high);
            return Some(());
        }
        let comparison = self.comparison()?;
        let operand = self.operand()?;
        bounds.narrow(key, comparison, operand);
        Some(())
    }

    fn key(&mut self) -> Option<Key> {
        let token = self.tokens.get(self.at).filter(|token| token.kind == Kind::Word)?;
        let text = token.text(self.sql);
        let key = [
            ("id", Key::Id),
            ("rowid", Key::Id),
            ("timestamp", Key::Seconds),
            ("timestamp_ns", Key::Nanos),
        ]
        .into_iter()
        .find_map(|(name, key)| text.eq_ignore_ascii_case(name).then_some(key))?;
        self.at += 1;
        Some(key)
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let token = self.tokens.get(self.at).filter(|token| token.kind == Kind::Symbol)?;
        let comparison = match token.text(self.sql) {
            "=" | "==" => Comparison::Equal,
            "<" => Comparison::Below,
            "<=" => Comparison::AtMost,
            ">" => Comparison::Above,
            ">=" => Comparison::AtLeast,
            _ => return None,
        };
        self.at += 1;
        Some(comparison)
    }

    /// An integer, perhaps negative, or a parameter that holds a number or NULL.
    fn operand(&mut self) -> Option<Operand> {
        let negative = self.symbol("-").is_some();
        let token = self.tokens.get(self.at)?;
        self.at += 1;
        match token.kind {
            Kind::Digits => {
                let value: i64 = token.text(self.sql).parse().ok()?;
                Some(Operand::Integer(if negative { -value } else { value }))
            }
            Kind::Parameter if !negative => self.parameter(token),
            _ => None,
        }
    }

    fn parameter(&mut self, token: &Token) -> Option<Operand> {
        let digits = token.text(self.sql).get(1..)?;
        let number = match digits {
            "" => self.largest_parameter + 1,
            digits => digits.parse().ok()?,
        };
        self.largest_parameter = self.largest_parameter.max(number);
        match self.params.get(number.checked_sub(1)?)? {
            Value::Null => Some(Operand::Null),
            Value::Int64(value) => Some(Operand::Integer(*value)),
            Value::Float64(value) => Some(Operand::Real(*value)),
            Value::Bool(value) => Some(Operand::Integer(i64::from(*value))),
            Value::String(_) | Value::Bytes(_) => None,
        }
    }

    fn name(&mut self) -> Option<()> {
        self.tokens.get(self.at)?.name(self.sql)?;
        self.at += 1;
        Some(())
    }

    fn word(&mut self, word: &str) -> Option<()> {
        self.tokens.get(self.at)?.is_word(self.sql, word).then(|| self.at += 1)
    }

    fn symbol(&mut self, symbol: &str) -> Option<()> {
        self.tokens.get(self.at)?.is_symbol(self.sql, symbol).then(|| self.at += 1)
    }
}

#[cfg(test)]
mod tests {
    use kimberlite_wire::Value;

    use super::recognise;

    /// Plain counts are seen however they are written; anything else is left to SQLite.
    #[test]
    fn only_plain_counts_are_recognised() {
        let params = [Value::Int64(5), Value::Float64(0.5), Value::Null, Value::Bool(true)];
        for sql in [
            "SELECT COUNT(*) FROM orders",
            "select count ( * ) as n from \"order items\" as o where ID>=10 and id<?;",
            "SELECT COUNT(*) FROM t WHERE timestamp BETWEEN ? AND ?2 AND timestamp_ns <> 1",
            "SELECT COUNT(*) FROM t /* all */ WHERE rowid == -7 -- only this\n;",
            "SELECT COUNT(*) FROM t WHERE id = ?4 AND id = ?3",
        ] {
            let wanted = !sql.contains("<>");
            assert_eq!(recognise(sql, &params).is_some(), wanted, "{sql}");
        }
        for sql in [
            "SELECT COUNT(id) FROM t",
            "SELECT COUNT(*) + 1 FROM t",
            "SELECT COUNT(*), 1 FROM t",
            "SELECT DISTINCT COUNT(*) FROM t",
            "SELECT COUNT(*) FROM t, u",
            "SELECT COUNT(*) FROM t JOIN u",
            "SELECT COUNT(*) FROM t o",
            "SELECT COUNT(*) FROM t GROUP BY id",
            "SELECT COUNT(*) FROM t LIMIT 0",
            "SELECT COUNT(*) FROM t UNION SELECT 1",
            "SELECT COUNT(*) FROM t WHERE id > 5 OR id < 3",
            "SELECT COUNT(*) FROM t WHERE NOT id > 5",
            "SELECT COUNT(*) FROM t WHERE id > 5 + 1",
            "SELECT COUNT(*) FROM t WHERE id > 1.5",
            "SELECT COUNT(*) FROM t WHERE id > '5'",
            "SELECT COUNT(*) FROM t WHERE id > 0x5",
            "SELECT COUNT(*) FROM t WHERE id > 99999999999999999999",
            "SELECT COUNT(*) FROM t WHERE data > 5",
            "SELECT COUNT(*) FROM t WHERE id > ?9",
            "SELECT COUNT(*) FROM t WHERE id > ?0",
            "SELECT COUNT(*) FROM t WHERE id > :a",
            "SELECT COUNT(*) FROM t WHERE id",
            "EXPLAIN SELECT COUNT(*) FROM t",
            "WITH t AS (SELECT 1) SELECT COUNT(*) FROM t",
            "",
        ] {
            assert!(recognise(sql, &params).is_none(), "{sql}");
        }
        let text = [Value::String("5".to_string())];
        assert!(recognise("SELECT COUNT(*) FROM t WHERE id > ?", &text).is_none());
    }
}
