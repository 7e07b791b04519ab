//! Agave's own reader of instructions, which makes `jsonParsed` replies, beside ours.

use serde_json::Value;
use solana_message::{AccountKeys, compiled_instruction::CompiledInstruction};
use solana_pubkey::Pubkey;
use solana_transaction_status::parse_instruction;
use warehouse::decode::{
    Decoded, Effect, Index, Key, Reading, TokenFlow, Trace,
    mint::{MintState, Said},
};

use super::Tally;

pub fn compare(tally: &mut Tally, place: &str, trace: &Trace<'_>, decoded: &Decoded) {
    let keys: Vec<Pubkey> = trace.keys.iter().copied().map(Pubkey::from).collect();
    let keys = AccountKeys::new(&keys, None);
    for (call, reading) in trace.calls.iter().zip(&decoded.readings) {
        let Some(program) = call.program else {
            continue;
        };
        let instruction = CompiledInstruction {
            program_id_index: 0,
            accounts: call.accounts.to_vec(),
            data: call.data.to_vec(),
        };
        let parsed = parse_instruction::parse(&Pubkey::from(program), &instruction, &keys, None);
        let Ok(parsed) = parsed else {
            let names_it = parse_instruction_knows(&program);
            tally.only_ours += u64::from(names_it && matches!(reading, Reading::Known(_)));
            continue;
        };
        let outcome = differs(trace, reading, &parsed.parsed);
        tally.reference.count(outcome.is_none(), || {
            format!(
                "{place} path {:#x}: {} beside {}",
                call.path,
                outcome.unwrap_or_default(),
                parsed.parsed
            )
        });
    }
}

/// Whether the reference has a reader for the program at all.
fn parse_instruction_knows(program: &[u8; 32]) -> bool {
    warehouse::decode::programs::by_id(program).is_some_and(|program| {
        [
            "system",
            "token",
            "token_2022",
            "associated_token",
            "memo_1",
            "memo_3",
            "memo_4",
            "stake",
            "vote",
            "address_lookup_table",
            "loader_upgradeable",
        ]
        .contains(&program.name)
    })
}

/// How our reading differs; nothing when it says the same.
fn differs(trace: &Trace<'_>, reading: &Reading, parsed: &Value) -> Option<String> {
    let Reading::Known(known) = reading else {
        return Some(format!("{reading:?}"));
    };
    let theirs = parsed["type"].as_str().unwrap_or("memo");
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    if plain(known.name) != plain(theirs) {
        return Some(format!("name {}", known.name));
    }
    let info = &parsed["info"];
    let key = |index: Index| trace.key(index).map(|key| bs58::encode(key).into_string());
    let account = |index: Option<Index>, names: &[&str]| {
        let told = names.iter().find_map(|name| info[*name].as_str());
        told.is_none() || told == index.and_then(key).as_deref()
    };
    if known.name == "batch" {
        let parts = info["instructions"].as_array().map_or(0, Vec::len);
        return (parts < known.effects.len()).then(|| "batch".to_owned());
    }
    for effect in &known.effects {
        let same = match effect {
            Effect::Lamports(movement) => {
                let told = info["lamports"]
                    .as_u64()
                    .or_else(|| info["amount"].as_str().and_then(|text| text.parse().ok()));
                told == movement.lamports
                    && account(
                        Some(movement.source),
                        &[
                            "source",
                            "nonceAccount",
                            "stakeAccount",
                            "voteAccount",
                            "account",
                            "lookupTableAccount",
                        ],
                    )
                    && account(
                        Some(movement.destination),
                        &["destination", "newAccount", "newSplitAccount", "recipient"],
                    )
            }
            Effect::Tokens(movement) => {
                let told = |name: &str| {
                    let amount = &info[name];
                    let text = amount.as_str().or(amount["amount"].as_str());
                    text.and_then(|text| text.parse::<u64>().ok())
                };
                let amount = told("amount").or_else(|| told("tokenAmount"));
                let decimals = info["tokenAmount"]["decimals"].as_u64();
                let fee = told("feeAmount");
                let lone = matches!(movement.flow, TokenFlow::Mint | TokenFlow::Open);
                amount == movement.amount
                    && (decimals.is_none() || decimals == movement.decimals.map(u64::from))
                    && (fee.is_none() || fee == movement.fee)
                    && account(movement.mint, &["mint"])
                    && (lone || account(movement.source, &["source", "account"]))
                    && (movement.destination.is_none()
                        || account(
                            movement.destination,
                            if lone {
                                &["account"]
                            } else {
                                &["destination", "feeRecipient"]
                            },
                        ))
                    && (movement.authority.is_none()
                        || account(
                            movement.authority,
                            &[
                                "authority",
                                "owner",
                                "mintAuthority",
                                "multisigAuthority",
                                "multisigOwner",
                            ],
                        ))
            }
            Effect::Swap(_) | Effect::SwapEvent(_) => true,
            Effect::Mint(statement) => {
                account(Some(statement.mint), &["mint", "metadata"])
                    && mint_agrees(&statement.state, info)
            }
            Effect::Program(statement) => {
                let authority = statement
                    .upgrade_authority
                    .map(|authority| authority.and_then(key));
                account(statement.program, &["programAccount"])
                    && account(
                        Some(statement.programdata),
                        &["programDataAccount", "account"],
                    )
                    && authority.is_none_or(|authority| {
                        let told = info["newAuthority"].as_str().or(info["authority"].as_str());
                        authority.is_none() || told == authority.as_deref()
                    })
                    && statement.data_length == info["maxDataLen"].as_u64()
            }
        };
        if !same {
            return Some(format!("{effect:?}"));
        }
    }
    None
}

/// Whatever the statement says of a mint, `jsonParsed` says too.
fn mint_agrees(state: &MintState, info: &Value) -> bool {
    let key = |said: Said<Key>, names: &[&str]| {
        let told = names.iter().find_map(|name| info[*name].as_str());
        said.is_none_or(|said| told == said.map(|key| bs58::encode(key).into_string()).as_deref())
    };
    let text = |said: &Option<String>, name: &str| {
        let told = info[name].as_str().or(info["value"].as_str());
        said.as_deref().is_none_or(|said| told == Some(said))
    };
    let fee = state.transfer_fee.flatten().is_none_or(|fee| {
        info["transferFeeBasisPoints"] == fee.basis_points && info["maximumFee"] == fee.maximum
    });
    fee && state.decimals.map(u64::from) == info["decimals"].as_u64()
        && key(state.mint_authority, &["mintAuthority", "newAuthority"])
        && key(state.freeze_authority, &["freezeAuthority", "newAuthority"])
        && key(state.close_authority, &["newAuthority"])
        && key(state.permanent_delegate, &["delegate", "newAuthority"])
        && key(state.transfer_hook, &["programId"])
        && key(state.metadata_authority, &["newAuthority"])
        && text(&state.name, "name")
        && text(&state.symbol, "symbol")
        && text(&state.uri, "uri")
}
