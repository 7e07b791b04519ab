//! Nothing accepted is forgotten: not when the process is cut off, not when it is killed, not when the database goes.

mod bed;

use std::{process::Command, time::Duration};

use bed::{World, base64, chain::hash, eventually, transfer, wire};
use local_services::{Child, ChildSpec, Postgres, PostgresOptions, free_port};
use serde_json::{Value, json};

#[test]
fn open_transactions_go_on_after_a_cut() {
    let world = World::new(1);
    world.runtime.block_on(world.chain.grow(1..=39));
    let mut transactions = Vec::new();
    for round in 0..5u64 {
        let sender = world.start();
        if round == 0 {
            world.runtime.block_on(world.chain.grow(40..=41));
        }
        for n in 0..10 {
            let transaction = transfer(round * 10 + n + 1, hash(41));
            sender.send(&transaction);
            transactions.push(transaction);
        }
        // Cut off right after the answers: whatever the engine had not done yet is done by the next one.
        sender.kill();
    }
    // While nobody runs, half of them land; one lands with the chain already finalized.
    let (landed, open) = transactions.split_at(25);
    let landed: Vec<_> = landed.iter().collect();
    world.runtime.block_on(async {
        world.chain.publish(42, &landed).await;
        world.chain.finalize(42).await;
    });
    let sender = world.start();
    for transaction in &landed {
        sender.wait_for(
            &transaction.signatures[0].to_string(),
            "landed",
            Some("finalized"),
        );
    }
    world.rpc.set_slot(48);
    for transaction in open {
        let again = wire(transaction);
        eventually("an open one is sent after the restart", || {
            world.leaders[0].count(&again) >= 1
        });
    }
    let open: Vec<_> = open.iter().collect();
    world.runtime.block_on(async {
        world.chain.publish(43, &open).await;
        world.chain.finalize(43).await;
    });
    for transaction in &open {
        sender.wait_for(
            &transaction.signatures[0].to_string(),
            "landed",
            Some("finalized"),
        );
    }
}

#[test]
fn a_restart_still_proves_expiry_by_the_stream_alone() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let signature = sender.send(&transfer(1, hash(39)));
    sender.wait_for(&signature, "sending", None);
    world.runtime.block_on(world.chain.grow(40..=100));
    // Positions are written at least every second.
    std::thread::sleep(Duration::from_millis(1500));
    sender.kill();
    world.runtime.block_on(world.chain.grow(101..=192));
    let sender = world.start();
    let status = sender.wait_for(&signature, "expired", None);
    assert!(
        status["reason"]
            .as_str()
            .unwrap()
            .contains("every finalized block"),
        "{status}"
    );
    assert_eq!(world.rpc.calls("getSignatureStatuses"), 0);
}

#[test]
fn a_drain_writes_what_is_known() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    eventually("the leader has it", || {
        world.leaders[0].count(&wire(&transaction)) == 1
    });
    sender.host.request_drain();
    std::thread::sleep(Duration::from_millis(500));
    sender.kill();
    let sender = world.start();
    let status = sender.status(&signature);
    assert_eq!(status["state"], "sending");
    assert!(status["attempts"].as_u64() >= Some(1), "{status}");
}

#[test]
fn a_database_that_goes_away_loses_nothing() {
    let mut world = World::new(1);
    let mut postgres = Postgres::start(PostgresOptions::default()).unwrap();
    postgres.create_database("sender").unwrap();
    world.config.database_url = postgres.url("sender");
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let (before, during) = (transfer(1, hash(39)), transfer(2, hash(39)));
    let signature = sender.send(&before);
    postgres.kill();
    // It lands while no row can be written.
    world.runtime.block_on(async {
        world.chain.publish(40, &[&before]).await;
        world.chain.finalize(40).await;
    });
    let answer = sender.send_with(&during, json!({}));
    assert_eq!(answer["error"]["code"], -32005, "{answer}");
    assert!(
        answer["error"]["message"]
            .as_str()
            .unwrap()
            .contains("nothing was accepted"),
        "{answer}"
    );
    postgres.restart().unwrap();
    sender.wait_for(&signature, "landed", Some("finalized"));
    eventually("it accepts again", || {
        sender.send_with(&during, json!({}))["result"].is_string()
    });
}

