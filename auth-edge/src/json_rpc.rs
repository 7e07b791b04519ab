//! JSON-RPC 2.0 over HTTP, as the RPC node and the sender speak it.

use serde_json::{Value, json};
use std::time::Duration;

const CALL_LIMIT: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// Nothing is known about what happened; asking again can help.
    #[error("{url} does not answer: {problem}")]
    Unavailable { url: String, problem: String },
    /// The other side understood and said no.
    #[error("{method} was refused with {code}: {message}")]
    Refused {
        method: &'static str,
        code: i64,
        message: String,
    },
    #[error("{method} answered something else than expected: {problem}")]
    Malformed {
        method: &'static str,
        problem: String,
    },
}

#[derive(Clone)]
pub struct JsonRpc {
    http: reqwest::Client,
    url: String,
}

impl JsonRpc {
    pub fn new(url: &str) -> anyhow::Result<Self> {
        Ok(Self {
            http: reqwest::Client::builder()
                .timeout(CALL_LIMIT)
                .no_proxy()
                .build()?,
            url: url.to_owned(),
        })
    }

    /// The `result` member of the answer.
    pub async fn call(&self, method: &'static str, params: Value) -> Result<Value, RpcError> {
        let unavailable = |error: reqwest::Error| RpcError::Unavailable {
            url: self.url.clone(),
            problem: describe(&error),
        };
        let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let response = self
            .http
            .post(&self.url)
            .json(&request)
            .send()
            .await
            .map_err(unavailable)?;
        let status = response.status();
        if status.is_server_error() || status == reqwest::StatusCode::TOO_MANY_REQUESTS {
            return Err(RpcError::Unavailable {
                url: self.url.clone(),
                problem: format!("HTTP status {status}"),
            });
        }
        let bytes = response.bytes().await.map_err(unavailable)?;
        let mut answer: Value =
            serde_json::from_slice(&bytes).map_err(|error| RpcError::Malformed {
                method,
                problem: format!("HTTP status {status}, {error}"),
            })?;
        if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
            return Err(RpcError::Refused {
                method,
                code: error["code"].as_i64().unwrap_or_default(),
                message: error["message"]
                    .as_str()
                    .unwrap_or("no reason given")
                    .to_owned(),
            });
        }
        match answer.get_mut("result") {
            Some(result) => Ok(result.take()),
            None => Err(RpcError::Malformed {
                method,
                problem: "neither result nor error".into(),
            }),
        }
    }
}

/// reqwest's own text stops at "error sending request"; the cause says why.
fn describe(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = cause.to_string();
        source = cause.source();
    }
    text
}
