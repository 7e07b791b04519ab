//! The Stake program. Data is bincode, first a `u32` (`solana-stake-interface`, `StakeInstruction`).

use super::{Instruction, Known, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mut data = Reader::new(instruction.data);
    let moved = |name, kind, accounts, lamports| {
        Known::with(name, instruction.lamports(kind, accounts, lamports)?)
    };
    match data.u32()? {
        0 => Known::named("initialize"),
        1 => Known::named("authorize"),
        2 => Known::named("delegate"),
        3 => moved("split", "stake_split", [0, 1], Some(data.u64()?)),
        4 => moved("withdraw", "stake_withdraw", [0, 1], Some(data.u64()?)),
        5 => Known::named("deactivate"),
        6 => Known::named("set_lockup"),
        // All of the second account goes into the first.
        7 => moved("merge", "stake_merge", [1, 0], None),
        8 => Known::named("authorize_with_seed"),
        9 => Known::named("initialize_checked"),
        10 => Known::named("authorize_checked"),
        11 => Known::named("authorize_checked_with_seed"),
        12 => Known::named("set_lockup_checked"),
        13 => Known::named("get_minimum_delegation"),
        14 => Known::named("deactivate_delinquent"),
        15 => Known::named("redelegate"),
        16 => moved("move_stake", "move_stake", [0, 1], Some(data.u64()?)),
        17 => moved(
            "move_lamports",
            "move_stake_lamports",
            [0, 1],
            Some(data.u64()?),
        ),
        _ => Err(Unread::Unknown),
    }
}