/// The real binary, killed by SIGKILL in the middle of accepting, again and again. Every answer it gave is kept.
#[test]
fn sigkill_forgets_nothing() {
    let world = World::new(1);
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sender.toml");
    std::fs::write(
        &config,
        format!(
            "listen = \"{}\"\ndatabase_url = \"{}\"\nrpc_url = \"{}\"\n\
             [host]\nadmin = \"127.0.0.1:0\"\n[kafka]\nbrokers = \"127.0.0.1:{}\"\n[leaders]\nslot_poll_ms = 20\n",
            world.config.listen,
            world.config.database_url,
            world.config.rpc_url,
            free_port(),
        ),
    )
    .unwrap();
    let spec = ChildSpec::new(
        "tx-sender",
        env!("CARGO_BIN_EXE_tx-sender"),
        folder.path().join("sender.log"),
    )
    .arg("--config")
    .arg(&config);
    let mut child = Child::spawn(spec).unwrap();
    let http = reqwest::Client::new();
    let url = format!("http://{}", world.config.listen);
    let mut answered = Vec::new();
    for round in 0..6u64 {
        if round > 0 {
            child.respawn().unwrap();
        }
        let (http, url) = (http.clone(), url.clone());
        let sending = world.runtime.spawn(async move {
            let mut answered = Vec::new();
            for n in 0.. {
                let transaction = transfer(round * 10_000 + n + 1, hash(1));
                let body = json!({"jsonrpc": "2.0", "id": 1, "method": "sendTransaction",
                    "params": [base64(&transaction), {"encoding": "base64"}]});
                match post(&http, &url, &body).await {
                    Some(answer) => {
                        assert!(answer["result"].is_string(), "{answer}");
                        answered.push(transaction);
                    }
                    // Not there yet, or killed: after the first answer it means killed.
                    None if answered.is_empty() => {
                        tokio::time::sleep(Duration::from_millis(20)).await
                    }
                    None => break,
                }
            }
            answered
        });
        let leader = &world.leaders[0];
        let before = leader.taken().len();
        eventually("it sends", || {
            leader.taken().len() > before + 3 + 7 * round as usize
        });
        child.kill();
        answered.extend(world.runtime.block_on(sending).unwrap());
    }
    assert!(answered.len() > 20, "only {} answers", answered.len());
    child.respawn().unwrap();
    world.rpc.set_slot(400);
    for transaction in &answered {
        let signature = transaction.signatures[0].to_string();
        let body =
            json!({"jsonrpc": "2.0", "id": 1, "method": "getSendStatus", "params": [signature]});
        let mut status = Value::Null;
        eventually("its status is known", || {
            if let Some(answer) = world.runtime.block_on(post(&http, &url, &body)) {
                status = answer["result"].clone();
            }
            status["state"] == "sending"
        });
    }
    for transaction in &answered {
        let bytes = wire(transaction);
        eventually("the leader has it", || world.leaders[0].count(&bytes) >= 1);
    }
    eprintln!("{} answers over 6 kills, none forgotten", answered.len());
    child.stop(Duration::from_secs(10));
}

async fn post(http: &reqwest::Client, url: &str, body: &Value) -> Option<Value> {
    http.post(url)
        .json(body)
        .send()
        .await
        .ok()?
        .json()
        .await
        .ok()
}

#[test]
fn a_bad_configuration_names_the_key() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("sender.toml");
    for (text, named) in [
        ("listn = \"127.0.0.1:1\"", "listn"),
        ("rpc_url = \"localhost\"", "rpc_url"),
        ("[leaders]\nfanout = 0", "leaders.fanout"),
    ] {
        std::fs::write(&config, text).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_tx-sender"))
            .args(["--check", "--config"])
            .arg(&config)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned()
            + &String::from_utf8_lossy(&output.stdout);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(named), "{said}");
    }
}
