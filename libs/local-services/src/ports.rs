//! Loopback ports for services that were not given one.

use std::{
    net::{Ipv4Addr, SocketAddrV4, TcpListener},
    sync::atomic::{AtomicU16, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

// Below Linux's range for outgoing connections (32768…), so that no client socket takes a port between our look and the
// service's bind.
const FIRST: u16 = 12_000;
const COUNT: u16 = 20_000;

/// A TCP port on 127.0.0.1 that nobody listens on, and that this process has not been given before.
pub fn free_port() -> u16 {
    static STEP: AtomicU16 = AtomicU16::new(0);
    let seed = seed();
    for _ in 0..COUNT {
        let step = STEP.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + seed.wrapping_add(step.wrapping_mul(7)) % COUNT;
        if !port_in_use(port) {
            return port;
        }
    }
    // Every port of the range is taken: let the kernel choose.
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .unwrap_or(FIRST)
}

/// Whether a service could not listen on this port of 127.0.0.1 now.
pub fn port_in_use(port: u16) -> bool {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)).is_err()
}

// Different for every process that runs at the same time, so that parallel tests walk through different ports.
fn seed() -> u16 {
    static SEED: std::sync::OnceLock<u16> = std::sync::OnceLock::new();
    *SEED.get_or_init(|| {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |now| now.subsec_nanos());
        (std::process::id().wrapping_mul(2_654_435_761) ^ clock) as u16
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ_and_can_be_bound() {
        let ports: Vec<u16> = (0..50).map(|_| free_port()).collect();
        let distinct: std::collections::BTreeSet<_> = ports.iter().collect();
        assert_eq!(distinct.len(), ports.len());
        let held = TcpListener::bind((Ipv4Addr::LOCALHOST, ports[0])).unwrap();
        assert!(port_in_use(held.local_addr().unwrap().port()));
    }
}
