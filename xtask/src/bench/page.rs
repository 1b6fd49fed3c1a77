//! Puts what an experiment told into docs/BENCHMARKS.md, between the marks of its name.

use std::path::Path;

use super::Experiment;

const PAGE: &str = "docs/BENCHMARKS.md";
const PLOTS: &str = "docs/benchmarks";

/// Fills the experiment's region and copies its plots.
pub fn write(root: &Path, out: &Path, experiment: Experiment, text: &str) -> Result<(), String> {
    let path = root.join(PAGE);
    let page = std::fs::read_to_string(&path).map_err(|e| format!("{PAGE}: {e}"))?;
    let filled = fill(&page, &experiment.to_string(), text)?;
    let plots = root.join(PLOTS);
    std::fs::create_dir_all(&plots).map_err(|e| format!("{PLOTS}: {e}"))?;
    for name in plots_of(text) {
        std::fs::copy(out.join(name), plots.join(name)).map_err(|e| format!("{name}: {e}"))?;
    }
    std::fs::write(&path, filled).map_err(|e| format!("{PAGE}: {e}"))?;
    println!("wrote {experiment} into {PAGE}");
    Ok(())
}

/// The files that the text shows: `![title](benchmarks/name.svg)`.
fn plots_of(text: &str) -> impl Iterator<Item = &str> {
    text.split("](benchmarks/").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0))
}

fn fill(page: &str, name: &str, text: &str) -> Result<String, String> {
    let (begin, end) = (format!("<!-- measured:{name} -->\n"), "<!-- /measured -->");
    let (head, rest) = page.split_once(&begin).ok_or(format!("{PAGE} has no {begin}"))?;
    let (_, tail) = rest.split_once(end).ok_or(format!("{PAGE} has no {end} after {name}"))?;
    Ok(format!("{head}{begin}\n{}\n\n{end}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Only the region of the name is replaced, and a page without it is an error.
    #[test]
    fn fills_one_region() {
        let page = "a\n<!-- measured:x -->\nold\n<!-- /measured -->\nb\n<!-- measured:y -->\n\
                    old\n<!-- /measured -->\n";
        let new = fill(page, "y", "new\n\n").unwrap();
        assert!(new.contains("<!-- measured:x -->\nold\n<!-- /measured -->\nb\n"));
        assert!(new.ends_with("<!-- measured:y -->\n\nnew\n\n<!-- /measured -->\n"));
        assert!(fill(page, "z", "new").is_err());
    }

    /// Every plot that the text shows is copied.
    #[test]
    fn finds_plots() {
        let text = "![a](benchmarks/a.svg)\n\n| x |\n\n![b](benchmarks/b.svg)";
        assert_eq!(plots_of(text).collect::<Vec<_>>(), ["a.svg", "b.svg"]);
    }
}
