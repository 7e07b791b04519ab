//! The oracle is the plain way: all keys are put into one list, which is scanned.

use event_schema::Pubkey;
use proptest::{collection::vec, option, prelude::*};
use solana_address::Address;
use solana_hash::Hash;
use solana_message::{
    VersionedMessage, legacy,
    v0::{self, LoadedAddresses, MessageAddressTableLookup},
    v1,
};
use solana_signature::Signature;
use solana_transaction::versioned::VersionedTransaction;
use solana_transaction_error::TransactionError;
use solana_transaction_status::TransactionStatusMeta;

use super::*;
use crate::filter::tests::{config, key, keys, of_ten_thousand};

#[derive(Debug, Clone)]
struct Transaction {
    is_vote: bool,
    transaction: VersionedTransaction,
    meta: TransactionStatusMeta,
}

fn address() -> impl Strategy<Value = Address> {
    key().prop_map(|key| Address::from(key.0))
}

fn transaction() -> impl Strategy<Value = Transaction> {
    (
        0..3_u8,
        vec(address(), 0..8),
        (vec(address(), 0..5), vec(address(), 0..5)),
        address(),
        any::<(bool, bool)>(),
    )
        .prop_map(
            |(version, account_keys, (writable, readonly), table, (is_vote, failed))| {
                let message = match version {
                    0 => VersionedMessage::Legacy(legacy::Message {
                        account_keys,
                        ..Default::default()
                    }),
                    1 => VersionedMessage::V0(v0::Message {
                        account_keys,
                        // A table's own address is not an account of the transaction.
                        address_table_lookups: vec![MessageAddressTableLookup {
                            account_key: table,
                            writable_indexes: vec![0],
                            readonly_indexes: Vec::new(),
                        }],
                        ..Default::default()
                    }),
                    _ => VersionedMessage::V1(v1::Message {
                        header: Default::default(),
                        config: Default::default(),
                        lifetime_specifier: Hash::default(),
                        account_keys,
                        instructions: Vec::new(),
                    }),
                };
                let loaded_addresses = if version == 1 {
                    LoadedAddresses { writable, readonly }
                } else {
                    LoadedAddresses::default()
                };
                Transaction {
                    is_vote,
                    transaction: VersionedTransaction {
                        signatures: vec![Signature::default()],
                        message,
                    },
                    meta: TransactionStatusMeta {
                        status: if failed {
                            Err(TransactionError::AccountNotFound)
                        } else {
                            Ok(())
                        },
                        loaded_addresses,
                        ..Default::default()
                    },
                }
            },
        )
}

impl Transaction {
    fn takes(&self, filter: &TransactionFilter) -> bool {
        filter.takes(&ReplicaTransactionInfoV3 {
            signature: &Signature::default(),
            message_hash: &Hash::default(),
            is_vote: self.is_vote,
            transaction: &self.transaction,
            transaction_status_meta: &self.meta,
            index: 0,
        })
    }
}

fn transactions_config() -> impl Strategy<Value = TransactionsConfig> {
    (
        prop::bool::weighted(0.95),
        option::weighted(0.3, any::<bool>()),
        option::weighted(0.3, any::<bool>()),
        keys(),
        prop_oneof![2 => Just(Vec::new()), 1 => vec(key(), 0..6)],
        prop_oneof![Just(Vec::new()), vec(key(), 0..3), vec(key(), 0..8)],
    )
        .prop_map(
            |(enabled, vote, failed, account_include, account_exclude, mut account_required)| {
                // That would be refused.
                account_required.retain(|key| !account_exclude.contains(key));
                TransactionsConfig {
                    enabled,
                    vote,
                    failed,
                    account_include,
                    account_exclude,
                    account_required,
                }
            },
        )
}

fn plainly_takes_transaction(config: &TransactionsConfig, transaction: &Transaction) -> bool {
    let loaded = &transaction.meta.loaded_addresses;
    let named: Vec<Pubkey> = [
        transaction.transaction.message.static_account_keys(),
        &loaded.writable,
        &loaded.readonly,
    ]
    .concat()
    .iter()
    .map(|key| Pubkey(key.to_bytes()))
    .collect();
    let names = |key: &Pubkey| named.contains(key);
    config.enabled
        && config.vote.unwrap_or(transaction.is_vote) == transaction.is_vote
        && config.failed.unwrap_or(transaction.meta.status.is_err())
            == transaction.meta.status.is_err()
        && (config.account_include.is_empty() || config.account_include.iter().any(names))
        && !config.account_exclude.iter().any(names)
        && config.account_required.iter().all(names)
}

