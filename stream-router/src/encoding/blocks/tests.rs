use event_schema::proto::{
    confirmed_block::{
        BlockHeight, CompiledInstruction, ConfirmedBlock as StoredBlock, ConfirmedTransaction,
        InnerInstruction, InnerInstructions, Message, MessageAddressTableLookup, MessageHeader,
        NumPartitions, ReturnData, Reward, Rewards, TokenBalance, Transaction, TransactionConfig,
        TransactionError, TransactionStatusMeta, UiTokenAmount, UnixTimestamp,
    },
    geyser::{SubscribeUpdateBlockMeta, SubscribeUpdateTransaction},
};
use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::slot_tree::BlockId;

fn meta_of(block: &StoredBlock) -> MetaView {
    let id = BlockId::new(Slot(7), event_schema::Blockhash([7; 32]));
    let meta = SubscribeUpdateBlockMeta {
        slot: 7,
        blockhash: block.blockhash.clone(),
        rewards: Some(Rewards {
            rewards: block.rewards.clone(),
            num_partitions: block.num_partitions,
        }),
        block_time: block.block_time,
        block_height: block.block_height,
        parent_slot: block.parent_slot,
        parent_blockhash: block.previous_blockhash.clone(),
        ..Default::default()
    };
    MetaView {
        block: id,
        parent: BlockId::default(),
        transactions: block.transactions.len() as u64,
        entries: 0,
        meta,
    }
}

fn shown(block: &StoredBlock) -> Vec<Arc<ShownTransaction>> {
    let transactions = block.transactions.iter().enumerate();
    transactions
        .map(|(index, stored)| {
            let signature = stored
                .transaction
                .as_ref()
                .and_then(|transaction| transaction.signatures.first().cloned());
            let info = SubscribeUpdateTransactionInfo {
                signature: signature.unwrap_or_default(),
                is_vote: false,
                transaction: stored.transaction.clone(),
                meta: stored.meta.clone(),
                index: index as u64,
            };
            Arc::new(ShownTransaction::new(Slot(7), &info.into()))
        })
        .collect()
}

fn views() -> impl Iterator<Item = TransactionView> {
    use TransactionDetails as Details;
    use UiTransactionEncoding as Encoding;
    let encodings = [
        Encoding::Binary,
        Encoding::Base58,
        Encoding::Base64,
        Encoding::Json,
        Encoding::JsonParsed,
    ];
    let details = [
        Details::Full,
        Details::Accounts,
        Details::Signatures,
        Details::None,
    ];
    encodings.into_iter().flat_map(move |encoding| {
        details.into_iter().flat_map(move |details| {
            [(false, None), (true, Some(0)), (true, Some(1))].map(|(rewards, version_max)| {
                TransactionView {
                    encoding,
                    details,
                    rewards,
                    version_max,
                }
            })
        })
    })
}

/// What the validator does with the block it reads from its ledger: everything at once.
fn validators(block: &StoredBlock, view: TransactionView) -> Value {
    let stored = generated::ConfirmedBlock::decode(block.encode_to_vec().as_slice()).unwrap();
    let block = ConfirmedBlock::try_from(stored).unwrap();
    let options = BlockEncodingOptions {
        transaction_details: view.details,
        show_rewards: view.rewards,
        max_supported_transaction_version: view.version_max,
    };
    let (block, err) = match block.encode_with_options(view.encoding, options) {
        Ok(block) => (json!(block), Value::Null),
        Err(EncodeError::UnsupportedTransactionVersion(version)) => (
            Value::Null,
            json!(RpcBlockUpdateError::UnsupportedTransactionVersion(version)),
        ),
    };
    let update = json!({"slot": 7, "block": block, "err": err});
    // Read as ours is, because reading rounds.
    serde_json::from_str(&update.to_string()).expect("JSON")
}

fn assert_shown_as_the_validator_does(block: &StoredBlock) {
    assert_views(block, views());
}

