use proptest::prelude::*;
use serde_json::Value;
use solana_account_decoder::parse_bpf_loader::parse_bpf_upgradeable_loader;

use super::*;
use crate::decode::key_of_base58;

const ACCOUNT: Key = [9; 32];

fn read(data: &[u8]) -> Option<ProgramState> {
    of_account(&ACCOUNT, &programs::LOADER_UPGRADEABLE, false, data)
}

/// The same by Agave's own reader.
fn agave(data: &[u8]) -> Option<ProgramState> {
    let parsed = serde_json::to_value(parse_bpf_upgradeable_loader(data).ok()?).unwrap();
    let info = &parsed["info"];
    let key = |value: &Value| key_of_base58(value.as_str()?);
    match parsed["type"].as_str()? {
        "program" => Some(ProgramState {
            program: Some(ACCOUNT),
            programdata: key(&info["programData"]),
            ..ProgramState::default()
        }),
        "programData" => Some(ProgramState {
            programdata: Some(ACCOUNT),
            deployed_slot: info["slot"].as_u64(),
            upgrade_authority: Some(key(&info["authority"])),
            data_length: length_after(data, PROGRAMDATA_HEADER_BYTES),
            closed: Some(false),
            ..ProgramState::default()
        }),
        _ => None,
    }
}

proptest! {
    #[test]
    fn accounts_are_read_as_agave_reads_them(
        tag in 0_u32..5, slot in any::<u64>(), flag in 0_u8..2, key in any::<[u8; 32]>(), code in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        let programdata = [&3_u32.to_le_bytes()[..], &slot.to_le_bytes(), &[flag], &key, &code].concat();
        let others = [&tag.to_le_bytes()[..], &[flag], &key, &code].concat();
        for data in [programdata, others] {
            prop_assert_eq!(read(&data), agave(&data));
        }
    }

    #[test]
    fn any_bytes_are_answered(tag in 0_u32..5, mut data in prop::collection::vec(any::<u8>(), 0..80), executable in any::<bool>()) {
        for _ in 0..2 {
            for owner in [programs::LOADER_UPGRADEABLE, programs::LOADER_4, programs::LOADER, programs::SYSTEM] {
                let _ = of_account(&ACCOUNT, &owner, executable, &data);
            }
            if let Some(head) = data.first_chunk_mut::<4>() {
                *head = tag.to_le_bytes();
            }
        }
    }
}

#[test]
fn other_loaders_have_their_own_ways() {
    let fixed = of_account(&ACCOUNT, &programs::LOADER, true, &[1; 100]).unwrap();
    assert_eq!((fixed.program, fixed.programdata), (Some(ACCOUNT), None));
    assert_eq!(
        (fixed.upgrade_authority, fixed.data_length),
        (Some(None), Some(100))
    );
    assert_eq!(
        of_account(&ACCOUNT, &programs::LOADER, false, &[1; 100]),
        None
    );
    let fourth = |status: u64| {
        let data = [
            &5_u64.to_le_bytes()[..],
            &[7; 32],
            &status.to_le_bytes(),
            &[0; 10],
        ]
        .concat();
        of_account(&ACCOUNT, &programs::LOADER_4, true, &data)
    };
    let deployed = fourth(1).unwrap();
    assert_eq!(
        (deployed.deployed_slot, deployed.data_length),
        (Some(5), Some(10))
    );
    assert_eq!(
        (deployed.upgrade_authority, deployed.closed),
        (Some(Some([7; 32])), Some(false))
    );
    assert_eq!(fourth(0).unwrap().closed, Some(true));
    assert_eq!(fourth(2).unwrap().upgrade_authority, Some(None));
    assert_eq!(fourth(3), None);
}
