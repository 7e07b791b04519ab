//! Epochs that go, and come back.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_archive_holds_is_dropped_told_and_brought_back() {
    let warehouse = Warehouse::start("").await;
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    let policy = scratch.path().join("policy.toml");
    let text = format!("[default]\nkeep_epochs = 2\narchive = {root:?}\n");

    // What cannot work is refused, with the field and the fix.
    for (more, field, fix) in [
        ("keep = 1\n", "`default.keep`", "Use keep_epochs"),
        (
            "[tables.slot_status]\n",
            "`tables.slot_status`",
            "Remove the section",
        ),
        ("[tables.swap]\n", "`tables.swap`", "routes"),
        (
            "cold_after_epochs = 1\n",
            "`storage_policy, cold_volume`",
            "Set engine.cold_path",
        ),
    ] {
        write(&policy, &format!("{text}{more}"));
        let (well, _, told) = warehouse.retain(&policy, &[]).await;
        assert!(
            !well && told.contains(field) && told.contains(fix),
            "{told}"
        );
    }
    write(&policy, &text);

    // One more part in a partition that a drop will break off in.
    let boss = warehouse.door.url_of("boss");
    ask(&boss, "SYSTEM STOP MERGES heliograph.account_updates").await;
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (7 AS write_version) FROM account_updates WHERE slot = 432010")
        .await;
    let before = warehouse.contents().await;
    let old: Vec<&(u64, String)> = before
        .keys()
        .filter(|(epoch, table)| *epoch < 2 && table != "blocks")
        .collect();
    assert!(old.len() >= 14, "{old:?}");
    // Nothing is archived, and the late slot of epoch 1 is not decided.
    for more in [&[][..], &["--apply"]] {
        let (well, told, text) = warehouse.retain(&policy, more).await;
        assert!(!well && told["drop"]["partitions"] == 0, "{text}");
        let reason = of(&told, 0, "transactions")["reason"].as_str().unwrap();
        assert!(reason.contains("no archive of the whole epoch"), "{reason}");
        let reason = of(&told, 1, "transactions")["reason"].as_str().unwrap();
        assert!(reason.contains("slot 432011 is not decided"), "{reason}");
        assert!(of(&told, 2, "transactions")["reason"] == "within the epochs to keep");
        assert!(
            of(&told, 3, "transactions")["reason"]
                .as_str()
                .unwrap()
                .contains("newest final slot")
        );
        assert!(of(&told, 0, "blocks")["reason"] == "no rule for it");
    }
    let first = warehouse.export(&root, 0).await;
    warehouse.export(&root, 1).await;

    // A dry run says what --apply would do, and does nothing.
    let (well, told, text) = warehouse.retain(&policy, &[]).await;
    let of_first = old.iter().filter(|(epoch, _)| *epoch == 0).count();
    assert!(!well && told["drop"]["partitions"] == of_first, "{text}");
    assert!(of(&told, 0, "transactions")["rows"] == 9 && told["drop"]["bytes"].as_u64() > Some(0));
    assert!(text.contains("--apply does it"), "{text}");
    assert_eq!(warehouse.contents().await, before);
    assert_eq!(
        warehouse.ask("SELECT count() FROM retention_journal").await,
        "0"
    );

    // A damaged file, a damaged manifest, rows that no archive has: what they are about stays.
    let file = std::fs::read_dir(Path::new(&first).join("transactions")).unwrap();
    let file = file.map(|entry| entry.unwrap().path()).next().unwrap();
    let manifest = Path::new(&first).join("manifest.json");
    for (path, word) in [(&file, "is damaged"), (&manifest, "manifest.json")] {
        let good = std::fs::read(path).unwrap();
        std::fs::write(path, &good[..good.len() - 9]).unwrap();
        let (well, told, text) = warehouse.retain(&policy, &[]).await;
        let told = of(&told, 0, "transactions");
        assert!(!well && told["deed"] == "keep", "{text}");
        assert!(told["reason"].as_str().unwrap().contains(word), "{text}");
        std::fs::write(path, good).unwrap();
    }
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (1000000000 AS write_version) FROM account_updates WHERE slot = 10")
        .await;
    let (_, told, text) = warehouse.retain(&policy, &[]).await;
    let reason = of(&told, 0, "account_updates")["reason"].as_str().unwrap();
    assert!(reason.contains("export the epoch again"), "{text}");
    warehouse.drop_newest_part(0).await;
    assert_eq!(warehouse.contents().await, before);

    warehouse.decide_the_late_slot().await;
    a_drop_that_broke_off(&warehouse, &policy, &root).await;
    ask(&boss, "SYSTEM START MERGES heliograph.account_updates").await;
    // Killed at every partition in turn, it ends where one run would have; and the stream goes on.
    let killed = async {
        let mut kills = 0;
        while !warehouse
            .retain_until(&policy, "dropping ", 1 + kills % 3)
            .await
        {
            kills += 1;
            assert!(kills < 60);
        }
        kills
    };
    let (kills, ()) = tokio::join!(killed, warehouse.feed(20));
    assert!(kills >= 5, "{kills}");
    let fed = warehouse.contents().await;
    let before: BTreeMap<_, _> = before
        .iter()
        .map(|(place, content)| match place.0 {
            3 => (place.clone(), fed[place].clone()),
            _ => (place.clone(), content.clone()),
        })
        .collect();
    let mut left = before.clone();
    left.retain(|place, _| !old.contains(&place));
    assert_eq!(warehouse.contents().await, left);
    assert_eq!(warehouse.notes("1").await, old.len().to_string());
    let ended = "SELECT count() FROM (SELECT argMax(state, recorded_at) AS newest FROM retention_journal GROUP BY table_name, epoch) WHERE newest != 'dropped'";
    assert_eq!(warehouse.ask(ended).await, "0");
    let of_rows = "table_name = 'transactions' AND epoch = 0 AND rows_dropped = 9 AND endsWith(archive_folder, '/epoch-0') AND length(archive_manifest_sha256) = 64";
    assert_eq!(warehouse.notes(of_rows).await, "1");
    let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well && told["drop"]["partitions"] == 0, "{text}");

    history_knows(&warehouse).await;

    // It comes back, equal, and may go and come again; also when a restore was killed, beside which nothing is dropped.
    for kills in [0, 3] {
        for _ in 0..kills {
            assert!(
                !warehouse
                    .killed_at(&["restore", &first], "rows are as they were", 1)
                    .await
            );
        }
        if kills > 0 {
            let away: usize = warehouse.notes("epoch = 0").await.parse().unwrap();
            assert!(away > 0 && away < of_first);
        }
        let (well, text) = warehouse.archive(&["restore", &first]).await;
        assert!(well && text.contains("blocks: is not dropped"), "{text}");
        assert_eq!(warehouse.notes("epoch = 0").await, "0");
        let mut back = before.clone();
        back.retain(|place, _| place.0 != 1 || !old.contains(&place));
        assert_eq!(warehouse.contents().await, back);
        let (well, told, text) = warehouse
            .history(&["verify", "--from", "0", "--to", "12"])
            .await;
        assert!(
            well && told["dropped_by_policy"] == serde_json::json!([]),
            "{text}"
        );
        let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
        assert!(well && told["drop"]["partitions"] == of_first, "{text}");
        assert_eq!(warehouse.contents().await, left);
    }
    fetched_again(&warehouse).await;
    warehouse.end().await;
}

