//! Slots, blocks and transactions: cases that the rules name, one by one.

use event_schema::proto::{
    confirmed_block::{TokenBalance, TransactionStatusMeta, UiTokenAmount},
    geyser::*,
};

use super::{
    super::{DataSlice, FilterIndex, TransactionFacts},
    matching::{info, one},
    universe::{KEYS, key, signature, text, texts},
};
use crate::subscription::Level;

#[test]
fn slots_are_told_by_level_and_between_levels_to_who_asked() {
    use SlotStatus::*;
    let statuses = [
        SlotProcessed,
        SlotConfirmed,
        SlotFinalized,
        SlotFirstShredReceived,
        SlotCompleted,
        SlotCreatedBank,
        SlotDead,
    ];
    let told = |by_commitment, interslot, commitment| {
        let filter = SubscribeRequestFilterSlots {
            filter_by_commitment: by_commitment,
            interslot_updates: interslot,
        };
        let index = one(&SubscribeRequest {
            slots: [("s".into(), filter)].into(),
            commitment,
            ..SubscribeRequest::default()
        });
        let told = |status: &SlotStatus| {
            let mut out = Vec::new();
            index.slot(*status, &mut out);
            !out.is_empty()
        };
        statuses.into_iter().filter(told).collect::<Vec<_>>()
    };
    let levels = [SlotProcessed, SlotConfirmed, SlotFinalized];
    for unset in [None, Some(false)] {
        assert_eq!(told(unset, unset, Some(1)), levels);
        assert_eq!(told(unset, Some(true), Some(1)), statuses);
        assert_eq!(told(Some(true), unset, None), [SlotProcessed]);
    }
    for interslot in [None, Some(true)] {
        assert_eq!(told(Some(true), interslot, Some(1)), [SlotConfirmed]);
        assert_eq!(told(Some(true), interslot, Some(2)), [SlotFinalized]);
    }
}

#[test]
fn blocks_bring_transactions_unless_asked_otherwise() {
    let request = |filter| SubscribeRequest {
        blocks: [("b".into(), filter)].into(),
        ..SubscribeRequest::default()
    };
    let only = |index: &FilterIndex| {
        let mut out = Vec::new();
        index.blocks(Level::Processed, &mut out);
        out.remove(0).filter
    };
    let default = only(&one(&request(SubscribeRequestFilterBlocks::default())));
    assert!(default.include_transactions && default.is_whole());
    assert!(!default.include_accounts && !default.include_entries);
    assert!(!default.wants_account(&info(0, 1, b"")));

    let named = SubscribeRequestFilterBlocks {
        account_include: texts(&[0]),
        include_accounts: Some(true),
        ..Default::default()
    };
    let mut with_slices = request(named.clone());
    with_slices.accounts_data_slice = vec![SubscribeRequestAccountsDataSlice {
        offset: 1,
        length: 2,
    }];
    let (named, sliced) = (only(&one(&request(named))), only(&one(&with_slices)));
    assert!(named.wants_account(&info(0, 1, b"")) && !named.wants_account(&info(1, 0, b"")));
    assert_ne!(named, sliced);
    assert_eq!(
        sliced.slices.as_deref(),
        Some(&[DataSlice { start: 1, end: 3 }][..])
    );
}

fn balance(account_index: u32, owner: usize, amount: &str) -> TokenBalance {
    TokenBalance {
        account_index,
        owner: text(owner),
        ui_token_amount: Some(UiTokenAmount {
            amount: amount.into(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

#[test]
fn owners_of_token_accounts_count_when_asked_for() {
    let transaction = SubscribeUpdateTransactionInfo {
        signature: signature(0).to_vec(),
        meta: Some(TransactionStatusMeta {
            // 0: unchanged, 1: spent, 2: closed, 3: opened, 4: given to another owner.
            pre_token_balances: vec![
                balance(10, 0, "5"),
                balance(11, 1, "5"),
                balance(12, 2, "5"),
                balance(14, 4, "5"),
            ],
            post_token_balances: vec![
                balance(10, 0, "5"),
                balance(11, 1, "4"),
                balance(13, 3, "1"),
                balance(14, 5, "5"),
            ],
            loaded_readonly_addresses: vec![key(6).to_vec()],
            ..TransactionStatusMeta::default()
        }),
        ..SubscribeUpdateTransactionInfo::default()
    };
    let facts = TransactionFacts::new(&transaction);
    let passing = |token_accounts| {
        let passes = |owner: &usize| {
            let filter = SubscribeRequestFilterTransactions {
                account_include: texts(&[*owner]),
                token_accounts,
                ..Default::default()
            };
            let index = one(&SubscribeRequest {
                transactions: [("t".into(), filter)].into(),
                ..SubscribeRequest::default()
            });
            let mut out = Vec::new();
            index.transaction(Level::Processed, &facts, &mut out);
            !out.is_empty()
        };
        (0..KEYS).filter(passes).collect::<Vec<_>>()
    };
    assert_eq!(passing(None), [6]);
    assert_eq!(passing(Some(0)), [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(passing(Some(1)), [1, 2, 3, 6]);
}
