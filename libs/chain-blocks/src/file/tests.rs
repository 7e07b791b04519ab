//! Small blocks made here, in every format and transaction version; damage at every byte; and the real files.

use std::{io::Write, path::PathBuf};

use base64::{Engine, prelude::BASE64_STANDARD};
use ed25519_dalek::{Signer, SigningKey};
use proptest::prelude::*;
use prost::Message as _;
use serde_json::{Value, json};
use solana_hash::Hash;
use solana_message::{
    MessageHeader, VersionedMessage,
    compiled_instruction::CompiledInstruction,
    legacy,
    v0::{self, MessageAddressTableLookup},
    v1,
};
use solana_pubkey::Pubkey;
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use yellowstone_grpc_proto::solana::storage::confirmed_block as proto;

use super::*;

const NAME_JSON: &str = "made-77.json";
const NAME_PROTOBUF: &str = "made-77.bincode";

fn signed(message: VersionedMessage, signer: &SigningKey) -> VersionedTransaction {
    let signature = signer.sign(&message.serialize());
    VersionedTransaction {
        signatures: vec![Signature::from(signature.to_bytes())],
        message,
    }
}

/// One transaction of each version, all signed.
fn transactions() -> Vec<VersionedTransaction> {
    let signer = SigningKey::from_bytes(&[7; 32]);
    let payer = Pubkey::from(signer.verifying_key().to_bytes());
    let program = Pubkey::new_from_array([9; 32]);
    let header = MessageHeader {
        num_required_signatures: 1,
        num_readonly_signed_accounts: 0,
        num_readonly_unsigned_accounts: 1,
    };
    let instruction = CompiledInstruction {
        program_id_index: 1,
        accounts: vec![0],
        data: vec![1, 2, 3],
    };
    let blockhash = Hash::new_from_array([5; 32]);
    let legacy = VersionedMessage::Legacy(legacy::Message {
        header,
        account_keys: vec![payer, program],
        recent_blockhash: blockhash,
        instructions: vec![instruction.clone()],
    });
    let v0 = VersionedMessage::V0(v0::Message {
        header,
        account_keys: vec![payer, program],
        recent_blockhash: blockhash,
        instructions: vec![instruction.clone()],
        address_table_lookups: vec![MessageAddressTableLookup {
            account_key: Pubkey::new_from_array([4; 32]),
            writable_indexes: vec![3],
            readonly_indexes: vec![],
        }],
    });
    let v1 = VersionedMessage::V1(v1::Message {
        header,
        config: v1::TransactionConfig {
            priority_fee: Some(12),
            compute_unit_limit: Some(1_000),
            loaded_accounts_data_size_limit: None,
            heap_size: None,
        },
        lifetime_specifier: blockhash,
        account_keys: vec![payer, program],
        instructions: vec![instruction],
    });
    [legacy, v0, v1]
        .into_iter()
        .map(|m| signed(m, &signer))
        .collect()
}

fn meta_json(transaction: &VersionedTransaction) -> Value {
    let loaded = match &transaction.message {
        VersionedMessage::V0(_) => vec![Pubkey::new_from_array([6; 32]).to_string()],
        _ => vec![],
    };
    let accounts = 2 + loaded.len();
    json!({
        "err": {"InstructionError": [0, {"Custom": 6}]},
        "status": {"Err": {"InstructionError": [0, {"Custom": 6}]}},
        "fee": 5000,
        "preBalances": vec![10_000u64; accounts],
        "postBalances": vec![5_000u64; accounts],
        "innerInstructions": [{"index": 0, "instructions": [
            {"programIdIndex": 1, "accounts": [0], "data": "2VfUX", "stackHeight": 2}]}],
        "logMessages": ["Program log: hello"],
        "preTokenBalances": [],
        "postTokenBalances": [{"accountIndex": 1, "mint": "m", "owner": "o", "programId": "p",
            "uiTokenAmount": {"uiAmount": 1.5, "decimals": 1, "amount": "15", "uiAmountString": "1.5"}}],
        "rewards": null,
        "loadedAddresses": {"writable": loaded, "readonly": []},
        "returnData": {"programId": Pubkey::new_from_array([9; 32]).to_string(), "data": ["AQI=", "base64"]},
        "computeUnitsConsumed": 150,
        "costUnits": 900,
    })
}

