//! `cursor`, a field of a subscription's configuration that is ours: go on after the notification that carried it. Empty: from
//! now on, with cursors.

use bytes::Bytes;
use serde_json::Value;
use solana_rpc_client_types::config::{CommitmentConfig, UiAccountEncoding};

use super::{Ask, Level, RpcError, Subscription, ask};
use crate::yellowstone::cursor::Cursor;

/// Longer than the text of any cursor we ever gave.
const TEXT_MAX: usize = 64;

/// A subscription in canonical order, with a cursor in every notification.
#[derive(Debug, Clone, PartialEq)]
pub struct Resumption {
    pub subscription: Subscription,
    pub level: Level,
    /// After which it goes on; empty: from now on.
    pub cursor: Bytes,
}

/// How a cursor is written in JSON.
pub fn cursor_text(cursor: &[u8]) -> String {
    bs58::encode(cursor).into_string()
}

/// `None` when the call has no cursor; then it is one like any other.
pub(super) fn resumption(method: &str, params: &mut Value) -> Option<Result<Ask, RpcError>> {
    if !method.ends_with("Subscribe") {
        return None;
    }
    let config = params.as_array_mut()?.last_mut()?.as_object_mut()?;
    let cursor = config.remove("cursor")?;
    Some(read(method, params, cursor))
}

fn read(method: &str, params: &mut Value, cursor: Value) -> Result<Ask, RpcError> {
    let cursor = bytes(&cursor)?;
    let subscription = match method {
        // They have no configuration of their own.
        "slotSubscribe" | "gapSubscribe" => {
            let level = level(params)?;
            let subscription = match method {
                "slotSubscribe" => Subscription::Slot,
                _ => Subscription::Gap,
            };
            return resume(subscription, level, cursor);
        }
        "signatureSubscribe" => return Err(refused(method, "it is told once")),
        _ => match ask(method, params.take())? {
            Ask::Subscribe(subscription) => *subscription,
            // Cannot be: the cursor is gone, and the method subscribes.
            other => return Ok(other),
        },
    };
    let level = match &subscription {
        Subscription::Account { view, level, .. } | Subscription::Program { view, level, .. } => {
            if view.encoding == UiAccountEncoding::JsonParsed {
                let why = "with jsonParsed, which needs the mints of the moment: ask for base64";
                return Err(refused(method, why));
            }
            *level
        }
        Subscription::Logs { level, .. }
        | Subscription::Transaction { level, .. }
        | Subscription::Block { level, .. } => *level,
        _ => return Err(refused(method, "it is told in no canonical order")),
    };
    resume(subscription, level, cursor)
}

fn resume(subscription: Subscription, level: Level, cursor: Bytes) -> Result<Ask, RpcError> {
    if !cursor.is_empty() {
        let known = Cursor::decode(&cursor).map_err(|error| invalid(&error.to_string()))?;
        if known.level != level {
            return Err(invalid(&format!(
                "it is of {:?}, the subscription of {level:?}: ask for the same commitment",
                known.level
            )));
        }
    }
    Ok(Ask::Resume(Box::new(Resumption {
        subscription,
        level,
        cursor,
    })))
}

fn bytes(cursor: &Value) -> Result<Bytes, RpcError> {
    let text = cursor
        .as_str()
        .filter(|text| text.len() <= TEXT_MAX)
        .ok_or_else(|| invalid("write the text that came with a notification, or \"\""))?;
    let bytes = bs58::decode(text).into_vec();
    bytes
        .map(Bytes::from)
        .map_err(|error| invalid(&error.to_string()))
}

