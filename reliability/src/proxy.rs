//! The network between clients and server, which cuts, stalls and swallows.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Passes connections on to a server, until it is told to do worse.
pub struct Proxy {
    shared: Arc<Shared>,
    address: SocketAddr,
}

struct Shared {
    target: Mutex<SocketAddr>,
    open: Mutex<Vec<TcpStream>>,
    /// Bytes vanish, connections stay open.
    swallows: AtomicBool,
    /// After this many more bytes every connection is cut; 0: never.
    cut_after_bytes: AtomicU64,
}

impl Proxy {
    /// A proxy before a server.
    pub fn start(target: SocketAddr) -> std::io::Result<Proxy> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            open: Mutex::new(Vec::new()),
            swallows: AtomicBool::new(false),
            cut_after_bytes: AtomicU64::new(0),
        });
        let accepting = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                accepting.accept(client);
            }
        });
        Ok(Proxy { shared, address })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where new connections go.
    pub fn retarget(&self, target: SocketAddr) {
        *locked(&self.shared.target) = target;
    }

    /// Cuts every connection now.
    pub fn cut(&self) {
        self.shared.cut();
    }

    /// Cuts every connection in the middle of the bytes, after this many more of them.
    pub fn cut_after(&self, bytes: u64) {
        self.shared.cut_after_bytes.store(bytes, Ordering::SeqCst);
    }

    /// Makes bytes vanish, or ends that; connections that lost some are cut then.
    pub fn swallow(&self, on: bool) {
        self.shared.swallows.store(on, Ordering::SeqCst);
        if !on {
            self.shared.cut();
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What the mutexes hold is whole at every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn cut(&self) {
        for socket in locked(&self.open).drain(..) {
            let _ = socket.shutdown(Shutdown::Both);
        }
    }

    fn accept(self: &Arc<Shared>, client: TcpStream) {
        let target = *locked(&self.target);
        // A server that is down refuses, and so does its proxy, by closing.
        let Ok(server) = TcpStream::connect(target) else { return };
        let mut ways = Vec::new();
        for (from, to) in [(&client, &server), (&server, &client)] {
            let (Ok(from), Ok(to)) = (from.try_clone(), to.try_clone()) else { return };
            let _ = to.set_nodelay(true);
            ways.push((from, to));
        }
        // First of all it can be cut: it would live on without the bytes that it lost otherwise.
        let mut open = locked(&self.open);
        open.retain(|socket| socket.peer_addr().is_ok());
        open.extend([client, server]);
        drop(open);
        for (from, to) in ways {
            let shared = Arc::clone(self);
            std::thread::spawn(move || shared.pump(from, to));
        }
    }

    fn pump(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 64 << 10];
        loop {
            let received = match from.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(received) => received,
            };
            if self.swallows.load(Ordering::SeqCst) {
                continue;
            }
            let left = self.cut_after_bytes.load(Ordering::SeqCst);
            if left > 0 {
                let rest = left.saturating_sub(received as u64);
                self.cut_after_bytes.store(rest, Ordering::SeqCst);
                if rest == 0 {
                    let _ = to.write_all(&buffer[..left.min(received as u64) as usize]);
                    return self.cut();
                }
            }
            if to.write_all(&buffer[..received]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }
}
