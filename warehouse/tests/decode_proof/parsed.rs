//! Replies in `jsonParsed`, which lost their message bytes: instructions are written again from what the reply says of them,
//! so that the balances of those transactions can be a reference too. What is said of an instruction is no reference here,
//! since its bytes come from it.

use event_schema::proto::{
    confirmed_block::{
        CompiledInstruction, InnerInstruction, InnerInstructions, Message, MessageHeader,
        TokenBalance, Transaction, TransactionError, TransactionStatusMeta, UiTokenAmount,
    },
    geyser::SubscribeUpdateTransactionInfo,
};
use serde_json::Value;
use warehouse::decode::{Instruction, Key, programs};

/// The transaction of one reply; `None` when the reply has message bytes or lacks what it should have.
pub fn transaction(reply: &Value) -> Option<SubscribeUpdateTransactionInfo> {
    let message = &reply["transaction"]["message"];
    let keys: Vec<Key> = message["accountKeys"]
        .as_array()?
        .iter()
        .map(|account| key(account["pubkey"].as_str()?))
        .collect::<Option<_>>()?;
    let signers = message["accountKeys"].as_array()?.iter();
    let signers = signers
        .filter(|account| account["signer"] == Value::Bool(true))
        .count();
    let meta = &reply["meta"];
    let written = |instruction: &Value| write(&keys, instruction);
    let outer = message["instructions"].as_array()?.iter().map(written);
    let instructions: Vec<Written> = outer.collect::<Option<_>>()?;
    let inner = match meta["innerInstructions"].as_array() {
        None => Vec::new(),
        Some(groups) => groups
            .iter()
            .map(|group| {
                let instructions = group["instructions"].as_array()?.iter();
                Some(InnerInstructions {
                    index: u32::try_from(group["index"].as_u64()?).ok()?,
                    instructions: instructions
                        .map(|instruction| {
                            let written = written(instruction)?;
                            Some(InnerInstruction {
                                program_id_index: written.program,
                                accounts: written.accounts,
                                data: written.data,
                                stack_height: instruction["stackHeight"]
                                    .as_u64()
                                    .and_then(|height| u32::try_from(height).ok()),
                            })
                        })
                        .collect::<Option<_>>()?,
                })
            })
            .collect::<Option<_>>()?,
    };
    let numbers = |name: &str| -> Option<Vec<u64>> {
        meta[name].as_array()?.iter().map(Value::as_u64).collect()
    };
    let signature = reply["transaction"]["signatures"][0].as_str()?;
    Some(SubscribeUpdateTransactionInfo {
        signature: bs58::decode(signature).into_vec().ok()?,
        is_vote: false,
        index: 0,
        transaction: Some(Transaction {
            signatures: Vec::new(),
            message: Some(Message {
                header: Some(MessageHeader {
                    num_required_signatures: u32::try_from(signers).ok()?,
                    ..MessageHeader::default()
                }),
                account_keys: keys.iter().map(|key| key.to_vec()).collect(),
                instructions: instructions
                    .into_iter()
                    .map(|written| CompiledInstruction {
                        program_id_index: written.program,
                        accounts: written.accounts,
                        data: written.data,
                    })
                    .collect(),
                ..Message::default()
            }),
        }),
        meta: Some(TransactionStatusMeta {
            err: (!meta["err"].is_null()).then(|| TransactionError { err: vec![8] }),
            fee: meta["fee"].as_u64()?,
            pre_balances: numbers("preBalances")?,
            post_balances: numbers("postBalances")?,
            inner_instructions: inner,
            inner_instructions_none: meta["innerInstructions"].is_null(),
            pre_token_balances: token_balances(&meta["preTokenBalances"])?,
            post_token_balances: token_balances(&meta["postTokenBalances"])?,
            ..TransactionStatusMeta::default()
        }),
    })
}

fn token_balances(list: &Value) -> Option<Vec<TokenBalance>> {
    let balance = |balance: &Value| {
        Some(TokenBalance {
            account_index: u32::try_from(balance["accountIndex"].as_u64()?).ok()?,
            mint: balance["mint"].as_str()?.to_owned(),
            ui_token_amount: Some(UiTokenAmount {
                amount: balance["uiTokenAmount"]["amount"].as_str()?.to_owned(),
                ..UiTokenAmount::default()
            }),
            ..TokenBalance::default()
        })
    };
    list.as_array()
        .map_or(Some(Vec::new()), |list| list.iter().map(balance).collect())
}

fn key(text: &str) -> Option<Key> {
    bs58::decode(text).into_vec().ok()?.try_into().ok()
}

