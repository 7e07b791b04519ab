//! The whole sink on a real PostgreSQL and the log in memory: written once at any crash, reversed when abandoned.

mod fixture;
mod ledger_bed;

use std::time::Duration;

use bytes::Bytes;
use event_log::{CommitFault, DeadLetter, EventLog, NewRecord, ReaderSpec, Start};
use event_schema::proto::geyser::SlotStatus;
use fixture::{Block, key, signature, transfer};
use ledger_bed::{Bed, PARTITIONS, history, sink};
use ledger_sink::config::Config;
use local_services::{Postgres, PostgresOptions};
use service_host::Host;
use sqlx::Row;

/// One server serves every test of this file.
#[test]
fn the_ledger_on_postgres() {
    let postgres = Postgres::start(PostgresOptions::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        records_confirmed_blocks_and_answers_questions(&Bed::new(&postgres)).await;
        writes_once_at_any_crash(&Bed::new(&postgres)).await;
        reverses_an_abandoned_block(&Bed::new(&postgres)).await;
        buries_what_breaks_an_identity(&Bed::new(&postgres)).await;
        reads_again_what_it_could_not_hold(&Bed::new(&postgres)).await;
        a_newer_writer_takes_over(&Bed::new(&postgres)).await;
        entries_cannot_be_changed(&Bed::new(&postgres)).await;
    });
}

async fn records_confirmed_blocks_and_answers_questions(bed: &Bed) {
    bed.make_topic().await;
    let blocks = history(10, 6);
    for block in &blocks {
        bed.block(block).await;
    }
    for block in &blocks[..5] {
        bed.status(block, SlotStatus::SlotConfirmed).await;
    }
    bed.status(&blocks[0], SlotStatus::SlotFinalized).await;
    bed.run_until(|store| async move {
        let rows = sqlx::query("SELECT count(*) FROM slots WHERE state = 'finalized' OR slot = 14")
            .fetch_one(store.pool());
        rows.await.unwrap().get::<i64, _>(0) == 2
    })
    .await;

    let check = bed.check().await;
    assert_eq!(
        check["transactions"], 15,
        "slot 15 is not confirmed: {check}"
    );
    assert_eq!(
        check["lamport_identity"],
        serde_json::json!({ "exact": 15, "unknown": 0, "broken": 0 })
    );
    assert_eq!(
        check["token_identity"],
        serde_json::json!({ "exact": 15, "unknown": 0, "broken": 0 })
    );

    let (_, slot) = bed.get("/v1/slots/10").await;
    assert_eq!(
        (&slot["state"], &slot["transactions"]),
        (&"finalized".into(), &3.into()),
        "{slot}"
    );
    assert_eq!(bed.get("/v1/slots/15").await.0, 404);
    let (status, refusal) = bed.get("/v1/slots/ten").await;
    assert_eq!(status, 400, "{refusal}");

    let (_, found) = bed
        .get(&format!("/v1/transactions/{}", signature(110)))
        .await;
    assert_eq!(found["state"], "confirmed", "{found}");
    assert_eq!(found["postings"][0]["account"], key(1).to_string());
    assert_eq!(found["postings"][0]["amount"], "-5012");
    assert_eq!(bed.get("/v1/transactions/nonsense").await.0, 400);

    let (_, account) = bed.get(&format!("/v1/accounts/{}", key(5))).await;
    let mint = &account["balances"][0];
    assert_eq!(
        (&mint["asset"], &mint["net"]),
        (&key(100).to_string().into(), &"250".into()),
        "{account}"
    );
    assert_eq!(
        (&mint["balance"], &mint["slot"]),
        (&"750".into(), &14.into()),
        "{account}"
    );
    let (_, fees) = bed.get("/v1/accounts/network:fee:base").await;
    assert_eq!(fees["balances"][0]["net"], (15 * 5_000).to_string());
    assert_eq!(bed.get(&format!("/v1/accounts/{}", key(77))).await.0, 404);
    assert_eq!(bed.get("/v1/accounts/0OIl").await.0, 400);
}

