//! Every sample query of `warehouse/queries`, asked by a reader of a real door over recorded blocks that the real sink stored: it
//! answers, with the columns it documents. What a part of them must answer is computed from the blocks themselves.

mod door_process;
mod sample_chain;
mod support;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use chain_blocks::ChainBlock;
use door_process::{Door, PASSWORD};
use event_log::{EventLog, MemoryLog, TopicSpec};
use event_schema::{Topics, proto::geyser::SlotStatus};
use sample_chain::{facts, gap, made, recorded, records, status};
use service_host::Host;
use support::{PARTITIONS, ask, until};
use warehouse::{
    sink::{SinkConfig, run_on},
    sql::samples::{SAMPLES, Sample},
};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn every_file_is_a_sample_and_says_what_it_is() {
    let files = std::fs::read_dir(repository().join("warehouse/queries")).unwrap();
    let files: BTreeSet<String> = files
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known: BTreeSet<String> = SAMPLES
        .iter()
        .map(|sample| format!("{}.sql", sample.file))
        .collect();
    assert_eq!(
        files, known,
        "list every file of warehouse/queries in warehouse/src/sql/samples.rs"
    );
    assert!(SAMPLES.len() >= 30, "{}", SAMPLES.len());
    let names: BTreeSet<&str> = SAMPLES.iter().map(Sample::name).collect();
    assert_eq!(names.len(), SAMPLES.len(), "two samples of one name");
    for (sample, number) in SAMPLES.iter().zip(1..) {
        let header = sample.header().unwrap();
        assert!(
            sample.file.starts_with(&format!("{number:02}-")),
            "{}",
            sample.file
        );
        assert!(
            !header.title.is_empty() && header.answers.ends_with('.'),
            "{}: {header:?}",
            sample.file
        );
        assert!(
            !header.columns.is_empty(),
            "{}: no columns are documented",
            sample.file
        );
        let documented: BTreeSet<&str> = header.params.iter().map(|param| param.name).collect();
        let used: BTreeSet<&str> = sample
            .sql
            .split('{')
            .skip(1)
            .filter_map(|rest| rest.split_once(':'))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(documented, used, "{}: parameters", sample.file);
        let comment = |line: &&str| !line.starts_with("--");
        let statement: Vec<&str> = sample.sql.lines().filter(comment).collect();
        let statement = statement.join("\n");
        assert!(
            !statement.contains("SETTINGS") && !statement.contains(';'),
            "{}: one statement without settings",
            sample.file
        );
    }
}

/// The guide's table, as it must be.
fn guide() -> String {
    let mut text = String::from(
        "# Sample queries

Questions that people ask a warehouse first, each a file of one statement with its columns and parameters documented at its begin. All of
them run in the test suite, as a user with the role reader, over recorded blocks.

```
heliograph sql --samples                                             # names and titles
heliograph sql --sample newest-blocks                                # with the defaults of its file
heliograph sql --sample candles -p pool=58oQ… -p rows=10 -f CSVWithNames
```

Over HTTP, send the file as it is, with a `param_NAME` for each of its parameters. Most take `first_slot` and `last_slot`: a narrow range
reads little, since all tables are parted by slot. Final slots only, unless a query says otherwise; amounts are raw integers, NULL is
\"not known\" and never 0.

| query | answers | parameters |
|---|---|---|
",
    );
    for sample in SAMPLES {
        let header = sample.header().unwrap();
        let params: Vec<String> = header
            .params
            .iter()
            .map(|param| format!("`{}`", param.name))
            .collect();
        writeln!(
            text,
            "| [{}](../../warehouse/queries/{}.sql) | **{}** {} | {} |",
            sample.name(),
            sample.file,
            if header.title.ends_with('?') {
                header.title.to_owned()
            } else {
                format!("{}.", header.title)
            },
            header.answers.replace('|', "\\|"),
            params.join(", ")
        )
        .unwrap();
    }
    text
}

