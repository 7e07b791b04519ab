use agave_geyser_plugin_interface::geyser_plugin_interface::ReplicaDeshredTransactionInfo;

use super::*;
use crate::counters::LossReason;

#[test]
fn a_panic_in_a_callback_stays_inside_and_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plugin.json");
    let text = "{ libpath: 'x', validator_identity: 'So11111111111111111111111111111111111111112',
        kafka: { brokers: '127.0.0.1:1' }, metrics: { listen: null }, unload_seconds: 1 }";
    std::fs::write(&file, text).unwrap();
    let mut plugin = Plugin::default();
    plugin.on_load(file.to_str().unwrap(), false).unwrap();
    for kind in [
        Kind::Account,
        Kind::Slot,
        Kind::Transaction,
        Kind::Entry,
        Kind::BlockMeta,
        Kind::Deshred,
        Kind::ContactInfo,
    ] {
        assert!(plugin.observe(kind, 7, |_| panic!("injected")).is_ok());
    }
    let counters = std::sync::Arc::clone(&plugin.instance().unwrap().counters);
    assert_eq!(
        (counters.panics.get(), counters.lost_for(LossReason::Panic)),
        (7, 7)
    );
    assert_eq!(counters.lost_beside.get(), 2, "no seal states those");
    plugin
        .update_slot_status(7, None, &SlotStatus::Processed)
        .unwrap();
    plugin.on_unload();
    assert_eq!(counters.callbacks_total(), 8);
    assert_eq!(counters.spill_pending() + counters.lost_total(), 8);
    // After unloading, a straggler is harmless.
    plugin
        .update_slot_status(8, None, &SlotStatus::Processed)
        .unwrap();
}

/// What this release does not know is counted, under pressure of nobody, and costs no block anything.
#[test]
fn an_older_struct_or_a_short_key_is_a_counted_loss() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plugin.json");
    let text = "{ libpath: 'x', validator_identity: 'So11111111111111111111111111111111111111112',
        kafka: { brokers: '127.0.0.1:1' }, metrics: { listen: null }, unload_seconds: 1, deshred: true, contact_info: true }";
    std::fs::write(&file, text).unwrap();
    let mut plugin = Plugin::default();
    plugin.on_load(file.to_str().unwrap(), false).unwrap();
    let older = ReplicaDeshredTransactionInfo {
        signature: &Default::default(),
        is_vote: false,
        transaction: &Default::default(),
        loaded_addresses: None,
    };
    plugin
        .notify_deshred_transaction(ReplicaDeshredTransactionInfoVersions::V0_0_1(&older), 7)
        .unwrap();
    plugin.notify_contact_info_removed(&[1; 31]).unwrap();
    plugin.notify_contact_info_removed(&[1; 32]).unwrap();
    let counters = std::sync::Arc::clone(&plugin.instance().unwrap().counters);
    plugin.on_unload();
    assert_eq!(counters.lost_for(LossReason::Unreadable), 2);
    assert_eq!(counters.lost_beside.get(), 2);
    assert_eq!(counters.callbacks_total(), 3);
    assert_eq!(counters.spill_pending() + counters.lost_total(), 3);
}
