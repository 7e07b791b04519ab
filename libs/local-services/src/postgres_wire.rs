//! The few PostgreSQL messages needed to see that the server is up and to create databases, under `trust`.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, bail};

const PROTOCOL_3_0: i32 = 196_608;
const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// Whether the server on this loopback port lets a session begin.
pub(crate) fn answers(port: u16) -> bool {
    Session::open(port).is_ok()
}

/// Runs one statement in the database `postgres`. The error is the server's own message.
pub(crate) fn execute(port: u16, sql: &str) -> anyhow::Result<()> {
    let mut session = Session::open(port)?;
    let mut body = sql.as_bytes().to_vec();
    body.push(0);
    session.send(b'Q', &body)?;
    session.until_ready()
}

struct Session {
    stream: TcpStream,
}

impl Session {
    fn open(port: u16) -> anyhow::Result<Self> {
        let limit = Duration::from_secs(5);
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        let mut body = PROTOCOL_3_0.to_be_bytes().to_vec();
        body.extend_from_slice(b"user\0postgres\0database\0postgres\0\0");
        stream.write_all(&(body.len() as i32 + 4).to_be_bytes())?;
        stream.write_all(&body)?;
        let mut session = Self { stream };
        session.until_ready()?;
        Ok(session)
    }

    fn send(&mut self, tag: u8, body: &[u8]) -> anyhow::Result<()> {
        self.stream.write_all(&[tag])?;
        self.stream
            .write_all(&(body.len() as i32 + 4).to_be_bytes())?;
        Ok(self.stream.write_all(body)?)
    }

    // Reads up to ReadyForQuery; the first error on the way is the result.
    fn until_ready(&mut self) -> anyhow::Result<()> {
        let mut error = None;
        loop {
            let mut head = [0; 5];
            self.stream
                .read_exact(&mut head)
                .context("PostgreSQL closed the connection")?;
            let length = i32::from_be_bytes([head[1], head[2], head[3], head[4]]);
            let length = usize::try_from(length - 4).context("a message of negative length")?;
            if length > MESSAGE_BYTES_MAX {
                bail!("PostgreSQL sent a message of {length} bytes");
            }
            let mut body = vec![0; length];
            self.stream.read_exact(&mut body)?;
            match head[0] {
                // An error before the session is open is followed by the end of the connection.
                b'E' if error.is_none() => error = Some(message(&body)),
                b'Z' => break,
                _ => {}
            }
            if let Some(text) = &error
                && text.starts_with("FATAL")
            {
                break;
            }
        }
        match error {
            None => Ok(()),
            Some(text) => bail!("PostgreSQL: {text}"),
        }
    }
}

// Fields of an ErrorResponse: a type byte and a string each; S is the severity, M the message.
fn message(body: &[u8]) -> String {
    let mut severity = String::new();
    let mut text = String::new();
    for field in body.split(|byte| *byte == 0) {
        match field.split_first() {
            Some((b'S', rest)) => severity = String::from_utf8_lossy(rest).into_owned(),
            Some((b'M', rest)) => text = String::from_utf8_lossy(rest).into_owned(),
            _ => {}
        }
    }
    format!("{severity}: {text}")
}
