//! `kimberlite completions` and `kimberlite man`: what shells and `man` want to know.

use std::path::PathBuf;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::args::Arguments;
use crate::failure::{Failure, Outcome};
use crate::output::Output;

/// Prints a shell's completions
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite completions bash >~/.local/share/bash-completion/completions/kimberlite
  kimberlite completions zsh >~/.zfunc/_kimberlite")]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the manual page, or writes all of them into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  kimberlite man | man -l -
  kimberlite man --dir ~/.local/share/man/man1")]
pub(crate) struct Man {
    /// Writes a page for each subcommand into this folder
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

/// Prints the completions.
pub(crate) fn completions(args: &Completions) -> Outcome<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut Arguments::command(), "kimberlite", &mut text);
    let mut out = Output::stdout();
    out.bytes(&text)?;
    out.flush()
}

/// Prints or writes the pages.
pub(crate) fn man(args: &Man) -> Outcome<()> {
    let command = Arguments::command();
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder).map_err(|e| Failure::file(folder, &e))?;
        return clap_mangen::generate_to(command, folder).map_err(|e| Failure::file(folder, &e));
    }
    let mut out = Output::stdout();
    out.bytes(&page(command)?)?;
    out.flush()
}

fn page(command: clap::Command) -> Outcome<Vec<u8>> {
    let mut text = Vec::new();
    let made = clap_mangen::Man::new(command).render(&mut text);
    made.map_err(|e| Failure::failed(format!("the manual page cannot be made: {e}")))?;
    Ok(text)
}