/// Of a configuration that has nothing else.
fn level(params: &Value) -> Result<Level, RpcError> {
    let (Some([config]), Some(members)) = (
        params.as_array().map(Vec::as_slice),
        params.pointer("/0").and_then(Value::as_object),
    ) else {
        return Err(RpcError::invalid_params(
            "Invalid params: write one object, with `cursor` and `commitment`",
        ));
    };
    if let Some(other) = members.keys().find(|key| *key != "commitment") {
        return Err(RpcError::invalid_params(format!(
            "Invalid params: unknown field `{other}`: there are `cursor` and `commitment`"
        )));
    }
    let config = (!members.is_empty())
        .then(|| serde_json::from_value::<CommitmentConfig>(config.clone()))
        .transpose()
        .map_err(|error| RpcError::invalid_params(format!("Invalid params: {error}.")))?;
    Ok(Level::asked(config))
}

fn invalid(why: &str) -> RpcError {
    RpcError::invalid_params(format!("Invalid params: the cursor cannot be used: {why}"))
}

fn refused(method: &str, why: &str) -> RpcError {
    RpcError::invalid_params(format!(
        "Invalid params: {method} takes no cursor: {why}. Subscribe without one"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const KEY: &str = "11111111111111111111111111111111";

    fn cursor(level: Level) -> String {
        cursor_text(&Cursor::after(level, 7).encode())
    }

    fn read(method: &str, params: Value) -> Result<Ask, RpcError> {
        ask(method, params)
    }

    #[test]
    fn a_cursor_may_come_with_every_method_that_has_an_order() {
        let cursor = cursor(Level::Confirmed);
        for (method, subject) in [
            ("accountSubscribe", Some(json!(KEY))),
            ("programSubscribe", Some(json!(KEY))),
            ("logsSubscribe", Some(json!("all"))),
            ("transactionSubscribe", Some(json!({}))),
            ("blockSubscribe", Some(json!("all"))),
            ("slotSubscribe", None),
            ("gapSubscribe", None),
        ] {
            for text in ["", cursor.as_str()] {
                let mut config = json!({"commitment": "confirmed", "cursor": text});
                if method == "transactionSubscribe" {
                    config["transactionDetails"] = json!("none");
                }
                let params = subject.iter().cloned().chain([config]).collect();
                let Ok(Ask::Resume(resumption)) = read(method, params) else {
                    panic!("{method} refused");
                };
                assert_eq!(resumption.level, Level::Confirmed);
                assert_eq!(resumption.cursor.is_empty(), text.is_empty());
            }
        }
    }

    #[test]
    fn a_cursor_that_cannot_be_used_is_refused_with_the_reason() {
        let text = |method: &str, params: Value| read(method, params).unwrap_err().message;
        let finalized = cursor(Level::Finalized);
        for (method, params, word) in [
            (
                "logsSubscribe",
                json!(["all", {"cursor": 5}]),
                "write the text",
            ),
            (
                "logsSubscribe",
                json!(["all", {"cursor": "0"}]),
                "cannot be used",
            ),
            (
                "logsSubscribe",
                json!(["all", {"cursor": "1".repeat(65)}]),
                "write the text",
            ),
            (
                "logsSubscribe",
                json!(["all", {"cursor": "11"}]),
                "2 bytes, expected 14",
            ),
            (
                "logsSubscribe",
                json!(["all", {"cursor": finalized, "commitment": "confirmed"}]),
                "ask for the same commitment",
            ),
            (
                "accountSubscribe",
                json!([KEY, {"cursor": "", "encoding": "jsonParsed"}]),
                "ask for base64",
            ),
            (
                "signatureSubscribe",
                json!([KEY, {"cursor": ""}]),
                "it is told once",
            ),
            (
                "slotSubscribe",
                json!([{"cursor": "", "x": 1}]),
                "unknown field `x`",
            ),
            ("slotSubscribe", json!([1, {"cursor": ""}]), "one object"),
            ("rootSubscribe", json!([{"cursor": ""}]), "No parameters"),
            (
                "blockSubscribe",
                json!(["all", {"cursor": "", "commitment": "processed"}]),
                "below",
            ),
        ] {
            let refused = text(method, params);
            assert!(refused.contains(word), "{method}: {refused}");
        }
    }
}
