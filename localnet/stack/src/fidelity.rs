//! Is a canonical block what the validator's own RPC says it is? Pure.
//!
//! The canonical block is put into the shape of a `getBlock` reply; then every value of that shape is compared with the
//! reply. What the reply has beyond it (display forms, cost units) does not come from the plugin interface.

use base64::{Engine, prelude::BASE64_STANDARD};
use event_schema::{
    SlotBlock,
    proto::{
        confirmed_block::{InnerInstructions, Reward, TokenBalance, TransactionStatusMeta},
        geyser::SubscribeUpdateTransactionInfo,
    },
};
use serde_json::{Value, json};
use solana_transaction_error::TransactionError;

use crate::wire;

/// What differs, as `path: canonical … rpc …`, at most a dozen; empty when they are equal.
pub fn differences(block: &SlotBlock, rpc: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare("", &shape(block), rpc, &mut found);
    found
}

fn shape(block: &SlotBlock) -> Value {
    let meta = &block.meta;
    let transactions: Vec<Value> = block.transactions.iter().map(transaction).collect();
    json!({
        "blockhash": meta.blockhash,
        "previousBlockhash": meta.parent_blockhash,
        "parentSlot": meta.parent_slot,
        "blockHeight": meta.block_height.map(|height| height.block_height),
        "blockTime": meta.block_time.map(|time| time.timestamp),
        "rewards": meta.rewards.iter().flat_map(|rewards| &rewards.rewards).map(reward).collect::<Vec<_>>(),
        "transactions": transactions,
    })
}

fn transaction(info: &SubscribeUpdateTransactionInfo) -> Value {
    let bytes = info
        .transaction
        .as_ref()
        .and_then(wire::encode)
        .unwrap_or_default();
    json!({
        "transaction": [BASE64_STANDARD.encode(bytes), "base64"],
        "meta": info.meta.as_ref().map(meta),
    })
}

fn meta(meta: &TransactionStatusMeta) -> Value {
    json!({
        "err": meta.err.as_ref().map(|error| error_value(&error.err)),
        "fee": meta.fee,
        "preBalances": meta.pre_balances,
        "postBalances": meta.post_balances,
        "innerInstructions": meta.inner_instructions.iter().map(inner).collect::<Vec<_>>(),
        "logMessages": meta.log_messages,
        "preTokenBalances": meta.pre_token_balances.iter().map(token_balance).collect::<Vec<_>>(),
        "postTokenBalances": meta.post_token_balances.iter().map(token_balance).collect::<Vec<_>>(),
        "loadedAddresses": {
            "writable": meta.loaded_writable_addresses.iter().map(base58).collect::<Vec<_>>(),
            "readonly": meta.loaded_readonly_addresses.iter().map(base58).collect::<Vec<_>>(),
        },
        "returnData": meta.return_data.as_ref().map(|data| json!({
            "programId": base58(&data.program_id),
            "data": [BASE64_STANDARD.encode(&data.data), "base64"],
        })),
        "computeUnitsConsumed": meta.compute_units_consumed,
    })
}

fn error_value(bytes: &[u8]) -> Value {
    match bincode::deserialize::<TransactionError>(bytes) {
        Ok(error) => serde_json::to_value(error).unwrap_or(Value::Null),
        Err(problem) => json!(format!("undecodable error: {problem}")),
    }
}

fn inner(inner: &InnerInstructions) -> Value {
    let instructions: Vec<Value> = inner
        .instructions
        .iter()
        .map(|instruction| {
            json!({
                "programIdIndex": instruction.program_id_index,
                "accounts": instruction.accounts,
                "data": base58(&instruction.data),
                "stackHeight": instruction.stack_height,
            })
        })
        .collect();
    json!({"index": inner.index, "instructions": instructions})
}

fn token_balance(balance: &TokenBalance) -> Value {
    let amount = balance.ui_token_amount.as_ref();
    json!({
        "accountIndex": balance.account_index,
        "mint": balance.mint,
        "owner": balance.owner,
        "programId": balance.program_id,
        "uiTokenAmount": {
            "amount": amount.map(|amount| amount.amount.clone()),
            "decimals": amount.map(|amount| amount.decimals),
        },
    })
}

fn reward(reward: &Reward) -> Value {
    let kind = match reward.reward_type {
        1 => Some("Fee"),
        2 => Some("Rent"),
        3 => Some("Staking"),
        4 => Some("Voting"),
        _ => None,
    };
    json!({
        "pubkey": reward.pubkey,
        "lamports": reward.lamports,
        "postBalance": reward.post_balance,
        "rewardType": kind,
        "commission": reward.commission.parse::<u8>().ok(),
    })
}

fn base58(bytes: impl AsRef<[u8]>) -> String {
    bs58::encode(bytes).into_string()
}

const DIFFERENCES_MAX: usize = 12;

fn compare(path: &str, ours: &Value, theirs: &Value, found: &mut Vec<String>) {
    if found.len() >= DIFFERENCES_MAX {
        return;
    }
    match (ours, theirs) {
        (Value::Object(ours), Value::Object(theirs)) => {
            for (key, value) in ours {
                let other = theirs.get(key).unwrap_or(&Value::Null);
                compare(&format!("{path}.{key}"), value, other, found);
            }
        }
        // A list that is not there is an empty one.
        (Value::Array(ours), Value::Null) if ours.is_empty() => {}
        (Value::Array(ours), Value::Array(theirs)) if ours.len() == theirs.len() => {
            for (index, (one, other)) in ours.iter().zip(theirs).enumerate() {
                compare(&format!("{path}[{index}]"), one, other, found);
            }
        }
        _ if ours == theirs => {}
        _ => found.push(format!(
            "{}: canonical {}, rpc {}",
            path.trim_start_matches('.'),
            cut(ours),
            cut(theirs)
        )),
    }
}

fn cut(value: &Value) -> String {
    let text = match value {
        Value::Array(items) if items.len() > 4 => format!("{} items", items.len()),
        other => other.to_string(),
    };
    text.chars().take(120).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_named_with_its_path() {
        let ours = json!({"a": [1, 2], "b": {"c": null}, "logs": []});
        let mut found = Vec::new();
        compare(
            "",
            &ours,
            &json!({"a": [1, 2], "b": {"c": null}, "extra": 1}),
            &mut found,
        );
        assert_eq!(found, Vec::<String>::new());
        compare(
            "",
            &ours,
            &json!({"a": [1, 3], "b": {"c": "x"}, "logs": ["l"]}),
            &mut found,
        );
        assert_eq!(
            found,
            [
                "a[1]: canonical 2, rpc 3",
                "b.c: canonical null, rpc \"x\"",
                "logs: canonical [], rpc [\"l\"]"
            ]
        );
    }

    #[test]
    fn errors_take_the_form_of_the_rpc() {
        let error = TransactionError::InsufficientFundsForFee;
        let bytes = bincode::serialize(&error).unwrap();
        assert_eq!(error_value(&bytes), json!("InsufficientFundsForFee"));
        assert!(
            error_value(&[255])
                .as_str()
                .unwrap()
                .contains("undecodable")
        );
    }
}
