use event_schema::proto::confirmed_block::{
    CompiledInstruction, InnerInstruction, InnerInstructions, Message, TokenBalance,
    TransactionStatusMeta, UiTokenAmount,
};

use super::*;
use crate::decode::{Decoded, Trace, decode, programs};

const BASE: Key = [70; 32];
const QUOTE: Key = [71; 32];
/// Places of the programs among the keys; below them are plain accounts, the place their name.
const TOKEN_AT: u32 = 40;
const PROGRAM_AT: u32 = 41;
const SYSTEM_AT: u32 = 42;

/// An instruction of `program` with accounts 0, 1, 2, …, and the calls beneath it.
fn swap(program: Key, data: &[u8], accounts: u8, beneath: Vec<InnerInstruction>) -> Decoded {
    let mut keys: Vec<Vec<u8>> = (0..40).map(|place| vec![100 + place; 32]).collect();
    keys.extend([programs::TOKEN, program, programs::SYSTEM].map(|key| key.to_vec()));
    // As the pump_fun readers expect: mint 1, quote mint 2.
    keys[1] = BASE.to_vec();
    keys[2] = QUOTE.to_vec();
    let message = Message {
        account_keys: keys,
        instructions: vec![CompiledInstruction {
            program_id_index: PROGRAM_AT,
            accounts: (0..accounts).collect(),
            data: data.to_vec(),
        }],
        ..Message::default()
    };
    let balance = |index: u32, mint: Key| TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            amount: "1".into(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    };
    let listed = vec![
        balance(2, BASE),
        balance(3, QUOTE),
        balance(11, BASE),
        balance(12, QUOTE),
    ];
    let meta = TransactionStatusMeta {
        inner_instructions: vec![InnerInstructions {
            index: 0,
            instructions: beneath,
        }],
        pre_token_balances: listed.clone(),
        post_token_balances: listed,
        ..TransactionStatusMeta::default()
    };
    decode(&message, Some(&meta), &Trace::of(&message, Some(&meta)))
}

fn tokens(from: u8, to: u8, amount: u64) -> InnerInstruction {
    InnerInstruction {
        program_id_index: TOKEN_AT,
        accounts: vec![from, to, 0],
        data: [&[3_u8][..], &amount.to_le_bytes()].concat(),
        stack_height: Some(2),
    }
}

fn lamports(from: u8, to: u8, amount: u64) -> InnerInstruction {
    InnerInstruction {
        program_id_index: SYSTEM_AT,
        accounts: vec![from, to],
        data: [&2_u32.to_le_bytes()[..], &amount.to_le_bytes()].concat(),
        stack_height: Some(2),
    }
}

fn told(data: Vec<u8>) -> InnerInstruction {
    InnerInstruction {
        program_id_index: PROGRAM_AT,
        accounts: vec![0],
        data: [&SELF_CALL[..], &data].concat(),
        stack_height: Some(2),
    }
}

/// DLMM's `Swap`.
fn bins(amount_in: u64, amount_out: u64) -> InnerInstruction {
    let head = [&[81, 108, 227, 190, 205, 208, 10, 196][..], &[0; 72]].concat();
    told(
        [
            &head[..],
            &amount_in.to_le_bytes(),
            &amount_out.to_le_bytes(),
        ]
        .concat(),
    )
}

const DLMM_SWAP: [u8; 8] = [248, 198, 158, 145, 225, 117, 135, 200];

fn only(decoded: &Decoded) -> (Option<Key>, Option<u64>, Option<Key>, Option<u64>, Evidence) {
    let [swap] = decoded.swaps.as_slice() else {
        panic!("{:?}", decoded.swaps);
    };
    (
        swap.mint_in,
        swap.amount_in,
        swap.mint_out,
        swap.amount_out,
        swap.evidence,
    )
}

#[test]
fn transfers_tell_the_direction_and_the_event_is_compared() {
    let dlmm = |beneath| only(&swap(programs::METEORA_DLMM, &DLMM_SWAP, 15, beneath));
    // Vaults are accounts 2 and 3.
    let there = vec![tokens(4, 2, 500), tokens(3, 5, 70)];
    assert_eq!(
        dlmm(there.clone()),
        (
            Some(BASE),
            Some(500),
            Some(QUOTE),
            Some(70),
            Evidence::Transfers
        )
    );
    let back = vec![tokens(4, 3, 500), tokens(2, 5, 70)];
    assert_eq!(
        dlmm(back),
        (
            Some(QUOTE),
            Some(500),
            Some(BASE),
            Some(70),
            Evidence::Transfers
        )
    );
    let with = |event| dlmm([there.clone(), vec![event]].concat()).4;
    assert_eq!(with(bins(500, 70)), Evidence::TransfersAndEvent);
    assert_eq!(with(bins(500, 71)), Evidence::Mismatch);
    // Liquidity that goes in on both sides is no swap, and no amount is made up.
    let both = vec![tokens(4, 2, 500), tokens(5, 3, 70)];
    assert_eq!(dlmm(both), (None, None, None, None, Evidence::None));
}

#[test]
fn fees_beside_the_vaults_are_not_the_pools() {
    let beneath = vec![
        tokens(4, 2, 500),
        tokens(4, 30, 9),
        tokens(3, 5, 70),
        tokens(3, 31, 2),
    ];
    let found = only(&swap(programs::METEORA_DLMM, &DLMM_SWAP, 15, beneath));
    assert_eq!(
        (found.1, found.3),
        (Some(500), Some(72)),
        "all that left the vault left the pool"
    );
}

/// Pump.fun's `TradeEvent` up to the flag.
fn trade(lamports: u64, tokens: u64, buys: bool) -> InnerInstruction {
    let head = [&[189, 219, 127, 211, 78, 230, 97, 238][..], &[0; 32]].concat();
    told(
        [
            &head[..],
            &lamports.to_le_bytes(),
            &tokens.to_le_bytes(),
            &[u8::from(buys)],
        ]
        .concat(),
    )
}

