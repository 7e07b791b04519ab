//! What a connection is told that is not even served far enough to be refused: a few bytes that need nobody's request.
//!
//! A flood must cost little, so there is neither HTTP nor a queue behind it: the bytes are written, and what the client sent is
//! read and dropped for a moment, because a socket closed with unread bytes would take them back.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// How long a client has to take it.
const PATIENCE: Duration = Duration::from_secs(2);
/// Clients told at a time, about 2 KiB each; more are closed without a word.
const TOLD_MAX: usize = 4_096;
/// `ENHANCE_YOUR_CALM`, RFC 9113, section 7.
const CALM: u32 = 0xb;

/// The last words to one too many. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Farewell {
    bytes: Arc<[u8]>,
    telling: Arc<AtomicUsize>,
}

impl Farewell {
    /// For HTTP/2: the connection goes away, and why.
    pub fn http2(why: &str) -> Self {
        let mut bytes = Vec::new();
        // A server begins with its settings; none.
        frame(&mut bytes, 4, &[]);
        let mut payload = vec![0; 4];
        payload.extend_from_slice(&CALM.to_be_bytes());
        payload.extend_from_slice(why.as_bytes());
        frame(&mut bytes, 7, &payload);
        Self::new(bytes)
    }

    /// For HTTP/1: a response to whatever it was going to ask.
    pub fn http1(why: &str) -> Self {
        let body = serde_json::json!({ "error": why }).to_string();
        let response = format!(
            "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\
             connection: close\r\n\r\n{body}",
            body.len()
        );
        Self::new(response.into_bytes())
    }

    fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes: bytes.into(),
            telling: Arc::default(),
        }
    }

    /// Tells it, beside everything else. False when too many are being told.
    pub fn tell(&self, stream: TcpStream) -> bool {
        let one_more = |telling: usize| (telling < TOLD_MAX).then_some(telling + 1);
        let place = self
            .telling
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        if place.is_err() {
            return false;
        }
        let farewell = self.clone();
        // Ends by itself, soon; its place is given back whatever becomes of the client.
        tokio::spawn(async move {
            let _ = tokio::time::timeout(PATIENCE, farewell.say(stream)).await;
            farewell.telling.fetch_sub(1, Ordering::Relaxed);
        });
        true
    }

    async fn say(&self, mut stream: TcpStream) -> std::io::Result<()> {
        stream.write_all(&self.bytes).await?;
        stream.shutdown().await?;
        let mut dropped = [0; 512];
        while stream.read(&mut dropped).await? > 0 {}
        Ok(())
    }
}

/// A frame of the connection itself, without flags.
fn frame(out: &mut Vec<u8>, kind: u8, payload: &[u8]) {
    let length = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&length[1..]);
    out.extend_from_slice(&[kind, 0, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
}
