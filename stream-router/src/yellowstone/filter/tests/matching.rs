//! Cases that the rules name, one by one.

use event_schema::proto::{
    Message,
    confirmed_block::{TokenBalance, TransactionStatusMeta, UiTokenAmount},
    geyser::{subscribe_update::UpdateOneof, *},
};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::{
    super::{
        DataSlice, FilterIndex, FilterLimits, Filters, Match, TransactionFacts,
        cuckoo::{Cuckoo, Probe},
        cut,
        error::Place,
        sliced_account,
    },
    universe::{KEYS, cuckoo, key, members, signature, text, texts},
};
use crate::subscription::Level;

fn accounts(
    filters: impl IntoIterator<Item = (&'static str, SubscribeRequestFilterAccounts)>,
) -> SubscribeRequest {
    SubscribeRequest {
        accounts: filters
            .into_iter()
            .map(|(name, it)| (name.into(), it))
            .collect(),
        ..SubscribeRequest::default()
    }
}

fn compiled(request: &SubscribeRequest) -> Filters {
    Filters::compile(request, &FilterLimits::default()).unwrap()
}

fn one(request: &SubscribeRequest) -> FilterIndex {
    let mut index = FilterIndex::default();
    index.insert(1, compiled(request));
    index
}

fn info(account: usize, owner: usize, data: &[u8]) -> SubscribeUpdateAccountInfo {
    SubscribeUpdateAccountInfo {
        pubkey: key(account).to_vec(),
        owner: key(owner).to_vec(),
        lamports: 5,
        data: data.to_vec(),
        ..SubscribeUpdateAccountInfo::default()
    }
}

fn told(index: &FilterIndex, info: &SubscribeUpdateAccountInfo) -> Vec<String> {
    let mut out = Vec::new();
    index.account(Level::Processed, info, &mut out);
    names(&out)
}

/// Of the only subscriber.
fn names(matches: &[Match]) -> Vec<String> {
    assert!(matches.len() < 2);
    let heads = matches.iter().map(|found| found.head.clone());
    heads
        .flat_map(|head| SubscribeUpdate::decode(head).unwrap().filters)
        .collect()
}

fn memcmp(offset: u64, bytes: &[u8]) -> SubscribeRequestFilterAccountsFilter {
    SubscribeRequestFilterAccountsFilter {
        filter: Some(Filter::Memcmp(SubscribeRequestFilterAccountsFilterMemcmp {
            offset,
            data: Some(Data::Bytes(bytes.to_vec())),
        })),
    }
}

#[test]
fn no_condition_means_every_account() {
    let index = one(&accounts([("all", Default::default())]));
    assert_eq!(told(&index, &info(0, 1, b"")), ["all"]);
    assert_eq!(
        told(&index, &SubscribeUpdateAccountInfo::default()),
        ["all"]
    );
}

#[test]
fn lists_are_or_and_conditions_are_and() {
    let index = one(&accounts([(
        "both",
        SubscribeRequestFilterAccounts {
            account: texts(&[0, 1]),
            owner: texts(&[5, 6]),
            filters: vec![memcmp(1, b"b"), memcmp(2, b"c")],
            ..Default::default()
        },
    )]));
    assert_eq!(told(&index, &info(0, 5, b"abc")), ["both"]);
    assert_eq!(told(&index, &info(1, 6, b"abc")), ["both"]);
    for other in [
        info(2, 5, b"abc"),
        info(0, 7, b"abc"),
        info(0, 5, b"ab"),
        info(0, 5, b"abd"),
    ] {
        assert!(told(&index, &other).is_empty());
    }
}

#[test]
fn a_cuckoo_set_adds_to_the_list_of_accounts() {
    let index = one(&accounts([(
        "either",
        SubscribeRequestFilterAccounts {
            account: texts(&[0, 3]),
            cuckoo_accounts_filter: Some(cuckoo(0b1010, 7)),
            ..Default::default()
        },
    )]));
    // In the list, in the set, in both, in neither.
    for (account, passes) in [(0, true), (1, true), (3, true), (2, false)] {
        assert_eq!(
            told(&index, &info(account, 9, b"")).len(),
            usize::from(passes)
        );
    }
}

/// Made by `yellowstone_grpc_proto::cuckoo::CompressedAccountFilterSet` 12.7.0 from the keys [1; 32] to [6; 32].
#[test]
fn cuckoo_sets_are_read_as_the_reference_library_writes_them() {
    let sent = CuckooFilter {
        data: vec![
            139, 83, 60, 161, 0, 0, 0, 0, 90, 197, 240, 188, 164, 238, 73, 14,
        ],
        bucket_count: 2,
        entries_per_bucket: 4,
        fingerprint_bits: 16,
        hash_seed: 0x796c_6c77_7374_6e21,
        hash_algorithm: 0,
    };
    let place = Place {
        kind: "accounts",
        name: "",
    };
    let set = Cuckoo::compile(place, "", &sent, None).unwrap();
    let has = |byte| set.contains(&Probe::new(set.seed, &[byte; 32]));
    let found: Vec<u8> = (0..=255).filter(|byte| has(*byte)).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn cuckoo_sets_of_the_small_world_have_no_false_positives() {
    for set in (0..1 << KEYS).flat_map(|all| [cuckoo(all, 7), cuckoo(all, 0x796c_6c77_7374_6e21)]) {
        let place = Place {
            kind: "accounts",
            name: "",
        };
        let compiled = Cuckoo::compile(place, "", &set, None).unwrap();
        let found = (0..KEYS)
            .filter(|it| compiled.contains_any(&[key(*it)]))
            .map(text);
        assert_eq!(found.collect::<Vec<_>>(), members(&set));
    }
}

#[test]
fn a_list_that_was_emptied_passes_nothing() {
    let filter = SubscribeRequestFilterAccounts {
        account: texts(&[0]),
        ..Default::default()
    };
    let mut index = one(&accounts([("some", filter), ("all", Default::default())]));
    index.change_accounts(1, "some", &[], &[key(0)]).unwrap();
    assert_eq!(told(&index, &info(0, 9, b"")), ["all"]);
    index
        .change_accounts(1, "some", &[key(4), key(4)], &[key(4)])
        .unwrap();
    assert_eq!(told(&index, &info(4, 9, b"")).len(), 2);
    index.remove(1);
    assert!(index.holds_nothing());
}

#[test]
fn a_change_that_is_refused_changes_nothing() {
    let limits = FilterLimits {
        accounts: super::super::AccountLimits {
            account_max: Some(2),
            account_reject: [event_schema::Pubkey(key(9))].into(),
            ..Default::default()
        },
        ..FilterLimits::default()
    };
    let filter = SubscribeRequestFilterAccounts {
        account: texts(&[0, 1]),
        ..Default::default()
    };
    let owned = SubscribeRequestFilterAccounts {
        owner: texts(&[5]),
        ..Default::default()
    };
    let request = accounts([("some", filter), ("owned", owned)]);
    let mut index = FilterIndex::default();
    index.insert(1, Filters::compile(&request, &limits).unwrap());
    let mut refusal = |id, name, add: &[_], remove: &[_]| {
        let refused = index.change_accounts(id, name, add, remove);
        refused.unwrap_err().to_string()
    };
    assert_eq!(
        refusal(1, "some", &[key(2), key(3)], &[key(0)]),
        r#"accounts["some"].account: 3 are asked for; at most 2 are allowed"#
    );
    let refused = refusal(1, "some", &[key(9)], &[key(0)]);
    assert!(
        refused.ends_with("may not be asked for here; leave it out"),
        "{refused}"
    );
    assert_eq!(
        refusal(1, "none", &[], &[]),
        r#"accounts["none"]: the request has no such filter; name one of its accounts filters"#
    );
    assert!(refusal(1, "owned", &[key(0)], &[]).contains("send the whole request"));
    assert!(refusal(2, "some", &[key(0)], &[]).contains("send a request first"));
    assert_eq!(told(&index, &info(0, 9, b"")), ["some"]);
    index
        .change_accounts(1, "some", &[key(2)], &[key(0)])
        .unwrap();
    assert_eq!(told(&index, &info(2, 9, b"")), ["some"]);
    assert!(told(&index, &info(0, 9, b"")).is_empty());
}

/// A replay holds a copy of the filters: it and the live ones do not change each other.
#[test]
fn copies_of_filters_are_independent() {
    let filter = SubscribeRequestFilterAccounts {
        account: texts(&[0]),
        ..Default::default()
    };
    let mut live = one(&accounts([("some", filter)]));
    let mut replay = FilterIndex::default();
    replay.insert(1, live.filters(1).unwrap().clone());
    live.change_accounts(1, "some", &[key(1)], &[key(0)])
        .unwrap();
    assert_eq!(told(&live, &info(1, 9, b"")), ["some"]);
    assert_eq!(told(&replay, &info(0, 9, b"")), ["some"]);
    assert!(told(&replay, &info(1, 9, b"")).is_empty());
}

#[test]
fn names_before_an_encoded_update_are_part_of_it() {
    let filter = SubscribeRequestFilterAccounts {
        owner: texts(&[5]),
        ..Default::default()
    };
    let request = accounts([
        ("", filter.clone()),
        ("ünïcode", filter),
        ("all", Default::default()),
    ]);
    let index = one(&request);
    let account = info(0, 5, b"0123456789");
    let record = SubscribeUpdate {
        update_oneof: Some(UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(account.clone()),
            slot: 77,
            is_startup: false,
        })),
        ..SubscribeUpdate::default()
    };
    let mut out = Vec::new();
    index.account(Level::Processed, &account, &mut out);
    let [found] = &out[..] else {
        panic!("one subscriber, one match")
    };
    let message = [&found.head[..], &record.encode_to_vec()].concat();
    let mut told = SubscribeUpdate::decode(&message[..]).unwrap();
    told.filters.sort();
    assert_eq!(told.filters, ["", "all", "ünïcode"]);
    assert_eq!(told.update_oneof, record.update_oneof);

    let sliced = sliced_account(&account, 77, &[DataSlice { start: 2, end: 4 }]);
    let told = SubscribeUpdate::decode(&[&found.head[..], &sliced].concat()[..]).unwrap();
    let expected = SubscribeUpdateAccountInfo {
        data: b"23".to_vec(),
        ..account
    };
    let Some(UpdateOneof::Account(SubscribeUpdateAccount {
        account, slot: 77, ..
    })) = told.update_oneof
    else {
        panic!("an account at slot 77");
    };
    assert_eq!((account, told.filters.len()), (Some(expected), 3));
}

