use std::{collections::BTreeMap, path::PathBuf};

use event_schema::{
    Blockhash, CanonicalSeal, Slot,
    proto::{
        Message as _,
        confirmed_block::{
            CompiledInstruction, ConfirmedBlock, InnerInstruction, InnerInstructions, TokenBalance,
            Transaction, TransactionConfig, TransactionError, TransactionStatusMeta, UiTokenAmount,
        },
        geyser::{SubscribeUpdateBlockMeta, SubscribeUpdateTransaction},
    },
};

use super::*;
use crate::sink::native::TableRow;

fn block(slot: u64, transactions: Vec<SubscribeUpdateTransactionInfo>) -> SlotBlock {
    SlotBlock {
        slot: Slot(slot),
        blockhash: Blockhash([7; 32]),
        first_offset: 0,
        next_offset: 1,
        accounts: Vec::new(),
        transactions,
        entries: Vec::new(),
        meta: SubscribeUpdateBlockMeta::default(),
        seal: CanonicalSeal {
            slot,
            parent_slot: slot - 1,
            parent_blockhash: vec![6; 32],
            ..CanonicalSeal::default()
        },
    }
}

fn rows(block: &SlotBlock) -> BlockRows {
    let mut rows = BlockRows::default();
    rows.add(block, &Idls::default());
    rows
}

fn token_balance(index: u32, mint: Key, amount: &str) -> TokenBalance {
    TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        owner: bs58::encode([50; 32]).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            decimals: 6,
            amount: amount.into(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

/// Payer 1 sends 30 tokens from account 2 to account 3 by an inner transfer of an unknown program 5; 4 is the Token program.
fn transfer() -> SubscribeUpdateTransactionInfo {
    let inner = InnerInstruction {
        program_id_index: 3,
        accounts: vec![1, 2, 0],
        data: [&[3_u8][..], &30_u64.to_le_bytes()].concat(),
        stack_height: Some(2),
    };
    let mint = [99; 32];
    SubscribeUpdateTransactionInfo {
        signature: vec![9; 64],
        is_vote: false,
        index: 4,
        transaction: Some(Transaction {
            signatures: vec![vec![9; 64]],
            message: Some(Message {
                account_keys: vec![
                    vec![1; 32],
                    vec![2; 32],
                    vec![3; 32],
                    crate::decode::programs::TOKEN.to_vec(),
                    vec![5; 32],
                ],
                recent_blockhash: vec![8; 32],
                instructions: vec![CompiledInstruction {
                    program_id_index: 4,
                    accounts: vec![0],
                    data: vec![1, 2, 3],
                }],
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            fee: 5_000,
            pre_balances: vec![1_000_000, 10, 10, 1, 1],
            post_balances: vec![995_000, 10, 10, 1, 1],
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: vec![inner],
            }],
            pre_token_balances: vec![
                token_balance(1, mint, "100"),
                token_balance(2, mint, "18446744073709551000"),
            ],
            post_token_balances: vec![
                token_balance(1, mint, "70"),
                token_balance(2, mint, "18446744073709551030"),
            ],
            ..TransactionStatusMeta::default()
        }),
    }
}

#[test]
fn a_transfer_is_found_by_all_who_take_part() {
    let mut update = transfer();
    update.signature = (0..64).collect();
    let found = rows(&block(100, vec![update.clone()]));
    let first = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7]);
    let by_signature = &found.signatures[0];
    assert_eq!(
        (
            by_signature.signature_hash,
            by_signature.slot,
            by_signature.tx_index
        ),
        (first, 100, 4)
    );
    let hashes: Vec<u64> = found
        .account_transactions
        .iter()
        .map(|row| row.account_hash)
        .collect();
    assert_eq!(hashes.len(), 5);
    assert_eq!(
        hashes[..2],
        [u64::from_le_bytes([1; 8]), u64::from_le_bytes([2; 8])]
    );
    let sides: Vec<_> = found
        .account_transfers
        .iter()
        .map(|row| (row.side, row.account, row.asset, row.mint, row.amount))
        .collect();
    let of = |side, key: u8| (side, [key; 32], "token", Some([99; 32]), Some(30));
    assert_eq!(
        sides,
        [
            of("source", 2),
            of("destination", 3),
            of("source_owner", 50),
            of("destination_owner", 50)
        ]
    );

    update.is_vote = true;
    let vote = rows(&block(100, vec![update]));
    assert!(vote.account_transactions.is_empty() && vote.signatures.len() == 1);
}