#[test]
fn the_guide_lists_them() {
    let path = repository().join("docs/guides/sample-queries.md");
    if std::env::var_os("HELIOGRAPH_BLESS").is_some() {
        std::fs::write(&path, guide()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == guide(),
        "docs/guides/sample-queries.md is not what warehouse/queries say; write it anew by\n  HELIOGRAPH_BLESS=1 cargo test -p warehouse --test sample_queries the_guide"
    );
}

/// Rows of an answer, by column.
struct Answer {
    columns: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Answer {
    async fn of(door: &Door, sample: &Sample, given: &[(&str, &str)]) -> Self {
        let given: Vec<(String, String)> = given
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        let mut pairs = vec![
            ("user".to_owned(), "analyst".to_owned()),
            ("password".to_owned(), PASSWORD.to_owned()),
            (
                "default_format".to_owned(),
                "TabSeparatedWithNames".to_owned(),
            ),
        ];
        let params = sample.params(&given).unwrap();
        pairs.extend(
            params
                .into_iter()
                .map(|(name, value)| (format!("param_{name}"), value)),
        );
        let request = reqwest::Client::new()
            .post(door.url())
            .query(&pairs)
            .body(sample.sql);
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        let text = response.text().await.unwrap();
        assert_eq!(status, 200, "{}: {text}", sample.file);
        let mut lines = text
            .lines()
            .map(|line| line.split('\t').map(str::to_owned).collect());
        Self {
            columns: lines.next().unwrap_or_default(),
            rows: lines.collect(),
        }
    }

    /// These columns of every row, joined by blanks.
    fn pick(&self, columns: &[&str]) -> Vec<String> {
        let place = |name: &&str| {
            self.columns
                .iter()
                .position(|column| column == name)
                .unwrap()
        };
        let places: Vec<usize> = columns.iter().map(place).collect();
        let row = |row: &Vec<String>| {
            places
                .iter()
                .map(|place| row[*place].as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        self.rows.iter().map(row).collect()
    }
}

/// The recorded and the made chain, stored.
struct Bed {
    door: Door,
    /// Final ones, by slot.
    blocks: Vec<ChainBlock>,
}

impl Bed {
    async fn start() -> Self {
        let door = tokio::task::spawn_blocking(|| Door::with(""))
            .await
            .unwrap();
        let (log, topics) = (MemoryLog::new(), Topics::new("heliograph"));
        let spec = |name: &str, partitions| TopicSpec {
            name: name.into(),
            partitions,
            compacted: false,
            config: Vec::new(),
            replication: 1,
        };
        log.ensure_topics(&[
            spec(&topics.canonical, PARTITIONS),
            spec(&topics.dead_letters, 1),
        ])
        .await
        .unwrap();
        let host = Host::detached();
        let config = SinkConfig {
            clickhouse_url: door.url(),
            flush_ms: 20,
            ..SinkConfig::default()
        };
        let sink = tokio::spawn(run_on(Arc::new(log.clone()), config, host.clone()));
        let mut blocks = recorded();
        blocks.extend([made::trades(), made::timeless()]);
        blocks.sort_by_key(|block| block.slot);
        let writer = log.writer().await.unwrap();
        for block in &blocks {
            let mut all = records(&topics, block);
            all.push(status(&topics, block, SlotStatus::SlotConfirmed));
            all.push(status(&topics, block, SlotStatus::SlotFinalized));
            writer.append(all).await.unwrap();
        }
        for block in [made::confirmed(), made::abandoned()] {
            let mut all = records(&topics, &block);
            all.push(status(&topics, &block, SlotStatus::SlotConfirmed));
            writer.append(all).await.unwrap();
        }
        writer
            .append(vec![gap(&topics, 117, 118, 3)])
            .await
            .unwrap();
        let count = "SELECT count() FROM blocks FINAL";
        until(&door.url(), count, &(blocks.len() + 2).to_string()).await;
        writer
            .append(vec![status(
                &topics,
                &made::abandoned(),
                SlotStatus::SlotDead,
            )])
            .await
            .unwrap();
        until(&door.url(), count, &(blocks.len() + 1).to_string()).await;
        until(
            &door.url(),
            "SELECT count() FROM finalized_slots",
            &blocks.len().to_string(),
        )
        .await;
        host.request_drain();
        sink.await.unwrap().unwrap();
        Self { door, blocks }
    }

    /// The blocks that default ranges of slots mean.
    fn range(&self) -> Vec<&ChainBlock> {
        self.blocks
            .iter()
            .filter(|block| (89..=121).contains(&block.slot.0))
            .collect()
    }

    async fn answer(&self, name: &str) -> Answer {
        let sample = Sample::find(name).unwrap_or_else(|| panic!("no sample {name}"));
        Answer::of(&self.door, sample, &[]).await
    }

    /// Asserts that these columns of a sample's answer are `expected`.
    async fn expect(&self, name: &str, columns: &[&str], expected: &[String]) {
        assert_eq!(self.answer(name).await.pick(columns), expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_answered() {
    let bed = Bed::start().await;
    for sample in SAMPLES {
        let header = sample.header().unwrap();
        let answer = Answer::of(&bed.door, sample, &[]).await;
        let documented: Vec<&str> = header.columns.iter().map(|(name, _)| *name).collect();
        assert_eq!(answer.columns, documented, "{}: columns", sample.file);
        assert!(
            !answer.rows.is_empty() || header.may_be_empty,
            "{}: no rows",
            sample.file
        );
        println!("{}: {} rows", sample.name(), answer.rows.len());
    }
    every_object_is_documented(&bed).await;
    blocks_and_slots(&bed).await;
    transactions(&bed).await;
    fees(&bed).await;
    tokens_and_balances(&bed).await;
    trades(&bed).await;
    let door = bed.door.url();
    tokio::task::spawn_blocking(move || from_a_terminal(&door))
        .await
        .unwrap();
}

async fn every_object_is_documented(bed: &Bed) {
    // The door's own view has no say here.
    let tables = "SELECT groupArray(name) FROM system.tables WHERE database = currentDatabase() AND comment = '' AND name != 'query_log'";
    assert_eq!(ask(&bed.door.url(), tables).await, "[]");
    let views = "'fee_revenue_by_slot', 'fee_revenue_daily', 'program_fees_by_slot', 'program_fees_daily', 'token_volume_daily', 'swap_volume_daily', 'leader_rewards', 'rewards_daily'";
    let columns = format!(
        "SELECT uniqExact(table), groupArrayIf(table || '.' || name, comment = '') FROM system.columns WHERE database = currentDatabase() AND table IN ({views})"
    );
    assert_eq!(ask(&bed.door.url(), &columns).await, "8\t[]");
}

async fn blocks_and_slots(bed: &Bed) {
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

async fn transactions(bed: &Bed) {
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

async fn fees(bed: &Bed) {
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
    let mut days: BTreeMap<Option<String>, (u64, u64, u64)> = BTreeMap::new();
    for block in &bed.blocks {
        let day = days.entry(facts::day(block)).or_default();
        day.0 += 1;
        day.1 += block.transactions.len() as u64;
        day.2 += facts::transactions(&[block])
            .map(|one| one.meta().fee)
            .sum::<u64>();
    }
    // None is the first of the map and the last of the answer.
    let line = |(day, (blocks, transactions, fee)): (&Option<String>, &(u64, u64, u64))| {
        format!(
            "{} {blocks} {transactions} {fee}",
            day.as_deref().unwrap_or("\\N")
        )
    };
    let days: Vec<String> = days.iter().rev().map(line).collect();
    assert!(
        days.len() >= 2 && days.last().unwrap().starts_with("\\N "),
        "{days:?}"
    );
    bed.expect(
        "fee-revenue-daily",
        &["day", "blocks", "transactions", "fee"],
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

async fn tokens_and_balances(bed: &Bed) {
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
    // A block's reward comes after its transactions, and is no transaction's.
    let leader = bs58::encode(made::LEADER).into_string();
    let answer = Answer::of(&bed.door, sample, &[("account", &leader), ("slot", "120")]).await;
    assert_eq!(answer.pick(&["balance", "changed_in"]), ["1000120 120"]);
    // Closed with tokens burnt before: nothing is left, and it is said to be closed. A slot before, it held them.
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
async fn trades(bed: &Bed) {
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
        "120 3 1 1000000000 150000000 0.15",
        "120 2 0 10000000000 1530000000 0.153",
        "120 1 1 5000000000 760000000 0.152",
        "120 0 1 10000000000 1500000000 0.15",
    ]);
    bed.expect("trades-of-a-pool", &columns, &expected).await;
    let columns = ["first_tx", "last_tx", "between", "paid", "got", "gain"];
    bed.expect(
        "sandwich-like",
        &columns,
        &lines(&["0 2 1 1500000000 1530000000 30000000"]),
    )
    .await;
    let columns = ["tx_index", "amount_in", "amount_out", "legs"];
    bed.expect(
        "routes",
        &columns,
        &lines(&["3 150000000 1000000000 [('raydium_amm',150000000,1000000000)]"]),
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
    let day = lines(&["4 3 2 26000000000 3940000000 0.15 0.153 0.15 0.15"]);
    bed.expect("pool-day", &columns, &day).await;
    let candles = bed.answer("candles").await;
    assert!(
        candles
            .pick(&["trades", "quote_volume", "open", "close"])
            .contains(&"4 3940000000 0.15 0.15".to_owned())
    );
    let volume =
        bed.answer("swap-volume-daily")
            .await
            .pick(&["day", "protocol", "trades", "quote_volume"]);
    assert!(
        volume.contains(&"2026-11-22 raydium_amm 4 3940000000".to_owned()),
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
        &[format!("120 4 delegate {stake}")],
    )
    .await;
}

/// The same through `heliograph sql`.
fn from_a_terminal(url: &str) {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_heliograph-sql"))
            .env("HELIOGRAPH_SQL_URL", url)
            .env("HELIOGRAPH_SQL_USER", "analyst")
            .env("HELIOGRAPH_SQL_PASSWORD", PASSWORD)
            .args(arguments)
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code().unwrap_or(-1),
            text(&output.stdout),
            text(&output.stderr),
        )
    };
    let (code, list, _) = run(&["--samples"]);
    assert_eq!((code, list.lines().count()), (0, SAMPLES.len()));
    assert!(
        list.lines()
            .any(|line| line.starts_with("newest-blocks ") && line.ends_with("The newest blocks")),
        "{list}"
    );
    assert_eq!(
        run(&["--sample", "skipped-slots"]),
        (0, "113\t119\t7\t120\n".into(), String::new())
    );
    assert_eq!(
        run(&["--sample", "skipped-slots", "-p", "last_slot=112"]),
        (0, String::new(), String::new())
    );
    let (code, csv, _) = run(&[
        "--sample",
        "skipped-slots",
        "--param",
        "first_slot=115",
        "--format",
        "CSVWithNames",
    ]);
    assert!(code == 0 && csv.starts_with("\"first_skipped\","), "{csv}");
    for (arguments, words) in [
        (&["--sample", "no-such"][..], "--samples lists them"),
        (
            &["--sample", "skipped-slots", "-p", "slot=1"],
            "has no parameter slot; it has: first_slot, last_slot",
        ),
        (
            &["--sample", "skipped-slots", "SELECT 1"],
            "cannot be used with",
        ),
    ] {
        let (code, out, error) = run(arguments);
        assert!(
            code == 2 && out.is_empty() && error.contains(words),
            "{arguments:?}: {code} {error}"
        );
    }
}