fn block_json(encode: impl Fn(&VersionedTransaction) -> Value) -> Value {
    let transactions: Vec<Value> = transactions()
        .iter()
        .zip([json!("legacy"), json!(0), json!(1)])
        .map(|(t, version)| json!({"transaction": encode(t), "meta": meta_json(t), "version": version}))
        .collect();
    json!({
        "previousBlockhash": Hash::new_from_array([1; 32]).to_string(),
        "blockhash": Hash::new_from_array([2; 32]).to_string(),
        "parentSlot": 76, "blockTime": 1_700_000_000, "blockHeight": 70,
        "rewards": [{"pubkey": "r", "lamports": -3, "postBalance": 4, "rewardType": "Rent", "commission": null}],
        "transactions": transactions,
    })
}

fn base64_block() -> Value {
    block_json(|t| {
        json!([
            BASE64_STANDARD.encode(wincode::serialize(t).unwrap()),
            "base64"
        ])
    })
}

fn json_block() -> Value {
    block_json(|t| {
        let keys: Vec<String> = t
            .message
            .static_account_keys()
            .iter()
            .map(ToString::to_string)
            .collect();
        let header = t.message.header();
        let mut message = json!({
            "header": {
                "numRequiredSignatures": header.num_required_signatures,
                "numReadonlySignedAccounts": header.num_readonly_signed_accounts,
                "numReadonlyUnsignedAccounts": header.num_readonly_unsigned_accounts,
            },
            "accountKeys": keys,
            "recentBlockhash": t.message.recent_blockhash().to_string(),
            "instructions": t.message.instructions().iter().map(|i| json!({
                "programIdIndex": i.program_id_index, "accounts": i.accounts,
                "data": bs58::encode(&i.data).into_string(), "stackHeight": 1,
            })).collect::<Vec<_>>(),
        });
        match &t.message {
            VersionedMessage::Legacy(_) => {}
            VersionedMessage::V0(m) => {
                message["addressTableLookups"] = m.address_table_lookups.iter().map(|l| json!({
                    "accountKey": l.account_key.to_string(),
                    "writableIndexes": l.writable_indexes, "readonlyIndexes": l.readonly_indexes,
                })).collect();
            }
            VersionedMessage::V1(m) => {
                message["transactionConfig"] = json!({
                    "priorityFee": m.config.priority_fee,
                    "computeUnitLimit": m.config.compute_unit_limit,
                    "loadedAccountsDataSizeLimit": null, "heapSize": null,
                });
            }
        }
        let signatures: Vec<String> = t.signatures.iter().map(ToString::to_string).collect();
        json!({"signatures": signatures, "message": message})
    })
}

/// The block of `base64_block` as protobuf, encoded by prost from its parts.
fn protobuf_block() -> Vec<u8> {
    let block = block(NAME_JSON, base64_block().to_string().as_bytes());
    let transactions = block
        .transactions
        .iter()
        .map(|t| proto::ConfirmedTransaction {
            transaction: Some(proto_transaction(&t.transaction)),
            meta: Some(proto_meta(&t.meta)),
        })
        .collect();
    proto::ConfirmedBlock {
        previous_blockhash: block.parent_blockhash.to_string(),
        blockhash: block.blockhash.to_string(),
        parent_slot: block.parent_slot,
        transactions,
        rewards: vec![proto::Reward {
            pubkey: "r".into(),
            lamports: -3,
            post_balance: 4,
            reward_type: proto::RewardType::Rent as i32,
            ..Default::default()
        }],
        block_time: Some(proto::UnixTimestamp {
            timestamp: 1_700_000_000,
        }),
        block_height: Some(proto::BlockHeight { block_height: 70 }),
        num_partitions: None,
    }
    .encode_to_vec()
}

