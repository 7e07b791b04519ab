//! Recorded blocks: what is made of a reply against Agave's own conversions, and against another encoding of the same block.

use std::{path::PathBuf, sync::Arc};

use event_schema::{
    Slot,
    proto::{Message as _, confirmed_block as proto, geyser::SubscribeUpdateTransactionInfo},
};
use serde_json::{Value, json};
use solana_storage_proto::convert::generated;
use solana_transaction_status::{
    BlockEncodingOptions, ConfirmedBlock, TransactionDetails, UiTransactionEncoding,
    VersionedConfirmedBlock,
};
use stream_router::{
    assembly::Block,
    encoding,
    observation::Body,
    repair::{
        convert::{self, Disbelief},
        reply::{self, Reply},
    },
};

/// Slot, file, transactions, votes, of the recorded base64 replies.
pub const BASE64: [(u64, &str, usize); 4] = [
    (147_078_735, "mainnet-147078735.base64.json", 25),
    (254_170_887, "mainnet-254170887.base64.json.zst", 602),
    (270_893_658, "devnet-270893658.base64.json", 57),
    (380_876_342, "devnet-380876342.base64.json", 58),
];
const STORED: [(u64, &str); 3] = [
    (18_144_001, "mainnet-18144001.bincode"),
    (43_200_000, "mainnet-43200000.bincode"),
    (64_800_004, "mainnet-64800004.bincode"),
];

/// `None`, told loudly, without data.
pub fn recorded(file: &str) -> Option<Vec<u8>> {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from) else {
        eprintln!("skipped 1 recorded block ({file}): HELIOGRAPH_DATA is not set");
        return None;
    };
    let path = data.join("blocks").join(file);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if file.ends_with(".zst") {
        return Some(zstd::decode_all(bytes.as_slice()).expect("zstd"));
    }
    Some(bytes)
}

/// The reply as a node sends it: some files are its result alone.
pub fn envelope(file: &str) -> Option<Value> {
    let value: Value = serde_json::from_slice(&recorded(file)?).expect("JSON");
    Some(match value.get("result") {
        Some(_) => value,
        None => json!({"jsonrpc": "2.0", "id": 1, "result": value}),
    })
}

fn converted(slot: u64, reply: &Value) -> Result<Block, Disbelief> {
    match reply::read(reply.to_string().as_bytes()) {
        Reply::Block(block) => convert::block(Slot(slot), &Arc::from("host"), *block),
        other => panic!("{other:?}"),
    }
}

pub fn transactions(block: &Block) -> Vec<&SubscribeUpdateTransactionInfo> {
    let contents = block.contents.iter();
    contents
        .filter_map(|content| match &content.body {
            Body::Transaction(info) => Some(&**info),
            _ => None,
        })
        .collect()
}

/// Blocks from Agave's storage: its encoder makes the reply, its conversion the messages to compare with.
#[test]
fn a_reply_becomes_what_agave_itself_stores() {
    for (slot, file) in STORED {
        let Some(bytes) = recorded(file) else {
            continue;
        };
        let stored = generated::ConfirmedBlock::decode(bytes.as_slice()).expect("protobuf");
        let native = ConfirmedBlock::try_from(stored).expect("a block");
        let options = BlockEncodingOptions {
            transaction_details: TransactionDetails::Full,
            show_rewards: true,
            max_supported_transaction_version: Some(1),
        };
        let whole = VersionedConfirmedBlock::try_from(native.clone()).expect("with metadata");
        let expected = generated::ConfirmedBlock::from(whole).encode_to_vec();
        let expected = proto::ConfirmedBlock::decode(expected.as_slice()).expect("one schema");
        let encoded = native
            .encode_with_options(UiTransactionEncoding::Base64, options)
            .expect("encoded");
        let block = converted(slot, &json!({"result": encoded})).expect("believed");

        let got = transactions(&block);
        assert_eq!(got.len(), expected.transactions.len(), "{file}");
        for (index, (got, expected)) in got.iter().zip(&expected.transactions).enumerate() {
            assert_eq!(got.transaction, expected.transaction, "{file} {index}");
            assert_eq!(got.meta, expected.meta, "{file} {index}");
            assert_eq!(got.index, index as u64);
            assert_eq!(
                Some(&got.signature),
                expected
                    .transaction
                    .as_ref()
                    .and_then(|t| t.signatures.first())
            );
        }
        let meta = &block.meta.meta;
        assert_eq!(meta.rewards.as_ref().unwrap().rewards, expected.rewards);
        assert_eq!(meta.block_time, expected.block_time);
        assert_eq!(meta.block_height, expected.block_height);
        assert_eq!(
            (&meta.blockhash, &meta.parent_blockhash, meta.parent_slot),
            (
                &expected.blockhash,
                &expected.previous_blockhash,
                expected.parent_slot
            )
        );
        assert_eq!(meta.executed_transaction_count, got.len() as u64);
        assert_eq!(
            (meta.entries_count, block.entries, block.accounts),
            (0, 0, 0)
        );
    }
}

