//! The Vote program. Data is bincode, first a `u32` (`solana-vote-interface`, `VoteInstruction`). Votes themselves are only
//! named: their content is the cluster's business, not an analyst's.

use super::{Instruction, Known, Unread, bytes::Reader};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mut data = Reader::new(instruction.data);
    match data.u32()? {
        0 => Known::named("initialize"),
        1 => Known::named("authorize"),
        2 => Known::named("vote"),
        3 => Known::with(
            "withdraw",
            instruction.lamports("vote_withdraw", [0, 1], Some(data.u64()?))?,
        ),
        4 => Known::named("update_validator_identity"),
        5 => Known::named("update_commission"),
        6 => Known::named("vote_switch"),
        7 => Known::named("authorize_checked"),
        8 => Known::named("update_vote_state"),
        9 => Known::named("update_vote_state_switch"),
        10 => Known::named("authorize_with_seed"),
        11 => Known::named("authorize_checked_with_seed"),
        12 => Known::named("compact_update_vote_state"),
        13 => Known::named("compact_update_vote_state_switch"),
        14 => Known::named("tower_sync"),
        15 => Known::named("tower_sync_switch"),
        16 => Known::named("initialize_v2"),
        17 => Known::named("update_commission_collector"),
        18 => Known::named("update_commission_bps"),
        // The deposit is a System transfer beneath.
        19 => Known::named("deposit_delegator_rewards"),
        _ => Err(Unread::Unknown),
    }
}
