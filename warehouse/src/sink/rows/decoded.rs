//! What the decoders found in one transaction, as rows.

use super::first_eight;
use crate::{
    decode::{
        Decoded, Effect, Index, Key, Reading, TokenFlow, Trace,
        idl::Idls,
        programs::{self, Program},
        swap::Swap,
    },
    sink::{
        native::{Blob, Seconds},
        tables::{InstructionRow, RouteRow, SolTransferRow, SwapRow, TokenTransferRow},
    },
};

/// Where rows of one transaction stand.
pub struct Place<'a> {
    pub slot: u64,
    pub tx_index: u32,
    pub block_time: Option<Seconds>,
    pub success: Option<bool>,
    pub trace: &'a Trace<'a>,
    pub decoded: &'a Decoded,
    /// For programs without a reader of ours.
    pub idls: &'a Idls,
}

impl Place<'_> {
    pub(super) fn key(&self, index: Option<Index>) -> Option<Key> {
        index.and_then(|index| self.trace.key(index))
    }

    fn decimals(&self, mint: Option<Key>) -> Option<u8> {
        self.decoded.decimals.get(&mint?).copied()
    }

    pub(super) fn path(&self, call: usize) -> u32 {
        self.trace.calls.get(call).map_or(0, |call| call.path)
    }

    /// Every call that was decoded belongs to a known program.
    pub(super) fn program(&self, call: usize) -> Option<&'static Program> {
        self.trace
            .calls
            .get(call)
            .and_then(|call| programs::by_id(&call.program?))
    }

    /// Calls whose program is not among the known keys have no row; the transaction counts them.
    pub fn instructions(&self) -> impl Iterator<Item = InstructionRow> {
        let calls = self.trace.calls.iter().zip(&self.decoded.readings);
        calls.filter_map(|(call, reading)| {
            let program = call.program?;
            let through_idl = match reading {
                Reading::Foreign => self.idls.read(&program, call.data),
                _ => None,
            };
            let (name, outcome, arguments, idl) = match through_idl {
                None => (
                    reading.name().unwrap_or_default(),
                    reading.outcome(),
                    String::new(),
                    "",
                ),
                Some(Ok(read)) => (read.name, "decoded", read.arguments, read.checksum),
                Some(Err(unread)) => ("", Reading::Unread(unread).outcome(), String::new(), ""),
            };
            Some(InstructionRow {
                arguments,
                idl,
                slot: self.slot,
                tx_index: self.tx_index,
                path: call.path,
                stack_height: call.stack_height,
                program,
                discriminator: first_eight(call.data),
                data: Blob(call.data.to_vec()),
                account_indexes: call.accounts.to_vec(),
                success: self.success,
                name,
                outcome,
                decoder_version: programs::by_id(&program).map_or(0, |program| program.version),
            })
        })
    }

    pub fn token_transfers(&self) -> impl Iterator<Item = TokenTransferRow> {
        let moved = self.decoded.tokens.iter();
        // Opening an account moves nothing.
        let moved = moved.filter(|placed| placed.movement.flow != TokenFlow::Open);
        moved.filter_map(|placed| {
            let (movement, program) = (placed.movement, self.program(placed.call)?);
            // A plain transfer names no mint; the balances of either side do, when the transaction lists them.
            let of_account = |index: Option<Index>| self.decoded.mints.get(&index?).copied();
            let mint = self
                .key(movement.mint)
                .or_else(|| of_account(movement.source))
                .or_else(|| of_account(movement.destination));
            Some(TokenTransferRow {
                slot: self.slot,
                tx_index: self.tx_index,
                path: self.path(placed.call),
                event_index: placed.event_index,
                kind: movement.kind,
                program: program.id,
                mint,
                source: self.key(movement.source),
                destination: self.key(movement.destination),
                authority: self.key(movement.authority),
                amount: movement.amount,
                decimals: movement.decimals.or_else(|| self.decimals(mint)),
                fee: movement.fee,
                success: self.success,
                decoder_version: program.version,
                block_time: self.block_time,
            })
        })
    }

    pub fn sol_transfers(&self) -> impl Iterator<Item = SolTransferRow> {
        // As read, before the balances filled amounts in: which of them the instructions stated.
        let readings = self.decoded.readings.iter().flat_map(Reading::effects);
        let stated = readings.filter_map(|effect| match effect {
            Effect::Lamports(movement) => Some(movement.lamports.is_some()),
            _ => None,
        });
        let moved = self.decoded.lamports.iter().zip(stated);
        moved.filter_map(|(placed, stated)| {
            let (movement, program) = (placed.movement, self.program(placed.call)?);
            Some(SolTransferRow {
                slot: self.slot,
                tx_index: self.tx_index,
                path: self.path(placed.call),
                event_index: placed.event_index,
                kind: movement.kind,
                program: program.id,
                source: self.trace.key(movement.source),
                destination: self.trace.key(movement.destination),
                lamports: movement.lamports,
                stated,
                success: self.success,
                decoder_version: program.version,
            })
        })
    }

    pub fn swaps(&self) -> impl Iterator<Item = SwapRow> {
        self.decoded.swaps.iter().filter_map(|swap: &Swap| {
            let program = self.program(swap.call)?;
            Some(SwapRow {
                slot: self.slot,
                tx_index: self.tx_index,
                path: self.path(swap.call),
                event_index: swap.event_index,
                block_time: self.block_time,
                program: program.id,
                protocol: program.name,
                pool: self.key(swap.shape.pool)?,
                user: self.trace.key(swap.shape.user),
                mint_in: swap.mint_in,
                mint_out: swap.mint_out,
                decimals_in: self.decimals(swap.mint_in),
                decimals_out: self.decimals(swap.mint_out),
                amount_in: swap.amount_in,
                amount_out: swap.amount_out,
                evidence: swap.evidence.word(),
                success: self.success,
                decoder_version: program.version,
            })
        })
    }

    pub fn routes(&self) -> impl Iterator<Item = RouteRow> {
        let routes = self.decoded.swaps.iter();
        let routes = routes.filter(|swap| swap.shape.pool.is_none());
        routes.filter_map(|swap| {
            let program = self.program(swap.call)?;
            Some(RouteRow {
                slot: self.slot,
                tx_index: self.tx_index,
                path: self.path(swap.call),
                block_time: self.block_time,
                program: program.id,
                protocol: program.name,
                user: self.trace.key(swap.shape.user),
                mint_in: swap.mint_in,
                mint_out: swap.mint_out,
                decimals_in: self.decimals(swap.mint_in),
                decimals_out: self.decimals(swap.mint_out),
                amount_in: swap.amount_in,
                amount_out: swap.amount_out,
                evidence: swap.evidence.word(),
                success: self.success,
                decoder_version: program.version,
            })
        })
    }
}