/// What is made of a recorded reply, shown again by Agave's encoder, is the reply.
#[test]
fn a_recorded_reply_survives_the_way_there_and_back() {
    for (slot, file, count) in BASE64 {
        let Some(reply) = envelope(file) else {
            continue;
        };
        let block = converted(slot, &reply).expect("believed");
        let infos = transactions(&block);
        assert_eq!(infos.len(), count, "{file}");
        let given = reply["result"]["transactions"].as_array().expect("a list");
        for (index, (info, given)) in infos.iter().zip(given).enumerate() {
            let native = encoding::native_transaction(info).expect("whole");
            let shown = native
                .encode(UiTransactionEncoding::Base64, Some(1), true)
                .expect("encoded");
            let shown = serde_json::to_value(&shown).expect("JSON");
            assert_eq!(shown["transaction"], given["transaction"], "{file} {index}");
            assert_eq!(
                plain(shown["meta"].clone()),
                plain(given["meta"].clone()),
                "{file} {index}"
            );
        }
    }
}

/// Without what older nodes leave out and newer ones say: that there is nothing.
fn plain(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .into_iter()
            .filter(|(name, value)| {
                let nothing = value.is_null()
                    || (value.as_array().is_some_and(Vec::is_empty) && name.ends_with("alances"))
                    || (name == "rewards" && value.as_array().is_some_and(Vec::is_empty))
                    || (name == "uiAmount" && value.as_f64() == Some(0.0))
                    || (name == "loadedAddresses"
                        && value["writable"] == json!([])
                        && value["readonly"] == json!([]));
                !nothing
            })
            .map(|(name, value)| match value.as_f64() {
                // The test's own parser may miss the last bit.
                Some(number) if name == "uiAmount" => (name, json!(format!("{number:.12e}"))),
                _ => (name, plain(value)),
            })
            .collect(),
        Value::Array(values) => values.into_iter().map(plain).collect(),
        other => other,
    }
}

