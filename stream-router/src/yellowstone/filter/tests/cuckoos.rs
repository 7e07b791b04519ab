//! Cuckoo sets are what the reference library says they are.

use event_schema::proto::geyser::CuckooFilter;

use super::{
    super::{
        cuckoo::{Cuckoo, Probe},
        error::Place,
    },
    universe::{KEYS, cuckoo, key, members, text},
};

/// Made by `yellowstone_grpc_proto::cuckoo::CompressedAccountFilterSet` 12.7.0 from the keys [1; 32] to [6; 32].
#[test]
fn cuckoo_sets_are_read_as_the_reference_library_writes_them() {
    let sent = CuckooFilter {
        data: vec![
            139, 83, 60, 161, 0, 0, 0, 0, 90, 197, 240, 188, 164, 238, 73, 14,
        ],
        bucket_count: 2,
        entries_per_bucket: 4,
        fingerprint_bits: 16,
        hash_seed: 0x796c_6c77_7374_6e21,
        hash_algorithm: 0,
    };
    let place = Place {
        kind: "accounts",
        name: "",
    };
    let set = Cuckoo::compile(place, "", &sent, None).unwrap();
    let has = |byte| set.contains(&Probe::new(set.seed, &[byte; 32]));
    let found: Vec<u8> = (0..=255).filter(|byte| has(*byte)).collect();
    assert_eq!(found, [1, 2, 3, 4, 5, 6]);
}

#[test]
fn cuckoo_sets_of_the_small_world_have_no_false_positives() {
    for set in (0..1 << KEYS).flat_map(|all| [cuckoo(all, 7), cuckoo(all, 0x796c_6c77_7374_6e21)]) {
        let place = Place {
            kind: "accounts",
            name: "",
        };
        let compiled = Cuckoo::compile(place, "", &set, None).unwrap();
        let found = (0..KEYS)
            .filter(|it| compiled.contains_any(&[key(*it)]))
            .map(text);
        assert_eq!(found.collect::<Vec<_>>(), members(&set));
    }
}
