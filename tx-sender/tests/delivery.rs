//! What becomes of accepted transactions, with real QUIC, real PostgreSQL and a published chain.

mod bed;

use std::time::{Duration, Instant};

use bed::{
    World,
    chain::hash,
    eventually,
    leader::{Conduct, TestLeader},
    transfer, wire,
};
use event_schema::{Blockhash, proto::geyser::SlotStatus};
use serde_json::json;
use solana_transaction_error::TransactionError;

#[test]
fn both_leaders_get_it_and_it_lands() {
    let world = World::new(4);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    // Slot 40 is in window 10, led by leader 2; leader 3 is next.
    for leader in [2, 3] {
        eventually("the leader has it", || {
            world.leaders[leader].count(&wire(&transaction)) == 1
        });
    }
    // Landing does not wait for acknowledgements.
    eventually("both leaders' acknowledgements are counted", || {
        sender.get(&format!("/v1/transactions/{signature}")).1["attemptsAcked"] == 2
    });
    let status = sender.wait_for(&signature, "sending", None);
    assert_eq!(status["lastValidBlockHeight"], 39 + 150);

    world
        .runtime
        .block_on(world.chain.publish(40, &[&transaction]));
    let status = sender.wait_for(&signature, "landed", Some("processed"));
    assert_eq!(
        (&status["slot"], &status["settled"]),
        (&json!(40), &json!(false))
    );
    assert_eq!(status["blockhash"], Blockhash(hash(40)).to_string());
    world.runtime.block_on(world.chain.confirm(40));
    sender.wait_for(&signature, "landed", Some("confirmed"));
    world.runtime.block_on(world.chain.finalize(40));
    let status = sender.wait_for(&signature, "landed", Some("finalized"));
    assert_eq!(status["settled"], true);
    assert_eq!(
        (&status["attempts"], &status["attemptsAcked"]),
        (&json!(2), &json!(2))
    );
    assert_eq!(status["recentAttempts"].as_array().map(Vec::len), Some(2));
    let id = status["id"].as_str().unwrap();
    assert_eq!(
        sender.get(&format!("/v1/transactions/{id}")),
        (200, status.clone())
    );
    assert_eq!(
        sender.get(&format!("/v1/transactions/{signature}")),
        (200, status)
    );
    // In the steady state nothing is asked of the validator per transaction.
    assert_eq!(
        world.rpc.calls("getSignatureStatuses") + world.rpc.calls("isBlockhashValid"),
        0
    );
    for others in [0, 1] {
        assert_eq!(world.leaders[others].taken().len(), 0, "not their turn");
    }
}

#[test]
fn a_failed_execution_is_told_with_its_error() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    let error = TransactionError::InstructionError(0, solana_instruction_error());
    world.runtime.block_on(
        world
            .chain
            .publish_fork(40, hash(40), &[(&transaction, Some(error))]),
    );
    let status = sender.wait_for(&signature, "failed", Some("processed"));
    assert_eq!(
        status["error"],
        json!({"InstructionError": [0, {"Custom": 1}]})
    );
}

fn solana_instruction_error() -> solana_instruction::error::InstructionError {
    solana_instruction::error::InstructionError::Custom(1)
}

#[test]
fn an_acknowledgement_is_no_inclusion_later_leaders_get_it_too() {
    let world = World::new(4);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    // Nobody includes it: each window's leader gets it, as the next one and as the current one.
    for slot in (44..=60).step_by(4) {
        world.rpc.set_slot(slot);
        let current = (slot / 4) as usize % 4;
        eventually("the window's leader has it again", || {
            world.leaders[current].count(&wire(&transaction)) >= 2
        });
    }
    let sends: usize = world
        .leaders
        .iter()
        .map(|leader| leader.count(&wire(&transaction)))
        .sum();
    assert!(sends <= 2 * 6, "{sends} sends in six windows");
    assert_eq!(sender.status(&signature)["state"], "sending");
}

#[test]
fn a_lost_connection_is_repeated_at_once() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    eventually("a warm connection", || world.leaders[0].connections() >= 1);
    world.leaders[0].conduct(Conduct::DropOnce);
    let transaction = transfer(1, hash(39));
    let started = Instant::now();
    let signature = sender.send(&transaction);
    eventually("the first attempt is dropped", || {
        world.leaders[0].closed_streams() == 1
    });
    // The slot stands still and the fallback timer is off: only the lost attempt itself leads to a repeat.
    eventually("it comes again", || {
        world.leaders[0].count(&wire(&transaction)) >= 1
    });
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    eventually("the loss is on record", || {
        let status = sender.status(&signature);
        let attempts = status["recentAttempts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        attempts
            .iter()
            .any(|attempt| attempt["outcome"] == "connection_lost")
            && attempts.iter().any(|attempt| attempt["outcome"] == "acked")
    });
}

