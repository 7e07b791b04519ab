//! The two identities and the postings, on constructed transactions: every rule once, then at random.

mod fixture;

use std::collections::BTreeMap;

use event_schema::Slot;
use event_schema::proto::confirmed_block::Reward;
use fixture::{Built, TOKEN, TOKEN_2022, WRAPPED, amount_data, key, named, transfer};
use ledger_sink::entry::{TransactionEntry, transaction_entry};
use ledger_sink::identity::{TokensUnknown, Verdict};
use ledger_sink::postings::{Account, Asset};
use ledger_sink::token_instructions::KnownKeys;
use proptest::prelude::*;

fn entry(built: Built) -> TransactionEntry {
    transaction_entry(Slot(1), &built.build(0), &KnownKeys::new())
}

fn sums(entry: &TransactionEntry) -> BTreeMap<Asset, i128> {
    let mut sums = BTreeMap::new();
    for posting in &entry.postings {
        *sums.entry(posting.asset).or_default() += posting.amount;
    }
    sums
}

fn amount(entry: &TransactionEntry, account: Account, asset: Asset) -> i128 {
    let matching = entry
        .postings
        .iter()
        .filter(|posting| posting.account == account && posting.asset == asset);
    matching.map(|posting| posting.amount).sum()
}

#[track_caller]
fn exact(entry: &TransactionEntry) {
    assert_eq!(entry.lamports, Verdict::Exact);
    assert_eq!(entry.tokens, Verdict::Exact);
    assert!(
        sums(entry).values().all(|sum| *sum == 0),
        "{:?}",
        entry.postings
    );
    assert!(entry.postings.iter().all(|posting| posting.amount != 0));
}

#[track_caller]
fn unknown(entry: &TransactionEntry, reason: TokensUnknown) {
    assert_eq!(entry.lamports, Verdict::Exact);
    assert_eq!(entry.tokens, Verdict::Unknown(reason));
    assert!(
        sums(entry).values().all(|sum| *sum == 0),
        "{:?}",
        entry.postings
    );
}

#[track_caller]
fn broken(entry: &TransactionEntry, why: &str) {
    let said = entry
        .broken()
        .unwrap_or_else(|| panic!("not broken: {entry:?}"));
    assert!(said.contains(why), "{said}");
    assert!(entry.postings.is_empty() && entry.original.is_some());
}

const MINT: u8 = 100;

fn tokens(account: u8, pre: Option<u64>, post: Option<u64>) -> impl FnOnce(Built) -> Built {
    move |built| built.tokens(TOKEN, key(account), key(MINT), pre, post)
}

#[test]
fn a_transfer_moves_lamports_and_pays_the_base_fee() {
    let entry = entry(transfer(1, 2, 700));
    exact(&entry);
    assert_eq!(amount(&entry, Account::Chain(key(1)), Asset::Sol), -5_700);
    assert_eq!(amount(&entry, Account::Chain(key(2)), Asset::Sol), 700);
    assert_eq!(amount(&entry, Account::FeeBase, Asset::Sol), 5_000);
    assert_eq!(amount(&entry, Account::FeePriority, Asset::Sol), 0);
}

#[test]
fn the_fee_is_split_by_paid_signatures() {
    let precompile = Built::new(25_000)
        .lamports(key(1), 100_000, 75_000)
        .signatures(2)
        .instruction("Ed25519SigVerify111111111111111111111111111", &[], &[1, 0]);
    let entry = entry(precompile);
    exact(&entry);
    assert_eq!(amount(&entry, Account::FeeBase, Asset::Sol), 15_000);
    assert_eq!(amount(&entry, Account::FeePriority, Asset::Sol), 10_000);
}

#[test]
fn a_failed_transaction_posts_its_fee_and_ignores_its_instructions() {
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .failed()
        .instruction(TOKEN, &[key(MINT), key(2), key(1)], &amount_data(&[7], 50));
    let entry = entry(tokens(2, Some(5), Some(5))(built));
    exact(&entry);
    assert!(!entry.success);
    assert_eq!(entry.postings.len(), 2);
}

#[test]
fn keys_loaded_from_tables_have_balances_too() {
    let built = Built::new(5_000)
        .lamports(key(1), 100_000, 90_000)
        .lamports(key(2), 0, 4_000)
        .lamports(key(3), 0, 1_000)
        .loaded(2);
    let entry = entry(built);
    exact(&entry);
    assert_eq!(amount(&entry, Account::Chain(key(3)), Asset::Sol), 1_000);
}

