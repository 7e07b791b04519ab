//! A request's body as a blocking reader, for the engine's threads.

use std::io::{self, Read};

use axum::body::{Body, BodyDataStream};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;

/// Pieces read ahead of the engine; the network waits when they are full.
const PIECES_AHEAD: usize = 8;

/// See the module. Its end is the body's end: a connection that breaks off is an error, never an end.
pub struct BodyReader {
    pieces: mpsc::Receiver<Result<Bytes, axum::Error>>,
    current: Bytes,
}

impl BodyReader {
    /// Starts to read `body`. Must be called within the runtime.
    pub fn start(body: Body) -> Self {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        tokio::spawn(forward(body.into_data_stream(), sender));
        Self {
            pieces,
            current: Bytes::new(),
        }
    }
}

async fn forward(mut body: BodyDataStream, pieces: mpsc::Sender<Result<Bytes, axum::Error>>) {
    while let Some(piece) = body.next().await {
        let broken = piece.is_err();
        // The reader is gone when the statement has failed: the rest of the body is of no interest.
        if pieces.send(piece).await.is_err() || broken {
            return;
        }
    }
}

impl Read for BodyReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(Ok(piece)) => self.current = piece,
                Some(Err(error)) => {
                    return Err(io::Error::new(
                        io::ErrorKind::ConnectionAborted,
                        format!("the request broke off: {error}"),
                    ));
                }
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
