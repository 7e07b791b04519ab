//! JSON-RPC 2.0 envelopes and the parameters of our methods. Pure.
//!
//! Codes are those a Solana RPC client knows, where there is one; every error says what to do in `data.fix`.

use serde_json::{Map, Value, json};

use crate::transaction::{Encoding, Refusal};

/// Requests in one batch.
pub const BATCH_MAX: usize = 100;
/// Characters of an idempotency key.
pub const KEY_LENGTH_MAX: usize = 255;

pub const PARSE_ERROR: i64 = -32700;
pub const INVALID_REQUEST: i64 = -32600;
pub const METHOD_NOT_FOUND: i64 = -32601;
pub const INVALID_PARAMS: i64 = -32602;
/// `JSON_RPC_SERVER_ERROR_SEND_TRANSACTION_PREFLIGHT_FAILURE`, solana-rpc-client-api 4.2.2.
pub const PREFLIGHT_FAILURE: i64 = -32002;
/// `JSON_RPC_SERVER_ERROR_TRANSACTION_SIGNATURE_VERIFICATION_FAILURE`.
pub const SIGNATURE_VERIFICATION_FAILURE: i64 = -32003;
/// `JSON_RPC_SERVER_ERROR_NODE_UNHEALTHY`: try again later.
pub const UNHEALTHY: i64 = -32005;
/// Ours: the key stands for another transaction.
pub const IDEMPOTENCY_KEY_CONFLICT: i64 = -32090;

/// What the caller gets instead of a result.
#[derive(Debug, Clone, PartialEq)]
pub struct RpcError {
    pub code: i64,
    pub message: String,
    pub data: Value,
}

impl RpcError {
    pub fn new(code: i64, message: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            data: json!({"fix": fix.into()}),
        }
    }

    fn params(field: &str, problem: impl Into<String>, fix: impl Into<String>) -> Self {
        Self {
            code: INVALID_PARAMS,
            message: format!("Invalid params: {field}: {}", problem.into()),
            data: json!({"field": field, "fix": fix.into()}),
        }
    }
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let fix = refusal.fix();
        let code = if refusal.is_signature_failure() {
            SIGNATURE_VERIFICATION_FAILURE
        } else {
            INVALID_PARAMS
        };
        Self {
            code,
            message: format!("{refusal}. To fix it, {fix}"),
            data: json!({"field": "params[0]", "fix": fix}),
        }
    }
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Method {
    SendTransaction {
        transaction: String,
        encoding: Encoding,
        idempotency_key: Option<String>,
    },
    /// By signature or id.
    GetSendStatus { name: String },
}

/// One request of the body.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// `None`: a notification, done without an answer.
    pub id: Option<Value>,
    pub method: Result<Method, RpcError>,
}

/// The body of a POST.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    One(Request),
    Batch(Vec<Request>),
    /// Not JSON-RPC at all.
    Bad(RpcError),
}

pub fn parse(body: &[u8]) -> Body {
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(error) => {
            return Body::Bad(RpcError::new(
                PARSE_ERROR,
                format!("Parse error: {error}"),
                "send one JSON-RPC 2.0 object, or an array of them",
            ));
        }
    };
    match value {
        Value::Array(requests) if requests.is_empty() => Body::Bad(RpcError::new(
            INVALID_REQUEST,
            "Invalid request: the batch is empty",
            "put at least one request into it",
        )),
        Value::Array(requests) if requests.len() > BATCH_MAX => Body::Bad(RpcError::new(
            INVALID_REQUEST,
            format!(
                "Invalid request: the batch has {} requests, the limit is {BATCH_MAX}",
                requests.len()
            ),
            "split the batch",
        )),
        Value::Array(requests) => Body::Batch(requests.into_iter().map(request).collect()),
        value => Body::One(request(value)),
    }
}

pub fn response(id: &Value, outcome: Result<Value, RpcError>) -> Value {
    match outcome {
        Ok(result) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
        Err(error) => json!({
            "jsonrpc": "2.0",
            "id": id,
            "error": {"code": error.code, "message": error.message, "data": error.data},
        }),
    }
}