#[test]
fn refusing_and_starving_leaders_are_told_apart() {
    let mut world = World::new(1);
    let starving = world
        .runtime
        .block_on(async { TestLeader::with(Conduct::Starve) });
    world.rpc.set(|answers| answers.nodes.push(starving.node()));
    world.leaders.push(starving);
    world.leaders[0].conduct(Conduct::Refuse);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let signature = sender.send(&transfer(1, hash(39)));
    eventually("both outcomes are on record", || {
        let status = sender.status(&signature);
        let outcomes: Vec<String> = status["recentAttempts"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|attempt| attempt["outcome"].as_str().unwrap_or_default().to_owned())
            .collect();
        outcomes.contains(&"refused".to_owned()) && outcomes.contains(&"unacked".to_owned())
    });
    assert_eq!(sender.status(&signature)["attemptsAcked"], 0);
}

#[test]
fn one_unreachable_leader_does_not_stop_the_others() {
    let world = World::new(4);
    world.leaders[2].vanish();
    // A leader that gossips no address is passed over: the one after the next gets it.
    world.rpc.set(|answers| answers.nodes[3].1 = None);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    eventually("the next reachable leader has it", || {
        world.leaders[0].count(&wire(&transaction)) == 1
    });
    eventually("the unreachable one is on record", || {
        sender.status(&signature)["recentAttempts"]
            .as_array()
            .is_some_and(|attempts| {
                attempts
                    .iter()
                    .any(|attempt| attempt["outcome"] == "unreachable")
            })
    });
}

#[test]
fn without_slots_the_fallback_timer_repeats() {
    let mut world = World::new(1);
    world.config.leaders.fallback_ms = 300;
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    sender.send(&transaction);
    eventually("it comes three times", || {
        world.leaders[0].count(&wire(&transaction)) >= 3
    });
}

#[test]
fn connections_are_warm_before_the_first_transaction() {
    let world = World::new(4);
    let _sender = world.start();
    for leader in &world.leaders {
        eventually("a connection without traffic", || leader.connections() == 1);
    }
}

#[test]
fn leaders_see_the_configured_identity() {
    let mut world = World::new(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("identity.json");
    let identity = solana_keypair::Keypair::new();
    solana_keypair::write_keypair_file(&identity, &path).unwrap();
    world.config.quic.identity_keypair = path.display().to_string();
    let _sender = world.start();
    let key = solana_keypair::Signer::pubkey(&identity).to_bytes();
    eventually("a certificate with the identity", || {
        let certificates = world.leaders[0].client_certificates();
        certificates
            .iter()
            .any(|certificate| certificate.windows(32).any(|window| window == key))
    });
}

#[test]
fn an_abandoned_block_puts_it_back_on_its_way() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    let fork = [0xee; 32];
    world
        .runtime
        .block_on(world.chain.publish_fork(40, fork, &[(&transaction, None)]));
    sender.wait_for(&signature, "landed", Some("processed"));
    let before = world.leaders[0].count(&wire(&transaction));
    world
        .runtime
        .block_on(world.chain.status(40, fork, SlotStatus::SlotDead));
    sender.wait_for(&signature, "sending", None);
    eventually("it is sent again", || {
        world.leaders[0].count(&wire(&transaction)) > before
    });
    world.runtime.block_on(async {
        world.chain.publish(41, &[&transaction]).await;
        world.chain.finalize(41).await;
    });
    let status = sender.wait_for(&signature, "landed", Some("finalized"));
    assert_eq!(status["slot"], 41);
}

#[test]
fn expired_is_said_when_it_is_proven_and_not_before() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let signature = sender.send(&transfer(1, hash(39)));
    sender.wait_for(&signature, "sending", None);
    // The block after the last valid height may still hold it.
    world.runtime.block_on(world.chain.grow(40..=39 + 151));
    eventually("the stream is read", || sender_height(&sender) == 39 + 151);
    assert_eq!(sender.status(&signature)["state"], "sending");
    world
        .runtime
        .block_on(world.chain.grow(39 + 152..=39 + 152));
    let status = sender.wait_for(&signature, "expired", None);
    assert_eq!(status["settled"], true);
    assert!(
        status["reason"].as_str().unwrap().contains("new blockhash"),
        "{status}"
    );
    assert_eq!(
        world.rpc.calls("getSignatureStatuses"),
        0,
        "the stream is proof enough"
    );
}

