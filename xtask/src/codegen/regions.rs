//! Parts of hand-written pages that are filled in: tables of the contract between
//! `<!-- generated:NAME -->` and `<!-- /generated -->`, what the contract says of an error between
//! `<!-- error:NAME -->` and `<!-- /error -->`, and code cut from programs that tests run between
//! `<!-- cut:FILE -->` and `<!-- /cut -->`.
//!
//! A cut takes the whole program, or what stands between its lines that contain `cut-begin` and
//! `cut-end`; with `FILE#NAME`, between `cut-begin NAME` and `cut-end`. `<!-- blocks:GUIDE#NAME -->`
//! to `<!-- /blocks -->` cuts that part out of the program `GUIDE` of every language that has
//! examples, so that a new language adds its programs and no page.

use std::path::{Path, PathBuf};

use super::docs;
use crate::contract::Contract;

/// Every page that may hold such parts: Markdown outside of what is built or generated.
pub fn pages(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let skipped = name.starts_with('.')
                || ["target", "node_modules", "reference"].contains(&name.as_str());
            if path.is_dir() && !skipped {
                folders.push(path);
            } else if path.extension().is_some_and(|e| e == "md") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// The page with its parts filled in.
pub fn fill(root: &Path, contract: &Contract, text: &str) -> Result<String, String> {
    let text = replace(text, "generated", |name| {
        docs::region(contract, name).ok_or_else(|| format!("there is no table {name:?}"))
    })?;
    let mut told = Vec::new();
    let text = replace(&text, "error", |name| {
        told.push(name.to_string());
        about_error(contract, name)
    })?;
    let untold = contract.errors.iter().find(|e| e.number > 0 && !told.contains(&e.name));
    if let (false, Some(error)) = (told.is_empty(), untold) {
        return Err(format!("the page tells of errors, but not of {}", error.name));
    }
    let text = replace(&text, "blocks", |name| blocks(root, name))?;
    replace(&text, "cut", |name| block(root, name))
}

/// The languages in which a guide shows its blocks: folder of examples, title, file extension.
const LANGUAGES: [(&str, &str, &str); 8] = [
    ("python", "Python", "py"),
    ("typescript", "TypeScript", "ts"),
    ("go", "Go", "go"),
    ("java", "Java", "java"),
    ("csharp", "C#", "cs"),
    ("cpp", "C++", "cpp"),
    ("rust", "Rust", "rs"),
    ("c", "C", "c"),
];

/// One part of a guide in every language that has examples.
fn blocks(root: &Path, name: &str) -> Result<String, String> {
    let (guide, part) = name.split_once('#').ok_or_else(|| format!("{name}: want GUIDE#NAME"))?;
    let mut out = String::new();
    for (folder, title, extension) in LANGUAGES {
        if root.join("examples").join(folder).is_dir() {
            let code = block(root, &format!("examples/{folder}/{guide}.{extension}#{part}"))?;
            out += &format!("\n{title}:\n\n{code}");
        }
    }
    Ok(out + "\n")
}

/// One program, or a part of it, as a block of code.
fn block(root: &Path, name: &str) -> Result<String, String> {
    let (file, part) = name.split_once('#').map_or((name, None), |(f, p)| (f, Some(p)));
    let program = std::fs::read_to_string(root.join(file)).map_err(|e| format!("{file}: {e}"))?;
    let code = cut(&program, part).ok_or_else(|| format!("{name}: nothing to cut"))?;
    Ok(format!("```{}\n{}\n```\n", language(file), code.trim_matches('\n')))
}

/// What the contract says of an error, below the page's own words.
fn about_error(contract: &Contract, name: &str) -> Result<String, String> {
    let error = contract.errors.iter().find(|error| error.name == name);
    let error = error.ok_or_else(|| format!("there is no error {name:?}"))?;
    let retryable = if error.retryable { "retryable" } else { "not retryable" };
    Ok(format!("Number {}, {retryable}. {} {}\n", error.number, error.message, error.remedy))
}

/// Replaces what stands between `<!-- KIND:NAME -->` and `<!-- /KIND -->`. Code that shows such marks
/// stays as it is: a mark begins its line.
fn replace(
    text: &str,
    kind: &str,
    mut body: impl FnMut(&str) -> Result<String, String>,
) -> Result<String, String> {
    let (open, close) = (format!("<!-- {kind}:"), format!("<!-- /{kind} -->"));
    let mut out = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        out.push_str(line);
        out.push('\n');
        let Some(name) = line.strip_prefix(&open).and_then(|rest| rest.strip_suffix(" -->")) else {
            continue;
        };
        out.push_str(&body(name)?);
        let end = lines.by_ref().find(|line| *line == close);
        out.push_str(end.ok_or_else(|| format!("{open}{name} --> has no {close}"))?);
        out.push('\n');
    }
    Ok(out)
}