fn request(value: Value) -> Request {
    let invalid = |id: Option<Value>, problem: &str, fix: &str| Request {
        // What cannot be understood is answered with id null, by the standard.
        id: Some(id.unwrap_or(Value::Null)),
        method: Err(RpcError::new(
            INVALID_REQUEST,
            format!("Invalid request: {problem}"),
            fix,
        )),
    };
    let Value::Object(mut fields) = value else {
        return invalid(
            None,
            "not an object",
            "send {\"jsonrpc\": \"2.0\", \"id\": 1, \"method\": …, \"params\": […]}",
        );
    };
    let id = fields.remove("id");
    if matches!(
        id,
        Some(Value::Object(_) | Value::Array(_) | Value::Bool(_))
    ) {
        return invalid(
            None,
            "the id is neither a number, a string nor null",
            "use a number as id",
        );
    }
    if fields.get("jsonrpc") != Some(&Value::from("2.0")) {
        return invalid(id, "jsonrpc is not \"2.0\"", "add \"jsonrpc\": \"2.0\"");
    }
    let Some(Value::String(name)) = fields.remove("method") else {
        return invalid(
            id,
            "method is missing or no string",
            "add \"method\": \"sendTransaction\"",
        );
    };
    let params = match fields.remove("params") {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Array(params)) => params,
        Some(_) => {
            return Request {
                id,
                method: Err(RpcError::params(
                    "params",
                    "not an array",
                    "pass parameters by position",
                )),
            };
        }
    };
    let method = match name.as_str() {
        "sendTransaction" => send_transaction(params),
        "getSendStatus" => get_send_status(params),
        other => Err(RpcError::new(
            METHOD_NOT_FOUND,
            format!(
                "Method not found: {other}. The sender knows sendTransaction and getSendStatus"
            ),
            "ask a validator's JSON-RPC for everything else",
        )),
    };
    Request { id, method }
}

/// Options of `sendTransaction` that Solana's RPC has and that change nothing here: there is no simulation, and sending
/// ends with the outcome, not with a count.
const ACCEPTED_WITHOUT_EFFECT: [&str; 4] = [
    "skipPreflight",
    "preflightCommitment",
    "maxRetries",
    "minContextSlot",
];

fn send_transaction(params: Vec<Value>) -> Result<Method, RpcError> {
    let mut params = params.into_iter();
    let Some(Value::String(transaction)) = params.next() else {
        return Err(RpcError::params(
            "params[0]",
            "the signed transaction is missing or no string",
            "pass the encoded transaction as first parameter",
        ));
    };
    let mut options = options(params.next())?;
    no_more(params.next(), "params[2]")?;
    let encoding = match options.remove("encoding") {
        None | Some(Value::Null) => Encoding::Base58,
        Some(Value::String(name)) if name == "base58" => Encoding::Base58,
        Some(Value::String(name)) if name == "base64" => Encoding::Base64,
        Some(other) => {
            return Err(RpcError::params(
                "encoding",
                format!("unsupported encoding: {other}. Supported encodings: base58, base64"),
                "write \"base64\"",
            ));
        }
    };
    let idempotency_key = match options.remove("idempotencyKey") {
        None | Some(Value::Null) => None,
        Some(Value::String(key))
            if !key.is_empty() && key.chars().count() <= KEY_LENGTH_MAX && !key.contains('\0') =>
        {
            Some(key)
        }
        Some(_) => {
            return Err(RpcError::params(
                "idempotencyKey",
                format!("not a text of 1 to {KEY_LENGTH_MAX} characters"),
                "use a UUID made once per intent, and the same one in every repeat",
            ));
        }
    };
    let unknown = options
        .keys()
        .find(|key| !ACCEPTED_WITHOUT_EFFECT.contains(&key.as_str()));
    if let Some(unknown) = unknown {
        return Err(RpcError::params(
            unknown,
            "unknown option",
            format!(
                "remove it; the options are encoding, idempotencyKey, and without effect {}",
                ACCEPTED_WITHOUT_EFFECT.join(", ")
            ),
        ));
    }
    Ok(Method::SendTransaction {
        transaction,
        encoding,
        idempotency_key,
    })
}

fn get_send_status(params: Vec<Value>) -> Result<Method, RpcError> {
    let mut params = params.into_iter();
    let Some(Value::String(name)) = params.next() else {
        return Err(RpcError::params(
            "params[0]",
            "the signature or id is missing or no string",
            "pass what sendTransaction returned",
        ));
    };
    no_more(params.next(), "params[1]")?;
    Ok(Method::GetSendStatus { name })
}

fn options(value: Option<Value>) -> Result<Map<String, Value>, RpcError> {
    match value {
        None | Some(Value::Null) => Ok(Map::new()),
        Some(Value::Object(options)) => Ok(options),
        Some(_) => Err(RpcError::params(
            "params[1]",
            "the options are no object",
            "pass {\"encoding\": \"base64\"}",
        )),
    }
}

fn no_more(value: Option<Value>, field: &str) -> Result<(), RpcError> {
    match value {
        None => Ok(()),
        Some(_) => Err(RpcError::params(field, "too many parameters", "remove it")),
    }
}

#[cfg(test)]
mod tests;
