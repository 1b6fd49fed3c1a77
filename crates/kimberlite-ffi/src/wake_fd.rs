//! The descriptor that is readable while a queue holds completions: an eventfd on Linux, a pipe on
//! other Unix systems. Elsewhere there is none, and kmb_submit_callback serves.

#[cfg(unix)]
pub(crate) use unix::WakeFd;

#[cfg(unix)]
mod unix {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

    use kimberlite_wire::{Error, ErrorCode};

    use crate::sync::system_call;

    /// Close-on-exec, never blocking; closed on drop.
    pub(crate) struct WakeFd {
        read: OwnedFd,
        #[cfg(not(target_os = "linux"))]
        write: OwnedFd,
    }

    fn failed() -> Error {
        let cause = std::io::Error::last_os_error();
        let detail = format!("the queue's descriptor could not be made: {cause}");
        Error::new(ErrorCode::Overloaded, detail)
    }

    #[cfg(target_os = "linux")]
    impl WakeFd {
        pub(crate) fn new() -> Result<WakeFd, Error> {
            // SAFETY: takes plain numbers.
            let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
            if fd < 0 {
                return Err(failed());
            }
            // SAFETY: the descriptor is new and nobody else's.
            Ok(WakeFd { read: unsafe { OwnedFd::from_raw_fd(fd) } })
        }

        fn writer(&self) -> i32 {
            self.read.as_raw_fd()
        }
    }

    #[cfg(not(target_os = "linux"))]
    impl WakeFd {
        pub(crate) fn new() -> Result<WakeFd, Error> {
            let mut fds = [0; 2];
            // SAFETY: the array has room for the two descriptors.
            if unsafe { libc::pipe(fds.as_mut_ptr()) } < 0 {
                return Err(failed());
            }
            // SAFETY: the descriptors are new and nobody else's.
            let pipe = unsafe {
                WakeFd { read: OwnedFd::from_raw_fd(fds[0]), write: OwnedFd::from_raw_fd(fds[1]) }
            };
            for fd in fds {
                // SAFETY: takes plain numbers.
                let set = unsafe {
                    let flags = libc::fcntl(fd, libc::F_GETFL);
                    libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) >= 0
                        && libc::fcntl(fd, libc::F_SETFL, flags | libc::O_NONBLOCK) >= 0
                };
                if !set {
                    return Err(failed());
                }
            }
            Ok(pipe)
        }

        fn writer(&self) -> i32 {
            self.write.as_raw_fd()
        }
    }

    impl WakeFd {
        /// The descriptor to watch.
        pub(crate) fn number(&self) -> i32 {
            self.read.as_raw_fd()
        }

        /// Makes it readable. It holds at most one signal, so the write cannot find it full.
        pub(crate) fn signal(&self) {
            system_call();
            let one = 1u64.to_ne_bytes();
            // SAFETY: the bytes are there.
            let _ = unsafe { libc::write(self.writer(), one.as_ptr().cast(), one.len()) };
        }

        /// Makes it unreadable again.
        pub(crate) fn reset(&self) {
            system_call();
            let mut bytes = [0u8; 8];
            // SAFETY: there is room for the bytes.
            let _ = unsafe { libc::read(self.read.as_raw_fd(), bytes.as_mut_ptr().cast(), 8) };
        }
    }
}

#[cfg(not(unix))]
pub(crate) struct WakeFd;

#[cfg(not(unix))]
impl WakeFd {
    pub(crate) fn new() -> Result<WakeFd, kimberlite_wire::Error> {
        Err(kimberlite_wire::Error::invalid(
            "with_fd is true; this system has no descriptors to poll: use kmb_submit_callback",
        ))
    }

    pub(crate) fn number(&self) -> i32 {
        -1
    }

    pub(crate) fn signal(&self) {}

    pub(crate) fn reset(&self) {}
}
