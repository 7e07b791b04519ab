use event_schema::Pubkey;
use proptest::{collection::vec, prelude::*, strategy::ValueTree as _, test_runner::TestRunner};
use solana_transaction::versioned::VersionedTransaction;

use super::*;

/// Of few, so that lists are hit about as often as not.
pub(super) fn key() -> impl Strategy<Value = Pubkey> {
    (0..20_u8).prop_map(|number| Pubkey([number; 32]))
}

pub(super) fn keys() -> impl Strategy<Value = Vec<Pubkey>> {
    // Half of the lists are empty: otherwise hardly anything would pass them all.
    prop_oneof![Just(Vec::new()), vec(key(), 0..12)]
}

/// From the text an operator would write, where `@7` stands for the address `[7; 32]`.
pub(super) fn config(text: &str) -> FilterConfig {
    let text = (1..=9_u8).fold(text.to_owned(), |text, number| {
        text.replace(
            &format!("@{number}"),
            &format!("'{}'", Pubkey([number; 32])),
        )
    });
    let value = json5::from_str(&text).expect("JSON5");
    FilterConfig::read(value).expect("a configuration in order")
}

/// For how many of 10,000 inputs the answer is yes: a property that always sees one answer proves little.
pub(super) fn of_ten_thousand<S: Strategy>(inputs: S, answer: impl Fn(S::Value) -> bool) -> usize {
    let mut runner = TestRunner::deterministic();
    (0..10_000)
        .filter(|_| {
            let input = inputs.new_tree(&mut runner).expect("nothing is rejected");
            answer(input.current())
        })
        .count()
}

fn takes_account(filter: &Filter, pubkey: &[u8], owner: &[u8]) -> bool {
    filter.account(&ReplicaAccountInfoV3 {
        pubkey,
        lamports: 0,
        owner,
        executable: false,
        rent_epoch: 0,
        data: &[],
        write_version: 0,
        txn: None,
    })
}

#[test]
fn everything_is_what_an_empty_configuration_takes() {
    let empty = Filter::compile(&config("{}")).unwrap();
    for filter in [Filter::everything(), empty] {
        assert!(filter.accounts() && filter.transactions() && filter.entries());
        assert!(filter.block_meta() && filter.slots() && filter.data_slices().is_whole());
        // Even what no validator reports.
        assert!(takes_account(&filter, &[1; 31], &[]));
    }
}

#[test]
fn a_key_of_another_length_is_in_no_list() {
    let filter = |text| Filter::compile(&config(text)).unwrap();
    let (listed, excluded) = (
        "{ accounts: { accounts: [@1] } }",
        "{ accounts: { exclude_owners: [@1] } }",
    );
    assert!(takes_account(&filter(listed), &[1; 32], &[1; 32]));
    assert!(!takes_account(&filter(listed), &[1; 33], &[1; 32]));
    assert!(!takes_account(&filter(excluded), &[1; 32], &[1; 32]));
    assert!(takes_account(&filter(excluded), &[1; 32], &[1; 31]));
}

/// A vote of nobody.
fn deshred() -> ReplicaDeshredTransactionInfoV2<'static> {
    let transaction: &'static VersionedTransaction = Box::leak(Box::default());
    ReplicaDeshredTransactionInfoV2 {
        signature: Box::leak(Box::default()),
        is_vote: true,
        transaction,
        loaded_addresses: None,
        completed_data_set_starting_shred_index: 0,
        completed_data_set_ending_shred_index_exclusive: 0,
    }
}

#[test]
fn kinds_are_switched_off_one_by_one() {
    let kinds = |text| {
        let filter = Filter::compile(&config(text)).unwrap();
        [
            filter.accounts(),
            filter.transactions(),
            filter.entries(),
            filter.block_meta(),
            filter.slots(),
            filter.deshred(&deshred()),
            filter.contact_info(),
        ]
    };
    for (text, off) in [
        ("{ accounts: { enabled: false } }", 0),
        ("{ transactions: { enabled: false } }", 1),
        ("{ entries: false }", 2),
        ("{ block_meta: false }", 3),
        ("{ slots: false }", 4),
        ("{ deshred: false }", 5),
        ("{ contact_info: false }", 6),
    ] {
        let mut expected = [true; 7];
        expected[off] = false;
        // A deshredded transaction is one.
        expected[5] &= expected[1];
        assert_eq!(kinds(text), expected, "{text}");
    }
}
