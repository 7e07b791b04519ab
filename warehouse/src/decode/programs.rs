//! The programs that have a reader, by their public key.

use std::{collections::HashMap, sync::LazyLock};

use super::{
    Instruction, Key, Known, Unread, address_lookup_table, associated_token, compute_budget,
    loader, memo, stake, swap, system, token, vote,
};

/// A program and the reader of its instructions.
pub struct Program {
    pub id: Key,
    /// Short name for people and tables.
    pub name: &'static str,
    /// Rises with every change of what the reader says; stored with every row, so that older rows can be found and
    /// decoded again.
    pub version: u16,
    pub read: fn(&Instruction<'_>) -> Result<Known, Unread>,
}

pub(super) const fn key(base58: &str) -> Key {
    bs58::decode(base58.as_bytes()).into_array_const_unwrap()
}

pub const SYSTEM: Key = key("11111111111111111111111111111111");
pub const TOKEN: Key = key("TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA");
pub const TOKEN_2022: Key = key("TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb");
pub const ASSOCIATED_TOKEN: Key = key("ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL");
pub const MEMO_1: Key = key("Memo1UhkJRfHyvLMcVucJwxXeuD728EqVDDwQDxFMNo");
pub const MEMO_3: Key = key("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr");
pub const MEMO_4: Key = key("Memo4c2pN8afCj432Lb7RMVKi9PbQnnW7ewFFaV3oAH");
pub const STAKE: Key = key("Stake11111111111111111111111111111111111111");
pub const VOTE: Key = key("Vote111111111111111111111111111111111111111");
pub const COMPUTE_BUDGET: Key = key("ComputeBudget111111111111111111111111111111");
pub const ADDRESS_LOOKUP_TABLE: Key = key("AddressLookupTab1e1111111111111111111111111");
pub const LOADER_DEPRECATED: Key = key("BPFLoader1111111111111111111111111111111111");
pub const LOADER: Key = key("BPFLoader2111111111111111111111111111111111");
pub const LOADER_UPGRADEABLE: Key = key("BPFLoaderUpgradeab1e11111111111111111111111");
pub const LOADER_4: Key = key("LoaderV411111111111111111111111111111111111");
pub const ED25519: Key = key("Ed25519SigVerify111111111111111111111111111");
pub const SECP256K1: Key = key("KeccakSecp256k11111111111111111111111111111");
pub const SECP256R1: Key = key("Secp256r1SigVerify1111111111111111111111111");
pub const WRAPPED_SOL: Key = key("So11111111111111111111111111111111111111112");
pub const WRAPPED_SOL_2022: Key = key("9pan9bMn5HatX4EJdBwg9VgCa7Uz5HL8N1m5D3NdXejP");
/// Has no reader of its own: what it says of mints is read, and an IDL may name its instructions.
pub const METAPLEX_METADATA: Key = key("metaqbxxUerdq28cj1RbAWkYQm3ybzjb6a8bt518x1s");

pub const JUPITER: Key = key("JUP6LkbZbjS1jKKwapdHNy74zcZ3tLUZoi5QNyVTaV4");
pub const RAYDIUM_AMM: Key = key("675kPX9MHTjS2zt1qfr1NYHuzeLXfQM9H24wFSUt1Mp8");
pub const RAYDIUM_CPMM: Key = key("CPMMoo8L3F4NbTegBCKVNunggL7H1ZpdTHKxQB5qKP1C");
pub const RAYDIUM_CLMM: Key = key("CAMMCzo5YL8w4VFF8KVHrK22GGUsp5VTaW7grrKgrWqK");
pub const WHIRLPOOL: Key = key("whirLbMiicVdio4qvUfM5KAg6Ct8VwpYzGff3uctyCc");
pub const METEORA_DLMM: Key = key("LBUZKhRxPF3XUpBCjp4YzTKgLccjZhTSDM9YuVaPwxo");
pub const METEORA_DAMM_1: Key = key("Eo7WjKq67rjJQSZxS6z3YkapzY3eMj6Xy8X5EQVn5UaB");
pub const METEORA_DAMM_2: Key = key("cpamdpZCGKUy5JxQXB4dcpGPiikHawvSWAd6mEn1sGG");
pub const PUMP_FUN: Key = key("6EF8rrecthR5Dkzon8Nwu78hRvfCKubJ14M5uBEwF6P");
pub const PUMP_SWAP: Key = key("pAMMBay6oceH9fJKBRHGP5D4bD4sWpmSwMn52FMfXEA");

macro_rules! programs {
    ($($id:ident, $name:literal, $version:literal, $read:path;)*) => {
        /// Every program with a reader.
        pub const PROGRAMS: &[Program] = &[$(Program { id: $id, name: $name, version: $version, read: $read }),*];
    };
}

programs! {
    SYSTEM, "system", 1, system::read;
    TOKEN, "token", 2, token::read;
    TOKEN_2022, "token_2022", 2, token::read;
    ASSOCIATED_TOKEN, "associated_token", 1, associated_token::read;
    MEMO_1, "memo_1", 1, memo::read;
    MEMO_3, "memo_3", 1, memo::read;
    MEMO_4, "memo_4", 1, memo::read;
    STAKE, "stake", 1, stake::read;
    VOTE, "vote", 1, vote::read;
    COMPUTE_BUDGET, "compute_budget", 1, compute_budget::read;
    ADDRESS_LOOKUP_TABLE, "address_lookup_table", 1, address_lookup_table::read;
    LOADER_UPGRADEABLE, "loader_upgradeable", 2, loader::read;
    JUPITER, "jupiter", 2, swap::jupiter::read;
    RAYDIUM_AMM, "raydium_amm", 2, swap::raydium_amm::read;
    RAYDIUM_CPMM, "raydium_cpmm", 2, swap::raydium_cpmm::read;
    RAYDIUM_CLMM, "raydium_clmm", 2, swap::raydium_clmm::read;
    WHIRLPOOL, "whirlpool", 2, swap::whirlpool::read;
    METEORA_DLMM, "meteora_dlmm", 2, swap::meteora_dlmm::read;
    METEORA_DAMM_1, "meteora_damm_1", 2, swap::meteora_damm::read_1;
    METEORA_DAMM_2, "meteora_damm_2", 2, swap::meteora_damm::read_2;
    PUMP_FUN, "pump_fun", 2, swap::pump_fun::read;
    PUMP_SWAP, "pump_swap", 2, swap::pump_swap::read;
}

static BY_ID: LazyLock<HashMap<Key, &'static Program>> = LazyLock::new(|| {
    PROGRAMS
        .iter()
        .map(|program| (program.id, program))
        .collect()
});

pub fn by_id(id: &Key) -> Option<&'static Program> {
    BY_ID.get(id).copied()
}

pub fn is_token(id: &Key) -> bool {
    *id == TOKEN || *id == TOKEN_2022
}

/// The mint whose tokens are lamports, of either token program.
pub fn is_wrapped_sol(mint: &Key) -> bool {
    *mint == WRAPPED_SOL || *mint == WRAPPED_SOL_2022
}

/// Programs that call no others.
pub fn is_leaf(id: &Key) -> bool {
    is_token(id) || [SYSTEM, MEMO_1, MEMO_3, MEMO_4].contains(id)
}
