//! Of tokens, balances and trades.

use std::collections::{BTreeMap, BTreeSet};

use chain_blocks::ChainBlock;
use warehouse::sql::samples::Sample;

use crate::{
    Answer, Bed,
    sample_chain::{facts, made},
};

pub async fn tokens_and_balances(bed: &Bed) {
    let range = bed.range();
    let (mut minted, mut burned) = (
        BTreeMap::<String, u128>::new(),
        BTreeMap::<String, u128>::new(),
    );
    for (mint, amount, is_mint) in
        facts::transactions(&range).flat_map(|one| one.minted_and_burned())
    {
        *if is_mint { &mut minted } else { &mut burned }
            .entry(mint)
            .or_default() += u128::from(amount);
    }
    let mints: BTreeSet<&String> = minted.keys().chain(burned.keys()).collect();
    let of = |sums: &BTreeMap<String, u128>, mint: &str| sums.get(mint).copied().unwrap_or(0);
    let expected: Vec<String> = mints
        .iter()
        .map(|mint| format!("{mint} {} {}", of(&minted, mint), of(&burned, mint)))
        .collect();
    assert!(expected.len() >= 3);
    let mut answered = bed
        .answer("mints-and-burns")
        .await
        .pick(&["mint", "minted", "burned"]);
    answered.sort();
    assert_eq!(answered, expected);
    // The day's view says the same of these mints: the made burn is of that day too.
    let volume = bed.answer("token-volume-daily").await;
    let volume = volume.pick(&["mint", "minted", "burned"]);
    for line in &expected {
        assert!(volume.contains(line), "{line}: {volume:?}");
    }
    // Transfers of that day, failed ones left out.
    let that_day: Vec<&ChainBlock> = range
        .iter()
        .filter(|block| facts::day(block).as_deref() == Some("2026-11-22"))
        .copied()
        .collect();
    let moved: Vec<u64> = facts::transactions(&that_day)
        .flat_map(|one| one.transferred())
        .collect();
    let volume = bed.answer("token-volume-daily").await;
    let sum = |column: &str| {
        let cells = volume.pick(&[column]);
        cells
            .iter()
            .map(|cell| cell.parse::<u64>().unwrap())
            .sum::<u64>()
    };
    assert_eq!(
        (
            sum("transfers"),
            sum("transferred"),
            sum("transfers_unknown")
        ),
        (moved.len() as u64, moved.iter().sum(), 0)
    );

    let account = "BnzbyXkfXhLHG33CPhwQG3Ff3uepfTJMNCSPaDWyFd9c";
    let history: Vec<(u64, u64, u64)> = facts::transactions(&range)
        .filter_map(|one| {
            let (before, after) = one.lamports_of(account)?;
            (before != after).then_some((one.slot, before, after))
        })
        .collect();
    let lines: Vec<String> = history
        .iter()
        .map(|(slot, before, after)| {
            format!(
                "{slot} \\N {} {after}",
                i128::from(*after) - i128::from(*before)
            )
        })
        .collect();
    bed.expect(
        "balance-history",
        &["slot", "mint", "delta", "balance"],
        &lines,
    )
    .await;
    let sample = Sample::find("balances-as-of-a-slot").unwrap();
    for slot in [89, 95, 100, 121] {
        let (changed, _, balance) = history.iter().rfind(|(at, ..)| *at <= slot).unwrap();
        let answer = Answer::of(&bed.door, sample, &[("slot", &slot.to_string())]).await;
        assert_eq!(
            answer.pick(&["mint", "balance", "closed", "changed_in"]),
            [format!("\\N {balance} 0 {changed}")],
            "{slot}"
        );
    }
    // A leader that votes in its own block is credited after that: what it has then is what the reward says.
    let block = range.iter().find(|block| block.slot.0 == 100).unwrap();
    let [reward] = facts::fee_rewards(block).try_into().unwrap();
    let votes = |one: facts::Fact<'_>| one.lamports_of(&reward.pubkey).is_some();
    assert!(facts::transactions(&[*block]).any(votes));
    let given = [("account", reward.pubkey.as_str()), ("slot", "100")];
    let answer = Answer::of(&bed.door, sample, &given).await;
    assert_eq!(
        answer.pick(&["balance", "changed_in"]),
        [format!("{} 100", reward.post_balance)]
    );
    // Filled, emptied and closed in one block: nothing is left, and it is said to be closed. Before, it was not known.
    let purse = bs58::encode(made::CLOSED).into_string();
    let answer = Answer::of(&bed.door, sample, &[("account", &purse), ("slot", "120")]).await;
    assert_eq!(answer.pick(&["balance", "closed"]), ["0 1"]);
    let before = Answer::of(&bed.door, sample, &[("account", &purse), ("slot", "119")]).await;
    assert!(before.rows.is_empty());

    let holders = bed.answer("holders-of-a-mint").await;
    let expected = facts::holders(&range, "9EVYPRc8t8shPpE5MksyPXZWxnPrX9uuo8zGdpSDeYpo");
    let mut expected: Vec<(u128, String)> = expected
        .into_iter()
        .map(|(owner, balance)| (balance, owner))
        .collect();
    expected.sort_by(|(a, name), (b, other)| b.cmp(a).then(name.cmp(other)));
    let expected: Vec<String> = expected
        .iter()
        .map(|(balance, owner)| format!("{owner} {balance}"))
        .collect();
    assert_eq!(holders.pick(&["owner", "balance"]), expected);
}