#[test]
fn an_inner_transfer_gives_every_row_it_should() {
    let rows = rows(&block(100, vec![transfer()]));
    let transaction = &rows.transactions[0];
    assert_eq!(
        (
            transaction.tx_index,
            transaction.version,
            transaction.fee,
            transaction.success
        ),
        (4, -1, Some(5_000), Some(true))
    );
    assert_eq!(
        (
            transaction.instructions,
            transaction.instructions_unresolved,
            transaction.lamport_identity
        ),
        (2, 0, "exact")
    );
    let paths: Vec<_> = rows
        .instructions
        .iter()
        .map(|row| (row.path, row.stack_height, row.program))
        .collect();
    assert_eq!(
        paths,
        [
            (0, Some(1), [5; 32]),
            (1, Some(2), crate::decode::programs::TOKEN)
        ]
    );
    assert_eq!(rows.instructions[0].discriminator, 0x03_02_01);
    let moved = &rows.token_transfers[0];
    assert_eq!(
        (moved.kind, moved.amount, moved.fee, moved.path),
        ("transfer", Some(30), Some(0), 1)
    );
    assert_eq!(
        (moved.source, moved.destination, moved.authority),
        (Some([2; 32]), Some([3; 32]), Some([1; 32]))
    );
    assert_eq!(
        moved.mint,
        Some([99; 32]),
        "a plain transfer's mint comes from the balances"
    );
    assert_eq!(moved.decimals, Some(6), "and so do its decimals");
    let deltas: Vec<_> = rows
        .balance_changes
        .iter()
        .map(|row| (row.account[0], row.mint.is_some(), row.delta))
        .collect();
    assert_eq!(deltas, [(1, false, -5_000), (2, true, -30), (3, true, 30)]);
    assert_eq!(
        rows.balance_changes[2].post,
        Some(18_446_744_073_709_551_030)
    );
}

#[test]
fn unknown_is_never_zero() {
    let mut bare = transfer();
    bare.meta = None;
    let rows_of_bare = rows(&block(100, vec![bare]));
    let transaction = &rows_of_bare.transactions[0];
    assert_eq!(
        (
            transaction.fee,
            transaction.success,
            transaction.inner_known,
            transaction.lamport_identity
        ),
        (None, None, false, "unknown")
    );
    assert!(rows_of_bare.balance_changes.is_empty() && rows_of_bare.token_transfers.is_empty());

    let mut closed = transfer();
    if let Some(meta) = &mut closed.meta {
        meta.post_token_balances.remove(0);
        meta.inner_instructions.clear();
        meta.inner_instructions_none = true;
    }
    let rows_of_closed = rows(&block(100, vec![closed]));
    let change = &rows_of_closed.balance_changes[1];
    assert_eq!(
        (change.pre, change.post, change.delta),
        (Some(100), None, -100)
    );
    assert!(!rows_of_closed.transactions[0].inner_known);

    let mut lost_key = transfer();
    if let Some(message) = lost_key
        .transaction
        .as_mut()
        .and_then(|transaction| transaction.message.as_mut())
    {
        message.account_keys.truncate(4);
    }
    let rows_of_lost_key = rows(&block(100, vec![lost_key]));
    assert_eq!(rows_of_lost_key.transactions[0].instructions_unresolved, 1);
}

/// A transaction that makes a mint by one batch: first its decimals and authorities, then nobody may freeze.
fn creation() -> SubscribeUpdateTransactionInfo {
    let mut update = transfer();
    let message = update
        .transaction
        .as_mut()
        .unwrap()
        .message
        .as_mut()
        .unwrap();
    let made = [&[20, 4][..], &[7; 32], &[1], &[8; 32]].concat();
    let frozen_no_more = [6, 1, 0];
    message.instructions = vec![CompiledInstruction {
        program_id_index: 3,
        accounts: vec![1, 1, 0],
        data: [
            &[255, 1, made.len() as u8][..],
            &made,
            &[2, 3],
            &frozen_no_more,
        ]
        .concat(),
    }];
    update.meta.as_mut().unwrap().inner_instructions.clear();
    update
}

