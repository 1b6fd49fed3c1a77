//! Replays the seeds, and every input that once found something, through every target's function.

use std::path::{Path, PathBuf};

use kimberlite_fuzz::TARGETS;

/// The inputs of a target, in order.
fn seeds(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds").join(target);
    let entries =
        std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

fn replay(target: &str) {
    let (_, run) = TARGETS.iter().find(|(name, _)| *name == target).expect("the target exists");
    run(&[]);
    let seeds = seeds(target);
    assert!(!seeds.is_empty(), "{target} has no seeds");
    for path in &seeds {
        let input = std::fs::read(path).expect("a seed can be read");
        // Shown only where the seed fails.
        println!("{}", path.display());
        run(&input);
    }
    println!("{target}: {} seeds", seeds.len());
}

/// Every promise holds for every seed of every target.
macro_rules! replays {
    ($($target:ident),*) => {$(
        #[test]
        fn $target() {
            replay(stringify!($target));
        }
    )*};
}

replays!(frames, blocks, messages, session, log, sql, config, ffi);