fn proto_transaction(t: &VersionedTransaction) -> proto::Transaction {
    let header = t.message.header();
    let (lookups, config) = match &t.message {
        VersionedMessage::Legacy(_) => (vec![], None),
        VersionedMessage::V0(m) => (
            m.address_table_lookups
                .iter()
                .map(|l| proto::MessageAddressTableLookup {
                    account_key: l.account_key.to_bytes().to_vec(),
                    writable_indexes: l.writable_indexes.clone(),
                    readonly_indexes: l.readonly_indexes.clone(),
                })
                .collect(),
            None,
        ),
        VersionedMessage::V1(m) => (
            vec![],
            Some(proto::TransactionConfig {
                priority_fee: m.config.priority_fee,
                compute_unit_limit: m.config.compute_unit_limit,
                loaded_accounts_data_size_limit: None,
                heap_size: None,
            }),
        ),
    };
    proto::Transaction {
        signatures: t.signatures.iter().map(|s| s.as_ref().to_vec()).collect(),
        message: Some(proto::Message {
            header: Some(proto::MessageHeader {
                num_required_signatures: header.num_required_signatures.into(),
                num_readonly_signed_accounts: header.num_readonly_signed_accounts.into(),
                num_readonly_unsigned_accounts: header.num_readonly_unsigned_accounts.into(),
            }),
            account_keys: t
                .message
                .static_account_keys()
                .iter()
                .map(|k| k.to_bytes().to_vec())
                .collect(),
            recent_blockhash: t.message.recent_blockhash().to_bytes().to_vec(),
            instructions: t
                .message
                .instructions()
                .iter()
                .map(|i| proto::CompiledInstruction {
                    program_id_index: i.program_id_index.into(),
                    accounts: i.accounts.clone(),
                    data: i.data.clone(),
                })
                .collect(),
            versioned: !matches!(t.message, VersionedMessage::Legacy(_)),
            address_table_lookups: lookups,
            config,
        }),
    }
}

fn proto_meta(meta: &TransactionStatusMeta) -> proto::TransactionStatusMeta {
    let returned = meta.return_data.as_ref().unwrap();
    proto::TransactionStatusMeta {
        err: meta.status.as_ref().err().map(|e| proto::TransactionError {
            err: bincode::serialize(e).unwrap(),
        }),
        fee: meta.fee,
        pre_balances: meta.pre_balances.clone(),
        post_balances: meta.post_balances.clone(),
        inner_instructions: meta
            .inner_instructions
            .iter()
            .flatten()
            .map(|inner| proto::InnerInstructions {
                index: inner.index.into(),
                instructions: inner
                    .instructions
                    .iter()
                    .map(|i| proto::InnerInstruction {
                        program_id_index: i.instruction.program_id_index.into(),
                        accounts: i.instruction.accounts.clone(),
                        data: i.instruction.data.clone(),
                        stack_height: i.stack_height,
                    })
                    .collect(),
            })
            .collect(),
        log_messages: meta.log_messages.clone().unwrap(),
        post_token_balances: meta
            .post_token_balances
            .iter()
            .flatten()
            .map(|b| proto::TokenBalance {
                account_index: b.account_index.into(),
                mint: b.mint.clone(),
                ui_token_amount: Some(proto::UiTokenAmount {
                    ui_amount: b.ui_token_amount.ui_amount.unwrap_or_default(),
                    decimals: b.ui_token_amount.decimals.into(),
                    amount: b.ui_token_amount.amount.clone(),
                    ui_amount_string: b.ui_token_amount.ui_amount_string.clone(),
                }),
                owner: b.owner.clone(),
                program_id: b.program_id.clone(),
            })
            .collect(),
        loaded_writable_addresses: meta
            .loaded_addresses
            .writable
            .iter()
            .map(|k| k.to_bytes().to_vec())
            .collect(),
        return_data: Some(proto::ReturnData {
            program_id: returned.program_id.to_bytes().to_vec(),
            data: returned.data.clone(),
        }),
        compute_units_consumed: meta.compute_units_consumed,
        cost_units: meta.cost_units,
        ..Default::default()
    }
}

fn block(name: &str, bytes: &[u8]) -> Block {
    match parse(name, bytes) {
        Ok(Content::Block(block)) => block,
        other => panic!("{name}: expected a block, got {other:?}"),
    }
}

fn skipped(name: &str, bytes: &[u8]) -> String {
    match parse(name, bytes) {
        Ok(Content::Skipped(reason)) => reason,
        other => panic!("{name}: expected to be skipped, got {other:?}"),
    }
}

fn problem(name: &str, bytes: &[u8]) -> String {
    match parse(name, bytes) {
        Err(e) => e.to_string(),
        Ok(content) => panic!("{name}: expected an error, got {content:?}"),
    }
}