#[test]
fn a_mint_is_told_by_the_instructions_that_make_it() {
    let told = rows(&block(100, vec![creation()]));
    let [made, frozen_no_more] = told.mint_states.as_slice() else {
        panic!("{:?}", told.mint_states);
    };
    assert_eq!(
        (made.mint, made.instruction, made.event_index, made.decimals),
        ([2; 32], "initialize_mint2", 0, Some(4))
    );
    assert_eq!(
        (
            made.mint_authority,
            made.freeze_authority,
            made.write_version
        ),
        (Some([7; 32]), Some([8; 32]), None)
    );
    assert_eq!(
        made.states,
        ["decimals", "mint_authority", "freeze_authority"]
    );
    assert_eq!(
        (
            frozen_no_more.event_index,
            frozen_no_more.freeze_authority,
            frozen_no_more.states.as_slice()
        ),
        (1, None, &["freeze_authority"][..]),
        "that there is none is said"
    );
    // What failed, and what nobody knows the end of, says nothing.
    for status in [true, false] {
        let mut update = creation();
        if status {
            update.meta.as_mut().unwrap().err = Some(TransactionError { err: vec![0] });
        } else {
            update.meta = None;
        }
        assert!(rows(&block(100, vec![update])).mint_states.is_empty());
    }
}

#[test]
fn writes_say_which_transaction_made_them() {
    let mut block = block(100, vec![transfer()]);
    let mint = [&[0; 36][..], &5_u64.to_le_bytes(), &[2, 1], &[0; 36]].concat();
    for signature in [Some(vec![9; 64]), None] {
        block.accounts.push(SubscribeUpdateAccount {
            account: Some(event_schema::proto::geyser::SubscribeUpdateAccountInfo {
                pubkey: vec![2; 32],
                owner: crate::decode::programs::TOKEN.to_vec(),
                data: mint.clone(),
                write_version: 70,
                txn_signature: signature,
                ..Default::default()
            }),
            ..SubscribeUpdateAccount::default()
        });
    }
    let told = rows(&block);
    let places: Vec<_> = told
        .mint_states
        .iter()
        .map(|row| (row.source, row.tx_index, row.write_version, row.supply))
        .collect();
    assert_eq!(
        places,
        [
            ("account", Some(4), Some(70), Some(5)),
            ("account", None, Some(70), Some(5))
        ]
    );
    assert_eq!(told.account_updates.len(), 2);
}

#[test]
fn failures_and_versions_are_told() {
    let mut failed = transfer();
    let meta = failed.meta.as_mut().unwrap();
    meta.err = Some(TransactionError {
        err: vec![8, 0, 0, 0, 2, 25, 0, 0, 0, 1, 0, 0, 0],
    });
    meta.post_balances[0] += 1;
    let message = failed
        .transaction
        .as_mut()
        .unwrap()
        .message
        .as_mut()
        .unwrap();
    message.versioned = true;
    message.config = Some(TransactionConfig::default());
    let rows = rows(&block(100, vec![failed]));
    let transaction = &rows.transactions[0];
    assert_eq!(
        (
            transaction.version,
            transaction.success,
            transaction.error.as_str()
        ),
        (1, Some(false), "InstructionError:Custom")
    );
    assert_eq!(
        (
            transaction.error_instruction,
            transaction.error_custom,
            transaction.lamport_identity
        ),
        (Some(2), Some(1), "broken")
    );
    assert_eq!(
        rows.token_transfers[0].success,
        Some(false),
        "failed transfers are kept, and say so"
    );
}

#[test]
fn the_same_block_gives_the_same_bytes() {
    let block = block(100, vec![transfer(), transfer()]);
    assert_eq!(
        TransactionRow::block(&rows(&block).transactions),
        TransactionRow::block(&rows(&block).transactions)
    );
    assert_eq!(
        BalanceChangeRow::block(&rows(&block).balance_changes),
        BalanceChangeRow::block(&rows(&block).balance_changes)
    );
}

