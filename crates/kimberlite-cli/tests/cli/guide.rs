//! The guide's blocks run as they stand: they are cut from examples/cli/tour.sh.

use std::path::Path;
use std::process::Command;

use crate::common::{BINARY, Home, ran};

/// The tour runs from its beginning to its end, and its last words are there.
#[cfg(unix)]
#[test]
fn the_tour_runs() {
    let home = Home::new();
    let tour = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/cli/tour.sh");
    let mut command = Command::new("sh");
    command.arg("-eu").arg(tour);
    home.environment(&mut command);
    let bin = Path::new(BINARY).parent().expect("a folder").display().to_string();
    let path = format!("{bin}:{}", std::env::var("PATH").unwrap_or_default());
    let ran = ran(command.env("PATH", path).output().expect("sh runs"));
    assert_eq!((ran.code, ran.err.as_str()), (0, ""), "{}", ran.out);
    for words in ["check-up", "\"reason\":\"fracture\"", "ok   visits: 5 events", "exported: 5"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
}
