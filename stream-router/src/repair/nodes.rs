//! Asks one RPC node for one block. Thin: a request, a bounded reply, no retry.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use event_schema::Slot;
use reqwest::{Client, Url, redirect};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use super::{
    RepairConfig,
    reply::{self, Reply},
};

/// The newest transactions this program reads.
const TRANSACTION_VERSION: u8 = 1;

/// The configured nodes.
#[derive(Debug)]
pub struct Nodes {
    http: Client,
    nodes: Vec<Node>,
    /// Who answered last is asked first.
    preferred: AtomicUsize,
    pace: Mutex<Instant>,
    between: Duration,
    reply_bytes: usize,
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
    pub fn new(config: &RepairConfig) -> anyhow::Result<Self> {
        let mut nodes = Vec::new();
        for (index, url) in config.rpc_urls.iter().enumerate() {
            let url = Url::parse(url)
                .map_err(|error| anyhow::anyhow!("repair.rpc_urls[{index}]: {error}"))?;
            nodes.push(Node {
                host: url.host_str().unwrap_or_default().into(),
                url,
                old: AtomicBool::new(false),
            });
        }
        let timeout = Duration::from_millis(config.timeout_ms);
        Ok(Self {
            // A redirect would carry the request to someone nobody configured.
            http: Client::builder()
                .timeout(timeout)
                .connect_timeout(timeout)
                .redirect(redirect::Policy::none())
                .build()?,
            nodes,
            preferred: AtomicUsize::new(0),
            pace: Mutex::new(Instant::now()),
            between: Duration::from_secs(1) / config.requests_per_second.max(1),
            reply_bytes: config.reply_mebibytes << 20,
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
            Err(problem) => return Reply::Failed(problem),
        };
        // Megabytes of JSON: not on a thread that others wait for.
        let read = tokio::task::spawn_blocking(move || reply::read(&body)).await;
        read.unwrap_or_else(|error| Reply::Failed(error.to_string()))
    }

    async fn body(&self, node: &Node, request: &serde_json::Value) -> Result<Vec<u8>, String> {
        let unreachable = |error: reqwest::Error| {
            // Its own text would show the address.
            let error = error.without_url();
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
            format!("{error}{}", cause.unwrap_or_default())
        };
        let sent = self.http.post(node.url.clone()).json(request).send().await;
        let mut response = sent.map_err(unreachable)?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > self.reply_bytes {
                return Err(format!(
                    "its reply is longer than {} MiB (repair.reply_mebibytes)",
                    self.reply_bytes >> 20
                ));
            }
            body.extend_from_slice(&chunk);
        }
        // Some nodes send errors of JSON-RPC with another status than 200.
        if !status.is_success() && body.first() != Some(&b'{') {
            return Err(format!("HTTP status {status}"));
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