#[test]
fn a_slice_past_the_end_is_left_out_whole() {
    let slices = |all: &[(usize, usize)]| -> Vec<DataSlice> {
        all.iter()
            .map(|(start, end)| DataSlice {
                start: *start,
                end: *end,
            })
            .collect()
    };
    assert_eq!(cut(b"01234", &slices(&[(0, 2), (3, 5)])), b"0134");
    assert_eq!(cut(b"01234", &slices(&[(0, 2), (3, 6)])), b"01");
    assert_eq!(cut(b"01234", &slices(&[(5, 5), (9, 9)])), b"");
    assert_eq!(cut(b"01234", &[]), b"01234");
}

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

/// A required account that many ask for is not where the next one is listed, if it has a rarer one.
#[test]
fn many_who_require_a_common_account_are_not_all_looked_at() {
    let mut index = FilterIndex::default();
    for id in 0..100u64 {
        let mut own = [200; 32];
        own[..8].copy_from_slice(&id.to_le_bytes());
        let filter = SubscribeRequestFilterTransactions {
            account_required: vec![text(0), bs58::encode(own).into_string()],
            ..Default::default()
        };
        let request = SubscribeRequest {
            transactions: [("t".into(), filter)].into(),
            ..SubscribeRequest::default()
        };
        index.insert(id, compiled(&request));
    }
    let transaction = SubscribeUpdateTransactionInfo {
        meta: Some(TransactionStatusMeta {
            loaded_writable_addresses: vec![key(0).to_vec()],
            ..TransactionStatusMeta::default()
        }),
        ..SubscribeUpdateTransactionInfo::default()
    };
    let facts = TransactionFacts::new(&transaction);
    assert!(index.looked_at(Level::Processed, &facts) <= 1);
}
