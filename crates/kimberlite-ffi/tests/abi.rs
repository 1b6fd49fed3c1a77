//! The C ABI against the contract, and the C tests of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use kimberlite_ffi::*;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The sizes of the frozen layouts, by name, as spec/api.toml has them.
fn contract_sizes() -> Vec<(String, usize)> {
    let text = std::fs::read_to_string(root().join("spec/api.toml")).unwrap();
    let contract: toml::Table = text.parse().unwrap();
    contract["layout"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layout| {
            let size = layout["size"].as_integer().unwrap();
            (layout["name"].as_str().unwrap().to_string(), usize::try_from(size).unwrap())
        })
        .collect()
}

macro_rules! sizes {
    ($($kind:ident),* $(,)?) => {
        vec![$((stringify!($kind).to_string(), size_of::<$kind>())),*]
    };
}

/// Every frozen layout has the size that the contract promises, and none is missing from it.
#[test]
#[cfg(target_pointer_width = "64")]
fn layouts_are_as_promised() {
    let mut ours = sizes![
        KmbAppended,
        KmbBlocks,
        KmbBytes,
        KmbCallOptions,
        KmbCells,
        KmbCompletion,
        KmbDetail,
        KmbEvent,
        KmbPage,
        KmbParamValue,
        KmbQueryParam,
        KmbQueryResult,
        KmbReadInto,
        KmbReadResult,
        KmbStreamInfo,
        KmbStreamList,
        KmbTenantList,
        KmbVerification,
    ];
    let mut promised = contract_sizes();
    ours.sort();
    promised.sort();
    assert_eq!(ours, promised);
}

/// The version that the library tells is its package's.
#[test]
fn version_is_the_package_version() {
    // SAFETY: the text is static and ends with a NUL.
    let version = unsafe { std::ffi::CStr::from_ptr(kmb_version()) };
    assert_eq!(version.to_str(), Ok(env!("CARGO_PKG_VERSION")));
    assert_eq!(kmb_abi_version(), KMB_ABI_VERSION);
}

/// The header compiles, the library exports what the contract lists, and the C tests pass, against
/// databases in this process; `cargo xtask test` runs them under Valgrind, with AddressSanitizer and
/// against a server too.
#[test]
#[cfg(target_os = "linux")]
fn c_tests_pass() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/c/run.sh");
    let status = Command::new(script)
        .args(["dev", "header", "symbols", "plain"])
        .env("CARGO", env!("CARGO"))
        .env("KIMBERLITE_SERVER", "none")
        .status()
        .unwrap();
    assert!(status.success());
}
