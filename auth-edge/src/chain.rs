//! What the edge asks a Solana RPC node: nothing that changes the chain, except the faucet of a local network.

use crate::json_rpc::{JsonRpc, RpcError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use solana_address::Address;
use solana_hash::Hash;

/// Fresh enough to live long, settled enough not to vanish with a fork.
const COMMITMENT: &str = "confirmed";

#[derive(Clone)]
pub struct Chain {
    rpc: JsonRpc,
}

/// A blockhash, and the last block height in which a transaction that names it can land.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentBlockhash {
    pub hash: Hash,
    pub last_valid_block_height: i64,
}

impl Chain {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            rpc: JsonRpc::new(url)?,
        })
    }

    pub async fn genesis(&self) -> Result<Hash, RpcError> {
        let method = "getGenesisHash";
        let result = self.rpc.call(method, json!([])).await?;
        result
            .as_str()
            .and_then(|text| text.parse().ok())
            .ok_or_else(|| malformed(method, &result))
    }

    pub async fn latest_blockhash(&self) -> Result<RecentBlockhash, RpcError> {
        let method = "getLatestBlockhash";
        let result = self
            .rpc
            .call(method, json!([{"commitment": COMMITMENT}]))
            .await?;
        let value = &result["value"];
        let hash = value["blockhash"]
            .as_str()
            .and_then(|text| text.parse().ok());
        match (hash, value["lastValidBlockHeight"].as_i64()) {
            (Some(hash), Some(last_valid_block_height)) => Ok(RecentBlockhash {
                hash,
                last_valid_block_height,
            }),
            _ => Err(malformed(method, &result)),
        }
    }

    /// Lamports; `None` when the node does not know the message's blockhash.
    pub async fn fee(&self, message: &[u8]) -> Result<Option<u64>, RpcError> {
        let method = "getFeeForMessage";
        let result = self
            .rpc
            .call(
                method,
                json!([STANDARD.encode(message), {"commitment": COMMITMENT}]),
            )
            .await?;
        match &result["value"] {
            Value::Null => Ok(None),
            value => value
                .as_u64()
                .map(Some)
                .ok_or_else(|| malformed(method, &result)),
        }
    }

    /// Lamports.
    pub async fn balance(&self, address: &str) -> Result<u64, RpcError> {
        let method = "getBalance";
        let result = self
            .rpc
            .call(method, json!([address, {"commitment": COMMITMENT}]))
            .await?;
        result["value"]
            .as_u64()
            .ok_or_else(|| malformed(method, &result))
    }

    /// Runs the transaction without its signature; `Some` tells why it would fail.
    pub async fn simulate(&self, wire: &[u8]) -> Result<Option<String>, RpcError> {
        let method = "simulateTransaction";
        let options = json!({"encoding": "base64", "sigVerify": false, "commitment": COMMITMENT});
        let result = self
            .rpc
            .call(method, json!([STANDARD.encode(wire), options]))
            .await?;
        match result["value"].get("err") {
            Some(Value::Null) => Ok(None),
            Some(Value::String(error)) => Ok(Some(error.clone())),
            Some(error) => Ok(Some(error.to_string())),
            None => Err(malformed(method, &result)),
        }
    }

    /// True when no block can contain the transaction any more, and none does: the newest block that could is final, and the
    /// node has never seen the signature.
    pub async fn can_never_land(
        &self,
        signature: &str,
        last_valid_block_height: i64,
    ) -> Result<bool, RpcError> {
        let method = "getBlockHeight";
        let result = self
            .rpc
            .call(method, json!([{"commitment": "finalized"}]))
            .await?;
        let height = result.as_i64().ok_or_else(|| malformed(method, &result))?;
        if height <= last_valid_block_height {
            return Ok(false);
        }
        let method = "getSignatureStatuses";
        let result = self
            .rpc
            .call(
                method,
                json!([[signature], {"searchTransactionHistory": true}]),
            )
            .await?;
        match result["value"].as_array().map(Vec::as_slice) {
            Some([status]) => Ok(status.is_null()),
            _ => Err(malformed(method, &result)),
        }
    }

    /// Asks the node's faucet. Answers the signature of the transfer.
    pub async fn request_airdrop(
        &self,
        address: &Address,
        lamports: u64,
    ) -> Result<String, RpcError> {
        let method = "requestAirdrop";
        let result = self
            .rpc
            .call(method, json!([address.to_string(), lamports]))
            .await?;
        result
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| malformed(method, &result))
    }
}

fn malformed(method: &'static str, result: &Value) -> RpcError {
    RpcError::Malformed {
        method,
        problem: result.to_string().chars().take(200).collect(),
    }
}