fn assert_views(block: &StoredBlock, views: impl Iterator<Item = TransactionView>) {
    let (meta, all) = (meta_of(block), shown(block));
    let odd: Vec<_> = all.iter().skip(1).step_by(2).cloned().collect();
    let transactions = block.transactions.iter();
    let odd_only = StoredBlock {
        transactions: transactions.skip(1).step_by(2).cloned().collect(),
        ..block.clone()
    };
    for view in views {
        for (chosen, expected) in [(&all, block), (&odd, &odd_only)] {
            let ours = block_update(&meta, chosen, view);
            let ours: Value = serde_json::from_str(&ours).expect("JSON");
            assert_eq!(ours, validators(expected, view), "{view:?}");
        }
    }
}

#[test]
fn an_empty_block_is_shown_too() {
    let block = StoredBlock {
        blockhash: "hash".into(),
        ..Default::default()
    };
    assert_shown_as_the_validator_does(&block);
}

/// Blocks and a transaction of mainnet, where they are at hand.
#[test]
fn recorded_blocks_are_shown_as_the_validator_does() {
    let Some(data) = std::env::var_os("HELIOGRAPH_DATA").map(std::path::PathBuf::from) else {
        eprintln!("skipped: HELIOGRAPH_DATA is not set");
        return;
    };
    for name in ["18144001", "43200000", "64800004"] {
        let bytes = std::fs::read(data.join(format!("blocks/mainnet-{name}.bincode"))).unwrap();
        let block = StoredBlock::decode(bytes.as_slice()).unwrap();
        assert!(!block.transactions.is_empty());
        assert_views(&block, views().filter(|view| is_quick(view, &block)));
    }
    let path = data.join("streams/mainnet-pumpfun.SubscribeUpdateTransaction.bin");
    let bytes = std::fs::read(path).unwrap();
    let transaction = SubscribeUpdateTransaction::decode(bytes.as_slice()).unwrap();
    let info = transaction.transaction.expect("a transaction");
    let one = ConfirmedTransaction {
        transaction: info.transaction,
        meta: info.meta,
    };
    let block = StoredBlock {
        transactions: vec![one; 2],
        ..Default::default()
    };
    assert_views(&block, views().filter(|view| is_quick(view, &block)));
}

/// Base58 takes its time and shows nothing that base64 does not. So does an epoch's payment of ten thousand rewards.
fn is_quick(view: &TransactionView, block: &StoredBlock) -> bool {
    let pays = block.rewards.len() > 1_000;
    view.version_max == Some(0)
        && match view.encoding {
            UiTransactionEncoding::Json => !pays || view.details == TransactionDetails::Full,
            UiTransactionEncoding::JsonParsed | UiTransactionEncoding::Base64 => !pays,
            _ => false,
        }
}

const PROGRAMS: [&str; 5] = [
    "11111111111111111111111111111111",
    "Vote111111111111111111111111111111111111111",
    "Stake11111111111111111111111111111111111111",
    "TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA",
    "MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr",
];

fn key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        proptest::collection::vec(any::<u8>(), 32),
        proptest::sample::select(&PROGRAMS[..])
            .prop_map(|text| bs58::decode(text).into_vec().expect("an address")),
    ]
}

fn bytes(max: usize) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..max)
}

fn instruction(keys: u8) -> impl Strategy<Value = CompiledInstruction> {
    let accounts = proptest::collection::vec(0..keys, 0..6);
    // Short data with a small first number is often one of a program's instructions.
    let data = prop_oneof![
        bytes(40),
        (0u32..16, bytes(60)).prop_map(|(variant, rest)| {
            let mut data = variant.to_le_bytes().to_vec();
            data.extend(rest);
            data
        })
    ];
    (0..u32::from(keys), accounts, data).prop_map(|(program_id_index, accounts, data)| {
        CompiledInstruction {
            program_id_index,
            accounts,
            data,
        }
    })
}

