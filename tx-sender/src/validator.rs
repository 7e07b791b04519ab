//! The few questions the sender has for a validator's JSON-RPC. Thin: one call, one answer, no retry.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_schema::{Blockhash, Pubkey, Signature, Slot};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    #[error("{method}: the validator at {url} cannot be reached: {error}; check rpc_url")]
    Unreachable {
        method: &'static str,
        url: Arc<str>,
        error: reqwest::Error,
    },
    #[error("{method}: the validator answered with error {code}: {message}")]
    Refused {
        method: &'static str,
        code: i64,
        message: String,
    },
    #[error("{method}: the validator's answer is not understood: {problem}")]
    Foreign {
        method: &'static str,
        problem: String,
    },
}

type Answer<T> = Result<T, AskError>;

/// Where the validator stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Epoch {
    pub absolute_slot: u64,
    pub block_height: u64,
    pub slot_index: u64,
    pub slots_in_epoch: u64,
}

/// What the validator's history says of a signature.
#[derive(Debug, Clone, PartialEq)]
pub struct SignatureStatus {
    pub slot: Slot,
    pub finalized: bool,
    pub error: Option<Arc<str>>,
}

/// A client of one validator.
#[derive(Debug, Clone)]
pub struct Validator {
    http: reqwest::Client,
    url: Arc<str>,
}

#[derive(Deserialize)]
struct Reply {
    result: Option<Value>,
    error: Option<ReplyError>,
}

#[derive(Deserialize)]
struct ReplyError {
    code: i64,
    message: String,
}

#[derive(Deserialize)]
struct InContext<T> {
    value: T,
}

impl Validator {
    pub fn new(url: &str, timeout: Duration) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder()
                .timeout(timeout)
                .pool_idle_timeout(Duration::from_secs(60))
                .build()?,
            url: url.into(),
        })
    }

    async fn ask<T: DeserializeOwned>(&self, method: &'static str, params: Value) -> Answer<T> {
        let unreachable = |error| AskError::Unreachable {
            method,
            url: self.url.clone(),
            error,
        };
        let reply: Reply = self
            .http
            .post(self.url.as_ref())
            .json(&json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}))
            .send()
            .await
            .map_err(unreachable)?
            .json()
            .await
            .map_err(unreachable)?;
        if let Some(error) = reply.error {
            return Err(AskError::Refused {
                method,
                code: error.code,
                message: error.message,
            });
        }
        serde_json::from_value(reply.result.unwrap_or(Value::Null)).map_err(|error| {
            AskError::Foreign {
                method,
                problem: error.to_string(),
            }
        })
    }

    /// The slot it is working on.
    pub async fn slot(&self) -> Answer<Slot> {
        self.ask("getSlot", json!([{"commitment": "processed"}]))
            .await
            .map(Slot)
    }

    /// `commitment`: `processed` or `finalized`.
    pub async fn epoch(&self, commitment: &str) -> Answer<Epoch> {
        self.ask("getEpochInfo", json!([{"commitment": commitment}]))
            .await
    }

    pub async fn slot_leaders(&self, first: Slot, slots: u64) -> Answer<Vec<Pubkey>> {
        self.ask("getSlotLeaders", json!([first, slots])).await
    }

    /// QUIC sockets for transactions, of the nodes that tell one.
    pub async fn tpu_addresses(&self) -> Answer<HashMap<Pubkey, SocketAddr>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Node {
            pubkey: Pubkey,
            tpu_quic: Option<SocketAddr>,
        }
        let nodes: Vec<Node> = self.ask("getClusterNodes", json!([])).await?;
        Ok(nodes
            .into_iter()
            .filter_map(|node| Some((node.pubkey, node.tpu_quic?)))
            .collect())
    }

    /// Height of its newest block.
    pub async fn block_height(&self) -> Answer<u64> {
        self.ask("getBlockHeight", json!([{"commitment": "processed"}]))
            .await
    }

    pub async fn is_blockhash_valid(&self, blockhash: &Blockhash) -> Answer<bool> {
        let answer: InContext<bool> = self
            .ask(
                "isBlockhashValid",
                json!([blockhash, {"commitment": "processed"}]),
            )
            .await?;
        Ok(answer.value)
    }

    /// Searches its whole history. `None`: it knows nothing of the signature.
    pub async fn signature_status(&self, signature: &Signature) -> Answer<Option<SignatureStatus>> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Status {
            slot: u64,
            err: Option<Value>,
            confirmation_status: Option<String>,
        }
        let answer: InContext<Vec<Option<Status>>> = self
            .ask(
                "getSignatureStatuses",
                json!([[signature], {"searchTransactionHistory": true}]),
            )
            .await?;
        let status = answer.value.into_iter().next().flatten();
        Ok(status.map(|status| SignatureStatus {
            slot: Slot(status.slot),
            finalized: status.confirmation_status.as_deref() == Some("finalized"),
            error: status.err.map(|error| error.to_string().into()),
        }))
    }

    /// The finalized value of a durable nonce; `None` when the account is gone or no nonce.
    pub async fn nonce_value(&self, account: &Pubkey) -> Answer<Option<Blockhash>> {
        #[derive(Deserialize)]
        struct Account {
            data: (String, String),
        }
        let answer: InContext<Option<Account>> = self
            .ask(
                "getAccountInfo",
                json!([account, {"encoding": "base64", "commitment": "finalized"}]),
            )
            .await?;
        let Some(account) = answer.value else {
            return Ok(None);
        };
        let data = BASE64_STANDARD
            .decode(account.data.0)
            .map_err(|error| AskError::Foreign {
                method: "getAccountInfo",
                problem: error.to_string(),
            })?;
        Ok(parse_nonce(&data))
    }
}

/// Value of an initialized nonce account: version u32, state u32 (1 = initialized), authority 32, value 32, fee u64.
fn parse_nonce(data: &[u8]) -> Option<Blockhash> {
    let state = data.get(4..8)?;
    if state != 1u32.to_le_bytes() {
        return None;
    }
    Blockhash::try_from(data.get(40..72)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_read_where_it_is() {
        let mut data = vec![0; 80];
        data[0] = 1;
        assert_eq!(parse_nonce(&data), None, "not initialized");
        data[4] = 1;
        data[40..72].fill(9);
        assert_eq!(parse_nonce(&data), Some(Blockhash([9; 32])));
        assert_eq!(parse_nonce(&data[..71]), None, "cut short");
    }

    #[tokio::test]
    async fn a_validator_that_is_not_there_is_named() {
        let validator =
            Validator::new("http://127.0.0.1:1", Duration::from_secs(1)).expect("client");
        let error = validator.slot().await.unwrap_err().to_string();
        assert!(
            error.contains("http://127.0.0.1:1") && error.contains("rpc_url"),
            "{error}"
        );
    }
}
