//! The configuration of every service, as text. Pure: addresses and directories in, TOML (or JSON) out.

use std::path::Path;

use event_schema::{Pubkey, Topics};

use crate::layout::Ports;

/// Everything the configurations refer to.
#[derive(Clone, Debug)]
pub struct Wiring {
    pub ports: Ports,
    pub brokers: String,
    pub database_url: String,
}

const TOPIC_PREFIX: &str = Topics::DEFAULT_PREFIX;
pub const CLICKHOUSE_DATABASE: &str = "heliograph";

fn host(admin: u16) -> String {
    format!("\n[host]\nadmin = \"127.0.0.1:{admin}\"\n")
}

fn kafka(wiring: &Wiring) -> String {
    format!("\n[kafka]\nbrokers = \"{}\"\n", wiring.brokers)
}

pub fn router(wiring: &Wiring) -> String {
    let mut text = format!(
        "topic_prefix = \"{TOPIC_PREFIX}\"\nlisten = \"127.0.0.1:{}\"\n",
        wiring.ports.router
    );
    text += &kafka(wiring);
    text += &format!("\n[grpc]\nlisten = \"127.0.0.1:{}\"\n", wiring.ports.grpc);
    text + &host(wiring.ports.router_admin)
}

pub fn ledger(wiring: &Wiring) -> String {
    let mut text = format!(
        "topic_prefix = \"{TOPIC_PREFIX}\"\nlisten = \"127.0.0.1:{}\"\ndatabase_url = \"{}\"\n",
        wiring.ports.ledger, wiring.database_url
    );
    text += &kafka(wiring);
    text + &host(wiring.ports.ledger_admin)
}

pub fn warehouse(wiring: &Wiring) -> String {
    let mut text = format!(
        "topic_prefix = \"{TOPIC_PREFIX}\"\nclickhouse_url = \"http://127.0.0.1:{}\"\nclickhouse_database = \"{CLICKHOUSE_DATABASE}\"\n",
        wiring.ports.clickhouse
    );
    text += &kafka(wiring);
    text + &host(wiring.ports.warehouse_admin)
}

pub fn sender(wiring: &Wiring) -> String {
    let mut text = format!(
        "topic_prefix = \"{TOPIC_PREFIX}\"\nlisten = \"127.0.0.1:{}\"\ndatabase_url = \"{}\"\nrpc_url = \"http://127.0.0.1:{}\"\n",
        wiring.ports.sender, wiring.database_url, wiring.ports.rpc
    );
    text += &kafka(wiring);
    text + &host(wiring.ports.sender_admin)
}

/// `data` receives the custody secret.
pub fn edge(wiring: &Wiring, data: &Path) -> String {
    let ports = &wiring.ports;
    let mut text = format!(
        "listen = \"127.0.0.1:{}\"\npublic_origin = \"http://localhost:{}\"\ndatabase_url = \"{}\"\nrpc_url = \"http://127.0.0.1:{}\"\nsender_url = \"http://127.0.0.1:{}\"\nledger_url = \"http://127.0.0.1:{}\"\n",
        ports.edge, ports.edge, wiring.database_url, ports.rpc, ports.sender, ports.ledger
    );
    text += &format!(
        "\n[custody]\nkey_file = {:?}\ncreate = true\n",
        data.join("custody.key")
    );
    text + &host(ports.edge_admin)
}

/// The plugin's own file, which the validator (or the replayer) reads for `libpath` and hands to it.
pub fn plugin(
    wiring: &Wiring,
    library: &Path,
    name: &str,
    identity: &Pubkey,
    spill: &Path,
    metrics: u16,
) -> String {
    let json = serde_json::json!({
        "libpath": library,
        "name": name,
        "validator_identity": identity.to_string(),
        "kafka": {"brokers": wiring.brokers},
        "topic_prefix": TOPIC_PREFIX,
        "spill": {"dir": spill, "megabytes": 1024},
        "metrics": {"listen": format!("127.0.0.1:{metrics}")},
    });
    format!("{json:#}\n")
}