#[test]
fn base64_carries_every_version_and_every_field() {
    let block = block(NAME_JSON, base64_block().to_string().as_bytes());
    assert_eq!(
        (block.slot, block.parent_slot, block.block_height),
        (77, 76, Some(70))
    );
    assert_eq!(block.rewards.rewards.len(), 1);
    let read: Vec<_> = block
        .transactions
        .iter()
        .map(|t| t.transaction.clone())
        .collect();
    assert_eq!(read, transactions());

    let meta = &block.transactions[1].meta;
    assert!(matches!(
        meta.status,
        Err(TransactionError::InstructionError(0, _))
    ));
    assert_eq!(
        meta.inner_instructions.as_ref().unwrap()[0].instructions[0].stack_height,
        Some(2)
    );
    assert_eq!(meta.pre_token_balances, Some(vec![]));
    assert_eq!(
        meta.post_token_balances.as_ref().unwrap()[0]
            .ui_token_amount
            .amount,
        "15"
    );
    assert_eq!(meta.rewards, None, "absent stays absent");
    assert_eq!(meta.loaded_addresses.writable.len(), 1);
    assert_eq!(meta.return_data.as_ref().unwrap().data, [1, 2]);
    assert_eq!(
        (meta.compute_units_consumed, meta.cost_units),
        (Some(150), Some(900))
    );
}

#[test]
fn the_json_encoding_rebuilds_the_same_block() {
    let expected = block(NAME_JSON, base64_block().to_string().as_bytes());
    assert_eq!(
        block(NAME_JSON, json_block().to_string().as_bytes()),
        expected
    );
}

#[test]
fn protobuf_holds_the_same_block() {
    let mut expected = block(NAME_JSON, base64_block().to_string().as_bytes());
    for transaction in &mut expected.transactions {
        // Protobuf cannot tell an absent list from an empty one.
        transaction.meta.rewards = Some(vec![]);
    }
    assert_eq!(block(NAME_PROTOBUF, &protobuf_block()), expected);
}

#[test]
fn compression_and_envelopes_are_seen_through() {
    let plain = base64_block();
    let expected = block(NAME_JSON, plain.to_string().as_bytes());
    let envelope = json!({"jsonrpc": "2.0", "id": 1, "result": plain}).to_string();
    assert_eq!(block("made-77.json", envelope.as_bytes()), expected);

    let zstd = zstd::encode_all(envelope.as_bytes(), 3).unwrap();
    assert_eq!(block("made-77.json.zst", &zstd), expected);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(envelope.as_bytes()).unwrap();
    let gzip = gzip.finish().unwrap();
    // The content tells, not the name.
    assert_eq!(block("made-77.json", &gzip), expected);
    assert!(problem("made-77.json.gz", &gzip[..gzip.len() / 2]).contains("gzip"));
    assert!(problem("made-77.json.zst", &zstd[..zstd.len() / 2]).contains("zstd"));
}

#[test]
fn what_cannot_be_replayed_is_skipped_with_its_reason() {
    assert!(skipped("a-1.excerpt.json", b"{}").contains("excerpt"));
    assert!(skipped("epoch-0.car", b"\x3a\xa2").contains("CAR"));
    assert!(skipped("testnet-1.shreds.json.gz", b"[]").contains("shreds"));
    assert!(skipped("README.md", b"# Blocks").contains("not a block file"));
    let mut parsed = json_block();
    for t in parsed["transactions"].as_array_mut().unwrap() {
        let message = t["transaction"]["message"].as_object_mut().unwrap();
        message.remove("header");
        message["accountKeys"] = json!([{"pubkey": "x", "signer": true, "writable": true}]);
    }
    assert!(skipped(NAME_JSON, parsed.to_string().as_bytes()).contains("no message bytes"));
    let mut meta_only = base64_block();
    meta_only.as_object_mut().unwrap().remove("transactions");
    assert!(skipped(NAME_JSON, meta_only.to_string().as_bytes()).contains("transactionDetails"));
}

