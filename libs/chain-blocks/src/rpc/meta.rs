//! Pure: what an execution did, from JSON to the message a plugin writes. Parts that the reply leaves out stay absent.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use event_schema::{Pubkey, proto::confirmed_block as proto};
use serde::Deserialize;
use solana_storage_proto::convert::generated;
use solana_transaction_status_client_types::{Reward, UiTransactionError};

pub type RpcReward = Reward;

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RpcMeta {
    err: Option<UiTransactionError>,
    fee: u64,
    pre_balances: Vec<u64>,
    post_balances: Vec<u64>,
    inner_instructions: Option<Vec<InnerInstructions>>,
    log_messages: Option<Vec<String>>,
    pre_token_balances: Option<Vec<TokenBalance>>,
    post_token_balances: Option<Vec<TokenBalance>>,
    rewards: Option<Vec<RpcReward>>,
    loaded_addresses: Option<LoadedAddresses>,
    return_data: Option<ReturnData>,
    compute_units_consumed: Option<u64>,
    cost_units: Option<u64>,
}

#[derive(Debug, Clone, Deserialize)]
struct InnerInstructions {
    index: u8,
    instructions: Vec<Instruction>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instruction {
    program_id_index: u8,
    accounts: Vec<u8>,
    /// Base58.
    data: String,
    stack_height: Option<u32>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenBalance {
    account_index: u8,
    mint: String,
    ui_token_amount: TokenAmount,
    owner: Option<String>,
    program_id: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct TokenAmount {
    ui_amount: Option<f64>,
    decimals: u8,
    amount: String,
    ui_amount_string: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct LoadedAddresses {
    writable: Vec<String>,
    readonly: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReturnData {
    program_id: String,
    data: (String, String),
}

/// The message, or which field cannot be read.
pub fn status_meta(meta: RpcMeta) -> Result<proto::TransactionStatusMeta, String> {
    let (writable, readonly) = match &meta.loaded_addresses {
        None => (Vec::new(), Vec::new()),
        Some(loaded) => (keys(&loaded.writable)?, keys(&loaded.readonly)?),
    };
    let return_data = meta.return_data.map(return_data).transpose()?;
    let (inner_none, logs_none) = (
        meta.inner_instructions.is_none(),
        meta.log_messages.is_none(),
    );
    let inner = meta.inner_instructions.unwrap_or_default();
    let inner: Result<Vec<_>, String> = inner.into_iter().map(inner_instructions).collect();
    let balances = |list: Option<Vec<TokenBalance>>| {
        let list = list.unwrap_or_default();
        list.into_iter().map(token_balance).collect()
    };
    Ok(proto::TransactionStatusMeta {
        err: meta.err.map(|error| proto::TransactionError {
            err: generated::TransactionError::from(
                solana_transaction_error::TransactionError::from(error),
            )
            .err,
        }),
        fee: meta.fee,
        pre_balances: meta.pre_balances,
        post_balances: meta.post_balances,
        inner_instructions: inner?,
        inner_instructions_none: inner_none,
        log_messages: meta.log_messages.unwrap_or_default(),
        log_messages_none: logs_none,
        pre_token_balances: balances(meta.pre_token_balances),
        post_token_balances: balances(meta.post_token_balances),
        rewards: rewards(meta.rewards.unwrap_or_default()),
        loaded_writable_addresses: writable,
        loaded_readonly_addresses: readonly,
        return_data_none: return_data.is_none(),
        return_data,
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
    })
}

pub fn rewards(rewards: Vec<RpcReward>) -> Vec<proto::Reward> {
    rewards
        .into_iter()
        .map(|reward| {
            let reward = generated::Reward::from(reward);
            proto::Reward {
                pubkey: reward.pubkey,
                lamports: reward.lamports,
                post_balance: reward.post_balance,
                reward_type: reward.reward_type,
                commission: reward.commission,
                commission_bps: reward.commission_bps,
            }
        })
        .collect()
}

fn inner_instructions(inner: InnerInstructions) -> Result<proto::InnerInstructions, String> {
    let instruction = |instruction: Instruction| {
        let data = bs58::decode(&instruction.data).into_vec();
        Ok(proto::InnerInstruction {
            program_id_index: instruction.program_id_index.into(),
            accounts: instruction.accounts,
            data: data.map_err(|error| format!("meta.innerInstructions: data: {error}"))?,
            stack_height: instruction.stack_height,
        })
    };
    let instructions: Result<Vec<_>, String> =
        inner.instructions.into_iter().map(instruction).collect();
    Ok(proto::InnerInstructions {
        index: inner.index.into(),
        instructions: instructions?,
    })
}

fn token_balance(balance: TokenBalance) -> proto::TokenBalance {
    let amount = balance.ui_token_amount;
    proto::TokenBalance {
        account_index: balance.account_index.into(),
        mint: balance.mint,
        ui_token_amount: Some(proto::UiTokenAmount {
            ui_amount: shown_amount(amount.ui_amount, &amount.amount, amount.decimals),
            decimals: amount.decimals.into(),
            amount: amount.amount,
            ui_amount_string: amount.ui_amount_string.unwrap_or_default(),
        }),
        owner: balance.owner.unwrap_or_default(),
        program_id: balance.program_id.unwrap_or_default(),
    }
}

/// The amount as a float, for display, to the last bit as validators compute it: reading a decimal may miss that by one.
fn shown_amount(given: Option<f64>, amount: &str, decimals: u8) -> f64 {
    let given = given.unwrap_or_default();
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

fn return_data(returned: ReturnData) -> Result<proto::ReturnData, String> {
    let (data, encoding) = returned.data;
    if encoding != "base64" {
        return Err(format!("meta.returnData has the encoding {encoding:?}"));
    }
    Ok(proto::ReturnData {
        program_id: key(&returned.program_id)?,
        data: BASE64_STANDARD
            .decode(data)
            .map_err(|error| format!("meta.returnData: {error}"))?,
    })
}

fn key(text: &str) -> Result<Vec<u8>, String> {
    let key: Pubkey = text.parse().map_err(|error| format!("meta: {error}"))?;
    Ok(key.0.to_vec())
}

fn keys(list: &[String]) -> Result<Vec<Vec<u8>>, String> {
    list.iter().map(|text| key(text)).collect()
}