/// Cuts the same history at every commit, in several ways, and compares with an uncut run.
async fn writes_once_at_any_crash(bed: &Bed) {
    bed.make_topic().await;
    let blocks = history(20, 8);
    let mut expected_transactions = 0;
    for (at, block) in blocks.iter().enumerate() {
        bed.block(block).await;
        if at >= 2 {
            bed.status(&blocks[at - 2], SlotStatus::SlotConfirmed).await;
            expected_transactions += 3;
        }
        // Cut off in the middle of its work: whatever was committed stays, whatever was not is lost with the process.
        let host = Host::detached();
        let mut config = bed.config.clone();
        config.batch_records_max = 1 + at % 3;
        let cut = tokio::spawn(sink(config, bed.log.clone(), host));
        tokio::time::sleep(Duration::from_millis(15 * (at as u64 % 4))).await;
        cut.abort();
        let _ = cut.await;
        if at == 4 {
            // A router's aborted transaction leaves nothing to see.
            bed.log.fail_next_commit(CommitFault::Abort);
            let mut writer = bed.log.transactional_writer("router").await.unwrap();
            writer
                .commit(blocks[7].records(&bed.topics, PARTITIONS))
                .await
                .unwrap_err();
        }
    }
    for block in &blocks[6..] {
        bed.status(block, SlotStatus::SlotConfirmed).await;
        expected_transactions += 3;
    }
    for block in &blocks {
        bed.status(block, SlotStatus::SlotFinalized).await;
    }
    bed.run_to_end().await;
    assert_eq!(bed.check().await["transactions"], expected_transactions);
    let once = bed.dump().await;

    // Told to start over, it finds everything written.
    let store = bed.store().await;
    sqlx::query("DELETE FROM positions")
        .execute(store.pool())
        .await
        .unwrap();
    bed.run_to_end().await;
    assert_eq!(bed.dump().await, once);
    assert_eq!(bed.check().await["slots"]["finalized"]["count"], 8);
}

async fn reverses_an_abandoned_block(bed: &Bed) {
    bed.make_topic().await;
    let blocks = history(30, 2);
    let mut fork = history(31, 1).remove(0);
    fork.fork = 9;
    let never = Block {
        fork: 8,
        ..fork.clone()
    };
    for block in [&blocks[0], &fork, &never] {
        bed.block(block).await;
    }
    bed.status(&blocks[0], SlotStatus::SlotConfirmed).await;
    bed.run_until(|store| async move {
        !store
            .positions("heliograph.canonical")
            .await
            .unwrap()
            .is_empty()
    })
    .await;
    bed.status(&fork, SlotStatus::SlotConfirmed).await;
    bed.run_until(|store| async move {
        sqlx::query("SELECT 1 FROM slots WHERE slot = 31")
            .fetch_optional(store.pool())
            .await
            .unwrap()
            .is_some()
    })
    .await;
    // The same signatures land again, on the fork that stays.
    bed.block(&blocks[1]).await;
    bed.status(&fork, SlotStatus::SlotDead).await;
    bed.status(&never, SlotStatus::SlotDead).await;
    bed.status(&blocks[1], SlotStatus::SlotConfirmed).await;
    bed.run_to_end().await;

    let check = bed.check().await;
    assert_eq!(check["transactions"], 6, "{check}");
    assert_eq!(check["slots"]["abandoned"]["count"], 1);
    let (_, slot) = bed.get("/v1/slots/31").await;
    assert_eq!(
        (&slot["state"], slot["blocks"].as_array().unwrap().len()),
        (&"confirmed".into(), 2),
        "{slot}"
    );
    let (_, found) = bed
        .get(&format!("/v1/transactions/{}", signature(310)))
        .await;
    assert_eq!(found["state"], "confirmed");
    assert_eq!(found["other_landings"][0]["state"], "abandoned", "{found}");

    let (_, account) = bed.get(&format!("/v1/accounts/{}", key(9))).await;
    assert_eq!(
        account["balances"][0]["net"], "15000",
        "the reward of the abandoned block is taken back"
    );
    let store = bed.store().await;
    let reversed = sqlx::query("SELECT count(*) FROM postings WHERE reversal")
        .fetch_one(store.pool())
        .await;
    assert!(
        reversed.unwrap().get::<i64, _>(0) > 0,
        "entries stay, reversals are added"
    );
}

