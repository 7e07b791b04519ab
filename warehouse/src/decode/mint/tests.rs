use base64::Engine as _;
use proptest::prelude::*;
use serde_json::Value;
use solana_account_decoder::parse_token::parse_token_v3;

use super::*;
use crate::decode::key_of_base58;

/// What Agave's own reader says of the mint in these bytes.
fn agave(data: &[u8]) -> Option<Value> {
    let parsed = serde_json::to_value(parse_token_v3(data, None).ok()?).unwrap();
    (parsed["type"] == "mint").then(|| parsed["info"].clone())
}

fn key_in(value: &Value) -> Option<Key> {
    key_of_base58(value.as_str()?)
}

fn text_in(value: &Value) -> Option<String> {
    Some(value.as_str()?.trim_end_matches('\0').to_owned())
}

/// The same, read from Agave's answer.
fn expected(info: &Value) -> MintState {
    let extensions: Vec<&Value> = info["extensions"]
        .as_array()
        .into_iter()
        .flatten()
        .collect();
    let of = |name: &str| {
        let mut found = extensions.iter().rev();
        found
            .find(|one| one["extension"] == name)
            .map(|one| &one["state"])
    };
    let key_of = |name: &str, field: &str| Some(of(name).and_then(|state| key_in(&state[field])));
    let metadata = of("tokenMetadata");
    MintState {
        decimals: info["decimals"].as_u64().map(|decimals| decimals as u8),
        supply: info["supply"]
            .as_str()
            .map(|supply| supply.parse().unwrap()),
        mint_authority: Some(key_in(&info["mintAuthority"])),
        freeze_authority: Some(key_in(&info["freezeAuthority"])),
        close_authority: key_of("mintCloseAuthority", "closeAuthority"),
        permanent_delegate: key_of("permanentDelegate", "delegate"),
        transfer_hook: key_of("transferHook", "programId"),
        transfer_fee: Some(of("transferFeeConfig").map(|state| {
            let fee = &state["newerTransferFee"];
            TransferFee {
                basis_points: fee["transferFeeBasisPoints"].as_u64().unwrap() as u16,
                maximum: fee["maximumFee"].as_u64().unwrap(),
                epoch: fee["epoch"].as_u64(),
            }
        })),
        // Agave names them, and the names are no numbers.
        extensions: None,
        name: metadata.and_then(|state| text_in(&state["name"])),
        symbol: metadata.and_then(|state| text_in(&state["symbol"])),
        uri: metadata.and_then(|state| text_in(&state["uri"])),
        metadata_authority: metadata.map(|state| key_in(&state["updateAuthority"])),
        metadata_mutable: None,
    }
}

fn without_numbers(state: MintState) -> MintState {
    MintState {
        extensions: None,
        ..state
    }
}

#[test]
fn recorded_mints_are_read_as_agave_reads_them() {
    let Some(folder) = std::env::var_os("HELIOGRAPH_DATA") else {
        eprintln!("SKIPPED: HELIOGRAPH_DATA is not set; no recorded mint was read");
        return;
    };
    let (mut mints, mut extensions) = (0, Vec::new());
    for entry in std::fs::read_dir(std::path::Path::new(&folder).join("accounts")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let (owner, data) = if name.ends_with("_mint.bin") {
            (programs::TOKEN, std::fs::read(&path).unwrap())
        } else if name.contains("mint") && name.ends_with(".json") {
            let dump: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let account = &dump["account"];
            let data = base64::engine::general_purpose::STANDARD
                .decode(account["data"][0].as_str().unwrap())
                .unwrap();
            (key_in(&account["owner"]).unwrap(), data)
        } else {
            continue;
        };
        let state = of_account(&owner, &data).unwrap_or_else(|| panic!("{name}: no mint"));
        extensions.extend(state.extensions.clone().unwrap());
        assert_eq!(
            without_numbers(state),
            expected(&agave(&data).unwrap()),
            "{name}"
        );
        mints += 1;
    }
    assert!(mints >= 10, "{mints}");
    // One of them has nearly all there are.
    for kind in [1, 3, 12, 14, 19] {
        assert!(extensions.contains(&kind), "{kind}: {extensions:?}");
    }
}

fn base() -> impl Strategy<Value = Vec<u8>> {
    let key = || (0_u32..2, any::<[u8; 32]>());
    (
        key(),
        any::<u64>(),
        any::<u8>(),
        prop::bool::weighted(0.9),
        key(),
    )
        .prop_map(
            |(mint_authority, supply, decimals, initialized, freeze_authority)| {
                [
                    &mint_authority.0.to_le_bytes()[..],
                    &mint_authority.1,
                    &supply.to_le_bytes(),
                    &[decimals, initialized.into()],
                    &freeze_authority.0.to_le_bytes(),
                    &freeze_authority.1,
                ]
                .concat()
            },
        )
}

fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    // Zeros too, which stand for no key.
    prop_oneof![
        prop::collection::vec(any::<u8>(), length),
        Just(vec![0; length])
    ]
}

