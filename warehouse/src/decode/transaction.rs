//! A whole transaction: every call read, then what only the whole can tell.

use std::collections::BTreeMap;

use event_schema::proto::confirmed_block::{Message, TransactionStatusMeta};

use super::{
    Effect, Index, Key, LamportMovement, Reading, TokenMovement, Trace,
    fees::{self, Fees},
    lamport_flow, log, programs,
    swap::{self, Swap},
    token_flow::{self, Identity, Mints, Placed},
};

/// See the module.
#[derive(Debug, Clone)]
pub struct Decoded {
    /// Of every call of the trace, in its order.
    pub readings: Vec<Reading>,
    pub tokens: Vec<Placed<TokenMovement>>,
    pub lamports: Vec<Placed<LamportMovement>>,
    pub swaps: Vec<Swap>,
    /// Mints of token accounts, as far as the transaction names them.
    pub mints: BTreeMap<Index, Key>,
    /// Decimals of mints, as far as it tells them.
    pub decimals: BTreeMap<Key, u8>,
    pub token_identity: Identity,
    pub fees: Fees,
}

pub fn decode(
    message: &Message,
    meta: Option<&TransactionStatusMeta>,
    trace: &Trace<'_>,
) -> Decoded {
    let readings: Vec<Reading> = trace.calls.iter().map(read).collect();
    let mut tokens = placed(&readings, |effect| match effect {
        Effect::Tokens(movement) => Some(*movement),
        _ => None,
    });
    let mut lamports = placed(&readings, |effect| match effect {
        Effect::Lamports(movement) => Some(*movement),
        _ => None,
    });
    let unread = unread(trace, meta, &readings);
    let token_identity = token_flow::settle(trace, meta, &mut tokens, unread);
    let Mints {
        of_account: mints,
        decimals,
    } = token_flow::mints(trace, meta, &tokens);
    lamport_flow::settle(meta, &mut lamports, &tokens, &mints);
    let logs = meta.map_or(&[][..], |meta| &meta.log_messages);
    let written = log::written(&trace.calls, logs);
    let swaps = swap::settle(trace, &readings, &tokens, &lamports, &mints, &written);
    let fees = fees::fees(trace, message, meta, &lamports);
    Decoded {
        readings,
        tokens,
        lamports,
        swaps,
        mints,
        decimals,
        token_identity,
        fees,
    }
}

fn read(call: &super::Call<'_>) -> Reading {
    let Some(instruction) = call.instruction() else {
        return Reading::Foreign;
    };
    match programs::by_id(instruction.program) {
        None => Reading::Foreign,
        Some(program) => match (program.read)(&instruction) {
            Ok(known) => Reading::Known(known),
            Err(unread) => Reading::Unread(unread),
        },
    }
}

fn placed<M>(readings: &[Reading], of: impl Fn(&Effect) -> Option<M>) -> Vec<Placed<M>> {
    let of_call = |(call, reading): (usize, &Reading)| {
        let movements = reading.effects().iter().filter_map(&of);
        movements
            .zip(0_u16..)
            .map(|(movement, event_index)| Placed {
                call,
                event_index,
                movement,
            })
            .collect::<Vec<_>>()
    };
    readings.iter().enumerate().flat_map(of_call).collect()
}

/// Why a transaction may have moved tokens by instructions that were not read; `None`: it has not.
fn unread(
    trace: &Trace<'_>,
    meta: Option<&TransactionStatusMeta>,
    readings: &[Reading],
) -> Option<&'static str> {
    let of_tokens = |call: &super::Call<'_>| {
        call.program
            .is_some_and(|program| programs::is_token(&program))
    };
    let calls_others = |call: &super::Call<'_>| {
        !call
            .program
            .is_some_and(|program| programs::is_leaf(&program))
    };
    if trace.calls.iter().any(|call| call.program.is_none()) {
        return Some("a program is not among the known keys");
    }
    let mut read = trace.calls.iter().zip(readings);
    if read.any(|(call, reading)| of_tokens(call) && matches!(reading, Reading::Unread(_))) {
        return Some("a token instruction was not understood");
    }
    let inner_unknown = meta.is_none_or(|meta| meta.inner_instructions_none);
    if inner_unknown && trace.calls.iter().any(calls_others) {
        return Some("inner instructions are not recorded");
    }
    None
}
