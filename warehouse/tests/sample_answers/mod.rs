//! What samples must answer with their defaults, computed from the blocks.

mod assets;
pub mod lookups;

use std::collections::{BTreeMap, BTreeSet};

use chain_blocks::ChainBlock;

pub use assets::{mints_and_programs, tokens_and_balances, trades};

use crate::{
    Bed,
    sample_chain::{facts, made},
};

pub async fn blocks_and_slots(bed: &Bed) {
    let mut newest: Vec<&ChainBlock> = bed.blocks.iter().collect();
    let confirmed = made::confirmed();
    newest.push(&confirmed);
    newest.sort_by_key(|block| std::cmp::Reverse(block.slot));
    let line = |block: &&ChainBlock| {
        let hash = bs58::encode(block.blockhash.0).into_string();
        format!(
            "{} {hash} {} {}",
            block.slot,
            block.parent_slot,
            block.transactions.len()
        )
    };
    let expected: Vec<String> = newest.iter().take(20).map(line).collect();
    bed.expect(
        "newest-blocks",
        &["slot", "blockhash", "parent_slot", "transactions"],
        &expected,
    )
    .await;

    let last = bed.blocks.iter().map(|block| block.slot.0).max().unwrap();
    // The watermark does not go back for a slot that is abandoned.
    let reached = format!("{} {last}", last.max(made::ABANDONED));
    bed.expect(
        "freshness",
        &["highest_slot", "highest_final_slot"],
        &[reached],
    )
    .await;

    let skipped: Vec<String> = bed
        .range()
        .iter()
        .filter(|block| block.slot.0 - block.parent_slot.0 > 1)
        .map(|block| {
            format!(
                "{} {} {}",
                block.parent_slot.0 + 1,
                block.slot.0 - 1,
                block.slot
            )
        })
        .collect();
    assert_eq!(skipped, ["113 119 120"]);
    bed.expect(
        "skipped-slots",
        &["first_skipped", "last_skipped", "next_block"],
        &skipped,
    )
    .await;
    let not_final = [
        format!("{} abandoned", made::ABANDONED),
        format!("{} confirmed", made::CONFIRMED),
    ];
    bed.expect("not-final", &["slot", "status"], &not_final)
        .await;
    let highest = last.max(made::CONFIRMED);
    let hole = ["117 118 3 lost_at_source validator/0 0".to_owned()];
    bed.expect(
        "gaps",
        &[
            "first_slot",
            "last_slot",
            "records",
            "reason",
            "source",
            "blocks_stored",
        ],
        &hole,
    )
    .await;
    bed.expect(
        "account-latest",
        &["slot", "lamports", "data_bytes"],
        &[format!("{highest} {highest} 8")],
    )
    .await;
}

