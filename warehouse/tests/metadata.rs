//! What is known of mints and programs, through the real sink in a real engine: the newest statement counts, and those of abandoned
//! slots are gone.

mod built_door;
mod decode_proof;
mod support;

use std::{path::Path, sync::Arc};

use built_door::start_door;
use decode_proof::recorded;
use event_log::{EventLog, MemoryLog};
use event_schema::{
    Topics,
    proto::geyser::{SlotStatus, SubscribeUpdateAccountInfo, SubscribeUpdateTransactionInfo},
};
use local_services::ClickHouseDoor;
use service_host::Host;
use sha2::{Digest, Sha256};
use support::{ask, block_with, create_topics, start_sink, status, until};
use warehouse::{
    decode::{Key, programs},
    sink::{SinkConfig, run_on},
};

const MINT: Key = [11; 32];
const PROGRAM: Key = programs::JUPITER;
const PROGRAMDATA: Key = [13; 32];

fn write(
    account: Key,
    owner: Key,
    write_version: u64,
    data: &[&[u8]],
) -> SubscribeUpdateAccountInfo {
    SubscribeUpdateAccountInfo {
        pubkey: account.to_vec(),
        lamports: 1,
        owner: owner.to_vec(),
        data: data.concat(),
        write_version,
        ..SubscribeUpdateAccountInfo::default()
    }
}

/// The mint with so much supply; authority 0: nobody may mint any more.
fn mint(write_version: u64, supply: u64, authority: u8) -> SubscribeUpdateAccountInfo {
    let has_one = u32::from(authority > 0).to_le_bytes();
    let data = [
        &has_one[..],
        &[authority; 32],
        &supply.to_le_bytes(),
        &[5, 1],
        &[0; 36],
    ];
    write(MINT, programs::TOKEN, write_version, &data)
}

fn metadata(write_version: u64, name: &str, mutable: bool) -> SubscribeUpdateAccountInfo {
    let mut filled = name.as_bytes().to_vec();
    filled.resize(32, 0);
    let data = [
        &[4][..],
        &[21; 32],
        &MINT,
        &32_u32.to_le_bytes(),
        &filled,
        &3_u32.to_le_bytes(),
        b"TST",
        &0_u32.to_le_bytes(),
        &[0, 0, 0, 1, mutable.into()],
    ];
    write([12; 32], programs::METAPLEX_METADATA, write_version, &data)
}

fn program(write_version: u64) -> SubscribeUpdateAccountInfo {
    let data = [&2_u32.to_le_bytes()[..], &PROGRAMDATA];
    write(PROGRAM, programs::LOADER_UPGRADEABLE, write_version, &data)
}

/// Authority 0: nobody may upgrade any more.
fn programdata(write_version: u64, slot: u64, authority: u8) -> SubscribeUpdateAccountInfo {
    let data = [
        &3_u32.to_le_bytes()[..],
        &slot.to_le_bytes(),
        &[u8::from(authority > 0)],
        &[authority; 32],
        &[1; 1_000],
    ];
    write(
        PROGRAMDATA,
        programs::LOADER_UPGRADEABLE,
        write_version,
        &data,
    )
}

struct Bed {
    door: ClickHouseDoor,
    log: MemoryLog,
    topics: Topics,
}

impl Bed {
    async fn start() -> Self {
        let bed = Self {
            door: start_door().await,
            log: MemoryLog::new(),
            topics: Topics::new("heliograph"),
        };
        create_topics(&bed.log, &bed.topics).await.unwrap();
        bed
    }

    async fn confirm(
        &self,
        slot: u64,
        accounts: Vec<SubscribeUpdateAccountInfo>,
        transactions: Vec<SubscribeUpdateTransactionInfo>,
    ) {
        let mut records = block_with(&self.topics, slot, 1, accounts, transactions);
        records.push(status(&self.topics, slot, 1, SlotStatus::SlotConfirmed));
        self.log
            .writer()
            .await
            .unwrap()
            .append(records)
            .await
            .unwrap();
        let sql = format!("SELECT count() FROM slot_status WHERE slot = {slot}");
        until(&self.door.url(), &sql, "1").await;
    }

