//! A TCP proxy that delays, cuts and swallows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

/// Stands between a client and a server. What it does to both can be changed at any time.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    target: Mutex<SocketAddr>,
    /// Bytes go nowhere, but connections stay open.
    black_hole: AtomicBool,
    /// New connections are closed at once.
    refuses: AtomicBool,
    delay_ms: AtomicU64,
    /// After this many more bytes in either direction every connection is cut; 0: never.
    cut_after: AtomicU64,
    accepted: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// A proxy before a server.
    pub fn start(target: SocketAddr) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            black_hole: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            cut_after: AtomicU64::new(0),
            accepted: AtomicU64::new(0),
            open: Mutex::new(Vec::new()),
        });
        let accepting = Arc::clone(&shared);
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client);
            }
        });
        Proxy { shared, address }
    }

    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Where new connections go.
    pub fn retarget(&self, target: SocketAddr) {
        *self.shared.target.lock().expect("no panic") = target;
    }

    pub fn black_hole(&self, on: bool) {
        self.shared.black_hole.store(on, Ordering::SeqCst);
    }

    pub fn refuse(&self, on: bool) {
        self.shared.refuses.store(on, Ordering::SeqCst);
    }

    pub fn delay_ms(&self, delay_ms: u64) {
        self.shared.delay_ms.store(delay_ms, Ordering::SeqCst);
    }

    /// Cuts every connection once this many more bytes have passed.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after.store(bytes, Ordering::SeqCst);
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// How many connections were taken so far.
    pub fn accepted(&self) -> u64 {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn cut(&self) {
        for socket in self.open.lock().expect("no panic").drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: &Arc<Shared>, client: TcpStream) {
        self.accepted.fetch_add(1, Ordering::SeqCst);
        if self.refuses.load(Ordering::SeqCst) {
            return;
        }
        let target = *self.target.lock().expect("no panic");
        let Ok(server) = TcpStream::connect(target) else { return };
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let _ = to.set_nodelay(true);
            let shared = Arc::clone(self);
            thread::spawn(move || shared.pump(from, to));
        }
        self.open.lock().expect("no panic").extend([client, server]);
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 16 << 10];
        loop {
            let received = match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(received) => received,
            };
            thread::sleep(Duration::from_millis(self.delay_ms.load(Ordering::SeqCst)));
            let left = self.cut_after.load(Ordering::SeqCst);
            if left > 0 {
                let rest = left.saturating_sub(received as u64);
                self.cut_after.store(rest, Ordering::SeqCst);
                if rest == 0 {
                    // A part of the bytes still passes, so that frames are cut anywhere.
                    let _ = to.write_all(&buffer[..left.min(received as u64) as usize]);
                    return self.cut();
                }
            }
            if self.black_hole.load(Ordering::SeqCst) {
                continue;
            }
            if to.write_all(&buffer[..received]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
