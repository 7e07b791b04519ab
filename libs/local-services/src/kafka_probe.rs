//! Asks a Kafka broker for its metadata: the one question whose answer means that the broker is up and unfenced.
//!
//! Spoken by hand, because the client library's home is `event-log` and this crate is below it.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::Duration,
};

const METADATA: i16 = 3;
const METADATA_VERSION: i16 = 5;
const REPLY_BYTES_MAX: usize = 1 << 20;

/// Whether the broker on this loopback port names at least one live broker.
pub(crate) fn answers(port: u16) -> bool {
    live_brokers(port).is_some_and(|count| count > 0)
}

fn live_brokers(port: u16) -> Option<i32> {
    let limit = Duration::from_secs(2);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut stream = TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(&request()).ok()?;

    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::try_from(i32::from_be_bytes(length)).ok()?;
    if length > REPLY_BYTES_MAX {
        return None;
    }
    let mut reply = vec![0; length];
    stream.read_exact(&mut reply).ok()?;
    // Correlation id, throttle time, then the array of brokers, of which only the length matters.
    Some(i32::from_be_bytes(reply.get(8..12)?.try_into().ok()?))
}

// Header version 1 (key, version, correlation id, client id), then: no topics, no automatic creation.
fn request() -> Vec<u8> {
    let client = b"heliograph-probe";
    let mut body = Vec::new();
    body.extend_from_slice(&METADATA.to_be_bytes());
    body.extend_from_slice(&METADATA_VERSION.to_be_bytes());
    body.extend_from_slice(&1_i32.to_be_bytes());
    body.extend_from_slice(&(client.len() as i16).to_be_bytes());
    body.extend_from_slice(client);
    body.extend_from_slice(&0_i32.to_be_bytes());
    body.push(0);
    let mut request = (body.len() as i32).to_be_bytes().to_vec();
    request.extend_from_slice(&body);
    request
}
