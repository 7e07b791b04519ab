//! What is accepted is what prost reads, on values of every form, on damaged ones and on joined ones.

use event_schema::proto::{
    Message as _,
    confirmed_block::{
        CompiledInstruction, InnerInstruction, InnerInstructions, Message,
        MessageAddressTableLookup, MessageHeader, ReturnData, Reward, TokenBalance, Transaction,
        TransactionConfig, TransactionError, TransactionStatusMeta, UiTokenAmount,
    },
    geyser::{
        SubscribeUpdate, SubscribeUpdateAccount, SubscribeUpdateAccountInfo, SubscribeUpdateEntry,
        SubscribeUpdateTransaction, SubscribeUpdateTransactionInfo, subscribe_update::UpdateOneof,
    },
};
use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const SLOT: u64 = 7;

/// Makes values; `full`: with every field there and none of its default, which is not written.
struct Maker {
    random: StdRng,
    full: bool,
}

impl Maker {
    fn number(&mut self) -> u64 {
        let bits = self.random.random_range(0..64);
        (self.random.random::<u64>() >> bits).max(u64::from(self.full))
    }

    fn short(&mut self) -> u32 {
        self.number() as u32 | u32::from(self.full)
    }

    fn flag(&mut self) -> bool {
        self.full || self.random.random()
    }

    fn bytes(&mut self, length: usize) -> Vec<u8> {
        (0..length).map(|_| self.random.random()).collect()
    }

    fn some_bytes(&mut self) -> Vec<u8> {
        let length = self.random.random_range(usize::from(self.full)..40);
        self.bytes(length)
    }

    fn text(&mut self) -> String {
        let length = self.random.random_range(usize::from(self.full)..12);
        (0..length).map(|_| self.random.random::<char>()).collect()
    }

    fn maybe<T>(&mut self, make: impl FnOnce(&mut Self) -> T) -> Option<T> {
        self.flag().then(|| make(self))
    }

    fn many<T>(&mut self, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.random.random_range(usize::from(self.full)..4);
        (0..count).map(|_| make(self)).collect()
    }

    /// Mostly the length that an identity has.
    fn identity(&mut self, length: usize) -> Vec<u8> {
        if self.full || self.random.random_ratio(9, 10) {
            return self.bytes(length);
        }
        self.some_bytes()
    }

    fn slot(&mut self) -> u64 {
        if self.full || self.random.random_ratio(9, 10) {
            return SLOT;
        }
        self.number()
    }

    fn account(&mut self) -> UpdateOneof {
        let info = |it: &mut Self| SubscribeUpdateAccountInfo {
            pubkey: it.identity(32),
            lamports: it.number(),
            owner: it.identity(32),
            executable: it.flag(),
            rent_epoch: it.number(),
            data: it.some_bytes(),
            write_version: it.number(),
            txn_signature: it.maybe(Self::some_bytes),
        };
        UpdateOneof::Account(SubscribeUpdateAccount {
            account: self.maybe(info),
            slot: self.slot(),
            is_startup: self.random.random_ratio(1, 10),
        })
    }

    fn entry(&mut self) -> UpdateOneof {
        UpdateOneof::Entry(SubscribeUpdateEntry {
            slot: self.slot(),
            index: self.number(),
            num_hashes: self.number(),
            hash: self.some_bytes(),
            executed_transaction_count: self.number(),
            starting_transaction_index: self.number(),
        })
    }

    fn transaction(&mut self) -> UpdateOneof {
        let info = |it: &mut Self| SubscribeUpdateTransactionInfo {
            signature: it.identity(64),
            is_vote: it.flag(),
            transaction: it.maybe(|it| Transaction {
                signatures: it.many(Self::some_bytes),
                message: it.maybe(Self::message),
            }),
            meta: it.maybe(Self::meta),
            index: it.number(),
        };
        UpdateOneof::Transaction(SubscribeUpdateTransaction {
            transaction: self.maybe(info),
            slot: self.slot(),
        })
    }

    fn message(&mut self) -> Message {
        Message {
            header: self.maybe(|it| MessageHeader {
                num_required_signatures: it.short(),
                num_readonly_signed_accounts: it.short(),
                num_readonly_unsigned_accounts: it.short(),
            }),
            account_keys: self.many(Self::some_bytes),
            recent_blockhash: self.some_bytes(),
            instructions: self.many(|it| CompiledInstruction {
                program_id_index: it.short(),
                accounts: it.some_bytes(),
                data: it.some_bytes(),
            }),
            versioned: self.flag(),
            address_table_lookups: self.many(|it| MessageAddressTableLookup {
                account_key: it.some_bytes(),
                writable_indexes: it.some_bytes(),
                readonly_indexes: it.some_bytes(),
            }),
            config: self.maybe(|it| TransactionConfig {
                priority_fee: it.maybe(Self::number),
                compute_unit_limit: it.maybe(Self::short),
                loaded_accounts_data_size_limit: it.maybe(Self::short),
                heap_size: it.maybe(Self::short),
            }),
        }
    }

