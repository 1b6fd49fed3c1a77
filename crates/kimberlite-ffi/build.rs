//! Link arguments of the shared library.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let os = std::env::var("CARGO_CFG_TARGET_OS").unwrap_or_default();
    match os.as_str() {
        // Its threads outlive a dlclose, so it must stay loaded.
        "linux" | "android" => {
            println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
            println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libkimberlite_ffi.so");
        }
        "macos" => {
            println!(
                "cargo:rustc-cdylib-link-arg=-Wl,-install_name,@rpath/libkimberlite_ffi.dylib"
            );
            println!("cargo:rustc-cdylib-link-arg=-Wl,-dead_strip_dylibs");
        }
        _ => {}
    }
}