prop_compose! {
    fn meta(keys: u8, writable: Vec<Vec<u8>>, readonly: Vec<Vec<u8>>)(
        failed: bool,
        inner in proptest::collection::vec(instruction(keys), 0..3),
        inner_none: bool,
        logs in proptest::collection::vec("[a-z ]{0,9}", 0..3),
        logs_none: bool,
        amount: u64,
        decimals in 0u32..20,
        reward in -5i64..5,
        returned in key(),
        return_data in bytes(9),
        return_data_none: bool,
        compute_units_consumed: Option<u64>,
    ) -> TransactionStatusMeta {
        let stack_height = Some(2);
        TransactionStatusMeta {
            // InstructionError(0, Custom(1)).
            err: failed.then(|| TransactionError { err: vec![8, 0, 0, 0, 0, 25, 0, 0, 0, 1, 0, 0, 0] }),
            fee: amount,
            pre_balances: vec![amount, 0],
            post_balances: vec![0, amount],
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: inner.into_iter().map(|one| InnerInstruction {
                    program_id_index: one.program_id_index,
                    accounts: one.accounts,
                    data: one.data,
                    stack_height,
                }).collect(),
            }],
            inner_instructions_none: inner_none,
            log_messages: logs,
            log_messages_none: logs_none,
            pre_token_balances: vec![TokenBalance {
                account_index: 1,
                mint: "mint".into(),
                ui_token_amount: Some(UiTokenAmount {
                    ui_amount: amount as f64,
                    decimals,
                    amount: amount.to_string(),
                    ui_amount_string: String::new(),
                }),
                owner: "owner".into(),
                program_id: "program".into(),
            }],
            post_token_balances: Vec::new(),
            rewards: vec![Reward { pubkey: "key".into(), lamports: reward, reward_type: 1, ..Default::default() }],
            loaded_writable_addresses: writable.clone(),
            loaded_readonly_addresses: readonly.clone(),
            return_data: Some(ReturnData { program_id: returned, data: return_data }),
            return_data_none,
            compute_units_consumed,
            cost_units: compute_units_consumed,
        }
    }
}

/// A transaction as a block may hold it, of any version.
fn sound() -> impl Strategy<Value = ConfirmedTransaction> {
    let keys = proptest::collection::vec(key(), 1..7);
    let loaded = || proptest::collection::vec(key(), 0..3);
    (keys, loaded(), loaded(), 0u8..3, any::<[u8; 4]>())
        .prop_flat_map(|(keys, writable, readonly, version, random)| {
            let (writable, readonly) = match version {
                1 => (writable, readonly),
                _ => (Vec::new(), Vec::new()),
            };
            let total = (keys.len() + writable.len() + readonly.len()) as u8;
            let count = keys.len() as u32;
            let signers = 1 + u32::from(random[0]) % count;
            let header = MessageHeader {
                num_required_signatures: signers,
                num_readonly_signed_accounts: u32::from(random[1]) % signers,
                num_readonly_unsigned_accounts: u32::from(random[2]) % (count - signers + 1),
            };
            let instructions = proptest::collection::vec(instruction(total), 0..4);
            (
                Just((keys, header, version, random)),
                instructions,
                meta(total, writable, readonly),
            )
        })
        .prop_map(|((keys, header, version, random), instructions, meta)| {
            let lookups = (version == 1).then(|| MessageAddressTableLookup {
                account_key: vec![random[3]; 32],
                writable_indexes: vec![1],
                readonly_indexes: vec![2, 3],
            });
            let message = Message {
                header: Some(header),
                account_keys: keys,
                recent_blockhash: vec![random[3]; 32],
                instructions,
                versioned: version > 0,
                address_table_lookups: lookups.into_iter().collect(),
                config: (version == 2).then(|| TransactionConfig {
                    priority_fee: Some(5),
                    compute_unit_limit: None,
                    loaded_accounts_data_size_limit: Some(9),
                    heap_size: None,
                }),
            };
            ConfirmedTransaction {
                transaction: Some(Transaction {
                    signatures: vec![vec![random[0]; 64]; header.num_required_signatures as usize],
                    message: Some(message),
                }),
                meta: Some(meta),
            }
        })
}

