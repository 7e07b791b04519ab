//! The same by a real broker, which dies in between.

mod bed;

use std::sync::Arc;

use bed::{World, chain::hash, eventually, transfer, wire};
use event_log::{KafkaConfig, KafkaLog};
use local_services::{Kafka, KafkaOptions};

#[test]
fn outcomes_come_by_kafka_and_its_death_stops_neither_accepting_nor_sending() {
    let mut kafka = Kafka::start(KafkaOptions::default()).unwrap();
    let log = KafkaLog::new(KafkaConfig::new(kafka.brokers())).unwrap();
    let world = World::on(Arc::new(log), 1);
    let sender = world.start();
    world.runtime.block_on(world.chain.grow(38..=39));
    let first = transfer(1, hash(39));
    let signature = sender.send(&first);
    world.runtime.block_on(world.chain.publish(40, &[&first]));
    sender.wait_for(&signature, "landed", Some("processed"));
    world.runtime.block_on(world.chain.finalize(40));
    sender.wait_for(&signature, "landed", Some("finalized"));

    kafka.kill();
    let second = transfer(2, hash(39));
    let signature = sender.send(&second);
    eventually("the leader has it", || {
        world.leaders[0].count(&wire(&second)) >= 1
    });
    kafka.restart().unwrap();
    world.runtime.block_on(async {
        world.chain.publish(41, &[&second]).await;
        world.chain.finalize(41).await;
    });
    sender.wait_for(&signature, "landed", Some("finalized"));

    // What lands while no sender runs is found by the next one, from the stored positions.
    let third = transfer(3, hash(39));
    let signature = sender.send(&third);
    sender.kill();
    world.runtime.block_on(async {
        world.chain.publish(42, &[&third]).await;
        world.chain.finalize(42).await;
    });
    let sender = world.start();
    sender.wait_for(&signature, "landed", Some("finalized"));
}
