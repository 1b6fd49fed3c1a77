//! An empty program of Rust's runtime: what a process takes that does nothing with the database. It
//! answers each line with a 0, the bytes of the managed heap that Rust does not have.

use std::io::{BufRead, Write};

fn main() -> std::io::Result<()> {
    for line in std::io::stdin().lock().lines() {
        line?;
        println!("0");
        std::io::stdout().flush()?;
    }
    Ok(())
}
