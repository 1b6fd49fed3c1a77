//! The raw machine: what no database on it can beat.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Instant;

use crate::stats::Latencies;

/// Writing 4 KiB into a file that was written before, and fdatasync.
pub fn sync_4k(folder: &Path, count: usize) -> io::Result<Latencies> {
    let file = std::fs::File::create(folder.join("device-4k"))?;
    let blocks = 16 * 1024 * 1024 / 4096;
    file.write_all_at(&vec![0; 16 * 1024 * 1024], 0)?;
    file.sync_all()?;
    let block = [7u8; 4096];
    let mut next = 0u64;
    let found = Latencies::of(count, || {
        file.write_all_at(&block, (next % blocks) * 4096)?;
        next += 1;
        file.sync_data()
    });
    std::fs::remove_file(folder.join("device-4k"))?;
    found
}

/// Sequential writes of 8 MiB, each with fdatasync, into a file that was written before: bytes/s.
pub fn write_8m(folder: &Path, steps: u64) -> io::Result<f64> {
    const STEP: u64 = 8 * 1024 * 1024;
    let file = std::fs::File::create(folder.join("device-8m"))?;
    let block = vec![7u8; STEP as usize];
    for pass in 0..2 {
        let start = Instant::now();
        for step in 0..steps {
            file.write_all_at(&block, step * STEP)?;
            file.sync_data()?;
        }
        if pass == 1 {
            std::fs::remove_file(folder.join("device-8m"))?;
            return Ok((steps * STEP) as f64 / start.elapsed().as_secs_f64());
        }
    }
    Ok(0.0)
}

/// A round trip of 100 bytes over loopback TCP between two threads.
pub fn round_trip(count: usize) -> io::Result<Latencies> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let echo = std::thread::spawn(move || -> io::Result<()> {
        let (mut socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let mut buffer = [0u8; 100];
        while socket.read_exact(&mut buffer).is_ok() {
            socket.write_all(&buffer)?;
        }
        Ok(())
    });
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    let mut buffer = [1u8; 100];
    let found = Latencies::of(count, || {
        socket.write_all(&buffer)?;
        socket.read_exact(&mut buffer)
    });
    drop(socket);
    let _ = echo.join();
    found
}
