//! Every sample query of `warehouse/queries`, asked by a reader of a real door over recorded blocks that the real sink stored: it
//! answers, with the columns it documents. What a part of them must answer is computed from the blocks themselves.

mod door_process;
mod sample_answers;
mod sample_chain;
mod support;

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use chain_blocks::ChainBlock;
use door_process::{Door, PASSWORD};
use event_log::{EventLog, MemoryLog};
use event_schema::{Topics, proto::geyser::SlotStatus};
use sample_chain::{gap, made, recorded, records, status};
use support::{ask, create_topics, start_sink, until};
use warehouse::sql::samples::{SAMPLES, Sample};

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
        create_topics(&log, &topics).await.unwrap();
        let (host, sink) = start_sink(&log, &door.url());
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
    sample_answers::blocks_and_slots(&bed).await;
    sample_answers::transactions(&bed).await;
    sample_answers::fees(&bed).await;
    sample_answers::tokens_and_balances(&bed).await;
    sample_answers::trades(&bed).await;
    sample_answers::mints_and_programs(&bed).await;
    sample_answers::lookups::agree(&bed).await;
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
