use std::time::Duration;

use proptest::prelude::*;

use super::*;

fn at(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
}

fn holder(name: &str) -> Holder {
    (name.into(), String::new())
}

fn quotas(concurrent_queries: usize, window: Window) -> Quotas {
    Quotas::new(&[Quota {
        name: "q".into(),
        concurrent_queries,
        windows: vec![window],
    }])
}

#[test]
fn windows_fill_and_turn_over() {
    let quotas = quotas(
        0,
        Window {
            seconds: 60,
            queries: 2,
            rows_read: 100,
            ..Window::default()
        },
    );
    let (ann, bob) = (holder("ann"), holder("bob"));
    let cost = |rows_read| Usage {
        rows_read,
        ..Usage::default()
    };
    let left = quotas.admit("q", &ann, at(0)).unwrap();
    assert_eq!(left.rows_read.unwrap().rest, 100);
    quotas.release("q", &ann, cost(30), at(1));
    assert_eq!(
        quotas
            .admit("q", &ann, at(2))
            .unwrap()
            .rows_read
            .unwrap()
            .rest,
        70
    );
    quotas.release("q", &ann, cost(500), at(3));
    let error = quotas.admit("q", &ann, at(4)).unwrap_err();
    assert_eq!(error.code, 201);
    assert!(
        error.to_string().contains("queries = 2/2") && error.to_string().contains("end in 56 s"),
        "{error}"
    );
    quotas.admit("q", &bob, at(4)).unwrap();
    quotas.admit("q", &ann, at(60)).unwrap();
    quotas.admit("none", &ann, at(4)).unwrap();
}

#[test]
fn places_are_given_back() {
    let quotas = quotas(2, Window::default());
    let ann = holder("ann");
    quotas.admit("q", &ann, at(0)).unwrap();
    quotas.admit("q", &ann, at(0)).unwrap();
    assert_eq!(quotas.admit("q", &ann, at(0)).unwrap_err().code, 202);
    quotas.release("q", &ann, Usage::default(), at(0));
    quotas.admit("q", &ann, at(0)).unwrap();
}

proptest! {
    /// Against the plain sum of what was paid: a window admits exactly while it is below its limit.
    #[test]
    fn a_window_is_a_sum(costs in proptest::collection::vec((0u64..40, 0u64..100), 1..60)) {
        let quotas = quotas(1, Window { seconds: 50, rows_read: 100, ..Window::default() });
        let ann = holder("ann");
        let mut paid: Vec<(u64, u64)> = Vec::new();
        let mut now = 0;
        for (pause, rows_read) in costs {
            now += pause;
            let used: u64 = paid.iter().filter(|(when, _)| when / 50 == now / 50).map(|(_, rows)| rows).sum();
            match quotas.admit("q", &ann, at(now)) {
                Ok(left) => {
                    prop_assert!(used < 100);
                    prop_assert_eq!(left.rows_read.unwrap().rest, 100 - used);
                    quotas.release("q", &ann, Usage { rows_read, ..Usage::default() }, at(now));
                    paid.push((now, rows_read));
                }
                Err(error) => {
                    prop_assert_eq!(error.code, 201);
                    prop_assert!(used >= 100);
                }
            }
        }
    }
}
