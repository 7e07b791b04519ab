//! The calls of a transaction in order of execution, each with its place and depth.

use std::collections::HashMap;

use event_schema::proto::confirmed_block::{InnerInstruction, Message, TransactionStatusMeta};

use super::{Index, Instruction, Key, programs};

/// An instruction wherever it stands in the transaction.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// The outer number in the upper 16 bits; 0 for the outer one itself, 1, 2, … for its inner ones in order.
    pub path: u32,
    /// 1 for outer ones; `None` for inner ones before the chain recorded it.
    pub stack_height: Option<u8>,
    /// `None`: not among the known keys.
    pub program: Option<Key>,
    pub accounts: &'a [Index],
    pub data: &'a [u8],
}

impl Call<'_> {
    pub fn outer(&self) -> u32 {
        self.path >> 16
    }

    pub fn instruction(&self) -> Option<Instruction<'_>> {
        Some(Instruction {
            program: self.program.as_ref()?,
            data: self.data,
            accounts: self.accounts,
        })
    }
}

/// All calls of a transaction, and the keys they refer to.
#[derive(Debug, Clone)]
pub struct Trace<'a> {
    /// In the order instructions refer to them: the message's own, loaded writable, loaded readonly.
    pub keys: Vec<Key>,
    pub calls: Vec<Call<'a>>,
}

impl<'a> Trace<'a> {
    pub fn of(message: &'a Message, meta: Option<&'a TransactionStatusMeta>) -> Self {
        let keys = keys(message, meta);
        let program = |index: u32| keys.get(usize::try_from(index).ok()?).copied();
        let mut inner_of: HashMap<u32, Vec<&'a InnerInstruction>> = HashMap::new();
        for group in meta.into_iter().flat_map(|meta| &meta.inner_instructions) {
            inner_of
                .entry(group.index)
                .or_default()
                .extend(&group.instructions);
        }
        let mut calls = Vec::with_capacity(message.instructions.len());
        for (outer, number) in message.instructions.iter().zip(0_u32..) {
            calls.push(Call {
                path: number << 16,
                stack_height: Some(1),
                program: program(outer.program_id_index),
                accounts: &outer.accounts,
                data: &outer.data,
            });
            let inner = inner_of.remove(&number).unwrap_or_default();
            calls.extend(inner.into_iter().zip(1_u32..).map(|(inner, order)| {
                Call {
                    path: (number << 16) | order.min(0xffff),
                    stack_height: inner
                        .stack_height
                        .and_then(|height| u8::try_from(height).ok()),
                    program: program(inner.program_id_index),
                    accounts: &inner.accounts,
                    data: &inner.data,
                }
            }));
        }
        Self { keys, calls }
    }

    pub fn key(&self, index: Index) -> Option<Key> {
        self.keys.get(usize::from(index)).copied()
    }

    /// The places of the calls that call `nth` caused, directly or not.
    ///
    /// Where depths were not recorded: everything beneath an outer call, and the leaf programs' calls (tokens, lamports,
    /// memos) that follow an inner one at once.
    pub fn beneath(&self, nth: usize) -> std::ops::Range<usize> {
        let first = nth.saturating_add(1);
        let Some(own) = self.calls.get(nth) else {
            return first..first;
        };
        let belongs = |call: &Call<'_>| {
            call.outer() == own.outer()
                && match (own.stack_height, call.stack_height) {
                    (Some(own), Some(depth)) => depth > own,
                    (Some(own), None) => own == 1,
                    (None, _) => call
                        .program
                        .is_some_and(|program| programs::is_leaf(&program)),
                }
        };
        let rest = self.calls.get(first..).unwrap_or_default();
        first..first + rest.iter().take_while(|call| belongs(call)).count()
    }
}

/// A key of a wrong length would shift all after it: the list ends there, and what refers past it stays unresolved.
fn keys(message: &Message, meta: Option<&TransactionStatusMeta>) -> Vec<Key> {
    let loaded = meta.into_iter().flat_map(|meta| {
        meta.loaded_writable_addresses
            .iter()
            .chain(&meta.loaded_readonly_addresses)
    });
    message
        .account_keys
        .iter()
        .chain(loaded)
        .map_while(|bytes| bytes.as_slice().try_into().ok())
        .collect()
}
