//! `GET /metrics` on a thread of its own: no framework inside somebody else's process.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

/// How long stopping may wait for the thread to look.
const LOOK_EVERY: Duration = Duration::from_millis(50);
const CLIENT_LIMIT: Duration = Duration::from_secs(1);

pub struct Endpoint {
    address: SocketAddr,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    /// `page` renders the metrics.
    pub fn start(
        listen: &str,
        stop: Arc<AtomicBool>,
        page: impl Fn() -> String + Send + 'static,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(listen)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let thread = thread::Builder::new()
            .name("hgMetrics".into())
            .spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    match listener.accept() {
                        // A client that goes away in the middle is its own affair.
                        Ok((client, _)) => drop(answer(client, &page)),
                        Err(_) => thread::sleep(LOOK_EVERY),
                    }
                }
            })?;
        Ok(Self {
            address,
            thread: Some(thread),
        })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// After `stop` was set.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut client: TcpStream, page: &impl Fn() -> String) -> io::Result<()> {
    client.set_nonblocking(false)?;
    client.set_read_timeout(Some(CLIENT_LIMIT))?;
    client.set_write_timeout(Some(CLIENT_LIMIT))?;
    let mut request = [0; 4096];
    let mut length = 0;
    // To the end of its head: who is answered and left in the middle of a sentence sees a broken pipe.
    while length < request.len() && !request[..length].windows(4).any(|end| end == b"\r\n\r\n") {
        match client.read(&mut request[length..])? {
            0 => break,
            more => length += more,
        }
    }
    let line = String::from_utf8_lossy(&request[..length]);
    let (status, body) = match line.split_whitespace().nth(1) {
        Some("/metrics") => ("200 OK", page()),
        Some("/livez" | "/readyz" | "/startupz") => ("200 OK", "ok\n".into()),
        _ => ("404 Not Found", "see /metrics\n".into()),
    };
    write!(
        client,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