pub async fn transactions(bed: &Bed) {
    let range = bed.range();
    let signature =
        "4ERAHcJQzJ2uYoHNCavSz8SrSMgN6j99XZTTvMM9K1Y3fq83Vt2hnuB9QRLAbrqHxmziTpJbNSjpDQF4pWc7YKjV";
    let all: Vec<_> = facts::transactions(&range).collect();
    let wanted = all.iter().find(|one| one.signature() == signature).unwrap();
    let meta = wanted.meta();
    let expected = format!(
        "{} {} 1 {} false {} {}",
        wanted.slot,
        wanted.update.index,
        bs58::encode(&wanted.keys()[0]).into_string(),
        meta.fee,
        meta.compute_units_consumed.unwrap()
    );
    let columns = [
        "slot",
        "tx_index",
        "final",
        "fee_payer",
        "success",
        "fee",
        "compute_units",
    ];
    bed.expect("transaction-by-signature", &columns, &[expected])
        .await;
    let raw = format!(
        "{} {}",
        facts::base64(wanted.message_bytes()),
        facts::base64(wanted.meta_bytes())
    );
    bed.expect("raw-transaction", &["transaction", "meta"], &[raw])
        .await;

    let address = "BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c";
    let key = bs58::decode(address).into_vec().unwrap();
    let mut touching: Vec<String> = all
        .iter()
        .filter(|one| one.keys().contains(&key))
        .map(facts::Fact::signature)
        .collect();
    touching.reverse();
    assert!(touching.len() > 10);
    bed.expect("transactions-of-an-address", &["signature"], &touching)
        .await;

    let failed: Vec<_> = all.iter().filter(|one| one.meta().err.is_some()).collect();
    let answer = bed.answer("failures-by-reason").await;
    let sum = |column: &str| {
        answer
            .pick(&[column])
            .iter()
            .map(|text| text.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    assert_eq!(sum("transactions"), failed.len() as u64);
    assert_eq!(
        sum("fee"),
        failed.iter().map(|one| one.meta().fee).sum::<u64>()
    );

    let said = |one: &&facts::Fact<'_>| {
        one.meta()
            .log_messages
            .iter()
            .any(|line| line.contains("insufficient lamports"))
    };
    let mut lines: Vec<String> = all
        .iter()
        .filter(said)
        .map(facts::Fact::signature)
        .collect();
    lines.reverse();
    assert!(!lines.is_empty());
    bed.expect("log-search", &["signature"], &lines).await;

    let version_1: Vec<String> = all
        .iter()
        .filter_map(|one| {
            let config = one.message().config.as_ref()?;
            let units = one.meta().compute_units_consumed?;
            Some(format!(
                "{} {} {units}",
                one.signature(),
                config.priority_fee.unwrap_or(0)
            ))
        })
        .collect();
    assert!(!version_1.is_empty());
    bed.expect(
        "version-1-transactions",
        &["signature", "priority_fee", "compute_units"],
        &version_1,
    )
    .await;

    let mut calls: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for one in &all {
        for (program, inner) in one.programs() {
            let counted = calls.entry(program).or_default();
            counted.0 += 1;
            counted.1 += u64::from(!inner);
        }
    }
    let mut calls: Vec<_> = calls.into_iter().collect();
    calls.sort_by(|(name, a), (other, b)| b.0.cmp(&a.0).then(name.cmp(other)));
    // Ties are in the order of the text there too.
    let calls: Vec<String> = calls
        .iter()
        .take(25)
        .map(|(program, (all, outer))| format!("{program} {all} {outer}"))
        .collect();
    bed.expect(
        "programs-by-use",
        &["program", "calls", "outer_calls"],
        &calls,
    )
    .await;
    bed.expect(
        "conservation",
        &["lamport_identity", "token_identity", "transactions"],
        &[format!("exact exact {}", all.len())],
    )
    .await;
}

pub async fn fees(bed: &Bed) {
    let range = bed.range();
    let all: Vec<_> = facts::transactions(&range).collect();
    // Half of the base fee of a block is burnt, and the leader gets the rest: the rule, beside what the blocks state.
    let base_of = |block: &&&ChainBlock| {
        facts::transactions(&[*block])
            .map(|one| one.base_fee())
            .sum::<u64>()
    };
    let burned: u64 = range.iter().map(|block| base_of(&block) / 2).sum();
    let fee: u64 = all.iter().map(|one| one.meta().fee).sum();
    let base: u64 = range.iter().map(|block| base_of(&block)).sum();
    let paid: i64 = range
        .iter()
        .flat_map(|block| facts::fee_rewards(block))
        .map(|reward| reward.lamports)
        .sum();
    let expected = format!(
        "{} {} {fee} {base} {} {paid} {burned} 0",
        range.len(),
        all.len(),
        fee - base
    );
    let columns = [
        "blocks",
        "transactions",
        "fee",
        "base_fee",
        "priority_fee",
        "leader_fee",
        "burned",
        "unsettled_blocks",
    ];
    bed.expect("fee-revenue-of-slots", &columns, &[expected])
        .await;

    // Of every block there is, the one without a time among them.
    let mut days: BTreeMap<Option<String>, [u64; 5]> = BTreeMap::new();
    for block in &bed.blocks {
        let day = days.entry(facts::day(block)).or_default();
        day[0] += 1;
        for one in facts::transactions(&[block]) {
            day[1] += 1;
            day[2] += u64::from(one.update.is_vote);
            day[3] += u64::from(one.meta().err.is_some());
            day[4] += one.meta().fee;
        }
    }
    // None is the first of the map and the last of the answer.
    let line = |(day, figures): (&Option<String>, &[u64; 5])| {
        let figures = figures.map(|figure| figure.to_string()).join(" ");
        format!("{} {figures}", day.as_deref().unwrap_or("\\N"))
    };
    let days: Vec<String> = days.iter().rev().map(line).collect();
    assert!(
        days.len() >= 2 && days.last().unwrap().starts_with("\\N "),
        "{days:?}"
    );
    bed.expect(
        "fee-revenue-daily",
        &["day", "blocks", "transactions", "votes", "failed", "fee"],
        &days,
    )
    .await;

    let mut leaders: BTreeMap<String, (u64, i64)> = BTreeMap::new();
    for reward in range.iter().flat_map(|block| facts::fee_rewards(block)) {
        let leader = leaders.entry(reward.pubkey.clone()).or_default();
        leader.0 += 1;
        leader.1 += reward.lamports;
    }
    let mut leaders: Vec<_> = leaders.into_iter().collect();
    leaders.sort_by_key(|(_, (_, lamports))| std::cmp::Reverse(*lamports));
    let leaders: Vec<String> = leaders
        .iter()
        .map(|(leader, (blocks, lamports))| format!("{leader} {blocks} {lamports}"))
        .collect();
    bed.expect(
        "leader-earnings",
        &["leader", "blocks", "lamports"],
        &leaders,
    )
    .await;

    // One transaction counts once for each program it calls.
    let mut programs: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    let that_day = |block: &&&ChainBlock| facts::day(block).as_deref() == Some("2026-11-22");
    let blocks: Vec<&ChainBlock> = range.iter().filter(that_day).copied().collect();
    for one in facts::transactions(&blocks) {
        let called: BTreeSet<String> = one
            .programs()
            .into_iter()
            .map(|(program, _)| program)
            .collect();
        for program in called {
            let counted = programs.entry(program).or_default();
            counted.0 += 1;
            counted.1 += one.meta().fee;
        }
    }
    let answer = bed.answer("program-fees-daily").await;
    let mut answered = answer.pick(&["program", "transactions", "fee"]);
    answered.sort();
    let expected: Vec<String> = programs
        .iter()
        .map(|(program, (count, fee))| format!("{program} {count} {fee}"))
        .collect();
    assert_eq!(answered, expected);

    let used: u64 = all
        .iter()
        .filter_map(|one| one.meta().compute_units_consumed)
        .sum();
    let answer = bed.answer("compute-use").await;
    assert_eq!(
        answer
            .pick(&["used"])
            .iter()
            .map(|text| text.parse::<u64>().unwrap())
            .sum::<u64>(),
        used
    );
}
