//! Which call is beneath which, and which one logged what.

use super::*;

#[test]
fn calls_beneath_end_where_the_depth_does() {
    let call = |path, stack_height| Call {
        path,
        stack_height,
        program: Some(TOKEN),
        accounts: &[],
        data: &[],
    };
    let deep = [Some(1), Some(2), Some(3), Some(3), Some(2), Some(1)];
    let paths = [0, 1, 2, 3, 4, 1 << 16];
    let trace = Trace {
        keys: Vec::new(),
        calls: paths
            .into_iter()
            .zip(deep)
            .map(|(path, depth)| call(path, depth))
            .collect(),
    };
    assert_eq!(trace.beneath(0), 1..5);
    assert_eq!(trace.beneath(1), 2..4);
    assert_eq!(trace.beneath(4), 5..5);
    assert_eq!(trace.beneath(5), 6..6);
    assert_eq!(trace.beneath(99), 100..100);
}

fn named(program: Key, path: u32, height: u8) -> Call<'static> {
    Call {
        path,
        stack_height: Some(height),
        program: Some(program),
        accounts: &[],
        data: &[],
    }
}

fn lines(text: &[&str]) -> Vec<String> {
    text.iter().map(|line| (*line).to_owned()).collect()
}

#[test]
fn what_is_logged_belongs_to_the_call_that_logged_it() {
    let (outer, inner) = ([5; 32], [6; 32]);
    let calls = [
        named(programs::ED25519, 0, 1),
        named(outer, 1 << 16, 1),
        named(inner, (1 << 16) | 1, 2),
    ];
    let (one, other) = (
        bs58::encode(outer).into_string(),
        bs58::encode(inner).into_string(),
    );
    let log = [
        format!("Program {one} invoke [1]"),
        format!("Program {other} invoke [2]"),
        "Program log: Program data: AAAA".into(),
        "Program data: AQI=".into(),
        format!("Program {other} success"),
        "Program data: Aw==".into(),
        format!("Program {one} success"),
        "Program data: BA==".into(),
    ];
    let found = log::written(&calls, &log);
    let found: Vec<_> = found
        .iter()
        .map(|written| (written.call, written.data.as_slice()))
        .collect();
    assert_eq!(found, [(2, &[1, 2][..]), (1, &[3][..])]);
    // A call that the trace does not have, and a cut: nothing after is believed.
    let strange = format!("Program {} invoke [1]", bs58::encode([9; 32]).into_string());
    assert!(log::written(&calls, &[&[strange][..], &log].concat()).is_empty());
    let cut = [&log[..2], &lines(&["Log truncated"]), &log[3..]].concat();
    assert!(log::written(&calls, &cut).is_empty());
}

proptest! {
    #[test]
    fn no_log_is_too_strange(log in prop::collection::vec("(Program |)([a-zA-Z1-9]{0,44}|11111111111111111111111111111111)( invoke \\[[0-9]{0,3}\\]| success| failed: x|data: [A-Za-z+/=]{0,20}|)", 0..12)) {
        let calls = [named(programs::SYSTEM, 0, 1), named(programs::SYSTEM, 1, 2)];
        log::written(&calls, &log);
    }
}