/// Finalized height by the sender's own metrics.
fn sender_height(sender: &bed::Running) -> u64 {
    let families = sender.host.metrics().gather();
    let family = families
        .iter()
        .find(|family| family.name() == "heliograph_sender_finalized_block_height")
        .expect("the metric");
    family.get_metric()[0].get_gauge().get_value() as u64
}

#[test]
fn a_hole_in_the_stream_is_asked_about() {
    let world = World::new(1);
    world.rpc.set(|answers| answers.block_height = 39);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let absent = sender.send(&transfer(1, hash(39)));
    let present = sender.send(&transfer(2, hash(39)));
    let status = json!({"slot": 70, "err": null, "confirmationStatus": "finalized"});
    world.rpc.set(|answers| {
        answers.statuses.insert(present.clone(), status);
    });
    world.runtime.block_on(async {
        world.chain.grow(40..=69).await;
        world.chain.grow(71..=39 + 151 + 34).await;
    });
    let status = sender.wait_for(&absent, "expired", None);
    assert!(
        status["reason"].as_str().unwrap().contains("history"),
        "{status}"
    );
    let status = sender.wait_for(&present, "landed", Some("finalized"));
    assert_eq!(
        (&status["slot"], &status["blockhash"]),
        (&json!(70), &json!(null))
    );
}

#[test]
fn a_blockhash_that_the_stream_has_not_told_is_asked_about() {
    let world = World::new(1);
    let blockhash = [0x55; 32];
    world.rpc.set(|answers| {
        answers.block_height = 1000;
        answers
            .valid_blockhashes
            .push(Blockhash(blockhash).to_string());
    });
    let sender = world.start();
    let transaction = transfer(1, blockhash);
    let signature = sender.send(&transaction);
    eventually("it is sent", || {
        world.leaders[0].count(&wire(&transaction)) == 1
    });
    eventually("its life is known", || {
        sender.status(&signature)["lastValidBlockHeight"] == 1150
    });
}

#[test]
fn what_landed_long_ago_elsewhere_is_not_called_expired() {
    let world = World::new(1);
    world.rpc.set(|answers| answers.block_height = 1000);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(900..=1000));
    // Its blockhash is older than anything read; it was sent by somebody else and is in block 500.
    let transaction = transfer(1, [0x77; 32]);
    let signature = transaction.signatures[0].to_string();
    let status = json!({"slot": 500, "err": null, "confirmationStatus": "finalized"});
    world.rpc.set(|answers| {
        answers.statuses.insert(signature.clone(), status);
    });
    sender.send(&transaction);
    eventually("its life is guessed", || {
        sender.status(&signature)["lastValidBlockHeight"] == 1150
    });
    world
        .runtime
        .block_on(world.chain.grow(1001..=1000 + 151 + 33));
    let status = sender.wait_for(&signature, "landed", Some("finalized"));
    assert_eq!(status["slot"], 500);
}

/// Data of a nonce account with this value.
fn nonce_data(value: [u8; 32]) -> Vec<u8> {
    let mut data = vec![0; 80];
    data[0] = 1;
    data[4] = 1;
    data[40..72].copy_from_slice(&value);
    data
}

#[test]
fn a_durable_nonce_lives_until_the_nonce_moves() {
    let world = World::new(1);
    let sender = world.start();
    world
        .rpc
        .set(|answers| answers.account_data = Some(nonce_data(hash(7))));
    let signature = sender.send(&bed::nonce_transfer(1, hash(7)));
    // Far beyond the life of a blockhash, and still sent.
    world.runtime.block_on(world.chain.grow(1..=250));
    eventually("the stream is read", || sender_height(&sender) == 250);
    let asked = world.rpc.calls("getAccountInfo");
    eventually("the nonce is looked at", || {
        world.rpc.calls("getAccountInfo") > asked
    });
    assert_eq!(sender.status(&signature)["state"], "sending");
    world
        .rpc
        .set(|answers| answers.account_data = Some(nonce_data(hash(8))));
    let status = sender.wait_for(&signature, "expired", None);
    assert_eq!(status["lastValidBlockHeight"], json!(null));
}

#[test]
fn a_poisoned_record_goes_to_the_dead_letters_and_the_rest_goes_on() {
    let world = World::new(1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(1..=39));
    let transaction = transfer(1, hash(39));
    let signature = sender.send(&transaction);
    world.runtime.block_on(async {
        world.chain.poison(44).await;
        world.chain.publish(40, &[&transaction]).await;
    });
    sender.wait_for(&signature, "landed", Some("processed"));
    eventually("a dead letter", || {
        world.runtime.block_on(world.chain.dead_letters()) >= 1
    });
}
