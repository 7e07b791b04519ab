//! Epochs that are moved to the cold volume.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_moved_to_the_cold_volume_stays_readable_and_is_never_lost() {
    let mut warehouse = Warehouse::start(COLD_AND_BACKUP).await;
    warehouse.decide_the_late_slot().await;
    let before = warehouse.contents().await;
    let scratch = tempfile::tempdir().unwrap();
    let policy = scratch.path().join("policy.toml");
    write(&policy, "[default]\ncold_after_epochs = 2\n");
    let disks = "SELECT DISTINCT disk_name, partition FROM system.parts WHERE active AND database = 'heliograph' AND table IN ('transactions', 'instructions') ORDER BY ALL";
    let hot = "default\t0\ndefault\t1\ndefault\t2\ndefault\t3";
    let moved = "cold\t0\ncold\t1\ndefault\t2\ndefault\t3";
    let (well, told, text) = warehouse.retain(&policy, &[]).await;
    assert!(
        well && told["move"]["partitions"].as_u64() > Some(13),
        "{text}"
    );
    assert_eq!(warehouse.ask(disks).await, hot);
    for kill in 0..4 {
        assert!(
            !warehouse
                .retain_until(&policy, "moving ", 1 + kill % 2)
                .await
        );
        assert_eq!(warehouse.contents().await, before);
    }
    let (well, _, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well, "{text}");
    assert_eq!(warehouse.ask(disks).await, moved);
    assert_eq!(warehouse.contents().await, before);
    assert!(
        before
            .keys()
            .any(|(epoch, table)| *epoch == 0 && table == "blocks")
    );
    let blocks = "SELECT DISTINCT disk_name FROM system.parts WHERE active AND database = 'heliograph' AND table = 'blocks'";
    assert_eq!(warehouse.ask(blocks).await, "default");
    let (well, told, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well && told["move"]["partitions"] == 0, "{text}");

    let restarted = tokio::task::spawn_blocking(move || {
        warehouse.door.kill_and_restart();
        warehouse
    });
    warehouse = restarted.await.unwrap();
    assert_eq!(warehouse.contents().await, before);
    assert_eq!(warehouse.ask(disks).await, moved);

    // A backup holds both volumes.
    let boss = warehouse.door.url_of("boss");
    ask(&boss, "BACKUP DATABASE heliograph TO File('both')").await;
    ask(
        &boss,
        "RESTORE DATABASE heliograph AS copied FROM File('both')",
    )
    .await;
    let of = |database: &str| {
        format!(
            "SELECT count(), sum(sipHash64(formatRow('RowBinary', *))) FROM {database}.transactions"
        )
    };
    assert_eq!(
        ask(&boss, &of("copied")).await,
        ask(&boss, &of("heliograph")).await
    );

    // What lies there is archived and dropped like everything else.
    let root = scratch.path().join("archive");
    std::fs::create_dir(&root).unwrap();
    warehouse.export(&root, 0).await;
    write(
        &policy,
        &format!("[default]\nkeep_epochs = 3\ncold_after_epochs = 2\narchive = {root:?}\n"),
    );
    let (well, _, text) = warehouse.retain(&policy, &["--apply"]).await;
    assert!(well, "{text}");
    let mut left = before;
    left.retain(|(epoch, table), _| *epoch > 0 || table == "blocks");
    assert_eq!(warehouse.contents().await, left);

    // Without its disk, and without its setting, the door does not open, and says why.
    let (cold, elsewhere) = (
        warehouse.door.dir().join("cold"),
        warehouse.door.dir().join("elsewhere"),
    );
    let config = warehouse.door.dir().join("door.toml");
    warehouse.door.child.kill();
    std::fs::rename(&cold, &elsewhere).unwrap();
    refuses_to_open(&config, "Is its disk mounted?");
    let whole = std::fs::read_to_string(&config).unwrap();
    write(&config, &whole.replace("cold_path", "# cold_path"));
    refuses_to_open(&config, "engine.cold_path is empty");
    write(&config, &whole);
    std::fs::rename(&elsewhere, &cold).unwrap();
    let restarted = tokio::task::spawn_blocking(move || {
        warehouse.door.kill_and_restart();
        warehouse
    });
    warehouse = restarted.await.unwrap();
    assert_eq!(warehouse.contents().await, left);
    warehouse.end().await;
}

fn refuses_to_open(config: &Path, words: &str) {
    let output = Command::new(env!("CARGO_BIN_EXE_warehouse-door"))
        .arg("--config")
        .arg(config)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success() && text.contains(words), "{text}");
}