/// Of the made block: what was put into it.
pub async fn trades(bed: &Bed) {
    let lines = |lines: &[&str]| {
        lines
            .iter()
            .map(|line| (*line).to_owned())
            .collect::<Vec<_>>()
    };
    let columns = [
        "slot",
        "tx_index",
        "buys",
        "base_amount",
        "quote_amount",
        "price",
    ];
    let expected = lines(&[
        "121 0 1 2000000000 300000000 0.15",
        "120 4 1 1000000000 150000000 0.15",
        "120 3 0 10000000000 1530000000 0.153",
        "120 2 1 1000000000 155000000 0.155",
        "120 1 1 5000000000 760000000 0.152",
        "120 0 1 10000000000 1500000000 0.15",
    ]);
    bed.expect("trades-of-a-pool", &columns, &expected).await;
    let columns = ["first_tx", "last_tx", "between", "paid", "got", "gain"];
    bed.expect(
        "sandwich-like",
        &columns,
        &lines(&["0 3 1 1500000000 1530000000 30000000"]),
    )
    .await;
    let columns = ["tx_index", "amount_in", "amount_out", "legs"];
    bed.expect(
        "routes",
        &columns,
        &lines(&["4 150000000 1000000000 [('raydium_amm',150000000,1000000000)]"]),
    )
    .await;
    let columns = [
        "trades",
        "buys",
        "users",
        "base_volume",
        "quote_volume",
        "open",
        "high",
        "low",
        "close",
    ];
    let day = lines(&["5 4 2 27000000000 4095000000 0.15 0.155 0.15 0.15"]);
    bed.expect("pool-day", &columns, &day).await;
    let candles = bed.answer("candles").await;
    assert!(
        candles
            .pick(&["trades", "quote_volume", "open", "close"])
            .contains(&"5 4095000000 0.15 0.15".to_owned())
    );
    let volume =
        bed.answer("swap-volume-daily")
            .await
            .pick(&["day", "protocol", "trades", "quote_volume"]);
    assert!(
        volume.contains(&"2026-11-22 raydium_amm 5 4095000000".to_owned()),
        "{volume:?}"
    );
    // Trades without a time have their row.
    assert!(
        volume.contains(&"\\N raydium_amm 1 300000000".to_owned()),
        "{volume:?}"
    );
    let stake = bs58::encode([41; 32]).into_string();
    bed.expect(
        "stake-events",
        &["slot", "tx_index", "name", "stake_account"],
        &[format!("120 5 delegate {stake}")],
    )
    .await;
}

/// Of the made accounts and instructions, and never of the abandoned block.
pub async fn mints_and_programs(bed: &Bed) {
    let of = |key| bs58::encode(key).into_string();
    let columns = [
        "name",
        "symbol",
        "metadata_source",
        "decimals",
        "supply",
        "supply_whole",
        "mint_authority",
        "permanent_delegate",
        "slot",
    ];
    let expected = format!(
        "USD Coin USDC metaplex 6 7500000000 7500 {} \\N {}",
        of([61; 32]),
        made::TRADES
    );
    bed.expect("mint", &columns, &[expected]).await;
    let columns = [
        "slot",
        "tx_index",
        "instruction",
        "program",
        "name",
        "authority",
        "authority_stated",
    ];
    let program = of(made::PROGRAM);
    let expected = [
        format!("120 8 upgrade {program} whirlpool {} 1", of(made::TRADER)),
        format!("120 9 set_authority {program} whirlpool \\N 1"),
    ];
    bed.expect("upgraded-programs", &columns, &expected).await;
    let columns = [
        "protocol",
        "symbol_in",
        "symbol_out",
        "swaps",
        "volume_in",
        "volume_out",
        "unknown",
    ];
    let expected = [
        "raydium_amm USDC \\N 5 2865 19 0",
        "raydium_amm \\N USDC 1 10 1530 0",
    ];
    bed.expect(
        "swap-volume-in-tokens",
        &columns,
        &expected.map(str::to_owned),
    )
    .await;
}