/// One thing no validator would write.
fn damaged() -> impl Strategy<Value = ConfirmedTransaction> {
    (sound(), 0u8..15).prop_map(|(mut one, damage)| {
        let (Some(transaction), Some(meta)) = (&mut one.transaction, &mut one.meta) else {
            return one;
        };
        let Some(message) = &mut transaction.message else {
            return one;
        };
        let wild = CompiledInstruction {
            program_id_index: 0,
            accounts: vec![250],
            data: Vec::new(),
        };
        match damage {
            0 => transaction.signatures.clear(),
            1 => transaction.signatures.push(vec![1; 63]),
            2 => message.header = None,
            3 => message.account_keys.push(vec![1; 31]),
            4 => message.recent_blockhash.clear(),
            5 => message.instructions.push(wild),
            6 => message.instructions.push(CompiledInstruction {
                program_id_index: u32::MAX,
                ..wild
            }),
            7 => {
                message.header = Some(MessageHeader {
                    num_required_signatures: 300,
                    num_readonly_signed_accounts: 301,
                    num_readonly_unsigned_accounts: u32::MAX,
                });
            }
            8 => meta.loaded_writable_addresses.push(vec![1; 33]),
            9 => {
                meta.return_data_none = false;
                meta.return_data = Some(ReturnData::default());
            }
            10 => message
                .address_table_lookups
                .push(MessageAddressTableLookup::default()),
            11 => {
                meta.err = Some(TransactionError {
                    err: vec![255, 255, 255, 255],
                })
            }
            12 => meta.inner_instructions.push(InnerInstructions {
                index: 900,
                instructions: vec![InnerInstruction {
                    program_id_index: 99,
                    ..Default::default()
                }],
            }),
            13 => message.account_keys = vec![vec![3; 32]; 300],
            _ => {
                message.config = Some(TransactionConfig::default());
                message.instructions = vec![CompiledInstruction::default(); 256];
            }
        }
        one
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Shown piece by piece, once each, it is what the validator makes of the block at once.
    #[test]
    fn blocks_are_shown_as_the_validator_does(
        transactions in proptest::collection::vec(sound(), 0..4),
        parent_slot: u64,
        time: Option<i64>,
        height: Option<u64>,
        partitions: Option<u64>,
    ) {
        assert_shown_as_the_validator_does(&StoredBlock {
            previous_blockhash: "before".into(),
            blockhash: "now".into(),
            parent_slot,
            transactions,
            rewards: vec![Reward { pubkey: "leader".into(), lamports: 5, reward_type: 1, ..Default::default() }],
            block_time: time.map(|timestamp| UnixTimestamp { timestamp }),
            block_height: height.map(|block_height| BlockHeight { block_height }),
            num_partitions: partitions.map(|num_partitions| NumPartitions { num_partitions }),
        });
    }

    /// A block with such a transaction is told with an error; one without content is shown.
    #[test]
    fn a_damaged_transaction_is_an_error_and_no_panic(transactions in proptest::collection::vec(damaged(), 1..3)) {
        let block = StoredBlock { transactions, ..Default::default() };
        let (meta, all) = (meta_of(&block), shown(&block));
        for view in views() {
            let update = block_update(&meta, &all, view);
            let update: Value = serde_json::from_str(&update).expect("JSON");
            let expected = match view.details {
                TransactionDetails::Full | TransactionDetails::Accounts => json!("BlockStoreError"),
                _ => Value::Null,
            };
            prop_assert_eq!(&update["err"], &expected, "{:?}", view);
        }
    }
}
