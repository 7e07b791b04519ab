//! A WebSocket subscriber that only listens: it answers pings and counts notifications. As little of RFC 6455 as that needs.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context, bail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const TEXT: u8 = 1;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;
const LIMIT: Duration = Duration::from_secs(10);
const FRAME_BYTES_MAX: u64 = 64 << 20;

pub struct Listener {
    stream: TcpStream,
}

impl Listener {
    /// Connects and sends `request`, a JSON-RPC call; returns when it was answered.
    pub async fn subscribe(address: SocketAddr, request: &str) -> anyhow::Result<Self> {
        let connected = tokio::time::timeout(LIMIT, async {
            let mut stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            // Any 16 bytes do for a key: the answer is not used to prove anything here.
            let upgrade = format!(
                "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                 Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: aGVsaW9ncmFwaC1iZW5jaA==\r\n\r\n"
            );
            stream.write_all(upgrade.as_bytes()).await?;
            let head = head(&mut stream).await?;
            if !head.starts_with("HTTP/1.1 101") {
                bail!("the router did not upgrade: {head}");
            }
            let mut listener = Self { stream };
            listener.send(TEXT, request.as_bytes()).await?;
            listener.next().await?;
            Ok(listener)
        });
        connected
            .await
            .context("the router did not answer a subscription")?
    }

    /// The next text; pings are answered meanwhile. `None` when the router closes.
    pub async fn next(&mut self) -> anyhow::Result<Option<Vec<u8>>> {
        loop {
            let (kind, payload) = self.frame().await?;
            match kind {
                PING => self.send(PONG, &payload).await?,
                CLOSE => return Ok(None),
                PONG => {}
                _ => return Ok(Some(payload)),
            }
        }
    }

    /// Frames of a server are not masked, and those of this one never divided.
    async fn frame(&mut self) -> anyhow::Result<(u8, Vec<u8>)> {
        let stream = &mut self.stream;
        let (first, second) = (stream.read_u8().await?, stream.read_u8().await?);
        let length = match second & 0x7f {
            126 => u64::from(stream.read_u16().await?),
            127 => stream.read_u64().await?,
            short => u64::from(short),
        };
        if length > FRAME_BYTES_MAX {
            bail!("a frame of {length} bytes");
        }
        let mut payload = vec![0; length as usize];
        stream.read_exact(&mut payload).await?;
        Ok((first & 0x0f, payload))
    }

    async fn send(&mut self, kind: u8, payload: &[u8]) -> anyhow::Result<()> {
        Ok(self.stream.write_all(&client_frame(kind, payload)).await?)
    }
}

/// Masked by zeros, as a client may.
fn client_frame(kind: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | kind];
    match payload.len() {
        short @ 0..=125 => frame.push(0x80 | short as u8),
        long => {
            frame.push(0x80 | 126);
            // No request of the bench's is longer.
            frame.extend_from_slice(&(long.min(usize::from(u16::MAX)) as u16).to_be_bytes());
        }
    }
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(payload);
    frame
}

async fn head(stream: &mut TcpStream) -> anyhow::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        if head.len() > 8_192 {
            bail!("the router's answer has no end");
        }
        head.push(stream.read_u8().await?);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_have_the_length_they_say() {
        assert_eq!(client_frame(TEXT, b"hi"), b"\x81\x82\0\0\0\0hi");
        let long = client_frame(PONG, &[7; 300]);
        assert_eq!(&long[..4], b"\x8a\xfe\x01\x2c");
        assert_eq!(long.len(), 8 + 300);
    }
}
