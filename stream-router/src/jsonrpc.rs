//! Pure: JSON-RPC 2.0 as Solana's PubSub door speaks it: calls, batches, notifications without an answer.

use serde_json::{Value, json};

use crate::subscription::{Ask, RpcError, ask};

/// One call, read; its answer is still open.
#[derive(Debug)]
pub struct Call {
    /// `None`: a notification, which gets no answer.
    id: Option<Value>,
    pub ask: Result<Ask, RpcError>,
}

/// What came in one frame.
#[derive(Debug)]
pub enum Request {
    One(Call),
    Batch(Vec<Call>),
    /// Not JSON.
    Broken,
}

impl Request {
    pub fn read(text: &str) -> Self {
        match serde_json::from_str(text) {
            Ok(Value::Array(calls)) if !calls.is_empty() => {
                Self::Batch(calls.into_iter().map(call).collect())
            }
            Ok(value) => Self::One(call(value)),
            Err(_) => Self::Broken,
        }
    }

    /// The answer's text; `None` when nothing is to be answered.
    pub fn answer(self, mut decide: impl FnMut(Call) -> Result<Value, RpcError>) -> Option<String> {
        let mut answer_one = |call: Call| {
            let id = call.id.clone()?;
            Some(response(decide(call), id))
        };
        match self {
            Self::Broken => Some(response(Err(RpcError::parse_error()), Value::Null)),
            Self::One(call) => answer_one(call),
            Self::Batch(calls) => {
                let answers: Vec<String> = calls.into_iter().filter_map(answer_one).collect();
                (!answers.is_empty()).then(|| format!("[{}]", answers.join(",")))
            }
        }
    }
}

fn response(outcome: Result<Value, RpcError>, id: Value) -> String {
    match outcome {
        Ok(result) => format!(r#"{{"jsonrpc":"2.0","result":{result},"id":{id}}}"#),
        Err(error) => format!(r#"{{"jsonrpc":"2.0","error":{},"id":{id}}}"#, json!(error)),
    }
}

fn call(mut value: Value) -> Call {
    let id = value.get("id").cloned();
    let structured = value
        .get("params")
        .is_none_or(|params| params.is_null() || params.is_array() || params.is_object());
    let method = value.get("method").and_then(Value::as_str);
    let Some(method) = method.map(str::to_owned).filter(|_| structured) else {
        return Call {
            id: Some(id.unwrap_or(Value::Null)),
            ask: Err(RpcError::invalid_request()),
        };
    };
    if value.get("jsonrpc").and_then(Value::as_str) != Some("2.0") {
        return Call {
            id,
            ask: Err(RpcError::new(
                -32600,
                "Unsupported JSON-RPC protocol version",
            )),
        };
    }
    let params = value.get_mut("params").map_or(Value::Null, Value::take);
    Call {
        id,
        ask: ask(&method, params),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(text: &str) -> Option<String> {
        Request::read(text).answer(|call| call.ask.map(|_| json!(7)))
    }

    #[test]
    fn answers_have_the_shape_clients_know() {
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","result":7,"id":1}"#
        );
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","id":"a","method":"nope"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"Method not found"},"id":"a"}"#
        );
        assert_eq!(
            answer("{").unwrap(),
            r#"{"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null}"#
        );
        assert_eq!(
            answer("[]").unwrap(),
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid request"},"id":null}"#
        );
        assert_eq!(
            answer(r#"{"id":1,"method":"slotSubscribe"}"#).unwrap(),
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Unsupported JSON-RPC protocol version"},"id":1}"#
        );
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","id":3,"method":"slotSubscribe","params":5}"#).unwrap(),
            r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Invalid request"},"id":3}"#
        );
        assert_eq!(
            answer(r#"{"jsonrpc":"2.0","method":"slotSubscribe"}"#),
            None
        );
        assert_eq!(
            answer(r#"[{"jsonrpc":"2.0","id":1,"method":"slotSubscribe"},{"jsonrpc":"2.0","method":"x"},{"jsonrpc":"2.0","id":2,"method":"rootSubscribe"}]"#).unwrap(),
            r#"[{"jsonrpc":"2.0","result":7,"id":1},{"jsonrpc":"2.0","result":7,"id":2}]"#
        );
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text: String) {
            let _ = answer(&text);
        }
    }
}
