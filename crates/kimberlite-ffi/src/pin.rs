//! Keeps the library in memory once it has threads: an unload would take their code away.

/// Pins the library. On Linux the linker has marked it so already (`-z nodelete`).
#[cfg(target_os = "linux")]
pub(crate) fn pin_library() {}

/// Pins the library by opening it once more, never to be closed. Where it is part of the program
/// itself there is nothing to pin.
#[cfg(all(unix, not(target_os = "linux")))]
pub(crate) fn pin_library() {
    let own = pin_library as fn() as *const libc::c_void;
    // SAFETY: `info` has room for the answer, and the name that it points to belongs to the loader.
    unsafe {
        let mut info = std::mem::zeroed::<libc::Dl_info>();
        if libc::dladdr(own, &mut info) != 0 && !info.dli_fname.is_null() {
            libc::dlopen(info.dli_fname, libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE);
        }
    }
}

/// Pins the library by taking a reference that is never given back.
#[cfg(windows)]
pub(crate) fn pin_library() {
    use std::ffi::c_void;

    #[link(name = "kernel32")]
    unsafe extern "system" {
        fn GetModuleHandleExW(flags: u32, address: *const c_void, module: *mut *mut c_void) -> i32;
    }
    const PIN: u32 = 1;
    const FROM_ADDRESS: u32 = 4;
    let own = pin_library as fn() as *const c_void;
    let mut module = std::ptr::null_mut();
    // SAFETY: the address lies within this module, and there is room for the answer.
    unsafe { GetModuleHandleExW(PIN | FROM_ADDRESS, own, &mut module) };
}

#[cfg(not(any(unix, windows)))]
pub(crate) fn pin_library() {}
