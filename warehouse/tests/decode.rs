//! The decoders over every recorded transaction, beside independent references.

mod decode_proof;

use decode_proof::{Tally, recorded};

fn tally(folder: &std::path::Path) -> Tally {
    let found = recorded::read(folder);
    let mut tally = Tally::default();
    for recorded in &found.transactions {
        tally.add(&recorded.place, &recorded.update);
    }
    println!(
        "{}: {} transactions, {} files skipped",
        folder.display(),
        tally.transactions,
        found.skipped.len()
    );
    for (name, reason) in &found.skipped {
        println!("  skipped {name}: {reason}");
    }
    println!("{tally:#?}");
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
    let tally = tally(&folder);
    assert_eq!(tally.reference.different, 0);
}
