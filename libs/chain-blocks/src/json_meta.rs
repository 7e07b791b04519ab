//! Pure: `meta` of a transaction in a `getBlock` reply, from a node or a file: what the execution did. Parts that the reply
//! leaves out stay absent.

use base64::{Engine, prelude::BASE64_STANDARD};
use serde::Deserialize;
use solana_account_decoder_client_types::token::{UiTokenAmount, real_number_string_trimmed};
use solana_message::v0::LoadedAddresses;
use solana_transaction_context::transaction::TransactionReturnData;
use solana_transaction_status::{
    InnerInstruction, InnerInstructions, Reward, TransactionStatusMeta, TransactionTokenBalance,
};
use solana_transaction_status_client_types::UiTransactionError;

use crate::file::json::{JsonInstruction, instruction, key, keys};

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JsonMeta {
    err: Option<UiTransactionError>,
    fee: u64,
    pre_balances: Vec<u64>,
    post_balances: Vec<u64>,
    inner_instructions: Option<Vec<JsonInnerInstructions>>,
    log_messages: Option<Vec<String>>,
    pre_token_balances: Option<Vec<JsonTokenBalance>>,
    post_token_balances: Option<Vec<JsonTokenBalance>>,
    rewards: Option<Vec<Reward>>,
    loaded_addresses: Option<JsonLoadedAddresses>,
    return_data: Option<JsonReturnData>,
    compute_units_consumed: Option<u64>,
    cost_units: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct JsonInnerInstructions {
    index: u8,
    instructions: Vec<JsonInstruction>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTokenBalance {
    account_index: u8,
    mint: String,
    ui_token_amount: JsonTokenAmount,
    owner: Option<String>,
    program_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonTokenAmount {
    ui_amount: Option<f64>,
    decimals: u8,
    amount: String,
    ui_amount_string: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct JsonLoadedAddresses {
    writable: Vec<String>,
    readonly: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct JsonReturnData {
    program_id: String,
    data: (String, String),
}

/// What Agave keeps of it, or which field cannot be read.
pub fn status_meta(meta: JsonMeta) -> Result<TransactionStatusMeta, String> {
    let loaded_addresses = match meta.loaded_addresses {
        None => LoadedAddresses::default(),
        Some(loaded) => LoadedAddresses {
            writable: keys(&loaded.writable).map_err(in_meta)?,
            readonly: keys(&loaded.readonly).map_err(in_meta)?,
        },
    };
    let return_data = match meta.return_data {
        None => None,
        Some(returned) => Some(TransactionReturnData {
            program_id: key(&returned.program_id).map_err(in_meta)?,
            data: match returned.data.1.as_str() {
                "base64" => BASE64_STANDARD
                    .decode(&returned.data.0)
                    .map_err(|e| format!("meta.returnData: {e}"))?,
                other => return Err(format!("meta.returnData has the encoding {other:?}")),
            },
        }),
    };
    let inner_instructions = meta
        .inner_instructions
        .map(|list| list.into_iter().map(inner_instructions).collect())
        .transpose()?;
    let token_balances =
        |list: Option<Vec<_>>| list.map(|list| list.into_iter().map(token_balance).collect());
    Ok(TransactionStatusMeta {
        status: meta.err.map_or(Ok(()), |err| Err(err.into())),
        fee: meta.fee,
        pre_balances: meta.pre_balances,
        post_balances: meta.post_balances,
        inner_instructions,
        log_messages: meta.log_messages,
        pre_token_balances: token_balances(meta.pre_token_balances),
        post_token_balances: token_balances(meta.post_token_balances),
        rewards: meta.rewards,
        loaded_addresses,
        return_data,
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
    })
}

fn in_meta(problem: String) -> String {
    format!("meta: {problem}")
}

fn inner_instructions(inner: JsonInnerInstructions) -> Result<InnerInstructions, String> {
    Ok(InnerInstructions {
        index: inner.index,
        instructions: inner
            .instructions
            .into_iter()
            .map(|i| {
                instruction(i).map(|(instruction, stack_height)| InnerInstruction {
                    instruction,
                    stack_height,
                })
            })
            .collect::<Result<_, _>>()?,
    })
}

fn token_balance(balance: JsonTokenBalance) -> TransactionTokenBalance {
    let amount = balance.ui_token_amount;
    TransactionTokenBalance {
        account_index: balance.account_index,
        mint: balance.mint,
        ui_token_amount: UiTokenAmount {
            ui_amount: amount
                .ui_amount
                .map(|given| shown_amount(given, &amount.amount, amount.decimals)),
            decimals: amount.decimals,
            ui_amount_string: amount.ui_amount_string.unwrap_or_else(|| {
                real_number_string_trimmed(
                    amount.amount.parse().unwrap_or_default(),
                    amount.decimals,
                )
            }),
            amount: amount.amount,
        },
        owner: balance.owner.unwrap_or_default(),
        program_id: balance.program_id.unwrap_or_default(),
    }
}

/// The amount as a float, for display, to the last bit as validators compute it: reading a decimal may miss that by one.
fn shown_amount(given: f64, amount: &str, decimals: u8) -> f64 {
    let computed = amount
        .parse::<u64>()
        .ok()
        .zip(10_usize.checked_pow(decimals.into()))
        .map(|(amount, divisor)| amount as f64 / divisor as f64);
    match computed {
        Some(computed) if (computed - given).abs() <= computed.abs() * 1e-12 => computed,
        _ => given,
    }
}
