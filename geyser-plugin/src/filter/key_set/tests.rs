use std::collections::BTreeSet;

use proptest::{collection::vec, prelude::*};

use super::*;

proptest! {
    #[test]
    fn a_key_set_finds_what_a_scan_finds(
        listed in vec(any::<[u8; 32]>(), 0..200), others in vec(any::<[u8; 32]>(), 0..50),
    ) {
        // Some come twice.
        let listed: Vec<Pubkey> = listed.iter().chain(listed.iter().take(3)).copied().map(Pubkey).collect();
        let set = KeySet::compile("keys", &listed).unwrap();
        let mut positions = BTreeSet::new();
        for Pubkey(key) in &listed {
            positions.insert(set.position(key).expect("a listed key"));
        }
        prop_assert_eq!(positions.len(), set.len());
        prop_assert!(positions.iter().all(|position| (*position as usize) < set.len()));
        for other in &others {
            prop_assert_eq!(set.contains(other), listed.contains(&Pubkey(*other)));
        }
    }

    #[test]
    fn neighbours_of_a_listed_key_are_not_in_the_set(listed in vec(any::<[u8; 32]>(), 1..20), byte in 0..32_usize, bit in 0..8_u8) {
        let set = KeySet::compile("keys", &listed.iter().copied().map(Pubkey).collect::<Vec<_>>()).unwrap();
        for mut key in listed.clone() {
            key[byte] ^= 1 << bit;
            prop_assert_eq!(set.contains(&key), listed.contains(&key));
        }
    }
}

#[test]
fn every_byte_counts_in_the_hash() {
    let hasher = RandomState::new();
    let zero = hasher.hash_one(Key([0; 32]));
    for byte in 0..32 {
        let mut key = [0; 32];
        key[byte] = 1;
        assert_ne!(hasher.hash_one(Key(key)), zero, "{byte}");
    }
}
