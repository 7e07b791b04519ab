//! Every kind is built, signed and measured; nothing is sent.

use std::collections::BTreeSet;

use rand::SeedableRng;

use super::{setting::new_mint, *};
use crate::scene::WALLETS;

fn scene() -> Scene {
    let wallets: Vec<_> = (0..WALLETS).map(|_| Arc::new(Keypair::new())).collect();
    let (token, fee_token) = (
        new_mint(spl_token_interface::ID).0,
        new_mint(spl_token_2022_interface::ID).0,
    );
    Scene {
        table: AddressLookupTableAccount {
            key: Pubkey::new_from_array([3; 32]),
            addresses: Scene::table_addresses(&wallets, &[token, fee_token]),
        },
        table_filled_slot: 9,
        wallets,
        token,
        fee_token,
        token_mint_rent: 1,
        fee_mint_rent: 1,
        version_1_accepted: true,
        opened: vec![Arc::new(Opened {
            owner: Keypair::new(),
            mint: token,
        })],
        wrapped: BTreeSet::from([1]),
        unwrapped: BTreeSet::from([2]),
        recent_slot: 10,
        last_table_slot: 0,
    }
}

#[test]
fn every_kind_of_the_mix_is_signed_by_all_it_names_and_fits_its_version() {
    for seed in 0..20 {
        for (kind, _) in MIX {
            let mut random = StdRng::seed_from_u64(seed);
            let draft = draft(*kind, &mut scene(), &mut random).unwrap().unwrap();
            let transaction = draft.sign(Hash::new_from_array([1; 32])).unwrap();
            transaction.sanitize().unwrap();
            let bytes = wincode::serialize(&transaction).unwrap();
            let (limit, version) = match transaction.message {
                VersionedMessage::Legacy(_) => (1232, 0),
                VersionedMessage::V0(_) => (1232, 1),
                VersionedMessage::V1(_) => (4096, 2),
            };
            assert!(bytes.len() <= limit, "{kind:?}: {} bytes", bytes.len());
            let expected = match kind {
                Kind::TableTransfer => 1,
                Kind::Version1Transfer => 2,
                _ => 0,
            };
            assert_eq!(version, expected, "{kind:?}");
        }
    }
}

#[test]
fn a_table_transfer_really_looks_addresses_up() {
    let mut random = StdRng::seed_from_u64(5);
    let draft = draft(Kind::TableTransfer, &mut scene(), &mut random)
        .unwrap()
        .unwrap();
    let transaction = draft.sign(Hash::default()).unwrap();
    let lookups = transaction.message.address_table_lookups().unwrap();
    assert_eq!(lookups.len(), 1);
    assert!(lookups[0].writable_indexes.len() >= 3);
}

#[test]
fn fees_round_up_and_are_capped() {
    assert_eq!(fee_of(0), 0);
    assert_eq!(fee_of(1), 1);
    assert_eq!(fee_of(10_000), 150);
    assert_eq!(fee_of(10_001), 151);
    assert_eq!(fee_of(u64::MAX), FEE_MAX);
}
