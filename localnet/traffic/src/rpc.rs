//! The few JSON-RPC calls that traffic needs.

use std::time::Duration;

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json, value::RawValue};
use solana_hash::Hash;
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;

/// The newest transaction version that a reader of our recordings understands.
const TRANSACTION_VERSION_MAX: u8 = 1;
const CALL_TIMEOUT: Duration = Duration::from_secs(20);

/// Retrying may help with `Unreachable`; `Refused` is the node's last word.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    #[error("the validator at {url} does not answer {method}: {problem}")]
    Unreachable {
        url: String,
        method: String,
        problem: String,
    },
    #[error("{method} was refused: {message} (code {code})")]
    Refused {
        method: String,
        code: i64,
        message: String,
    },
}

#[derive(Clone)]
pub struct Rpc {
    http: reqwest::Client,
    url: String,
}

/// Where a signature was seen.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SignatureStatus {
    pub slot: u64,
    pub err: Option<Value>,
    pub confirmation_status: Option<String>,
}

impl SignatureStatus {
    pub fn is_confirmed(&self) -> bool {
        self.confirmation_status.as_deref() != Some("processed")
    }
}

#[derive(Deserialize)]
struct WithContext<T> {
    value: T,
}

#[derive(Deserialize)]
struct LatestBlockhash {
    blockhash: String,
}

impl Rpc {
    pub fn new(url: &str) -> Self {
        Self {
            http: reqwest::Client::new(),
            url: url.into(),
        }
    }

    /// A blockhash that a transaction may name now.
    pub async fn latest_blockhash(&self) -> Result<Hash, RpcError> {
        let method = "getLatestBlockhash";
        let latest: WithContext<LatestBlockhash> = self
            .call(method, json!([{"commitment": "confirmed"}]))
            .await?;
        latest
            .value
            .blockhash
            .parse()
            .map_err(|e| self.unreachable(method, e))
    }

    pub async fn slot(&self, commitment: &str) -> Result<u64, RpcError> {
        self.call("getSlot", json!([{"commitment": commitment}]))
            .await
    }

    /// Lamports that keep an account of `space` bytes alive.
    pub async fn rent_exempt_lamports(&self, space: usize) -> Result<u64, RpcError> {
        self.call("getMinimumBalanceForRentExemption", json!([space]))
            .await
    }

    /// Hands in a transaction. Without `preflight` the node does not try it out first, so that failing ones land too.
    pub async fn send(
        &self,
        transaction: &VersionedTransaction,
        preflight: bool,
    ) -> Result<(), RpcError> {
        let method = "sendTransaction";
        let bytes = wincode::serialize(transaction).map_err(|e| self.unreachable(method, e))?;
        let options = json!({
            "encoding": "base64", "skipPreflight": !preflight, "preflightCommitment": "processed",
        });
        let _signature: String = self
            .call(method, json!([BASE64_STANDARD.encode(bytes), options]))
            .await?;
        Ok(())
    }

    pub async fn signature_statuses(
        &self,
        signatures: &[Signature],
    ) -> Result<Vec<Option<SignatureStatus>>, RpcError> {
        let texts: Vec<String> = signatures.iter().map(ToString::to_string).collect();
        let statuses: WithContext<Vec<Option<SignatureStatus>>> =
            self.call("getSignatureStatuses", json!([texts])).await?;
        Ok(statuses.value)
    }

    pub async fn balance(&self, account: &Pubkey) -> Result<u64, RpcError> {
        let balance: WithContext<u64> = self
            .call(
                "getBalance",
                json!([account.to_string(), {"commitment": "confirmed"}]),
            )
            .await?;
        Ok(balance.value)
    }

    /// The slots from `from` to `to` that hold a confirmed block.
    pub async fn blocks(&self, from: u64, to: u64) -> Result<Vec<u64>, RpcError> {
        self.call("getBlocks", json!([from, to, {"commitment": "confirmed"}]))
            .await
    }

    /// The reply's block, byte for byte as the node wrote it.
    pub async fn block(&self, slot: u64) -> Result<Box<RawValue>, RpcError> {
        let options = json!({
            "encoding": "base64", "transactionDetails": "full", "rewards": true,
            "commitment": "confirmed", "maxSupportedTransactionVersion": TRANSACTION_VERSION_MAX,
        });
        self.call("getBlock", json!([slot, options])).await
    }

    async fn call<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        #[derive(Deserialize)]
        struct Reply<T> {
            result: Option<T>,
            error: Option<ReplyError>,
        }
        #[derive(Deserialize)]
        struct ReplyError {
            code: i64,
            message: String,
            data: Option<Value>,
        }
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let response = self
            .http
            .post(&self.url)
            .timeout(CALL_TIMEOUT)
            .json(&request)
            .send()
            .await
            .map_err(|e| self.unreachable(method, e.without_url()))?;
        let text = response
            .text()
            .await
            .map_err(|e| self.unreachable(method, e.without_url()))?;
        let reply: Reply<T> =
            serde_json::from_str(&text).map_err(|e| self.unreachable(method, e))?;
        match (reply.result, reply.error) {
            (_, Some(error)) => Err(RpcError::Refused {
                method: method.into(),
                code: error.code,
                message: match error.data.and_then(|data| data.get("err").cloned()) {
                    Some(cause) => format!("{}: {cause}", error.message),
                    None => error.message,
                },
            }),
            (Some(result), None) => Ok(result),
            (None, None) => Err(self.unreachable(method, "a reply without result")),
        }
    }

    fn unreachable(&self, method: &str, problem: impl std::fmt::Display) -> RpcError {
        RpcError::Unreachable {
            url: self.url.clone(),
            method: method.into(),
            problem: problem.to_string(),
        }
    }
}
