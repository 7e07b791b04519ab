//! Which slots go into which file. Pure.

/// Consecutive slots, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    pub from: u64,
    pub to: u64,
}

/// Cuts `counts` (slot and rows in it, slots rising) into ranges that end with the slot that fills them. The ranges touch:
/// no row can lie between two of them.
pub fn ranges(counts: &[(u64, u64)], whole: Range, rows_per_file: u64) -> Vec<Range> {
    let mut found = Vec::new();
    let mut from = whole.from;
    let mut rows = 0;
    for (slot, count) in counts {
        rows += count;
        if rows >= rows_per_file && *slot < whole.to {
            found.push(Range { from, to: *slot });
            from = slot + 1;
            rows = 0;
        }
    }
    found.push(Range { from, to: whole.to });
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_cover_the_whole_once(
            counts in proptest::collection::btree_map(100u64..300, 1u64..50, 0..80), rows_per_file in 1u64..200,
        ) {
            let counts: Vec<_> = counts.into_iter().collect();
            let whole = Range { from: 100, to: 299 };
            let found = ranges(&counts, whole, rows_per_file);
            prop_assert_eq!((found[0].from, found[found.len() - 1].to), (100, 299));
            for pair in found.windows(2) {
                prop_assert_eq!(pair[0].to + 1, pair[1].from);
            }
            for range in &found {
                prop_assert!(range.from <= range.to);
                // All but the last slot of a file stay below its size.
                let but_last: Vec<u64> = counts.iter().filter(|(slot, _)| *slot >= range.from && *slot <= range.to).map(|(_, rows)| *rows).collect();
                let sum: u64 = but_last.iter().rev().skip(1).sum();
                prop_assert!(sum < rows_per_file);
            }
        }
    }
}