fn compile(config: &TransactionsConfig) -> TransactionFilter {
    TransactionFilter::compile(config).expect("a filter in order")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// As the executed one that did not fail and loaded the same, by all conditions but `failed`.
    #[test]
    fn deshredded_transactions_are_taken_as_executed_ones(
        config in transactions_config(), transaction in transaction(), resolved: bool,
    ) {
        let filter = compile(&config);
        let info = ReplicaDeshredTransactionInfoV2 {
            signature: &Signature::default(),
            is_vote: transaction.is_vote,
            transaction: &transaction.transaction,
            loaded_addresses: resolved.then_some(&transaction.meta.loaded_addresses),
            completed_data_set_starting_shred_index: 0,
            completed_data_set_ending_shred_index_exclusive: 1,
        };
        let mut executed = transaction.clone();
        executed.meta.status = Ok(());
        if !resolved {
            executed.meta.loaded_addresses = LoadedAddresses::default();
        }
        let config = TransactionsConfig { failed: None, ..config };
        prop_assert_eq!(filter.takes_deshred(&info), plainly_takes_transaction(&config, &executed));
    }

    #[test]
    fn transactions_are_taken_as_the_plain_way_takes_them(
        config in transactions_config(), transactions in vec(transaction(), 1..6),
    ) {
        let filter = compile(&config);
        for transaction in &transactions {
            prop_assert_eq!(transaction.takes(&filter), plainly_takes_transaction(&config, transaction), "{:?}", transaction);
        }
    }
}

#[test]
fn the_property_sees_both_answers_often() {
    let taken = of_ten_thousand(
        (transactions_config(), transaction()),
        |(config, transaction)| plainly_takes_transaction(&config, &transaction),
    );
    assert!((1000..9000).contains(&taken), "{taken}");
}

/// Names 1 in the message, 2 and 3 through a lookup table whose own address is 4.
fn swap(is_vote: bool, failed: bool) -> Transaction {
    Transaction {
        is_vote,
        transaction: VersionedTransaction {
            signatures: vec![Signature::default()],
            message: VersionedMessage::V0(v0::Message {
                account_keys: vec![Address::from([1; 32])],
                address_table_lookups: vec![MessageAddressTableLookup {
                    account_key: Address::from([4; 32]),
                    writable_indexes: vec![0],
                    readonly_indexes: vec![1],
                }],
                ..Default::default()
            }),
        },
        meta: TransactionStatusMeta {
            status: if failed {
                Err(TransactionError::AccountNotFound)
            } else {
                Ok(())
            },
            loaded_addresses: LoadedAddresses {
                writable: vec![Address::from([2; 32])],
                readonly: vec![Address::from([3; 32])],
            },
            ..Default::default()
        },
    }
}

#[test]
fn truth_table() {
    // Taken of: a success, a failure, a vote, a failed vote.
    let table = "
        {}                                                → yes yes yes yes
        { enabled: false }                                → no  no  no  no
        { vote: true }                                    → no  no  yes yes
        { vote: false }                                   → yes yes no  no
        { failed: true }                                  → no  yes no  yes
        { failed: false }                                 → yes no  yes no
        { vote: false, failed: false }                    → yes no  no  no
        { account_include: [@1] }                         → yes yes yes yes
        { account_include: [@2] }                         → yes yes yes yes
        { account_include: [@9, @3] }                     → yes yes yes yes
        { account_include: [@4] }                         → no  no  no  no
        { account_include: [@9] }                         → no  no  no  no
        { account_exclude: [@1] }                         → no  no  no  no
        { account_exclude: [@3] }                         → no  no  no  no
        { account_exclude: [@4] }                         → yes yes yes yes
        { account_include: [@1], account_exclude: [@2] }  → no  no  no  no
        { account_required: [@1, @2, @3] }                → yes yes yes yes
        { account_required: [@1, @2, @2] }                → yes yes yes yes
        { account_required: [@1, @4] }                    → no  no  no  no
        { account_required: [@1, @2, @3, @5, @6, @7] }    → no  no  no  no
        { account_include: [@9], account_required: [@1] } → no  no  no  no
        { account_required: [@1], failed: true }          → no  yes no  yes
    ";
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let (text, taken) = line.split_once('→').expect("a condition and its answers");
        let filter = compile(&config(&format!("{{ transactions: {text} }}")).transactions);
        let kinds = [(false, false), (false, true), (true, false), (true, true)];
        let answers = kinds.map(|(is_vote, failed)| swap(is_vote, failed).takes(&filter));
        let expected: Vec<bool> = taken.split_whitespace().map(|word| word == "yes").collect();
        assert_eq!(answers[..], expected, "{line}");
    }
}

#[test]
fn a_transaction_with_all_the_accounts_there_can_be() {
    let named: Vec<Address> = (0..=255)
        .map(|number| Address::from([number; 32]))
        .collect();
    let (in_message, loaded) = named.split_at(100);
    let (writable, readonly) = loaded.split_at(50);
    let transaction = Transaction {
        is_vote: false,
        transaction: VersionedTransaction {
            signatures: Vec::new(),
            message: VersionedMessage::V0(v0::Message {
                account_keys: in_message.to_vec(),
                ..Default::default()
            }),
        },
        meta: TransactionStatusMeta {
            loaded_addresses: LoadedAddresses {
                writable: writable.to_vec(),
                readonly: readonly.to_vec(),
            },
            ..Default::default()
        },
    };
    let mut required: Vec<Pubkey> = (0..=255).map(|number| Pubkey([number; 32])).collect();
    let all = TransactionsConfig {
        account_required: required.clone(),
        ..TransactionsConfig::default()
    };
    assert!(transaction.takes(&compile(&all)));
    required[255] = Pubkey([[1; 16], [2; 16]].concat().try_into().unwrap());
    let one_missing = TransactionsConfig {
        account_required: required,
        ..TransactionsConfig::default()
    };
    assert!(!transaction.takes(&compile(&one_missing)));
}