fn cut(program: &str, part: Option<&str>) -> Option<String> {
    let begins = |line: &str| match (line.split_once("cut-begin"), part) {
        (Some((_, rest)), Some(part)) => rest.trim_end_matches("*/").trim() == part,
        (found, None) => found.is_some(),
        (None, _) => false,
    };
    let lines: Vec<&str> = program.lines().collect();
    let Some(start) = lines.iter().position(|line| begins(line)) else {
        return part.is_none().then(|| program.to_string());
    };
    let inside = lines.get(start + 1..)?;
    let end = inside.iter().position(|line| line.contains("cut-end")).unwrap_or(inside.len());
    let inside = inside.get(..end)?;
    let indent = |line: &&str| line.len() - line.trim_start().len();
    let shared =
        inside.iter().filter(|line| !line.trim().is_empty()).map(indent).min().unwrap_or(0);
    let lines: Vec<&str> = inside.iter().map(|line| line.get(shared..).unwrap_or("")).collect();
    Some(lines.join("\n"))
}

fn language(file: &str) -> &'static str {
    if file.ends_with("CMakeLists.txt") {
        return "cmake";
    }
    match Path::new(file).extension().and_then(|e| e.to_str()).unwrap_or("") {
        "py" => "python",
        "rs" => "rust",
        "c" | "h" => "c",
        "ts" => "typescript",
        "go" => "go",
        "java" => "java",
        "cs" => "csharp",
        "cpp" => "cpp",
        "sh" => "sh",
        "toml" => "toml",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What stands between two marks is replaced; other lines, and marks inside a line, are not.
    #[test]
    fn replaces_between_marks() {
        let text = "a\n<!-- cut:x -->\nold\n<!-- /cut -->\n`<!-- cut:y -->` in a sentence\n";
        let new = replace(text, "cut", |name| Ok(format!("new {name}\n"))).unwrap();
        assert_eq!(
            new,
            "a\n<!-- cut:x -->\nnew x\n<!-- /cut -->\n`<!-- cut:y -->` in a sentence\n"
        );
        assert!(replace("<!-- cut:x -->\n", "cut", |_| Ok(String::new())).is_err());
    }

    /// A cut is the whole program, its marked part without the common indent, or the part of a name.
    #[test]
    fn cuts_programs() {
        let program = "use x;\nfn main() {\n    // cut-begin\n    a();\n      b();\n    // cut-end\n    // cut-begin more\n    c();\n    // cut-end\n}\n";
        assert_eq!(cut(program, None).unwrap(), "a();\n  b();");
        assert_eq!(cut(program, Some("more")).unwrap(), "c();");
        assert_eq!(cut(program, Some("none")), None);
        assert_eq!(cut("whole\n", None).unwrap(), "whole\n");
        assert_eq!(cut("/* cut-begin a */\nb\n/* cut-end */\n", Some("a")).unwrap(), "b");
    }
}
