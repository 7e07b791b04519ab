//! The bench `crash`, small: what it promises must hold in every run.

#[path = "../examples/warehouse_bench/crash/mod.rs"]
#[allow(dead_code, reason = "the example prints what is only measured here")]
mod crash;
mod decode_proof;
mod support;

#[test]
fn kills_forks_and_poison_leave_only_the_final_chain() {
    let options = crash::Options {
        kills: 6,
        rows: 0,
        seed: 7,
        quick: true,
        transactions: 8,
        slots_per_second: 16,
    };
    let outcome = crash::measure(&decode_proof::recorded::carried(), &options).unwrap();
    // Printed with the differing tables and slots, should a check fail.
    outcome.print();
    let sized = ["kills", "rows"];
    for check in outcome.checks() {
        assert!(check.ok || sized.contains(&&*check.name), "{check:?}");
    }
    assert_eq!(outcome.done.kills(), 6);
    assert!(outcome.done.zombies > 0 && outcome.plain.expected > 0);
}
