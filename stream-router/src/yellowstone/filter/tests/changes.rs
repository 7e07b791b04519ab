//! Changes of a filter's accounts without sending the request again.

use event_schema::{Pubkey, proto::geyser::*};

use super::{
    super::{AccountLimits, FilterIndex, FilterLimits, Filters},
    matching::{accounts, info, one, told},
    universe::{key, texts},
};

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
        accounts: AccountLimits {
            account_max: Some(2),
            account_reject: [Pubkey(key(9))].into(),
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
