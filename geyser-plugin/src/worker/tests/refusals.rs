//! Records that Kafka will not have.

use super::bed::{Bed, balance};
use crate::worker::*;
use event_schema::Seal;

#[test]
fn a_record_kafka_refuses_is_lost_alone_and_stated() {
    let dir = tempfile::tempdir().unwrap();
    let mut bed = Bed::start(dir.path(), 16_384, 0, 1, true);
    bed.broker.lock().unwrap().refuse = Some(777);
    bed.offer(5, Fact::Account, &[1; 777]);
    bed.block(5, 10);
    bed.until("the rest is delivered", |bed| {
        bed.counters.delivered_total() == bed.offered - 1
    });
    bed.until("the slot is sealed", |bed| {
        bed.counters.seals_sealed.get() == 1
    });
    let (broker, counters, offered) = bed.stop();
    balance(&counters, offered);
    assert_eq!(counters.lost_for(LossReason::Delivery), 1);
    let stated: u64 = broker
        .partitions
        .values()
        .flatten()
        .filter(|kept| kept.header.kind == Kind::Seal)
        .map(|kept| Seal::decode(kept.value.as_slice()).unwrap().lost)
        .sum();
    assert_eq!(stated, 1);
}
