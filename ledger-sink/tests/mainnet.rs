//! Real blocks: both identities on every transaction of every file that can be read here (protobuf and JSON blocks).

use std::collections::BTreeMap;
use std::path::Path;

use event_schema::Slot;
use event_schema::proto::Message as _;
use event_schema::proto::confirmed_block::{
    CompiledInstruction, ConfirmedBlock, InnerInstruction, InnerInstructions, Message,
    MessageHeader, TokenBalance, Transaction, TransactionError, TransactionStatusMeta,
    UiTokenAmount,
};
use event_schema::proto::geyser::SubscribeUpdateTransactionInfo;
use ledger_sink::entry::{TransactionEntry, transaction_entry};
use ledger_sink::identity::Verdict;
use ledger_sink::token_instructions::KnownKeys;
use serde_json::Value;

#[test]
fn real_blocks_satisfy_both_identities() {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA") else {
        eprintln!("skipped: HELIOGRAPH_DATA is not set");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(Path::new(&data).join("blocks"))
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.sort();
    let (mut blocks, mut total) = (0, 0);
    for file in files {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&file).unwrap();
        let updates = if name.ends_with(".bincode") {
            protobuf_block(&bytes)
        } else if name.ends_with(".json.zst") && !name.contains("base64") {
            json_block(&zstd::decode_all(&bytes[..]).unwrap())
        } else if name.ends_with(".json")
            && !name.contains("base64")
            && !name.contains("jsonParsed")
        {
            json_block(&bytes)
        } else {
            continue;
        };
        blocks += 1;
        total += updates.len();
        check(&name, &updates);
    }
    assert!(blocks > 0, "no block in {}", Path::new(&data).display());
    eprintln!("{blocks} blocks, {total} transactions");
}

fn check(name: &str, updates: &[SubscribeUpdateTransactionInfo]) {
    let known = KnownKeys::new();
    let entries: Vec<TransactionEntry> = updates
        .iter()
        .map(|update| transaction_entry(Slot(1), update, &known))
        .collect();
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &entries {
        assert_eq!(
            entry.broken(),
            None,
            "{name}: transaction {} {:?}",
            entry.index,
            entry.signature.map(|it| it.to_string())
        );
        assert_eq!(
            entry.lamports,
            Verdict::Exact,
            "{name}: transaction {}",
            entry.index
        );
        *reasons
            .entry(match &entry.tokens {
                Verdict::Unknown(reason) => reason.as_str(),
                other => other.as_str(),
            })
            .or_default() += 1;
        let mut sums = BTreeMap::new();
        for posting in &entry.postings {
            *sums.entry(posting.asset).or_insert(0) += posting.amount;
        }
        assert!(
            sums.values().all(|sum| *sum == 0),
            "{name}: transaction {}",
            entry.index
        );
    }
    eprintln!(
        "{name}: {} transactions, lamports exact, tokens {reasons:?}",
        entries.len()
    );
}

fn protobuf_block(bytes: &[u8]) -> Vec<SubscribeUpdateTransactionInfo> {
    let block = ConfirmedBlock::decode(bytes).unwrap();
    let transactions = block.transactions.into_iter().enumerate();
    transactions
        .map(|(index, confirmed)| info(index, confirmed.transaction.unwrap(), confirmed.meta))
        .collect()
}

fn info(
    index: usize,
    transaction: Transaction,
    meta: Option<TransactionStatusMeta>,
) -> SubscribeUpdateTransactionInfo {
    SubscribeUpdateTransactionInfo {
        signature: transaction.signatures[0].clone(),
        is_vote: false,
        transaction: Some(transaction),
        meta,
        index: index as u64,
    }
}

/// `getBlock` with encoding `json`, bare or in its JSON-RPC envelope.
fn json_block(bytes: &[u8]) -> Vec<SubscribeUpdateTransactionInfo> {
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let block = value.get("result").unwrap_or(&value);
    let transactions = block["transactions"].as_array().unwrap().iter().enumerate();
    transactions
        .map(|(index, value)| {
            let message = &value["transaction"]["message"];
            let transaction = Transaction {
                signatures: list(&value["transaction"]["signatures"], base58),
                message: Some(Message {
                    header: Some(MessageHeader {
                        num_required_signatures: number(&message["header"]["numRequiredSignatures"])
                            as u32,
                        ..Default::default()
                    }),
                    account_keys: list(&message["accountKeys"], base58),
                    instructions: list(&message["instructions"], |value| CompiledInstruction {
                        program_id_index: number(&value["programIdIndex"]) as u32,
                        accounts: list(&value["accounts"], |index| number(index) as u8),
                        data: base58(&value["data"]),
                    }),
                    ..Default::default()
                }),
            };
            info(
                index,
                transaction,
                (!value["meta"].is_null()).then(|| meta(&value["meta"])),
            )
        })
        .collect()
}

fn meta(meta: &Value) -> TransactionStatusMeta {
    TransactionStatusMeta {
        err: (!meta["err"].is_null()).then(|| TransactionError { err: vec![1] }),
        fee: number(&meta["fee"]),
        pre_balances: list(&meta["preBalances"], number),
        post_balances: list(&meta["postBalances"], number),
        inner_instructions: list(&meta["innerInstructions"], |inner| InnerInstructions {
            index: number(&inner["index"]) as u32,
            instructions: list(&inner["instructions"], |value| InnerInstruction {
                program_id_index: number(&value["programIdIndex"]) as u32,
                accounts: list(&value["accounts"], |index| number(index) as u8),
                data: base58(&value["data"]),
                stack_height: None,
            }),
        }),
        inner_instructions_none: meta["innerInstructions"].is_null(),
        pre_token_balances: list(&meta["preTokenBalances"], token_balance),
        post_token_balances: list(&meta["postTokenBalances"], token_balance),
        loaded_writable_addresses: list(&meta["loadedAddresses"]["writable"], base58),
        loaded_readonly_addresses: list(&meta["loadedAddresses"]["readonly"], base58),
        ..Default::default()
    }
}

fn token_balance(value: &Value) -> TokenBalance {
    TokenBalance {
        account_index: number(&value["accountIndex"]) as u32,
        mint: text(&value["mint"]).to_owned(),
        ui_token_amount: Some(UiTokenAmount {
            amount: text(&value["uiTokenAmount"]["amount"]).to_owned(),
            ..Default::default()
        }),
        owner: value["owner"].as_str().unwrap_or_default().to_owned(),
        program_id: value["programId"].as_str().unwrap_or_default().to_owned(),
    }
}

fn list<T>(value: &Value, item: impl Fn(&Value) -> T) -> Vec<T> {
    value
        .as_array()
        .map(|items| items.iter().map(item).collect())
        .unwrap_or_default()
}

fn number(value: &Value) -> u64 {
    value
        .as_u64()
        .unwrap_or_else(|| panic!("{value} is not a number"))
}

fn text(value: &Value) -> &str {
    value
        .as_str()
        .unwrap_or_else(|| panic!("{value} is not text"))
}

fn base58(value: &Value) -> Vec<u8> {
    bs58::decode(text(value)).into_vec().unwrap()
}