    async fn expect(&self, sql: &str, answer: &str) {
        assert_eq!(ask(&self.door.url(), sql).await, answer, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_newest_counts_and_what_was_abandoned_is_gone() {
    let bed = Bed::start().await;
    let (host, sink) = start_sink(&bed.log, &bed.door.url());
    let first = vec![mint(1, 100, 20), program(2), programdata(3, 10, 22)];
    bed.confirm(10, first, Vec::new()).await;
    // Twice in a slot: the later write counts. The program is not written when its code is.
    let second = vec![
        mint(4, 150, 20),
        metadata(5, "Old", true),
        metadata(6, "New", false),
        mint(7, 160, 0),
        programdata(8, 11, 0),
    ];
    bed.confirm(11, second, Vec::new()).await;
    // Neither a token account nor a buffer says anything.
    let others = vec![
        write([14; 32], programs::TOKEN, 9, &[&[1; 165]]),
        write(
            [15; 32],
            programs::LOADER_UPGRADEABLE,
            10,
            &[&[1, 0, 0, 0, 0]],
        ),
    ];
    bed.confirm(12, others, Vec::new()).await;
    let known = "SELECT decimals, supply, supply_slot, mint_authority IS NULL, has(known, 'mint_authority'), has(known, 'permanent_delegate'), name, symbol, uri = '', metadata_source, metadata_mutable, slot FROM mints WHERE mint = unhex(repeat('0B', 32))";
    let expected = "5\t160\t11\t1\t1\t1\tNew\tTST\t1\tmetaplex\tfalse\t11";
    let code = "SELECT name, deployed_slot, upgrade_authority IS NULL, has(known, 'upgrade_authority'), data_length, closed, programdata = unhex(repeat('0D', 32)) FROM programs WHERE program_base58 = 'JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4'";
    let deployed = "jupiter\t11\t1\t1\t1000\tfalse\t1";
    bed.expect(known, expected).await;
    bed.expect(code, deployed).await;
    bed.expect(
        "SELECT count() FROM mints UNION ALL SELECT count() FROM programs",
        "1\n1",
    )
    .await;

    // A slot that says otherwise, and is abandoned.
    let wrong = vec![
        mint(11, 999, 23),
        metadata(12, "Wrong", true),
        program(13),
        programdata(14, 13, 24),
    ];
    bed.confirm(13, wrong, Vec::new()).await;
    bed.expect(
        "SELECT m.supply, m.name, p.deployed_slot FROM mints AS m, programs AS p",
        "999\tWrong\t13",
    )
    .await;
    let gone = status(&bed.topics, 13, 1, SlotStatus::SlotDead);
    bed.log
        .writer()
        .await
        .unwrap()
        .append(vec![gone])
        .await
        .unwrap();
    for table in ["mint_states", "program_states", "account_updates"] {
        let sql = format!("SELECT count() FROM {table} WHERE slot = 13");
        until(&bed.door.url(), &sql, "0").await;
    }
    bed.expect(known, expected).await;
    bed.expect(code, deployed).await;
    // A comment on every column, of tables and views.
    bed.expect(
        "SELECT uniqExact(table), groupArrayIf(table || '.' || name, comment = '') FROM system.columns WHERE database = currentDatabase() AND table IN ('mint_states', 'program_states', 'mints', 'programs', 'swaps', 'routes')",
        "6\t[]",
    )
    .await;
    host.request_drain();
    sink.await.unwrap().unwrap();
}

/// A mint that nobody's account update told of: made by Pump.fun on mainnet, under Token-2022, and bought at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recorded_creation_tells_the_mint_by_its_instructions() {
    let Some(folder) = recorded::data_folder() else {
        eprintln!("SKIPPED: HELIOGRAPH_DATA is not set; no recorded mint was created");
        return;
    };
    let mut all = recorded::read(&folder).transactions.into_iter();
    let creation = all.find(|one| one.place.starts_with("mainnet-pumpfun-create-2eVpZNvQYPMB"));
    let mut update = creation.unwrap().update;
    update.index = 3;
    let bed = Bed::start().await;
    let (host, sink) = start_sink(&bed.log, &bed.door.url());
    let mut failed = update.clone();
    failed.index = 4;
    failed.signature = vec![4; 64];
    failed.meta.as_mut().unwrap().err = Some(Default::default());
    bed.confirm(20, Vec::new(), vec![update, failed]).await;
    let mint = "mint = base58Decode('28cfnohntvves5WTYeovTu5uJ3Dxnxia45o2jEECpump')";
    bed.expect(
        &format!("SELECT decimals, mint_authority IS NULL, has(known, 'mint_authority'), freeze_authority IS NULL, has(known, 'freeze_authority'), has(known, 'supply'), name, symbol, startsWith(uri, 'https://'), metadata_source, metadata_authority IS NULL, has(known, 'metadata_authority') FROM mints WHERE {mint}"),
        "6\t1\t1\t1\t1\t0\tIRL Money\tIRL\t1\tmint\t1\t1",
    )
    .await;
    // In their order, once each: the failed transaction's are not there.
    bed.expect(
        &format!("SELECT groupArray(instruction) FROM (SELECT instruction FROM mint_states WHERE {mint} ORDER BY tx_index, path)"),
        "['initialize_mint2','initialize_token_metadata','update_token_metadata_authority','set_authority']",
    )
    .await;
    // And the trade has its decimals without any of that.
    bed.expect(
        "SELECT DISTINCT decimals_in, decimals_out FROM swaps WHERE success = true",
        "9\t6",
    )
    .await;
    bed.expect(
        "SELECT countIf(decimals IS NULL), count() > 2 FROM token_transfers WHERE mint IS NOT NULL",
        "0\t1",
    )
    .await;
    host.request_drain();
    sink.await.unwrap().unwrap();
}

/// Mints of the Token program, which have their names by Metaplex's program: as the arguments say that Pump.fun was called with. One
/// is of Token-2022; failed creations name none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recorded_creations_name_their_mints_through_metaplex() {
    let Some(folder) = recorded::data_folder() else {
        eprintln!("SKIPPED: HELIOGRAPH_DATA is not set; no recorded mint was named");
        return;
    };
    let all = recorded::read(&folder).transactions.into_iter();
    let creations = all.filter(|one| {
        one.place.starts_with("mainnet-pumpfun-create-") && !one.place.contains("2eVpZNvQYPMB")
    });
    let mut updates: Vec<_> = creations.map(|one| one.update).collect();
    for (update, index) in updates.iter_mut().zip(0..) {
        update.index = index;
    }
    let bed = Bed::start().await;
    let (host, sink) = start_sink(&bed.log, &bed.door.url());
    bed.confirm(20, Vec::new(), updates).await;
    bed.expect(
        "SELECT groupArray((name, symbol, decimals, metadata_source, mint_authority IS NULL AND has(known, 'mint_authority'))) FROM (SELECT * FROM mints ORDER BY name)",
        "[('LEGO ROBOT DOG','LEDOG',6,'metaplex',1),('MOO DOG','MOODOG',6,'metaplex',1),('NYXORA','NYXORA',6,'mint',1),('Vincent le Gogh','LEGOGH',6,'metaplex',1)]",
    )
    .await;
    host.request_drain();
    sink.await.unwrap().unwrap();
}

/// Names and texts of the migrations, in their order.
fn scripts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let read = |entry: std::io::Result<std::fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        (name, std::fs::read_to_string(path).unwrap())
    };
    let mut scripts: Vec<_> = std::fs::read_dir(folder).unwrap().map(read).collect();
    scripts.sort();
    scripts
}