/// Some of a partition's parts are gone already: the archive cannot be compared any more, and need not be.
async fn a_drop_that_broke_off(warehouse: &Warehouse, policy: &Path, root: &Path) {
    let parts = "SELECT name FROM system.parts WHERE active AND rows > 0 AND database = 'heliograph' AND table = 'account_updates' AND partition = '1' ORDER BY name";
    let parts = warehouse.ask(parts).await;
    let first = parts.lines().next().unwrap();
    let manifest = std::fs::read(root.join("epoch-1/manifest.json")).unwrap();
    let sha256 = hex::encode(Sha256::digest(&manifest));
    let note = format!(
        "INSERT INTO retention_journal SELECT table, 1, 'dropping', sum(rows), sum(bytes_on_disk), toUInt64(max(greatest(toInt64(max_block_number), toInt64(data_version)))), '', '{sha256}', now64(6) \
         FROM system.parts WHERE active AND database = 'heliograph' AND table = 'account_updates' AND partition = '1' GROUP BY table"
    );
    let due = async || {
        let (_, told, text) = warehouse.retain(policy, &[]).await;
        (of(&told, 1, "account_updates")["deed"].clone(), text)
    };
    assert!(parts.lines().count() > 1, "{parts}");
    assert_eq!(due().await.0, "drop");
    let of_note = warehouse.ask("SELECT count() FROM retention_journal").await;
    assert_eq!(of_note, "0");
    warehouse.ask(&note).await;
    warehouse
        .ask(&format!("ALTER TABLE account_updates DROP PART '{first}'"))
        .await;
    let (deed, text) = due().await;
    assert!(deed == "drop", "{text}");
    // Rows that came in since are no leftovers.
    warehouse
        .ask("INSERT INTO account_updates SELECT * REPLACE (8 AS write_version) FROM account_updates WHERE slot BETWEEN 432000 AND 863999 LIMIT 1")
        .await;
    let (deed, text) = due().await;
    assert!(deed == "keep", "{text}");
    warehouse.drop_newest_part(1).await;
    assert_eq!(due().await.0, "drop");
}

