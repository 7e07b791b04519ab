//! Opening a port, or saying exactly why not.

use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;

/// Listens on `address`, the value of the configuration key `key`. Errors name the address, the key and the fix.
pub async fn listen(key: &str, address: &str) -> anyhow::Result<TcpListener> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(address)
        .await
        .with_context(|| {
            format!(
                "`{key}` = \"{address}\" is not an address: write host:port, such as 127.0.0.1:9180"
            )
        })?
        .collect();
    TcpListener::bind(addresses.as_slice()).await.map_err(|error| match error.kind() {
        ErrorKind::AddrInUse => {
            let port = address.rsplit(':').next().unwrap_or(address);
            anyhow!(
                "cannot listen on {address}: another process uses this port. Stop it (`ss -ltnp 'sport = :{port}'` \
                 shows which), or set `{key}` to a free address"
            )
        }
        ErrorKind::PermissionDenied => {
            anyhow!("cannot listen on {address}: permission denied. Set `{key}` to a port above 1023")
        }
        ErrorKind::AddrNotAvailable => {
            anyhow!("cannot listen on {address}: this machine has no such address. Set `{key}` to 127.0.0.1 or 0.0.0.0")
        }
        _ => anyhow!("cannot listen on {address} (`{key}`): {error}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_address_key_and_fix() {
        let held = listen("host.admin", "127.0.0.1:0").await.unwrap();
        let address = held.local_addr().unwrap().to_string();
        let message = listen("host.admin", &address)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            message.contains(&address)
                && message.contains("`host.admin`")
                && message.contains("ss -ltnp"),
            "{message}"
        );
    }

    #[tokio::test]
    async fn nonsense_is_refused() {
        let message = listen("listen", "nowhere").await.unwrap_err().to_string();
        assert!(message.contains("`listen`"), "{message}");
    }
}