#[test]
fn rent_collected_by_the_runtime_is_named() {
    let mut built = Built::new(5_000).lamports(key(1), 100_000, 94_900);
    built.meta.rewards.push(Reward {
        pubkey: key(1).to_string(),
        lamports: -100,
        post_balance: 94_900,
        reward_type: 2,
        ..Default::default()
    });
    let entry = entry(built);
    exact(&entry);
    assert_eq!(amount(&entry, Account::Rent, Asset::Sol), 100);
}

#[test]
fn lamports_from_nowhere_are_broken() {
    broken(
        &entry(Built::new(5_000).lamports(key(1), 10_000, 5_001)),
        "off by 1",
    );
}

#[test]
fn minting_and_burning_are_balanced_by_contra_accounts() {
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .instruction(TOKEN, &[key(MINT), key(2), key(1)], &amount_data(&[7], 500))
        .inner(
            TOKEN,
            &[key(3), key(MINT), key(1)],
            &[amount_data(&[15], 80), vec![6]].concat(),
        );
    let entry = entry(tokens(3, Some(100), Some(20))(tokens(2, None, Some(500))(
        built,
    )));
    exact(&entry);
    let asset = Asset::Token(key(MINT));
    assert_eq!(amount(&entry, Account::Mint, asset), -500);
    assert_eq!(amount(&entry, Account::Burn, asset), 80);
    assert_eq!(amount(&entry, Account::Chain(key(3)), asset), -80);
}

#[test]
fn a_closed_account_went_to_zero() {
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .instruction(TOKEN, &[key(2), key(3), key(1)], &amount_data(&[3], 40));
    let entry = entry(tokens(3, Some(1), Some(41))(tokens(2, Some(40), None)(
        built,
    )));
    exact(&entry);
    assert_eq!(
        amount(&entry, Account::Chain(key(2)), Asset::Token(key(MINT))),
        -40
    );
}

#[test]
fn tokens_from_nowhere_are_broken() {
    let built = Built::new(5_000).lamports(key(1), 9_000, 4_000);
    broken(&entry(tokens(2, Some(1), Some(2))(built)), "off by 1");
}

#[test]
fn a_batch_is_read_instruction_by_instruction() {
    let mint = amount_data(&[7], 30);
    let burn = amount_data(&[8], 10);
    let data = [&[255, 3, 9][..], &mint, &[3, 9], &burn].concat();
    let accounts = [key(MINT), key(2), key(1), key(2), key(MINT), key(1)];
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .instruction(TOKEN, &accounts, &data);
    exact(&entry(tokens(2, Some(0), Some(20))(built)));
}

#[test]
fn a_stated_fee_lies_withheld_on_the_receiver() {
    let data = [
        &[26, 1][..],
        &100u64.to_le_bytes(),
        &[6],
        &3u64.to_le_bytes(),
    ]
    .concat();
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .instruction(TOKEN_2022, &[key(2), key(MINT), key(3), key(1)], &data)
        .tokens(TOKEN_2022, key(2), key(MINT), Some(100), Some(0))
        .tokens(TOKEN_2022, key(3), key(MINT), Some(0), Some(97));
    let entry = entry(built);
    exact(&entry);
    assert_eq!(
        amount(&entry, Account::Withheld(key(3)), Asset::Token(key(MINT))),
        3
    );
}

#[test]
fn an_unstated_fee_is_unknown_by_name() {
    let data = [amount_data(&[12], 100), vec![6]].concat();
    let built = Built::new(5_000)
        .lamports(key(1), 9_000, 4_000)
        .instruction(TOKEN_2022, &[key(2), key(MINT), key(3), key(1)], &data)
        .tokens(TOKEN_2022, key(2), key(MINT), Some(100), Some(0))
        .tokens(TOKEN_2022, key(3), key(MINT), Some(0), Some(97));
    let unsaid = entry(built);
    unknown(&unsaid, TokensUnknown::WithheldFeeNotDerivable);
    assert_eq!(
        amount(&unsaid, Account::Unexplained, Asset::Token(key(MINT))),
        3
    );
    // The same without the instruction that could explain it.
    let without = entry(Built::new(5_000).lamports(key(1), 9_000, 4_000).tokens(
        TOKEN_2022,
        key(2),
        key(MINT),
        Some(100),
        Some(97),
    ));
    broken(&without, "off by -3");
}

