use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::{
    CompiledInstruction, InnerInstruction, InnerInstructions, Message, MessageHeader, TokenBalance,
    TransactionConfig, TransactionError, TransactionStatusMeta, UiTokenAmount,
};
use proptest::prelude::*;

use super::{
    programs::{PROGRAMS, TOKEN, TOKEN_2022, WRAPPED_SOL},
    token_flow::Identity,
    *,
};

const MINT: Key = [99; 32];

mod calls;
mod fees_apart;
mod instructions;
mod tokens;

fn balance(index: u32, mint: Key, amount: u64) -> TokenBalance {
    TokenBalance {
        account_index: index,
        mint: bs58::encode(mint).into_string(),
        ui_token_amount: Some(UiTokenAmount {
            amount: amount.to_string(),
            ..UiTokenAmount::default()
        }),
        ..TokenBalance::default()
    }
}

/// One instruction of `program` with accounts 1, 2, 3, between token accounts 1 and 2 of `mint`.
fn alone(
    program: Key,
    data: &[u8],
    mint: Key,
    before: [u64; 2],
    after: [u64; 2],
) -> (Message, TransactionStatusMeta) {
    let message = Message {
        account_keys: vec![
            vec![1; 32],
            vec![2; 32],
            vec![3; 32],
            MINT.to_vec(),
            program.to_vec(),
        ],
        instructions: vec![CompiledInstruction {
            program_id_index: 4,
            accounts: vec![1, 2, 0],
            data: data.to_vec(),
        }],
        ..Message::default()
    };
    let side = |held: [u64; 2]| vec![balance(1, mint, held[0]), balance(2, mint, held[1])];
    let meta = TransactionStatusMeta {
        pre_balances: vec![10; 5],
        post_balances: vec![10; 5],
        pre_token_balances: side(before),
        post_token_balances: side(after),
        ..TransactionStatusMeta::default()
    };
    (message, meta)
}

fn decoded(message: &Message, meta: &TransactionStatusMeta) -> Decoded {
    decode(message, Some(meta), &Trace::of(message, Some(meta)))
}

proptest! {
    /// However much of a transaction is missing or wrong.
    #[test]
    fn whole_transactions_of_any_shape_are_decoded(
        programs in prop::collection::vec(0_usize..PROGRAMS.len() + 2, 1..6),
        data in prop::collection::vec(any::<u8>(), 0..24),
        accounts in prop::collection::vec(0_u8..12, 0..12),
        balances in prop::collection::vec(any::<u64>(), 0..12),
        height in prop::option::of(0_u32..4),
    ) {
        let mut keys: Vec<Vec<u8>> = PROGRAMS.iter().map(|program| program.id.to_vec()).collect();
        keys.push(vec![1; 32]);
        let program = |nth: usize| u32::try_from(nth).unwrap();
        let inner = |nth: &usize| InnerInstruction {
            program_id_index: program(*nth),
            accounts: accounts.clone(),
            data: data.clone(),
            stack_height: height,
        };
        let message = Message {
            account_keys: keys,
            instructions: vec![CompiledInstruction {
                program_id_index: program(programs[0]),
                accounts: accounts.clone(),
                data: data.clone(),
            }],
            ..Message::default()
        };
        let meta = TransactionStatusMeta {
            pre_balances: balances.clone(),
            post_balances: balances,
            inner_instructions: vec![InnerInstructions {
                index: 0,
                instructions: programs.iter().map(inner).collect(),
            }],
            ..TransactionStatusMeta::default()
        };
        let trace = Trace::of(&message, Some(&meta));
        let decoded = decode(&message, Some(&meta), &trace);
        prop_assert_eq!(decoded.readings.len(), trace.calls.len());
    }
}