/// Neither a finding nor fetched nor decoded.
async fn history_knows(warehouse: &Warehouse) {
    let (well, told, text) = warehouse
        .history(&["verify", "--from", "0", "--to", "900000"])
        .await;
    assert!(well && told["findings"] == 0, "{text}");
    assert!(
        text.contains("epoch 1: dropped by policy, and not looked for:"),
        "{text}"
    );
    assert_eq!(told["dropped_by_policy"][0]["epoch"], 0);
    let whole = warehouse.contents().await;
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let file = ["--file", blocks.to_str().unwrap()];
    let span = ["--from", "89", "--to", "112"];
    let (well, told, text) = warehouse
        .history(&[&["backfill"][..], &file, &span].concat())
        .await;
    assert!(
        well && told["stored"] == 0 && told["dropped_by_policy"] == 24,
        "{text}"
    );
    let (well, told, text) = warehouse
        .history(&["redecode", "--from", "0", "--to", "900000"])
        .await;
    // Of epoch 2 alone.
    assert!(well && told["slots"] == 2, "{text}");
    assert_eq!(warehouse.contents().await, whole);
}

/// On request they are; and what is not yet there is missed again.
async fn fetched_again(warehouse: &Warehouse) {
    let sourceless = [
        "backfill",
        "--refetch-dropped",
        "--from",
        "89",
        "--to",
        "112",
    ];
    let (well, _, text) = warehouse.history(&sourceless).await;
    assert!(
        !well && text.contains("name where the blocks come from"),
        "{text}"
    );
    assert_ne!(warehouse.notes("epoch = 0").await, "0");
    let blocks = Path::new(env!("CARGO_MANIFEST_DIR")).join("../localnet/blocks");
    let arguments = [
        "backfill",
        "--refetch-dropped",
        "--from",
        "89",
        "--to",
        "112",
        "--file",
        blocks.to_str().unwrap(),
    ];
    let (well, told, text) = warehouse.history(&arguments).await;
    assert!(well && told["stored"] == 24, "{text}");
    assert_eq!(
        warehouse
            .notes("epoch = 0 AND table_name != 'account_updates'")
            .await,
        "0"
    );
    assert_eq!(
        warehouse
            .notes("epoch = 0 AND table_name = 'account_updates'")
            .await,
        "1"
    );
    let (well, _, text) = warehouse
        .history(&["verify", "--from", "89", "--to", "112"])
        .await;
    assert!(well, "{text}");
    let (well, told, text) = warehouse
        .history(&["verify", "--from", "0", "--to", "12"])
        .await;
    assert!(!well && told["findings"] == 3, "{text}");
}