#[test]
fn wrapped_sol_follows_lamports() {
    let wrapped = named(WRAPPED);
    // Created and funded: the amount is what exceeds the reserve.
    let wrap = Built::new(5_000)
        .lamports(key(1), 10_000_000, 10_000_000 - 5_000 - 2_039_280 - 1_000)
        .lamports(key(2), 0, 2_039_280 + 1_000)
        .tokens(TOKEN, key(2), wrapped, None, Some(1_000));
    let wrap = entry(wrap);
    exact(&wrap);
    assert_eq!(amount(&wrap, Account::Wrap, Asset::Token(wrapped)), -1_000);
    let close = Built::new(5_000)
        .lamports(key(1), 10_000, 10_000 - 5_000 + 2_039_280 + 1_000)
        .lamports(key(2), 2_039_280 + 1_000, 0)
        .tokens(TOKEN, key(2), wrapped, Some(1_000), None);
    exact(&entry(close));
    let unsynchronised = Built::new(5_000)
        .lamports(key(1), 10_000, 4_000)
        .lamports(key(2), 2_040_280, 2_041_280)
        .tokens(TOKEN, key(2), wrapped, Some(1_000), Some(1_000));
    unknown(
        &entry(unsynchronised),
        TokensUnknown::WrappedSolNotSynchronised,
    );
    let impossible = Built::new(5_000)
        .lamports(key(1), 10_000, 5_000)
        .lamports(key(2), 10, 10)
        .tokens(TOKEN, key(2), wrapped, Some(10), Some(11));
    broken(&entry(impossible), "exceeds its lamports by 1");
}

#[test]
fn what_was_not_recorded_is_unknown_by_name() {
    let base = Built::new(5_000).lamports(key(1), 9_000, 4_000);
    let moved = base
        .clone()
        .instruction(TOKEN, &[key(2), key(3), key(1)], &amount_data(&[3], 40));
    unknown(&entry(moved), TokensUnknown::TokenBalancesNotRecorded);

    let failed = tokens(2, Some(7), None)(base.clone()).failed();
    unknown(&entry(failed), TokensUnknown::TokenBalancesAfterNotRecorded);

    let mut hidden = tokens(2, Some(7), Some(9))(base.clone());
    hidden.meta.inner_instructions_none = true;
    unknown(&entry(hidden), TokensUnknown::InnerInstructionsNotRecorded);

    let early_2022 = tokens(2, Some(7), Some(7))(base.clone()).instruction(
        TOKEN_2022,
        &[key(101), key(4), key(1)],
        &amount_data(&[7], 5),
    );
    unknown(
        &entry(early_2022),
        TokensUnknown::Token2022BalancesNotRecorded,
    );

    let confidential = base
        .clone()
        .instruction(
            TOKEN_2022,
            &[key(2), key(MINT), key(1)],
            &amount_data(&[27, 5], 5),
        )
        .tokens(TOKEN_2022, key(2), key(MINT), Some(7), Some(2));
    unknown(&entry(confidential), TokensUnknown::Confidential);

    let mut update = base.build(0);
    update.meta = None;
    let nothing = transaction_entry(Slot(1), &update, &KnownKeys::new());
    assert_eq!(
        nothing.tokens,
        Verdict::Unknown(TokensUnknown::OutcomeNotRecorded)
    );
    assert!(nothing.broken().is_none() && nothing.postings.is_empty());
}

#[test]
fn malformed_updates_are_broken_with_the_reason() {
    let good = transfer(1, 2, 3).build(0);
    let check =
        |change: &dyn Fn(&mut event_schema::proto::geyser::SubscribeUpdateTransactionInfo),
         why: &str| {
            let mut update = good.clone();
            change(&mut update);
            broken(&transaction_entry(Slot(1), &update, &KnownKeys::new()), why);
        };
    check(
        &|update| update.transaction = None,
        "no transaction message",
    );
    check(&|update| update.signature.truncate(10), "10 bytes");
    check(
        &|update| update.meta.as_mut().unwrap().post_balances.truncate(1),
        "1 after",
    );
    check(
        &|update| {
            update
                .transaction
                .as_mut()
                .unwrap()
                .message
                .as_mut()
                .unwrap()
                .account_keys[0]
                .truncate(5)
        },
        "5 bytes long",
    );
}

