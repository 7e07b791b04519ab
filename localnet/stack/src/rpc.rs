//! A Solana JSON-RPC client: the few calls needed to check a run.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use serde_json::{Value, json};

pub struct Rpc {
    client: reqwest::Client,
    url: String,
}

impl Rpc {
    pub fn new(port: u16) -> anyhow::Result<Self> {
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(Duration::from_secs(20))
                .build()?,
            url: format!("http://127.0.0.1:{port}"),
        })
    }

    /// The result, or the server's error as text.
    pub async fn call(&self, method: &str, parameters: Value) -> anyhow::Result<Value> {
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": parameters});
        let mut reply: Value = self
            .client
            .post(&self.url)
            .json(&request)
            .send()
            .await
            .with_context(|| format!("{method} at {}", self.url))?
            .json()
            .await
            .with_context(|| format!("{method} at {}", self.url))?;
        if let Some(error) = reply.get("error") {
            bail!("{method}: {error}");
        }
        Ok(reply["result"].take())
    }

    pub async fn slot(&self, commitment: &str) -> anyhow::Result<u64> {
        let result = self
            .call("getSlot", json!([{"commitment": commitment}]))
            .await?;
        result
            .as_u64()
            .ok_or_else(|| anyhow!("getSlot: not a number: {result}"))
    }

    /// Finalized slots with a block, both ends included.
    pub async fn blocks(&self, first: u64, last: u64) -> anyhow::Result<Vec<u64>> {
        let result = self
            .call(
                "getBlocks",
                json!([first, last, {"commitment": "finalized"}]),
            )
            .await?;
        serde_json::from_value(result).context("getBlocks")
    }

    /// A finalized block with everything, transactions in base64.
    pub async fn block(&self, slot: u64) -> anyhow::Result<Value> {
        self.call(
            "getBlock",
            json!([slot, {
                "encoding": "base64",
                "transactionDetails": "full",
                "rewards": true,
                "commitment": "finalized",
                "maxSupportedTransactionVersion": 1,
            }]),
        )
        .await
    }
}