    fn meta(&mut self) -> TransactionStatusMeta {
        TransactionStatusMeta {
            err: self.maybe(|it| TransactionError {
                err: it.some_bytes(),
            }),
            fee: self.number(),
            pre_balances: self.many(Self::number),
            post_balances: self.many(Self::number),
            inner_instructions: self.many(|it| InnerInstructions {
                index: it.short(),
                instructions: it.many(|it| InnerInstruction {
                    program_id_index: it.short(),
                    accounts: it.some_bytes(),
                    data: it.some_bytes(),
                    stack_height: it.maybe(Self::short),
                }),
            }),
            inner_instructions_none: self.flag(),
            log_messages: self.many(Self::text),
            log_messages_none: self.flag(),
            pre_token_balances: self.many(Self::token_balance),
            post_token_balances: self.many(Self::token_balance),
            rewards: self.many(|it| Reward {
                pubkey: it.text(),
                lamports: it.number() as i64,
                post_balance: it.number(),
                reward_type: it.short() as i32,
                commission: it.text(),
                commission_bps: it.text(),
            }),
            loaded_writable_addresses: self.many(Self::some_bytes),
            loaded_readonly_addresses: self.many(Self::some_bytes),
            return_data: self.maybe(|it| ReturnData {
                program_id: it.some_bytes(),
                data: it.some_bytes(),
            }),
            return_data_none: self.flag(),
            compute_units_consumed: self.maybe(Self::number),
            cost_units: self.maybe(Self::number),
        }
    }

    fn token_balance(&mut self) -> TokenBalance {
        TokenBalance {
            account_index: self.short(),
            mint: self.text(),
            ui_token_amount: self.maybe(|it| UiTokenAmount {
                ui_amount: f64::from(it.short()),
                decimals: it.short(),
                amount: it.text(),
                ui_amount_string: it.text(),
            }),
            owner: self.text(),
            program_id: self.text(),
        }
    }

    fn update(&mut self) -> Vec<u8> {
        let update = match self.random.random_range(0..3) {
            0 => self.account(),
            1 => self.entry(),
            _ => self.transaction(),
        };
        encoded(update)
    }

    /// Damage as a log may have it, and forms that a foreign encoder may write.
    fn damage(&mut self, bytes: &mut Vec<u8>) {
        let at = |it: &mut Self, bytes: &[u8]| it.random.random_range(0..=bytes.len());
        let (one, two) = (at(self, bytes), at(self, bytes));
        let (from, to) = (one.min(two), one.max(two));
        match self.random.random_range(0..7) {
            0 => bytes.truncate(from),
            1 => drop(bytes.drain(from..to.min(from + 5))),
            2 => {
                let again = bytes[from..to].to_vec();
                bytes.splice(from..from, again);
            }
            3 => bytes.extend(self.update()),
            4 => {
                let more = self.some_bytes();
                bytes.splice(from..from, more);
            }
            _ => {
                for byte in bytes.iter_mut().skip(from).take(1) {
                    *byte = self.random.random();
                }
            }
        }
    }
}

fn encoded(update: UpdateOneof) -> Vec<u8> {
    let update = SubscribeUpdate {
        update_oneof: Some(update),
        ..SubscribeUpdate::default()
    };
    update.encode_to_vec()
}

/// What prost makes of the bytes, with what the router wants to know of them.
#[derive(Debug, Default, PartialEq)]
struct Facts {
    account: Option<Scanned>,
    transaction: Option<Scanned>,
    entry: Option<Scanned>,
    balances: Vec<(String, u32)>,
}

