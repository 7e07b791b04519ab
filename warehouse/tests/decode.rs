//! The decoders over every recorded transaction, beside independent references.

mod decode_proof;

use std::path::Path;

use decode_proof::{Tally, recorded};

fn proven(folder: &Path) -> Tally {
    let found = recorded::read(folder);
    let tally = Tally::of(&found);
    tally.print();
    println!(
        "{} replies and files skipped, for they hold no message bytes",
        found.skipped.len()
    );
    assert_eq!(tally.reference.different, 0, "{:?}", tally.reference.first);
    assert_eq!(tally.mint_sums.different, 0, "{:?}", tally.mint_sums.first);
    assert_eq!(
        tally.swap_balances.different, 0,
        "{:?}",
        tally.swap_balances.first
    );
    assert_eq!(
        tally.curve_lamports.different, 0,
        "{:?}",
        tally.curve_lamports.first
    );
    assert_eq!(tally.identity_count("broken"), 0, "{:?}", tally.notes);
    assert_eq!(tally.lamport_identity.get("broken"), None);
    assert_eq!(tally.fees_unknown, Vec::<String>::new());
    tally
}

#[test]
fn recorded_mainnet_transactions_are_what_the_references_say() {
    let Some(folder) = recorded::data_folder() else {
        eprintln!(
            "SKIPPED: HELIOGRAPH_DATA is not set; 0 recorded mainnet transactions were decoded"
        );
        return;
    };
    let tally = proven(&folder);
    // Comparisons that compared nothing would prove nothing.
    assert!(tally.transactions > 1_000, "{}", tally.transactions);
    assert!(tally.reference.equal > 4_000, "{}", tally.reference.equal);
    assert!(
        tally.swap_balances.equal > 400,
        "{}",
        tally.swap_balances.equal
    );
    let mut mismatches = tally
        .swaps
        .keys()
        .filter(|(_, evidence)| *evidence == "mismatch");
    assert!(
        mismatches.all(|(program, _)| *program == "jupiter"),
        "only a route may differ from its legs, by fees on the way: {:?}",
        tally.notes
    );
    for (program, coverage) in &tally.coverage {
        assert_eq!(coverage.malformed, 0, "{program}");
    }
}

#[test]
fn the_blocks_that_the_repository_carries_are_what_the_references_say() {
    let tally = proven(&recorded::carried());
    assert!(tally.transactions > 100, "{}", tally.transactions);
    assert!(tally.reference.equal > 100, "{}", tally.reference.equal);
    let unread: u64 = tally
        .coverage
        .values()
        .map(|coverage| coverage.seen - coverage.decoded)
        .sum();
    assert_eq!(unread, 0, "{:?}", tally.notes);
}
