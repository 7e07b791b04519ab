use super::*;
use crate::intent::{SendAmount, SendSol};
use solana_address::Address;
use solana_hash::Hash;

fn address(byte: u8) -> Address {
    Address::new_from_array([byte; 32])
}

fn transfer(to: u8, lamports: u64) -> Decoded {
    Decoded {
        send: SendSol {
            from: address(1),
            to: address(to),
            amount: SendAmount::new(lamports).unwrap(),
        },
        blockhash: Hash::default(),
        programs: vec![Address::default()],
    }
}

fn policy(text: &str) -> Policy {
    Policy::parse("test", text, "").unwrap()
}

fn verdict(policy: &Policy, decoded: &Decoded) -> Verdict {
    policy.decide(Uuid::from_u128(1), decoded, 5000)
}

fn denied_by(verdict: Verdict) -> Vec<String> {
    match verdict {
        Verdict::Denied(denial) => denial.by,
        Verdict::Allowed { by } => panic!("allowed by {by:?}"),
    }
}

#[test]
fn the_default_allows_small_transfers_and_names_what_refuses_others() {
    let policy = Policy::load("", "").unwrap();
    assert_eq!(
        verdict(&policy, &transfer(2, 10_000_000_000)),
        Verdict::Allowed {
            by: vec!["send-small-amounts".into()]
        }
    );
    assert_eq!(
        denied_by(verdict(&policy, &transfer(2, 10_000_000_001))),
        ["transaction-limit"]
    );
    assert_eq!(
        denied_by(verdict(&policy, &transfer(2, SendAmount::MAX))),
        ["transaction-limit"]
    );
    assert_eq!(
        denied_by(verdict(&policy, &transfer(1, 5))),
        ["no-self-transfer"]
    );
    let mut foreign = transfer(2, 5);
    foreign.programs.push(address(9));
    assert_eq!(denied_by(verdict(&policy, &foreign)), ["allowed-programs"]);
    assert_eq!(
        denied_by(policy.decide(Uuid::nil(), &transfer(2, 5), 2_000_000)),
        ["fee-limit"]
    );
}

#[test]
fn a_forbid_that_fails_to_evaluate_denies() {
    // Overflows at evaluation. Cedar by itself would skip this forbid and allow the request.
    let policy = policy(
        r#"permit (principal, action, resource);
           forbid (principal, action, resource) when { context.lamports * 9223372036854775807 > 0 };"#,
    );
    match verdict(&policy, &transfer(2, 2)) {
        Verdict::Denied(denial) => assert!(denial.by[0].contains("overflow"), "{denial:?}"),
        Verdict::Allowed { .. } => panic!("an erroring forbid let the request pass"),
    }
}

#[test]
fn a_permit_that_fails_to_evaluate_denies_even_beside_one_that_allows() {
    let policy = policy(
        r#"permit (principal, action, resource);
           permit (principal, action, resource) when { context.lamports * 9223372036854775807 > 0 };"#,
    );
    assert!(matches!(
        verdict(&policy, &transfer(2, 2)),
        Verdict::Denied(_)
    ));
}

#[test]
fn fees_beyond_the_policy_engine_deny() {
    let policy = policy("permit (principal, action, resource);");
    assert!(matches!(
        policy.decide(Uuid::nil(), &transfer(2, 2), u64::MAX),
        Verdict::Denied(_)
    ));
}

#[test]
fn nothing_permitting_denies() {
    let policy = policy(r#"permit (principal == User::"nobody", action, resource);"#);
    assert!(denied_by(verdict(&policy, &transfer(2, 2))).is_empty());
}

#[test]
fn wrong_policy_files_are_refused_with_the_reason() {
    let error = |text: &str| {
        Policy::parse("p.cedar", text, "")
            .err()
            .expect(text)
            .to_string()
    };
    assert!(error("permit (principal").contains("p.cedar is not valid Cedar"));
    assert!(
        error("permit (principal, action, resource) when { context.sol > 1 };")
            .contains("does not fit the request schema")
    );
    assert!(
        error("permit (principal, action, resource) when { context.lamports == \"5\" };")
            .contains("schema")
    );
    assert!(error("forbid (principal, action, resource);").contains("permits nothing"));
    assert!(
        Policy::load("/nonexistent/p.cedar", "")
            .err()
            .expect("absent")
            .to_string()
            .contains("/nonexistent/p.cedar")
    );
}

#[test]
fn the_version_changes_with_policies_and_limits() {
    let text = "permit (principal, action, resource);";
    let version = |text: &str, limits: &str| Policy::parse("p", text, limits).unwrap().version();
    assert_eq!(version(text, "a"), version(text, "a"));
    assert_ne!(version(text, "a"), version(text, "b"));
    assert_ne!(version(text, "a"), version(&format!("{text} "), "a"));
}
