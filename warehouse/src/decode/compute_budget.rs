//! The Compute Budget program: limits and price of a transaction. Data is borsh, first a `u8`
//! (`solana-compute-budget-interface`, `ComputeBudgetInstruction`). [`Request`] is for [`super::fees`].

use super::{Instruction, Known, Unread, bytes::Reader};

/// One request of a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request {
    /// The first form, long refused: units, and a fee in lamports on top.
    UnitsAndFee {
        units: u32,
        additional_fee: u32,
    },
    HeapBytes(u32),
    UnitLimit(u32),
    /// Micro-lamports per compute unit.
    UnitPrice(u64),
    LoadedAccountsBytes(u32),
}

pub fn request(data: &[u8]) -> Result<Request, Unread> {
    let mut data = Reader::new(data);
    match data.u8()? {
        0 => Ok(Request::UnitsAndFee {
            units: data.u32()?,
            additional_fee: data.u32()?,
        }),
        1 => data.u32().map(Request::HeapBytes),
        2 => data.u32().map(Request::UnitLimit),
        3 => data.u64().map(Request::UnitPrice),
        4 => data.u32().map(Request::LoadedAccountsBytes),
        _ => Err(Unread::Unknown),
    }
}

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    Known::named(match request(instruction.data)? {
        Request::UnitsAndFee { .. } => "request_units",
        Request::HeapBytes(_) => "request_heap_frame",
        Request::UnitLimit(_) => "set_compute_unit_limit",
        Request::UnitPrice(_) => "set_compute_unit_price",
        Request::LoadedAccountsBytes(_) => "set_loaded_accounts_data_size_limit",
    })
}
