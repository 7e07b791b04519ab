//! Asks one RPC node. Thin: a request, a bounded reply, no retry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_schema::{Pubkey, Slot};
use reqwest::{Certificate, Client, StatusCode, Url, redirect};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use super::{
    accounts::{self, AccountsReply},
    reply::{self, Reply},
};

/// The newest transactions this program reads.
const TRANSACTION_VERSION: u8 = 1;

/// Which nodes, and how they are asked.
#[derive(Debug, Clone)]
pub struct NodesConfig {
    /// `http://` or `https://` addresses, asked in turn.
    pub urls: Vec<String>,
    /// A node that has not sent its whole reply after this long is given up for this time.
    pub timeout: Duration,
    /// Requests per second, to all nodes together.
    pub requests_per_second: u32,
    /// A longer reply is not read, in MiB. A mainnet block is 5–20 MB of JSON.
    pub reply_mebibytes: usize,
    /// The field under which the caller's user sets `reply_mebibytes`.
    pub reply_field: &'static str,
    /// PEM of a certificate authority that is trusted beside the system's.
    pub ca_pem: Option<Vec<u8>>,
}

/// Why there is no body.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("{0}")]
    TooLong(String),
    #[error("HTTP status {0}")]
    Status(StatusCode),
    #[error("{0}")]
    Unreachable(String),
}

/// The configured nodes.
#[derive(Debug)]
pub struct Nodes {
    http: Client,
    nodes: Vec<Node>,
    /// Who answered last is asked first.
    preferred: AtomicUsize,
    pace: Mutex<Instant>,
    between: Duration,
    reply_mebibytes: usize,
    reply_field: &'static str,
}

#[derive(Debug)]
struct Node {
    url: Url,
    /// To be shown and published: the rest of the address may be a key.
    host: Arc<str>,
    /// It refuses to be asked for [`TRANSACTION_VERSION`].
    old: AtomicBool,
}

