//! The leak test finds what a program loses on purpose: memory with each call, files and threads
//! with each connect; and finds nothing where nothing is lost.

use std::process::Command;

fn leaks(plant: &str) -> (bool, String) {
    let program = env!("CARGO_BIN_EXE_kimberlite-reliability");
    let folder =
        std::env::temp_dir().join(format!("kimberlite-leaks-{}-{plant}", std::process::id()));
    let option = if plant.is_empty() { String::new() } else { format!("--plant {plant}") };
    let output = Command::new(program)
        .args(["leaks", "--calls", "2000", "--connects", "40", "--more-kib", "4096"])
        .arg("--folder")
        .arg(&folder)
        .arg("--client")
        .arg(format!("planted={program} caller {option}"))
        .output()
        .expect("the program runs");
    let _ = std::fs::remove_dir_all(&folder);
    let told = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.success(), told.into_owned())
}

/// Each planted leak is found and named, and a program without one passes.
#[test]
fn planted_leaks_are_found() {
    let (well, told) = leaks("");
    assert!(well, "{told}");
    for (plant, phase, words) in [
        ("memory", "calls, client", "memory grows"),
        ("file", "connects, client", "files"),
        ("thread", "connects, client", "threads"),
    ] {
        let (well, told) = leaks(plant);
        assert!(!well && told.contains(phase) && told.contains(words), "{plant}: {told}");
    }
}
