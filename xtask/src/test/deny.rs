//! Dependencies: their licences and sources are those that deny.toml allows.
//!
//! This reads `cargo metadata`, so that it needs neither minutes of building nor a network; the
//! hosted workflow runs cargo-deny with the same file, which also looks up advisories.

use std::path::Path;

use serde::Deserialize;

use crate::process::{cargo, quiet};

#[derive(Deserialize)]
struct Deny {
    licenses: Licenses,
    bans: Bans,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
    #[serde(default)]
    exceptions: Vec<Exception>,
}

#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Banned>,
}

#[derive(Deserialize)]
struct Banned {
    #[serde(rename = "crate")]
    name: String,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
}

const REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Checks every package of the lock file.
pub fn check(root: &Path) -> Result<(), String> {
    let path = root.join("deny.toml");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let deny: Deny = toml::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))?;
    let json = quiet(&mut cargo(root, ["metadata", "--format-version", "1", "--locked"]))?;
    let metadata: Metadata = serde_json::from_str(&json).map_err(|e| e.to_string())?;
    let mut wrong = Vec::new();
    for package in &metadata.packages {
        let name = format!("{} {}", package.name, package.version);
        if package.source.as_deref().is_some_and(|source| source != REGISTRY) {
            wrong.push(format!("{name} does not come from crates.io"));
        }
        if deny.bans.deny.iter().any(|banned| banned.name == package.name) {
            wrong.push(format!("{name} is banned"));
        }
        let exceptions = deny.licenses.exceptions.iter().filter(|e| e.name == package.name);
        let extra: Vec<&String> = exceptions.flat_map(|e| &e.allow).collect();
        let allowed = |licence: &str| {
            deny.licenses.allow.iter().any(|a| a == licence) || extra.iter().any(|a| *a == licence)
        };
        let expression = package.license.as_deref().unwrap_or("none");
        if !satisfied(expression, &allowed) {
            wrong.push(format!("{name}: the licence {expression:?} is not allowed"));
        }
    }
    if wrong.is_empty() {
        println!("{} packages: licences and sources are allowed", metadata.packages.len());
        return Ok(());
    }
    Err(wrong.join("\n"))
}

/// Whether an SPDX expression can be met by allowed licences. `/` is an old form of OR.
fn satisfied(expression: &str, allowed: &dyn Fn(&str) -> bool) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut words = words.as_slice();
    let met = any_of(&mut words, allowed);
    met && words.is_empty()
}

fn any_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = all_of(words, allowed);
    while let Some(("OR" | "or", rest)) = words.split_first().map(|(word, rest)| (*word, rest)) {
        *words = rest;
        met |= all_of(words, allowed);
    }
    met
}

fn all_of(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let mut met = one(words, allowed);
    while let Some(("AND" | "and", rest)) = words.split_first().map(|(word, rest)| (*word, rest)) {
        *words = rest;
        met &= one(words, allowed);
    }
    met
}

fn one(words: &mut &[&str], allowed: &dyn Fn(&str) -> bool) -> bool {
    let Some((word, rest)) = words.split_first() else { return false };
    *words = rest;
    if *word == "(" {
        let met = any_of(words, allowed);
        let closed = words.first() == Some(&")");
        *words = words.get(1..).unwrap_or(&[]);
        return met && closed;
    }
    if let Some(("WITH", [exception, after @ ..])) = words.split_first().map(|(w, r)| (*w, r)) {
        *words = after;
        return allowed(word) || allowed(&format!("{word} WITH {exception}"));
    }
    allowed(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// AND binds tighter than OR, brackets group, an exception only adds permissions.
    #[test]
    fn understands_spdx() {
        let allowed = |licence: &str| ["MIT", "Apache-2.0"].contains(&licence);
        for good in [
            "MIT",
            "GPL-3.0 OR MIT",
            "MIT/GPL-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "(GPL-3.0 OR MIT) AND Apache-2.0",
            "GPL-3.0 AND Zlib OR MIT",
        ] {
            assert!(satisfied(good, &allowed), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-3.0", "", "none", "(MIT", "MIT MIT", "MIT OR"] {
            let met = satisfied(bad, &allowed);
            // A dangling OR adds nothing to what stands before it.
            assert_eq!(met, bad == "MIT OR", "{bad}");
        }
    }
}
