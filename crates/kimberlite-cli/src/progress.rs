//! Progress bars, on standard error where that is a terminal.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::terminal;

/// A bar over so many units, `bytes` or `events`. Off a terminal nothing is shown.
pub(crate) fn bar(total: u64, bytes: bool) -> ProgressBar {
    let colour = if terminal::stderr_colours() { "cyan" } else { "" };
    let unit = if bytes {
        "{bytes}/{total_bytes} {bytes_per_sec}"
    } else {
        "{human_pos}/{human_len} events {per_sec}"
    };
    let template = match colour {
        "" => format!("{{msg}} [{{bar:30}}] {unit} {{eta}}"),
        colour => format!("{{msg}} [{{bar:30.{colour}}}] {unit} {{eta}}"),
    };
    let target = if std::io::stderr().is_terminal() {
        ProgressDrawTarget::stderr()
    } else {
        ProgressDrawTarget::hidden()
    };
    let bar = ProgressBar::with_draw_target(Some(total), target);
    // The templates are the ones above; where one were wrong the default bar would do.
    if let Ok(style) = ProgressStyle::with_template(&template) {
        bar.set_style(style.progress_chars("=> "));
    }
    bar
}
