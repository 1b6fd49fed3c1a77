//! What the system knows of the process.

/// What the process holds, as far as the system tells.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) threads: Option<u64>,
}

impl Process {
    /// Asks the system, which is Linux; others tell nothing here.
    pub(super) fn now() -> Process {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let files = std::fs::read_dir("/proc/self/fd").ok();
        Process {
            resident_bytes: number("VmRSS:").map(|kib| kib << 10),
            virtual_bytes: number("VmSize:").map(|kib| kib << 10),
            // The folder that is being read is one of them.
            open_files: files.map(|files| (files.count() as u64).saturating_sub(1)),
            threads: number("Threads:"),
        }
    }
}

/// How many files the process may have open, if that is bounded.
#[cfg(unix)]
pub(crate) fn descriptor_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

/// How many files the process may have open, if that is bounded.
#[cfg(not(unix))]
pub(crate) fn descriptor_limit() -> Option<u64> {
    None
}
