//! The bench `fresh`, small: whatever its figures are, every transaction that was driven is stored once.

mod decode_proof;
#[path = "../examples/warehouse_bench/fresh/mod.rs"]
#[allow(dead_code, reason = "the example prints what is only measured here")]
mod fresh;

#[test]
fn every_transaction_of_a_validator_is_stored_once() {
    let options = fresh::Options {
        rate: 200,
        seconds: 3,
        warm_seconds: 1,
        slot_ms: 400,
        confirm_ms: 0,
        poll_ms: 20,
        quick: true,
    };
    let outcome = fresh::measure(&decode_proof::recorded::carried(), &options).unwrap();
    let timed = [
        "callback_to_queryable_p50_ms",
        "callback_to_queryable_p99_ms",
        "transactions_per_second",
    ];
    for check in outcome.checks(&options) {
        assert!(check.ok || timed.contains(&&*check.name), "{check:?}");
    }
    assert!(outcome.account.driven > 0 && outcome.account.stored == outcome.account.driven);
    assert!(outcome.from_callback.count() > 0);
}