impl Nodes {
    pub fn new(config: &NodesConfig) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for (index, url) in config.urls.iter().enumerate() {
            let url = Url::parse(url)
                .map_err(|error| anyhow::anyhow!("RPC address {}: {error}", index + 1))?;
            nodes.push(Node {
                host: url.host_str().unwrap_or_default().into(),
                url,
                old: AtomicBool::new(false),
            });
        }
        // A redirect would carry the request to someone nobody configured.
        let mut http = Client::builder()
            .timeout(config.timeout)
            .connect_timeout(config.timeout)
            .redirect(redirect::Policy::none());
        for authority in config.ca_pem.iter() {
            for certificate in Certificate::from_pem_bundle(authority)? {
                http = http.add_root_certificate(certificate);
            }
        }
        Ok(Self {
            http: http.build()?,
            nodes,
            preferred: AtomicUsize::new(0),
            pace: Mutex::new(Instant::now()),
            between: Duration::from_secs(1) / config.requests_per_second.max(1),
            reply_mebibytes: config.reply_mebibytes,
            reply_field: config.reply_field,
        })
    }

    /// Every node once, in the order in which to ask.
    pub fn in_turn(&self) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (self.preferred.load(Ordering::Relaxed), self.nodes.len());
        (0..count).map(move |turn| (first + turn) % count)
    }

    pub fn prefer(&self, node: usize) {
        self.preferred.store(node, Ordering::Relaxed);
    }

    pub fn host(&self, node: usize) -> Arc<str> {
        self.nodes
            .get(node)
            .map_or_else(|| "".into(), |node| Arc::clone(&node.host))
    }

    /// What the node says of the slot, parsed.
    pub async fn ask(&self, node: usize, slot: Slot) -> Reply {
        let Some(node) = self.nodes.get(node) else {
            return Reply::Failed("no such node".to_owned());
        };
        if node.old.load(Ordering::Relaxed) {
            return self.ask_for(node, slot, 0).await;
        }
        match self.ask_for(node, slot, TRANSACTION_VERSION).await {
            Reply::VersionRefused(_) => {
                let reply = self.ask_for(node, slot, 0).await;
                if !matches!(reply, Reply::VersionRefused(_) | Reply::Failed(_)) {
                    node.old.store(true, Ordering::Relaxed);
                }
                reply
            }
            reply => reply,
        }
    }

    async fn ask_for(&self, node: &Node, slot: Slot, version: u8) -> Reply {
        self.wait_for_turn().await;
        let request = json!({
            "jsonrpc": "2.0",
            "id": slot.0,
            "method": "getBlock",
            "params": [slot.0, {
                "encoding": "base64",
                "transactionDetails": "full",
                "rewards": true,
                "commitment": "finalized",
                "maxSupportedTransactionVersion": version,
            }],
        });
        let body = match self.body(node, &request).await {
            Ok(body) => body,
            Err(problem) => return Reply::Failed(problem.to_string()),
        };
        // Megabytes of JSON: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || reply::read(&body)).await;
        read.unwrap_or_else(|error| Reply::Failed(error.to_string()))
    }

    /// The accounts, as of a finalized slot that is not below `at_least`. At most [`accounts::KEYS_MAX`] keys.
    pub async fn accounts(&self, node: usize, keys: &[Pubkey], at_least: Slot) -> AccountsReply {
        let Some(node) = self.nodes.get(node) else {
            return AccountsReply::Failed("no such node".to_owned());
        };
        self.wait_for_turn().await;
        let texts: Vec<String> = keys.iter().map(Pubkey::to_string).collect();
        let request = json!({
            "jsonrpc": "2.0",
            "id": 1,
            "method": "getMultipleAccounts",
            "params": [texts, {
                "encoding": "base64",
                "commitment": "finalized",
                "minContextSlot": at_least.0,
            }],
        });
        let body = match self.body(node, &request).await {
            Ok(body) => body,
            Err(Unread::TooLong(problem)) => return AccountsReply::TooLong(problem),
            Err(Unread::Status(StatusCode::TOO_MANY_REQUESTS)) => {
                return AccountsReply::TooMany("HTTP status 429".to_owned());
            }
            Err(problem) => return AccountsReply::Failed(problem.to_string()),
        };
        let count = keys.len();
        // Megabytes of JSON: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || accounts::read(&body, at_least, count));
        let read = read.await;
        read.unwrap_or_else(|error| AccountsReply::Failed(error.to_string()))
    }

    /// The slots from `first` to `last` that have a finalized block, as the node knows them, in order. At most 500,000 slots.
    pub async fn slots_with_blocks(
        &self,
        node: usize,
        first: Slot,
        last: Slot,
    ) -> Result<Vec<u64>, String> {
        let params = json!([first.0, last.0, {"commitment": "finalized"}]);
        let slots: Vec<u64> = self.call(node, "getBlocks", params).await?;
        let ordered = slots.is_sorted_by(|a, b| a < b);
        let within = slots.iter().all(|slot| (first.0..=last.0).contains(slot));
        if ordered && within {
            Ok(slots)
        } else {
            Err("getBlocks: its slots are not in order, or not those that were asked for".into())
        }
    }

    /// The oldest slot whose block the node keeps.
    pub async fn first_available(&self, node: usize) -> Result<Slot, String> {
        let slot = self.call(node, "getFirstAvailableBlock", json!([]));
        slot.await.map(Slot)
    }

    /// The newest finalized slot.
    pub async fn finalized(&self, node: usize) -> Result<Slot, String> {
        let slot = self.call(node, "getSlot", json!([{"commitment": "finalized"}]));
        slot.await.map(Slot)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        node: usize,
        method: &str,
        params: serde_json::Value,
    ) -> Result<T, String> {
        #[derive(Deserialize)]
        struct Envelope<T> {
            result: Option<T>,
            error: Option<serde_json::Value>,
        }
        let node = self.nodes.get(node).ok_or("no such node")?;
        self.wait_for_turn().await;
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let body = self.body(node, &request).await;
        let body = body.map_err(|problem| problem.to_string())?;
        let envelope: Envelope<T> = serde_json::from_slice(&body)
            .map_err(|error| format!("{method}: its reply is not understood: {error}"))?;
        match (envelope.result, envelope.error) {
            (Some(result), _) => Ok(result),
            (None, Some(error)) => Err(format!("{method}: {error}")),
            (None, None) => Err(format!("{method}: an empty reply")),
        }
    }

    async fn body(&self, node: &Node, request: &serde_json::Value) -> Result<Vec<u8>, Unread> {
        let unreachable = |error| Unread::Unreachable(unreachable(error));
        let sent = self.http.post(node.url.clone()).json(request).send().await;
        let mut response = sent.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.reply_mebibytes << 20 {
                return Err(Unread::TooLong(format!(
                    "its reply is longer than {} MiB ({})",
                    self.reply_mebibytes, self.reply_field
                )));
            }
            body.extend_from_slice(&chunk);
        }
        // Some nodes send errors of JSON-RPC with another status than 200.
        if !status.is_success() && body.first() != Some(&b'{') {
            return Err(Unread::Status(status));
        }
        Ok(body)
    }

    /// Requests of all errands are spread evenly.
    async fn wait_for_turn(&self) {
        let mut next = self.pace.lock().await;
        tokio::time::sleep_until(*next).await;
        *next = Instant::now() + self.between;
    }
}

/// What went wrong, down to its cause; without the address, which may be a key.
fn unreachable(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