fn says_something(statement: &str) -> bool {
    let mut lines = statement.lines().map(str::trim);
    lines.any(|line| !line.is_empty() && !line.starts_with("--"))
}

/// Every earlier version's schema becomes this one's.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_earlier_schema_is_brought_up() {
    let bed = Bed::start().await;
    let scripts = scripts();
    let mut shapes = Vec::new();
    for version in 0..scripts.len() {
        let database = format!("version_{version}");
        let url = format!("{}/?database={database}", bed.door.url());
        ask(&bed.door.url(), &format!("CREATE DATABASE {database}")).await;
        if version > 0 {
            ask(&url, "CREATE TABLE schema_migrations (version UInt32 COMMENT 'Number of the script', name String COMMENT 'Its name', checksum String COMMENT 'SHA-256 of its text', phase LowCardinality(String) COMMENT 'started or done', recorded_at DateTime64(3, 'UTC') DEFAULT now64(3, 'UTC') COMMENT 'When') ENGINE = MergeTree ORDER BY (version, recorded_at)").await;
        }
        for (name, text) in &scripts[..version] {
            let statements = text
                .split(";\n")
                .map(|part| part.trim().trim_end_matches(';'));
            for statement in statements.filter(|statement| says_something(statement)) {
                ask(&url, statement).await;
            }
            let checksum = hex::encode(Sha256::digest(text.as_bytes()));
            let (number, name) = name.split_once('_').unwrap();
            ask(&url, &format!("INSERT INTO schema_migrations (version, name, checksum, phase) VALUES ({number}, '{name}', '{checksum}', 'done')")).await;
        }
        let host = Host::detached();
        let config = SinkConfig {
            clickhouse_url: bed.door.url(),
            clickhouse_database: database,
            flush_ms: 20,
            ..SinkConfig::default()
        };
        let sink = tokio::spawn(run_on(Arc::new(bed.log.clone()), config, host.clone()));
        let done = "SELECT uniqExact(version) FROM schema_migrations WHERE phase = 'done'";
        until(&url, done, &scripts.len().to_string()).await;
        host.request_drain();
        sink.await.unwrap().unwrap();
        let shape = "SELECT groupBitXor(cityHash64(table, name, type, comment)), count() FROM system.columns WHERE database = currentDatabase()";
        shapes.push(ask(&url, shape).await);
    }
    shapes.dedup();
    assert_eq!(shapes.len(), 1, "{shapes:?}");
}

/// The view names programs as the decoders do.
#[test]
fn programs_have_the_names_of_their_decoders() {
    let scripts = scripts();
    let mut newest = scripts.iter().rev();
    let newest = newest.find(|(_, text)| text.contains("CREATE OR REPLACE VIEW programs\n"));
    let (_, newest) = newest.unwrap();
    let list = |quoted: &mut dyn Iterator<Item = String>| {
        quoted
            .map(|text| format!("'{text}'"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let keys = list(
        &mut programs::PROGRAMS
            .iter()
            .map(|program| bs58::encode(program.id).into_string()),
    );
    let names = list(
        &mut programs::PROGRAMS
            .iter()
            .map(|program| program.name.to_owned()),
    );
    let expected = format!("[{keys}],\n        [{names}]");
    assert!(
        newest.contains(&expected),
        "the view programs has other names than decode/programs.rs; create it anew in a new migration, with\n{expected}"
    );
}