/// The same block in the encoding `json`, where every field stands by itself.
#[test]
fn the_bytes_say_what_the_other_encoding_shows() {
    let Some(reply) = envelope("mainnet-147078735.base64.json") else {
        return;
    };
    let shown = envelope("mainnet-147078735.json").expect("data is there");
    let block = converted(147_078_735, &reply).expect("believed");
    let shown = shown["result"]["transactions"]
        .as_array()
        .expect("a list")
        .clone();
    let infos = transactions(&block);
    assert_eq!(infos.len(), shown.len());
    let base58 = |value: &Value| {
        bs58::decode(value.as_str().expect("text"))
            .into_vec()
            .expect("base58")
    };
    let list = |value: &Value| -> Vec<Vec<u8>> {
        value
            .as_array()
            .expect("a list")
            .iter()
            .map(base58)
            .collect()
    };
    let numbers = |value: &Value| -> Vec<u64> {
        value
            .as_array()
            .expect("a list")
            .iter()
            .map(|n| n.as_u64().expect("a number"))
            .collect()
    };
    let mut votes = 0;
    for (info, shown) in infos.iter().zip(&shown) {
        let message = &shown["transaction"]["message"];
        let header = &message["header"];
        let number = |name: &str| header[name].as_u64().expect("a number") as u32;
        let expected = proto::Transaction {
            signatures: list(&shown["transaction"]["signatures"]),
            message: Some(proto::Message {
                header: Some(proto::MessageHeader {
                    num_required_signatures: number("numRequiredSignatures"),
                    num_readonly_signed_accounts: number("numReadonlySignedAccounts"),
                    num_readonly_unsigned_accounts: number("numReadonlyUnsignedAccounts"),
                }),
                account_keys: list(&message["accountKeys"]),
                recent_blockhash: base58(&message["recentBlockhash"]),
                instructions: message["instructions"]
                    .as_array()
                    .expect("a list")
                    .iter()
                    .map(|instruction| proto::CompiledInstruction {
                        program_id_index: instruction["programIdIndex"].as_u64().expect("a number")
                            as u32,
                        accounts: numbers(&instruction["accounts"])
                            .iter()
                            .map(|n| *n as u8)
                            .collect(),
                        data: base58(&instruction["data"]),
                    })
                    .collect(),
                ..proto::Message::default()
            }),
        };
        assert_eq!(info.transaction.as_ref(), Some(&expected));
        let meta = info.meta.as_ref().expect("metadata");
        assert_eq!(meta.fee, shown["meta"]["fee"].as_u64().expect("a number"));
        assert_eq!(meta.pre_balances, numbers(&shown["meta"]["preBalances"]));
        assert_eq!(meta.post_balances, numbers(&shown["meta"]["postBalances"]));
        assert_eq!(meta.err.is_some(), !shown["meta"]["err"].is_null());
        votes += usize::from(info.is_vote);
    }
    assert_eq!(votes, 2, "as the recording's description counts them");
}

#[test]
fn replies_that_cannot_be_are_not_believed() {
    let (slot, file, _) = BASE64[3];
    let Some(reply) = envelope(file) else {
        return;
    };
    let problem = |change: &dyn Fn(&mut Value)| {
        let mut reply = reply.clone();
        change(&mut reply["result"]);
        converted(slot, &reply)
            .expect_err("not believed")
            .to_string()
    };
    for (change, expected) in [
        (
            &(|block: &mut Value| block["blockhash"] = json!("not base58!")) as &dyn Fn(&mut Value),
            "blockhash: ",
        ),
        (
            &|block| block["previousBlockhash"] = json!("11"),
            "previousBlockhash: ",
        ),
        (&|block| block["parentSlot"] = json!(slot), "parentSlot: "),
        (
            &|block| block["transactions"] = json!([]),
            "no transactions, but its leader was paid fees of 222501",
        ),
        (
            &|block| block["transactions"][7] = block["transactions"][6].clone(),
            "transaction 7 is there twice",
        ),
        (
            &|block| block["transactions"][5]["meta"] = Value::Null,
            "transaction 5: the node did not keep",
        ),
        (
            &|block| block["transactions"][4]["transaction"][1] = json!("base58"),
            "transaction 4: it is written in \"base58\"",
        ),
        (
            &|block| block["transactions"][3]["transaction"][0] = json!("AAAA"),
            "transaction 3: its bytes are not a transaction",
        ),
        (
            &|block| block["transactions"][2]["meta"]["innerInstructions"] = json!([{"index": 0, "instructions": [{"programIdIndex": 250, "accounts": [], "data": ""}]}]),
            "transaction 2: an instruction names key 250",
        ),
        (
            &|block| {
                block["transactions"][1]["meta"]["loadedAddresses"] =
                    json!({"writable": ["x"], "readonly": []})
            },
            "transaction 1: meta: ",
        ),
    ] {
        let problem = problem(change);
        assert!(problem.contains(expected), "{expected}: {problem}");
    }
}
