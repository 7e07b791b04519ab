//! The sender: takes signed transactions, and tells what became of them.

use crate::json_rpc::{JsonRpc, RpcError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

#[derive(Clone)]
pub struct Sender {
    rpc: JsonRpc,
}

/// What the sender knows. Unknown members are left alone: it may learn to say more.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
pub struct SendStatus {
    pub state: SendState,
    #[serde(default)]
    pub slot: Option<i64>,
    #[serde(default)]
    pub commitment: Option<String>,
    #[serde(default)]
    pub error: Option<serde_json::Value>,
    /// False while a fork could still change the outcome.
    #[serde(default = "settled_unless_told")]
    pub settled: bool,
}

fn settled_unless_told() -> bool {
    true
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum SendState {
    Accepted,
    Sending,
    Landed,
    /// In a block, but its instructions failed; only the fee was paid.
    Failed,
    /// In no block, and can never be.
    Expired,
}

impl Sender {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            rpc: JsonRpc::new(url)?,
        })
    }

    /// Hands a transaction over. The approval id makes a second hand-over of the same transaction harmless.
    pub async fn send(&self, wire: &[u8], approval: Uuid) -> Result<String, RpcError> {
        let method = "sendTransaction";
        let options = json!({"encoding": "base64", "idempotencyKey": approval.to_string()});
        let result = self
            .rpc
            .call(method, json!([STANDARD.encode(wire), options]))
            .await?;
        result
            .as_str()
            .map(str::to_owned)
            .ok_or_else(|| RpcError::Malformed {
                method,
                problem: "the answer is not a signature".into(),
            })
    }

    /// `None` when the sender does not know the signature.
    pub async fn status(&self, signature: &str) -> Result<Option<SendStatus>, RpcError> {
        let method = "getSendStatus";
        match self.rpc.call(method, json!([signature])).await {
            Ok(result) if result.is_null() => Ok(None),
            Ok(result) => {
                serde_json::from_value(result)
                    .map(Some)
                    .map_err(|error| RpcError::Malformed {
                        method,
                        problem: error.to_string(),
                    })
            }
            Err(RpcError::Refused { code, message, .. }) => {
                tracing::debug!(code, message, "the sender does not know the signature");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}

/// Whether a refusal is about the transaction itself, so that sending it again cannot help: bad request, bad parameters,
/// bad signature. Anything else may pass.
pub fn is_permanent(code: i64) -> bool {
    matches!(code, -32700 | -32600 | -32602 | -32003)
}