fn metadata() -> impl Strategy<Value = Vec<u8>> {
    let text = "[a-zA-Z \u{1f600}]{0,20}\0{0,3}";
    (bytes(32), bytes(32), text, text, text).prop_map(|(authority, mint, name, symbol, uri)| {
        let text = |text: &str| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
        let none = 0_u32.to_le_bytes().to_vec();
        [
            authority,
            mint,
            text(&name),
            text(&symbol),
            text(&uri),
            none,
        ]
        .concat()
    })
}

fn extension() -> impl Strategy<Value = (u16, Vec<u8>)> {
    prop_oneof![
        bytes(108).prop_map(|value| (1, value)),
        bytes(32).prop_map(|value| (3, value)),
        Just((9, Vec::new())),
        bytes(32).prop_map(|value| (12, value)),
        bytes(64).prop_map(|value| (14, value)),
        bytes(64).prop_map(|value| (18, value)),
        metadata().prop_map(|value| (19, value)),
    ]
}

fn extended(base: &[u8], extensions: &[(u16, Vec<u8>)], tail: usize) -> Vec<u8> {
    let mut data = base.to_vec();
    data.resize(ACCOUNT_BYTES, 0);
    data.push(MINT_KIND);
    for (kind, value) in extensions {
        data.extend(kind.to_le_bytes());
        data.extend((value.len() as u16).to_le_bytes());
        data.extend(value);
    }
    data.extend(vec![0; tail]);
    data
}

proptest! {
    #[test]
    fn any_mint_is_read_as_agave_reads_it(
        base in base(),
        extensions in prop::collection::btree_map(0_u16..7, extension(), 0..6),
        tail in 0_usize..8,
    ) {
        // Each kind once, as the program lets it.
        let mut extensions: Vec<_> = extensions.into_values().collect();
        extensions.sort_by_key(|(kind, _)| *kind);
        extensions.dedup_by_key(|(kind, _)| *kind);
        let data = extended(&base, &extensions, tail);
        prop_assume!(data.len() != MULTISIG_BYTES);
        for (owner, data) in [(programs::TOKEN, &base), (programs::TOKEN_2022, &base), (programs::TOKEN_2022, &data)] {
            let state = of_account(&owner, data);
            if let Some(state) = &state && data.len() > BASE_BYTES {
                let numbers: Vec<u16> = extensions.iter().map(|(kind, _)| *kind).collect();
                prop_assert_eq!(state.extensions.as_ref(), Some(&numbers));
            }
            prop_assert_eq!(state.map(without_numbers), agave(data).as_ref().map(expected));
        }
        // The Token program has no extensions.
        prop_assert_eq!(of_account(&programs::TOKEN, &data), None);
    }

    /// Cut short or changed anywhere: something is said or nothing, and the base is never lost for an extension.
    #[test]
    fn damaged_bytes_are_answered(
        base in base(),
        extensions in prop::collection::vec(extension(), 0..4),
        cut in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut data = extended(&base, &extensions, 0);
        let whole = of_account(&programs::TOKEN_2022, &data);
        let place = at.index(data.len());
        data[place] = byte;
        data.truncate(cut.index(data.len() + 1));
        let damaged = of_account(&programs::TOKEN_2022, &data);
        if place > ACCOUNT_BYTES && data.len() > ACCOUNT_BYTES && data.len() != MULTISIG_BYTES && whole.is_some() {
            let of = |state: Option<MintState>| state.map(|state| (state.decimals, state.supply, state.mint_authority, state.freeze_authority));
            prop_assert_eq!(of(damaged), of(whole));
        }
    }

    #[test]
    fn any_bytes_are_answered(data in prop::collection::vec(any::<u8>(), 0..400)) {
        for owner in [programs::TOKEN, programs::TOKEN_2022, programs::SYSTEM] {
            let _ = of_account(&owner, &data);
        }
    }
}

#[test]
fn what_is_not_said_and_what_is_none_are_two_things() {
    let base = [
        &0_u32.to_le_bytes()[..],
        &[0; 32],
        &7_u64.to_le_bytes(),
        &[6, 1],
        &0_u32.to_le_bytes(),
        &[0; 32],
    ]
    .concat();
    let state = of_account(&programs::TOKEN, &base).unwrap();
    assert_eq!(
        (state.mint_authority, state.permanent_delegate),
        (Some(None), Some(None))
    );
    assert_eq!((&state.name, state.metadata_authority), (&None, None));
    assert!(state.says().contains(&"freeze_authority") && !state.says().contains(&"name"));
    // An extension that is longer than the account: of extensions nothing is said, of the mint all the same.
    let mut broken = extended(&base, &[], 0);
    broken.extend([12, 0, 32, 0, 1]);
    let state = of_account(&programs::TOKEN_2022, &broken).unwrap();
    assert_eq!(
        (state.supply, state.permanent_delegate, state.extensions),
        (Some(7), None, None)
    );
}