fn data_dir() -> Option<PathBuf> {
    let found = std::env::var_os("HELIOGRAPH_DATA").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped: HELIOGRAPH_DATA is not set");
    }
    found
}

/// A recorded block, as the plugin and the router would have published it.
fn recorded(file: PathBuf, slot: u64) -> SlotBlock {
    let recorded = ConfirmedBlock::decode(std::fs::read(&file).unwrap().as_slice()).unwrap();
    let transactions = recorded
        .transactions
        .into_iter()
        .zip(0..)
        .map(|(transaction, index)| SubscribeUpdateTransactionInfo {
            signature: transaction.transaction.as_ref().unwrap().signatures[0].clone(),
            is_vote: false,
            transaction: transaction.transaction,
            meta: transaction.meta,
            index,
        });
    let mut block = block(slot, transactions.collect());
    block.meta.rewards = Some(event_schema::proto::confirmed_block::Rewards {
        rewards: recorded.rewards,
        num_partitions: None,
    });
    block
}

#[test]
fn recorded_mainnet_blocks_are_complete_and_add_up() {
    let Some(dir) = data_dir() else { return };
    for (slot, transactions, failed, rewards) in [
        (18_144_001, 89, 4, 0),
        (43_200_000, 208, 3, 0),
        (64_800_004, 11, 5, 10_185),
    ] {
        let rows = rows(&recorded(
            dir.join(format!("blocks/mainnet-{slot}.bincode")),
            slot,
        ));
        assert_eq!(rows.transactions.len(), transactions, "{slot}");
        assert_eq!(
            rows.transactions
                .iter()
                .filter(|row| row.success == Some(false))
                .count(),
            failed,
            "{slot}"
        );
        assert!(
            rows.rewards.len() >= rewards,
            "{slot}: {}",
            rows.rewards.len()
        );
        let sums: BTreeMap<_, usize> =
            rows.transactions
                .iter()
                .fold(BTreeMap::new(), |mut sums, row| {
                    *sums.entry(row.lamport_identity).or_default() += 1;
                    sums
                });
        assert_eq!(sums.get("broken"), None, "{slot}: {sums:?}");
        assert_eq!(
            rows.transactions
                .iter()
                .map(|row| u32::from(row.instructions_unresolved))
                .sum::<u32>(),
            0,
            "{slot}"
        );
        // An independent look at the same identity, from the rows: only the fee leaves.
        for transaction in rows
            .transactions
            .iter()
            .filter(|row| row.lamport_identity == "exact")
        {
            let moved: i128 = rows
                .balance_changes
                .iter()
                .filter(|row| row.tx_index == transaction.tx_index && row.mint.is_none())
                .map(|row| row.delta)
                .sum();
            assert_eq!(
                moved,
                -i128::from(transaction.fee.unwrap()),
                "{slot}/{}",
                transaction.tx_index
            );
        }
    }
}

#[test]
fn a_recorded_swap_conserves_every_token() {
    let Some(dir) = data_dir() else { return };
    let bytes =
        std::fs::read(dir.join("streams/mainnet-pumpfun.SubscribeUpdateTransaction.bin")).unwrap();
    let update = SubscribeUpdateTransaction::decode(bytes.as_slice()).unwrap();
    let slot = update.slot;
    let rows = rows(&block(slot, vec![update.transaction.unwrap()]));
    assert!(!rows.token_transfers.is_empty());
    let mut expected: BTreeMap<Key, i128> = BTreeMap::new();
    for moved in &rows.token_transfers {
        let amount = i128::from(moved.amount.unwrap());
        for (account, sign) in [(moved.source, -1), (moved.destination, 1)] {
            if let Some(account) = account {
                *expected.entry(account).or_default() += sign * amount;
            }
        }
    }
    let changed: Vec<_> = rows
        .balance_changes
        .iter()
        .filter(|row| row.mint.is_some())
        .collect();
    assert!(!changed.is_empty());
    for change in changed {
        assert_eq!(
            expected.get(&change.account),
            Some(&change.delta),
            "{}",
            bs58::encode(change.account).into_string()
        );
    }
}