async fn buries_what_breaks_an_identity(bed: &Bed) {
    bed.make_topic().await;
    let mut block = history(40, 1).remove(0);
    let mut broken = transfer(1, 2, 5);
    broken.meta.fee += 1;
    let mut broken = broken.build(409);
    broken.index = 3;
    block.transactions.push(broken);
    let garbage = NewRecord {
        value: Bytes::from_static(b"\xff\xff"),
        ..block.records(&bed.topics, PARTITIONS).remove(0)
    };
    let mut poisoned = Block::new(42, Vec::new()).records(&bed.topics, PARTITIONS);
    poisoned[0] = NewRecord {
        header: poisoned[0].header.clone(),
        ..garbage
    };
    bed.publish(poisoned).await;
    bed.block(&block).await;
    bed.status(&block, SlotStatus::SlotConfirmed).await;
    bed.run_to_end().await;

    let check = bed.check().await;
    assert_eq!(check["transactions"], 4);
    assert_eq!(
        check["lamport_identity"],
        serde_json::json!({ "exact": 3, "unknown": 0, "broken": 1 })
    );
    let (_, found) = bed
        .get(&format!("/v1/transactions/{}", signature(409)))
        .await;
    assert_eq!(
        (
            &found["lamport_identity"],
            found["postings"].as_array().unwrap().len()
        ),
        (&"broken".into(), 0),
        "{found}"
    );
    assert!(
        found["lamport_identity_reason"]
            .as_str()
            .unwrap()
            .contains("off by 1"),
        "{found}"
    );

    let letters = vec![(bed.topics.dead_letters.clone(), 0, Start::Earliest)];
    let mut reader = bed
        .log
        .reader(ReaderSpec {
            partitions: letters,
            read_committed: true,
        })
        .await
        .unwrap();
    let letters = reader.poll(10, Duration::ZERO).await.unwrap();
    let reasons: Vec<DeadLetter> = letters
        .iter()
        .map(|letter| DeadLetter::decode(&letter.header).unwrap())
        .collect();
    let about = |what: &str| {
        reasons
            .iter()
            .filter(|letter| letter.reason.contains(what))
            .count()
    };
    assert_eq!(
        (about("ledger identity"), about("slot 42")),
        (1, 1),
        "{reasons:?}"
    );
    assert!(
        letters
            .iter()
            .any(|letter| letter.value == Bytes::from_static(b"\xff\xff")),
        "the original bytes"
    );
}

async fn reads_again_what_it_could_not_hold(bed: &Bed) {
    bed.make_topic().await;
    let blocks = history(50, 12);
    let config = Config {
        held_blocks_max: 2,
        batch_records_max: 7,
        ..bed.config.clone()
    };
    let bed = Bed {
        log: bed.log.clone(),
        topics: bed.topics.clone(),
        config,
        store: Default::default(),
    };
    for block in &blocks {
        bed.block(block).await;
    }
    for block in &blocks {
        bed.status(block, SlotStatus::SlotConfirmed).await;
    }
    bed.run_to_end().await;
    assert_eq!(bed.check().await["transactions"], 36);
}

async fn a_newer_writer_takes_over(bed: &Bed) {
    bed.make_topic().await;
    let host = Host::detached();
    let older = tokio::spawn(sink(bed.config.clone(), bed.log.clone(), host.clone()));
    let blocks = history(60, 2);
    bed.block(&blocks[0]).await;
    bed.status(&blocks[0], SlotStatus::SlotConfirmed).await;
    let store = bed.store().await;
    while sqlx::query("SELECT 1 FROM slots")
        .fetch_optional(store.pool())
        .await
        .unwrap()
        .is_none()
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    store.take_over().await.unwrap();
    bed.block(&blocks[1]).await;
    bed.status(&blocks[1], SlotStatus::SlotConfirmed).await;
    let error = tokio::time::timeout(Duration::from_secs(20), older)
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert!(format!("{error:#}").contains("Run only one"), "{error:#}");
    assert_eq!(bed.check().await["transactions"], 3);
}

async fn entries_cannot_be_changed(bed: &Bed) {
    bed.make_topic().await;
    let block = history(70, 1).remove(0);
    bed.block(&block).await;
    bed.status(&block, SlotStatus::SlotConfirmed).await;
    bed.run_to_end().await;
    let store = bed.store().await;
    for change in [
        "UPDATE postings SET amount = amount + 1",
        "DELETE FROM postings",
        "TRUNCATE postings",
        "UPDATE block_transactions SET fee = 0",
        "DELETE FROM block_transactions",
    ] {
        let error = sqlx::query(change).execute(store.pool()).await.unwrap_err();
        assert!(
            error.to_string().contains("append-only"),
            "{change}: {error}"
        );
    }
    // The deep check sees what the triggers cannot forbid.
    sqlx::query("UPDATE balances SET net = net + 1 WHERE account = 'network:fee:base'")
        .execute(store.pool())
        .await
        .unwrap();
    let (_, check) = bed.get("/v1/check?deep=true").await;
    assert_eq!(
        (
            &check["balanced"],
            check["faults"].as_array().unwrap().len()
        ),
        (&false.into(), 2),
        "{check}"
    );
}
