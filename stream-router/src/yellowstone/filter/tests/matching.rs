//! Account updates: cases that the rules name, one by one.

use event_schema::proto::{
    Message,
    geyser::{subscribe_update::UpdateOneof, *},
};
use subscribe_request_filter_accounts_filter::Filter;
use subscribe_request_filter_accounts_filter_memcmp::Data;

use super::{
    super::{DataSlice, FilterIndex, FilterLimits, Filters, Match, cut, sliced_account},
    universe::{cuckoo, key, texts},
};
use crate::subscription::Level;

pub fn accounts(
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

pub fn compiled(request: &SubscribeRequest) -> Filters {
    Filters::compile(request, &FilterLimits::default()).unwrap()
}

pub fn one(request: &SubscribeRequest) -> FilterIndex {
    let mut index = FilterIndex::default();
    index.insert(1, compiled(request));
    index
}

pub fn info(account: usize, owner: usize, data: &[u8]) -> SubscribeUpdateAccountInfo {
    SubscribeUpdateAccountInfo {
        pubkey: key(account).to_vec(),
        owner: key(owner).to_vec(),
        lamports: 5,
        data: data.to_vec(),
        ..SubscribeUpdateAccountInfo::default()
    }
}

pub fn told(index: &FilterIndex, info: &SubscribeUpdateAccountInfo) -> Vec<String> {
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
