//! The entry of a TOML file that is mistaken, and the file without it, so that the others are looked
//! at all the same.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeString, DeTable, DeValue};

/// What a token has, in the order in which it is asked for.
const TOKEN_FIELDS: [&str; 4] = ["name", "role", "tenants", "hash"];

/// A mistaken entry.
pub(super) struct Entry {
    /// Its key with its section.
    pub(super) option: String,
    /// Where its key stands, or the head of the token that lacks it.
    pub(super) place: Range<usize>,
    /// Its value where that is no text.
    pub(super) value: Option<String>,
}

/// The innermost entry of a table that a place belongs to. A list of tables is looked into, so that
/// one mistake of a token leaves its others, and the other tokens.
pub(super) fn find(table: &DeTable<'_>, place: &Range<usize>, section: &str) -> Option<Entry> {
    for (key, value) in table {
        let option = format!("{section}{}", key.get_ref());
        let is_key = within(&key.span(), place);
        let inner = match value.get_ref() {
            _ if is_key => None,
            DeValue::Table(table) => find(table, place, &format!("{option}.")),
            DeValue::Array(list) => find_item(list, place, &option),
            _ => None,
        };
        if inner.is_some() {
            return inner;
        }
        if is_key || within(&value.span(), place) {
            return Some(Entry { option, place: key.span(), value: shown(value.get_ref()) });
        }
    }
    None
}

/// The entry of one of the tables in a list, or else the table itself.
fn find_item(list: &DeArray<'_>, place: &Range<usize>, option: &str) -> Option<Entry> {
    let tables = || list.iter().filter_map(|item| Some((item, item.get_ref().as_table()?)));
    let entry = tables().find_map(|(_, table)| find(table, place, &format!("{option}.")));
    entry.or_else(|| {
        let (item, _) = tables().find(|(item, _)| within(&item.span(), place))?;
        Some(Entry { option: option.to_string(), place: item.span(), value: None })
    })
}

fn within(span: &Range<usize>, place: &Range<usize>) -> bool {
    span.start <= place.start && place.end <= span.end
}

/// A value that may be shown: no text, because that may be a token in the wrong place.
fn shown(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(number) => number.as_str().len().le(&40).then(|| number.to_string()),
        DeValue::Float(number) => number.as_str().len().le(&40).then(|| number.to_string()),
        DeValue::Boolean(value) => Some(value.to_string()),
        _ => None,
    }
}

/// Removes the entry whose key stands there. What a token must have is replaced by something that
/// nothing can be said against, and so is the first that it lacks where its head stands there.
pub(super) fn leave_out(table: &mut DeTable<'_>, place: &Range<usize>) {
    if let Some(key) = key_at(table, place) {
        table.remove(key.as_str());
    }
    for (_, value) in table.iter_mut() {
        match value.get_mut() {
            DeValue::Table(inner) => leave_out(inner, place),
            DeValue::Array(list) => {
                for item in list.iter_mut() {
                    let is_here = item.span() == *place;
                    if let DeValue::Table(item) = item.get_mut() {
                        leave_out_of_token(item, place, is_here);
                    }
                }
            }
            _ => {}
        }
    }
}

fn leave_out_of_token(token: &mut DeTable<'_>, place: &Range<usize>, lacks: bool) {
    let field = if let Some(key) = key_at(token, place) {
        token.remove(key.as_str());
        TOKEN_FIELDS.into_iter().find(|field| key == *field)
    } else if lacks {
        TOKEN_FIELDS.into_iter().find(|field| !token.contains_key(*field))
    } else {
        None
    };
    if let Some(field) = field {
        // No place: it stands nowhere.
        let key = Spanned::new(0..0, DeString::from(field));
        token.insert(key, Spanned::new(0..0, stand_in(field, place.start)));
    }
}

fn key_at(table: &DeTable<'_>, place: &Range<usize>) -> Option<String> {
    let key = table.iter().map(|(key, _)| key).find(|key| key.span() == *place)?;
    Some(key.get_ref().to_string())
}

/// A value against which nothing can be said. The hash is like no other's.
fn stand_in(field: &str, place: usize) -> DeValue<'static> {
    let text = match field {
        "role" => "reader".to_string(),
        "tenants" => "*".to_string(),
        "hash" => format!("sha256:{:032x}:{place:064x}", 0),
        _ => "left out".to_string(),
    };
    DeValue::String(text.into())
}
