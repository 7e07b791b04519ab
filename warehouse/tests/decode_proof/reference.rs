//! Agave's own reader of instructions, which makes `jsonParsed` replies, beside ours.

use serde_json::Value;
use solana_message::{AccountKeys, compiled_instruction::CompiledInstruction};
use solana_pubkey::Pubkey;
use solana_transaction_status::parse_instruction;
use warehouse::decode::{Decoded, Effect, Index, Reading, TokenFlow, Trace};

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
        };
        if !same {
            return Some(format!("{effect:?}"));
        }
    }
    None
}