struct Written {
    program: u32,
    accounts: Vec<u8>,
    data: Vec<u8>,
}

fn write(keys: &[Key], instruction: &Value) -> Option<Written> {
    let index = |text: &str| {
        let wanted = key(text)?;
        u8::try_from(keys.iter().position(|key| *key == wanted)?).ok()
    };
    let program = key(instruction["programId"].as_str()?)?;
    let (data, accounts) = match instruction["data"].as_str() {
        Some(data) => {
            let accounts = instruction["accounts"].as_array()?.iter();
            let accounts = accounts.map(|account| account.as_str().and_then(index));
            (
                bs58::decode(data).into_vec().ok()?,
                accounts.collect::<Option<_>>()?,
            )
        }
        None => match instruction["parsed"].as_str() {
            Some(memo) => (memo.as_bytes().to_vec(), Vec::new()),
            None => {
                let parsed = &instruction["parsed"];
                again(&program, parsed["type"].as_str()?, &parsed["info"], &index)?
            }
        },
    };
    Some(Written {
        program: u32::from(index(instruction["programId"].as_str()?)?),
        accounts,
        data,
    })
}

/// Data and accounts of a parsed instruction: its tag is the one that our reader calls by that name.
fn again(
    program: &Key,
    name: &str,
    info: &Value,
    index: &dyn Fn(&str) -> Option<u8>,
) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut data = tag(program, name)?;
    let account = |names: &[&str]| {
        names
            .iter()
            .find_map(|name| info[*name].as_str())
            .and_then(index)
    };
    let number = |value: &Value| value.as_u64().or_else(|| value.as_str()?.parse().ok());
    let lamports = || number(&info["lamports"]).map(u64::to_le_bytes);
    let amount = || {
        number(&info["amount"])
            .or_else(|| number(&info["tokenAmount"]["amount"]))
            .map(u64::to_le_bytes)
    };
    let mut accounts: Vec<Option<u8>> = Vec::new();
    if programs::is_token(program) {
        match name {
            "transfer" => {
                data.extend(amount()?);
                accounts = vec![account(&["source"]), account(&["destination"]), None];
            }
            "transferChecked" => {
                data.extend(amount()?);
                data.push(u8::try_from(number(&info["tokenAmount"]["decimals"])?).ok()?);
                accounts = vec![
                    account(&["source"]),
                    account(&["mint"]),
                    account(&["destination"]),
                    None,
                ];
            }
            "mintTo" | "mintToChecked" => {
                data.extend(amount()?);
                data.push(0);
                accounts = vec![account(&["mint"]), account(&["account"]), None];
            }
            "burn" | "burnChecked" => {
                data.extend(amount()?);
                data.push(0);
                accounts = vec![account(&["account"]), account(&["mint"]), None];
            }
            "closeAccount" => {
                accounts = vec![account(&["account"]), account(&["destination"]), None]
            }
            "syncNative" => accounts = vec![account(&["account"])],
            "initializeAccount" | "initializeAccount2" | "initializeAccount3" => {
                accounts = vec![account(&["account"]), account(&["mint"])];
            }
            _ => {}
        }
    } else if let Some(lamports) = lamports() {
        if name == "createAccountWithSeed" {
            data.extend([0; 40]);
        }
        data.extend(lamports);
        let source = account(&["source", "nonceAccount", "stakeAccount", "voteAccount"]);
        let destination = account(&["destination", "newAccount", "newSplitAccount"]);
        // A transfer with a seed names its base between the two.
        accounts = match name {
            "transferWithSeed" => vec![source, None, destination],
            _ => vec![source, destination],
        };
    }
    let amounts = data.len();
    data.resize(amounts + 80, 0);
    accounts.resize(accounts.len().max(8), None);
    Some((
        data,
        accounts
            .into_iter()
            .map(|account| account.unwrap_or(0))
            .collect(),
    ))
}

fn tag(program: &Key, name: &str) -> Option<Vec<u8>> {
    let known = programs::by_id(program)?;
    let plain = |name: &str| name.replace('_', "").to_lowercase();
    let named = |tag: &[u8]| {
        let data = [tag, &[0; 80]].concat();
        let instruction = Instruction {
            program,
            data: &data,
            accounts: &[0; 8],
        };
        (known.read)(&instruction).is_ok_and(|known| plain(known.name) == plain(name))
    };
    let narrow = programs::is_token(program) || *program == programs::ASSOCIATED_TOKEN;
    (0_u8..60)
        .map(|tag| {
            if narrow {
                vec![tag]
            } else {
                u32::from(tag).to_le_bytes().to_vec()
            }
        })
        .find(|tag| named(tag))
}