fn decoded(bytes: &[u8]) -> Facts {
    let mut facts = Facts::default();
    match SubscribeUpdate::decode(bytes).map(|update| update.update_oneof) {
        Ok(Some(UpdateOneof::Account(update))) if update.slot == SLOT => {
            facts.account = update.account.and_then(|account| {
                let pubkey = Pubkey::try_from(account.pubkey.as_slice()).ok()?;
                Pubkey::try_from(account.owner.as_slice()).ok()?;
                let version = WriteVersion(account.write_version);
                Some(match update.is_startup {
                    true => Scanned::Startup,
                    false => Scanned::Event(EventId::Account(version, pubkey)),
                })
            });
        }
        Ok(Some(UpdateOneof::Transaction(update))) if update.slot == SLOT => {
            if let Some(transaction) = update.transaction
                && let Ok(signature) = Signature::try_from(transaction.signature.as_slice())
            {
                let id = EventId::Transaction(transaction.index, signature);
                facts.transaction = Some(Scanned::Event(id));
                let meta = transaction.meta.unwrap_or_default();
                let balances = meta.pre_token_balances.into_iter();
                facts.balances = balances
                    .chain(meta.post_token_balances)
                    .filter_map(|balance| Some((balance.mint, balance.ui_token_amount?.decimals)))
                    .collect();
            }
        }
        Ok(Some(UpdateOneof::Entry(entry))) if entry.slot == SLOT => {
            facts.entry = Some(Scanned::Event(EventId::Entry(entry.index)));
        }
        _ => {}
    }
    facts
}

fn scanned(bytes: &[u8]) -> Facts {
    let mut balances = Vec::new();
    let transaction = transaction(Slot(SLOT), bytes);
    if transaction.is_some() {
        let walked = token_balances(bytes, |mint, decimals| {
            balances.push((mint.to_owned(), decimals));
        });
        assert_eq!(walked, Some(()), "what was accepted can be walked through");
        // In the order of the bytes: those before and those after may be mixed.
    }
    Facts {
        account: account(Slot(SLOT), bytes),
        transaction,
        entry: entry(Slot(SLOT), bytes),
        balances,
    }
}

/// Whether the value was accepted at all.
fn check(seed: u64, damages: usize) -> Result<bool, TestCaseError> {
    let mut maker = Maker {
        random: StdRng::seed_from_u64(seed),
        full: false,
    };
    let mut bytes = maker.update();
    for _ in 0..damages {
        maker.damage(&mut bytes);
    }
    let (mut expected, mut got) = (decoded(&bytes), scanned(&bytes));
    if damages == 0 {
        prop_assert_eq!(&got, &expected);
    }
    // What is not plain is prost's; what is accepted is the same.
    for (got, expected) in [
        (&got.account, &expected.account),
        (&got.transaction, &expected.transaction),
        (&got.entry, &expected.entry),
    ] {
        prop_assert!(got.is_none() || got == expected, "{got:?} {expected:?}");
    }
    if got.transaction.is_some() {
        got.balances.sort();
        expected.balances.sort();
        prop_assert_eq!(&got.balances, &expected.balances);
    }
    Ok(got.account.or(got.transaction).or(got.entry).is_some())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn plain_values_are_read_as_prost_reads_them(seed: u64) {
        check(seed, 0)?;
    }

    #[test]
    fn what_is_accepted_of_damaged_values_is_what_prost_reads(seed: u64, damages in 1usize..4) {
        check(seed, damages)?;
    }
}

#[test]
fn damaged_values_are_accepted_and_refused() {
    let accepted = (0..2_000).filter(|seed| check(*seed, 1).expect("as prost"));
    let accepted = accepted.count();
    assert!((100..1_900).contains(&accepted), "{accepted} of 2000");
}

/// Every field of the schema is known here: no value of a validator needs to be decoded.
#[test]
fn values_with_all_fields_are_plain() {
    for seed in 0..200 {
        let mut maker = Maker {
            random: StdRng::seed_from_u64(seed),
            full: true,
        };
        for update in [maker.account(), maker.entry(), maker.transaction()] {
            let bytes = encoded(update);
            let facts = scanned(&bytes);
            assert_eq!(facts.account, decoded(&bytes).account);
            assert!(
                facts
                    .account
                    .or(facts.transaction)
                    .or(facts.entry)
                    .is_some()
            );
        }
    }
}

#[test]
fn an_account_is_seen_as_it_is() {
    for seed in 0..200 {
        let mut maker = Maker {
            random: StdRng::seed_from_u64(seed),
            full: true,
        };
        let update = maker.account();
        let bytes = encoded(update.clone());
        let view = account_view(&bytes).expect("plain");
        let UpdateOneof::Account(SubscribeUpdateAccount {
            account: Some(info),
            ..
        }) = update
        else {
            panic!("an account");
        };
        assert_eq!(view.pubkey.0.as_slice(), info.pubkey);
        assert_eq!(view.owner.0.as_slice(), info.owner);
        assert_eq!((view.lamports, view.data), (info.lamports, &info.data[..]));
    }
}
