//! What the fuzz targets are made of: the router's tests' small block, told in slot 10.

use event_schema::{Blockhash, Slot};
use stream_router::{assembly::Block, slot_tree::BlockId};

#[path = "../../tests/router/subscribers/small_block.rs"]
mod small_block;

pub use small_block::{METHODS, key};

const SLOT: u64 = 10;

pub fn signature(index: u8) -> String {
    bs58::encode([index + 1; 64]).into_string()
}

/// Also an account of a token account's size.
pub fn block() -> Block {
    let id = |slot: u64| BlockId::new(Slot(slot), Blockhash([slot as u8; 32]));
    let mut contents = small_block::contents(SLOT);
    let large = small_block::account(8, 0, 3, &[1; 165], 6);
    contents.push(small_block::with_bytes(SLOT, large));
    small_block::block(id(SLOT), id(SLOT - 1), contents)
}