const BUY: [u8; 8] = [102, 6, 61, 18, 1, 218, 235, 234];
const SELL: [u8; 8] = [51, 230, 133, 164, 1, 127, 131, 173];
const BUY_FOR_ANY_QUOTE: [u8; 8] = [194, 171, 28, 70, 104, 77, 91, 47];

#[test]
fn a_curve_trades_lamports() {
    let pump = |data: [u8; 8], beneath| only(&swap(programs::PUMP_FUN, &data, 12, beneath));
    // Mint is account 2, curve 3, vault 4.
    let sol = Some(programs::WRAPPED_SOL);
    let bought = vec![
        tokens(4, 5, 1_000),
        lamports(6, 3, 77),
        lamports(6, 9, 1),
        trade(77, 1_000, true),
    ];
    assert_eq!(
        pump(BUY, bought),
        (
            sol,
            Some(77),
            Some(QUOTE),
            Some(1_000),
            Evidence::TransfersAndEvent
        )
    );
    // A seller is paid without a call: the event knows.
    let sold = vec![tokens(5, 4, 1_000), trade(70, 1_000, false)];
    assert_eq!(
        pump(SELL, sold),
        (Some(QUOTE), Some(1_000), sol, Some(70), Evidence::Event)
    );
    // Without the event the lamports are not known, and not zero.
    assert_eq!(
        pump(SELL, vec![tokens(5, 4, 1_000)]),
        (Some(QUOTE), Some(1_000), sol, None, Evidence::None)
    );
    // The event tells other tokens than moved: it is not believed.
    let odd = pump(SELL, vec![tokens(5, 4, 1_000), trade(70, 999, false)]);
    assert_eq!((odd.3, odd.4), (None, Evidence::Mismatch));
}

#[test]
fn a_curve_of_another_quote_is_told_in_that_mint() {
    let beneath = vec![
        tokens(11, 14, 1_000),
        tokens(15, 12, 400),
        tokens(15, 7, 3),
        trade(0, 1_000, true),
    ];
    assert_eq!(
        only(&swap(programs::PUMP_FUN, &BUY_FOR_ANY_QUOTE, 27, beneath)),
        (
            Some(QUOTE),
            Some(400),
            Some(BASE),
            Some(1_000),
            Evidence::Transfers
        )
    );
}

#[test]
fn a_route_is_what_its_user_gave_and_got() {
    let route = [229, 23, 203, 151, 122, 227, 173, 42];
    // Source 2, destination 3; the account that may stand in for it is the program: absent.
    let beneath = vec![tokens(2, 20, 500), tokens(21, 3, 70)];
    let decoded = swap(programs::JUPITER, &route, 9, beneath);
    assert_eq!(decoded.swaps[0].shape.pool, None);
    assert_eq!(
        (only(&decoded).1, only(&decoded).2),
        (Some(500), decoded.swaps[0].mint_out)
    );
}

/// An Anchor instruction is named by the hash of its name: no byte of our tables is mistyped.
#[test]
fn discriminators_are_the_hashes_of_the_names() {
    use crate::decode::programs::*;
    use sha2::{Digest, Sha256};
    let names: &[(Key, &[&str])] = &[
        (
            RAYDIUM_CPMM,
            &[
                "swap_base_input",
                "swap_base_output",
                "initialize",
                "deposit",
                "withdraw",
                "collect_protocol_fee",
                "collect_fund_fee",
                "collect_creator_fee",
            ],
        ),
        (RAYDIUM_CLMM, &["swap", "swap_v2"]),
        (
            WHIRLPOOL,
            &["swap", "swap_v2", "two_hop_swap", "two_hop_swap_v2"],
        ),
        (
            METEORA_DLMM,
            &[
                "swap",
                "swap2",
                "swap_exact_out",
                "swap_exact_out2",
                "swap_with_price_impact",
                "swap_with_price_impact2",
            ],
        ),
        (METEORA_DAMM_1, &["swap"]),
        (METEORA_DAMM_2, &["swap", "swap2"]),
        (
            PUMP_FUN,
            &[
                "buy",
                "sell",
                "buy_v2",
                "buy_v3",
                "sell_v2",
                "buy_exact_quote_in_v2",
                "create",
                "create_v2",
                "extend_account",
                "migrate_v2",
            ],
        ),
        (
            PUMP_SWAP,
            &[
                "buy",
                "sell",
                "buy_exact_quote_in",
                "create_pool",
                "deposit",
                "withdraw",
                "init_boost",
                "collect_coin_creator_fee",
                "transfer_creator_fees_to_pump",
                "transfer_creator_fees_to_pump_v2",
                "extend_account",
                "sync_user_volume_accumulator",
                "claim_token_incentives",
            ],
        ),
        (
            JUPITER,
            &[
                "route",
                "route_v2",
                "route_with_token_ledger",
                "exact_out_route",
                "exact_out_route_v2",
                "shared_accounts_route",
                "shared_accounts_route_v2",
                "shared_accounts_route_with_token_ledger",
                "shared_accounts_exact_out_route",
                "shared_accounts_exact_out_route_v2",
                "create_token_account",
            ],
        ),
    ];
    let accounts: Vec<Index> = (0..40).collect();
    for (program, names) in names {
        for name in *names {
            let data = [&Sha256::digest(format!("global:{name}"))[..8], &[0; 64]].concat();
            let instruction = Instruction {
                program,
                data: &data,
                accounts: &accounts,
            };
            let read = (by_id(program).unwrap().read)(&instruction);
            assert_eq!(read.unwrap().name, *name);
        }
    }
}