/// One consistent step of a token history.
#[derive(Clone, Debug)]
enum Move {
    Transfer { from: u8, to: u8, amount: u64 },
    Mint { to: u8, amount: u64 },
    Burn { from: u8, amount: u64 },
    Lamports { from: u8, to: u8, amount: u64 },
}

fn a_move() -> impl Strategy<Value = Move> {
    let account = 0..6u8;
    prop_oneof![
        (account.clone(), account.clone(), any::<u64>())
            .prop_map(|(from, to, amount)| Move::Transfer { from, to, amount }),
        (account.clone(), any::<u64>()).prop_map(|(to, amount)| Move::Mint { to, amount }),
        (account.clone(), any::<u64>()).prop_map(|(from, amount)| Move::Burn { from, amount }),
        (account.clone(), account, any::<u64>()).prop_map(|(from, to, amount)| Move::Lamports {
            from,
            to,
            amount
        }),
    ]
}

proptest! {
    /// Whatever happens by the rules is exact and balanced; any single unit too much is broken.
    #[test]
    fn rules_kept_are_exact_and_any_slip_is_found(
        moves in proptest::collection::vec(a_move(), 0..12),
        start in proptest::collection::vec(any::<u32>(), 6),
        fee in 0..1_000_000u64,
        slip in proptest::option::of((0..6usize, any::<bool>())),
    ) {
        let mut amounts: Vec<u64> = start.iter().map(|amount| u64::from(*amount)).collect();
        let mut lamports: Vec<u64> = amounts.clone();
        let before = (amounts.clone(), lamports.clone());
        let mut built = Built::new(fee).lamports(key(1), fee, 0);
        let account = |number: u8| key(10 + number);
        for step in moves {
            match step {
                Move::Transfer { from, to, amount } => {
                    let amount = amount % (amounts[from as usize] + 1);
                    amounts[from as usize] -= amount;
                    amounts[to as usize] += amount;
                    built = built.instruction(TOKEN, &[account(from), account(to), key(1)], &amount_data(&[3], amount));
                }
                Move::Mint { to, amount } => {
                    let amount = amount % (1 << 40);
                    amounts[to as usize] += amount;
                    built = built.instruction(TOKEN, &[key(MINT), account(to), key(1)], &amount_data(&[7], amount));
                }
                Move::Burn { from, amount } => {
                    let amount = amount % (amounts[from as usize] + 1);
                    amounts[from as usize] -= amount;
                    built = built.instruction(TOKEN, &[account(from), key(MINT), key(1)], &amount_data(&[8], amount));
                }
                Move::Lamports { from, to, amount } => {
                    let amount = amount % (lamports[from as usize] + 1);
                    lamports[from as usize] -= amount;
                    lamports[to as usize] += amount;
                }
            }
        }
        let mut after = (amounts, lamports);
        if let Some((at, in_tokens)) = slip {
            if in_tokens { after.0[at] += 1 } else { after.1[at] += 1 }
        }
        for number in 0..6u8 {
            let at = number as usize;
            built = built.lamports(account(number), before.1[at], after.1[at]);
            // An account that is empty may as well not exist.
            let row = |amount: u64| (amount > 0 || number % 2 == 0).then_some(amount);
            built = built.tokens(TOKEN, account(number), key(MINT), row(before.0[at]), row(after.0[at]));
        }
        let entry = entry(built);
        if slip.is_some() {
            prop_assert!(entry.broken().is_some());
            prop_assert!(entry.postings.is_empty());
        } else {
            prop_assert_eq!(&entry.lamports, &Verdict::Exact);
            prop_assert_eq!(&entry.tokens, &Verdict::Exact);
            prop_assert!(sums(&entry).values().all(|sum| *sum == 0));
            prop_assert_eq!(amount(&entry, Account::Unexplained, Asset::Token(key(MINT))), 0);
        }
    }

    /// Instructions are untrusted bytes.
    #[test]
    fn arbitrary_instructions_never_panic(
        data in proptest::collection::vec(any::<u8>(), 0..40),
        accounts in proptest::collection::vec(any::<u8>(), 0..8),
        extended in any::<bool>(),
    ) {
        let program = if extended { TOKEN_2022 } else { TOKEN };
        let mut update = Built::new(0).instruction(program, &[], &data).build(0);
        update.transaction.as_mut().unwrap().message.as_mut().unwrap().instructions[0].accounts = accounts;
        let _ = transaction_entry(Slot(1), &update, &KnownKeys::new());
    }
}