#[test]
fn damage_is_named_with_its_place_and_its_fix() {
    let text = base64_block().to_string();
    let cut = problem(NAME_JSON, &text.as_bytes()[..text.len() - 40]);
    assert!(
        cut.contains(&format!("byte {}", text.len() - 41)) && cut.contains("Fix:"),
        "{cut}"
    );

    let bytes = protobuf_block();
    let cut = problem(NAME_PROTOBUF, &bytes[..200]);
    assert!(cut.contains("field 4 of ConfirmedBlock says"), "{cut}");

    let mut altered = json_block();
    altered["transactions"][2]["transaction"]["message"]["instructions"][0]["data"] = json!("11");
    let forged = problem(NAME_JSON, altered.to_string().as_bytes());
    assert!(
        forged.contains("transactions[2]") && forged.contains("does not verify"),
        "{forged}"
    );

    let mut lost = json_block();
    lost["transactions"][0]["meta"]
        .as_object_mut()
        .unwrap()
        .remove("fee");
    assert!(problem(NAME_JSON, lost.to_string().as_bytes()).contains("missing field `fee`"));
    let mut short = json_block();
    short["transactions"][0]["meta"]["postBalances"] = json!([1]);
    assert!(problem(NAME_JSON, short.to_string().as_bytes()).contains("postBalances has 1 values"));

    assert!(problem("block.json", text.as_bytes()).contains("no slot in the file name"));
    assert!(problem("made-77.json", b"").contains("empty"));
    let refused =
        br#"{"jsonrpc":"2.0","error":{"code":-32009,"message":"Slot was skipped"},"id":1}"#;
    assert!(problem(NAME_JSON, refused).contains("-32009"));
    assert!(problem(NAME_JSON, br#"{"jsonrpc":"2.0","result":null}"#).contains("did not have"));
}

#[test]
fn every_truncation_is_an_error_or_a_shorter_protobuf() {
    let text = base64_block().to_string();
    for cut in (0..text.len()).step_by(37) {
        problem(NAME_JSON, &text.as_bytes()[..cut]);
    }
    let bytes = protobuf_block();
    let whole = block(NAME_PROTOBUF, &bytes);
    for cut in 0..bytes.len() {
        // A cut between two fields of protobuf cannot be seen; it must then be a prefix of the block.
        if let Ok(Content::Block(prefix)) = parse(NAME_PROTOBUF, &bytes[..cut]) {
            assert!(whole.transactions.starts_with(&prefix.transactions));
        }
    }
}

#[test]
fn slots_are_read_from_names() {
    assert_eq!(
        slot_of_name("mainnet-285000037.json.zst"),
        Some(285_000_037)
    );
    assert_eq!(slot_of_name("254170887.base64.json"), Some(254_170_887));
    assert_eq!(slot_of_name("slot_9.json"), Some(9));
    assert_eq!(slot_of_name("epoch0.json"), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn mutated_files_never_panic(
        choice in 0usize..4,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<prop::sample::Index>(),
    ) {
        let (name, mut bytes) = match choice {
            0 => (NAME_JSON, base64_block().to_string().into_bytes()),
            1 => (NAME_JSON, json_block().to_string().into_bytes()),
            2 => (NAME_PROTOBUF, protobuf_block()),
            _ => (NAME_JSON, zstd::encode_all(json_block().to_string().as_bytes(), 1).unwrap()),
        };
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        let _ = parse(name, &bytes);
        bytes.truncate(cut.index(bytes.len()));
        let _ = parse(name, &bytes);
    }

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for name in [NAME_JSON, NAME_PROTOBUF, "x"] {
            let _ = parse(name, &bytes);
        }
    }
}

#[test]
fn real_blocks_are_read_whole() {
    let Some(folder) = std::env::var_os("HELIOGRAPH_DATA").map(|d| PathBuf::from(d).join("blocks"))
    else {
        eprintln!("skipped: HELIOGRAPH_DATA is not set (real blocks)");
        return;
    };
    let (mut blocks, mut read, mut signatures) = (0, 0, 0);
    let mut by_slot: std::collections::HashMap<u64, Block> = Default::default();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let bytes = std::fs::read(&path).unwrap();
        match parse(&name, &bytes).unwrap_or_else(|e| panic!("{name}: {e}")) {
            Content::Skipped(reason) => eprintln!("{name}: {reason}"),
            Content::Block(block) => {
                blocks += 1;
                read += block.transactions.len();
                signatures += block
                    .transactions
                    .iter()
                    .map(|t| t.transaction.signatures.len())
                    .sum::<usize>();
                if let Some(other) = by_slot.insert(block.slot, block.clone()) {
                    assert_eq!(other, block, "{name}: encodings of one block differ");
                }
            }
        }
    }
    eprintln!("{blocks} blocks, {read} transactions, {signatures} signatures proven");
    assert!(blocks > 0 && read > 0, "no block in HELIOGRAPH_DATA");
}
