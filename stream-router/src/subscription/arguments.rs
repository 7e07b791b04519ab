//! Positional parameters, read and refused as Agave's JSON-RPC door does.

use serde::de::DeserializeOwned;
use serde_json::Value;
use solana_pubkey::Pubkey;

use super::RpcError;

/// One required argument and an optional configuration.
pub(super) fn arguments<A: DeserializeOwned, C: DeserializeOwned>(
    params: Value,
) -> Result<(A, Option<C>), RpcError> {
    let count = match &params {
        Value::Array(values) => values.len(),
        Value::Null => 0,
        _ => return Err(RpcError::invalid_params("`params` should be an array")),
    };
    match count {
        0 => Err(RpcError::invalid_params(
            "`params` should have at least 1 argument(s)",
        )),
        1 => read::<(A,)>(params).map(|(first,)| (first, None)),
        2 => read(params),
        more => Err(RpcError {
            data: Some(Value::String(format!("\"Got: {more}\""))),
            ..RpcError::invalid_params("Invalid parameters: Expected from 1 to 2 parameters.")
        }),
    }
}

/// The answer's `data` shows what came in the way the validator's library prints it.
pub(super) fn no_arguments(params: Value) -> Result<(), RpcError> {
    let came = match params {
        Value::Null => return Ok(()),
        Value::Array(values) if values.is_empty() => return Ok(()),
        Value::Array(values) => format!("Array({values:?})"),
        Value::Object(members) => format!("Map({members:?})"),
        other => other.to_string(),
    };
    Err(RpcError {
        data: Some(Value::String(came)),
        ..RpcError::invalid_params("Invalid parameters: No parameters were expected")
    })
}

pub(super) fn read<T: DeserializeOwned>(params: Value) -> Result<T, RpcError> {
    serde_json::from_value(params)
        .map_err(|error| RpcError::invalid_params(format!("Invalid params: {error}.")))
}

pub(super) fn key(text: &str, thing: &str) -> Result<Pubkey, RpcError> {
    text.parse().map_err(|_| invalid(thing))
}

pub(super) fn invalid(thing: &str) -> RpcError {
    RpcError::invalid_params(format!("Invalid Request: Invalid {thing} provided"))
}
