//! The rows of every table, field by field as `migrations/` declares the columns.

use super::native::{Blob, Millis, Seconds, table_row};

pub use crate::decode::Key;

table_row! {
    BlockRow in "blocks" {
        slot: u64,
        blockhash: Key,
        parent_slot: u64,
        parent_blockhash: Key,
        block_time: Option<Seconds>,
        block_height: Option<u64>,
        transactions: u32,
        entries: u32,
        account_updates: u32,
        sources: Vec<String>,
        repaired: bool,
    }
}

table_row! {
    TransactionRow in "transactions" {
        slot: u64,
        tx_index: u32,
        signature: [u8; 64],
        is_vote: bool,
        /// -1 legacy, 0, 1.
        version: i8,
        fee_payer: Option<Key>,
        fee: Option<u64>,
        success: Option<bool>,
        error: String,
        error_instruction: Option<u8>,
        error_custom: Option<u32>,
        compute_units: Option<u64>,
        cost_units: Option<u64>,
        signatures: u8,
        recent_blockhash: Option<Key>,
        account_keys: Vec<Key>,
        instructions: u16,
        instructions_unresolved: u16,
        inner_known: bool,
        logs_known: bool,
        log_messages: Vec<String>,
        lamport_identity: &'static str,
        block_time: Option<Seconds>,
        base_fee: Option<u64>,
        priority_fee: Option<u64>,
        tip: Option<u64>,
        unit_price: Option<u64>,
        unit_limit: Option<u32>,
        heap_bytes: Option<u32>,
        loaded_accounts_bytes: Option<u32>,
        token_identity: &'static str,
        token_identity_reason: &'static str,
    }
}

table_row! {
    RawTransactionRow in "transactions_raw" {
        slot: u64,
        tx_index: u32,
        signature_apart: bool,
        transaction: Blob,
        meta: Option<Blob>,
    }
}

table_row! {
    InstructionRow in "instructions" {
        slot: u64,
        tx_index: u32,
        path: u32,
        stack_height: Option<u8>,
        program: Key,
        discriminator: u64,
        data: Blob,
        account_indexes: Vec<u8>,
        success: Option<bool>,
        name: &'static str,
        outcome: &'static str,
        decoder_version: u16,
        arguments: String,
        idl: &'static str,
    }
}

table_row! {
    TokenTransferRow in "token_transfers" {
        slot: u64,
        tx_index: u32,
        path: u32,
        event_index: u16,
        kind: &'static str,
        program: Key,
        mint: Option<Key>,
        source: Option<Key>,
        destination: Option<Key>,
        authority: Option<Key>,
        amount: Option<u64>,
        decimals: Option<u8>,
        fee: Option<u64>,
        success: Option<bool>,
        decoder_version: u16,
        block_time: Option<Seconds>,
    }
}

table_row! {
    SolTransferRow in "sol_transfers" {
        slot: u64,
        tx_index: u32,
        path: u32,
        event_index: u16,
        kind: &'static str,
        program: Key,
        source: Option<Key>,
        destination: Option<Key>,
        lamports: Option<u64>,
        stated: bool,
        success: Option<bool>,
        decoder_version: u16,
    }
}

table_row! {
    SwapRow in "swaps" {
        slot: u64,
        tx_index: u32,
        path: u32,
        event_index: u16,
        block_time: Option<Seconds>,
        program: Key,
        protocol: &'static str,
        pool: Key,
        user: Option<Key>,
        mint_in: Option<Key>,
        mint_out: Option<Key>,
        decimals_in: Option<u8>,
        decimals_out: Option<u8>,
        amount_in: Option<u64>,
        amount_out: Option<u64>,
        evidence: &'static str,
        success: Option<bool>,
        decoder_version: u16,
    }
}

table_row! {
    RouteRow in "routes" {
        slot: u64,
        tx_index: u32,
        path: u32,
        block_time: Option<Seconds>,
        program: Key,
        protocol: &'static str,
        user: Option<Key>,
        mint_in: Option<Key>,
        mint_out: Option<Key>,
        decimals_in: Option<u8>,
        decimals_out: Option<u8>,
        amount_in: Option<u64>,
        amount_out: Option<u64>,
        evidence: &'static str,
        success: Option<bool>,
        decoder_version: u16,
    }
}

table_row! {
    SignatureRow in "transactions_by_signature" {
        signature_hash: u64,
        slot: u64,
        tx_index: u32,
    }
}

table_row! {
    AccountTransactionRow in "transactions_by_account" {
        account_hash: u64,
        slot: u64,
        tx_index: u32,
    }
}

table_row! {
    AccountTransferRow in "transfers_by_account" {
        account: Key,
        slot: u64,
        tx_index: u32,
        path: u32,
        event_index: u16,
        side: &'static str,
        asset: &'static str,
        kind: &'static str,
        mint: Option<Key>,
        amount: Option<u64>,
        success: Option<bool>,
    }
}

table_row! {
    BalanceChangeRow in "balance_changes" {
        slot: u64,
        tx_index: u32,
        account_index: u16,
        account: Key,
        mint: Option<Key>,
        owner: Option<Key>,
        decimals: Option<u8>,
        pre: Option<u64>,
        post: Option<u64>,
        delta: i128,
    }
}

table_row! {
    AccountUpdateRow in "account_updates" {
        slot: u64,
        account: Key,
        write_version: u64,
        tx_index: Option<u32>,
        lamports: u64,
        owner: Key,
        executable: bool,
        rent_epoch: u64,
        data: Blob,
    }
}

table_row! {
    MintStateRow in "mint_states" {
        mint: Key,
        slot: u64,
        tx_index: Option<u32>,
        path: Option<u32>,
        event_index: u16,
        write_version: Option<u64>,
        source: &'static str,
        instruction: &'static str,
        states: Vec<&'static str>,
        program: Option<Key>,
        decimals: Option<u8>,
        supply: Option<u64>,
        mint_authority: Option<Key>,
        freeze_authority: Option<Key>,
        close_authority: Option<Key>,
        permanent_delegate: Option<Key>,
        transfer_hook: Option<Key>,
        transfer_fee_basis_points: Option<u16>,
        transfer_fee_maximum: Option<u64>,
        transfer_fee_epoch: Option<u64>,
        extensions: Vec<u16>,
        name: Option<String>,
        symbol: Option<String>,
        uri: Option<String>,
        metadata_authority: Option<Key>,
        metadata_mutable: Option<bool>,
        decoder_version: u16,
    }
}

table_row! {
    ProgramStateRow in "program_states" {
        account: Key,
        slot: u64,
        tx_index: Option<u32>,
        path: Option<u32>,
        write_version: Option<u64>,
        source: &'static str,
        instruction: &'static str,
        states: Vec<&'static str>,
        loader: Key,
        program: Option<Key>,
        programdata: Option<Key>,
        deployed_slot: Option<u64>,
        upgrade_authority: Option<Key>,
        data_length: Option<u64>,
        closed: Option<bool>,
        decoder_version: u16,
    }
}

table_row! {
    RewardRow in "rewards" {
        slot: u64,
        reward_index: u32,
        account: Option<Key>,
        lamports: i64,
        post_balance: u64,
        kind: &'static str,
        commission: Option<u8>,
        commission_bps: Option<u16>,
    }
}

table_row! {
    SlotStatusRow in "slot_status" {
        slot: u64,
        blockhash: Key,
        status: &'static str,
        version: u64,
        recorded_at: Millis,
    }
}

table_row! {
    StreamGapRow in "stream_gaps" {
        first_slot: u64,
        last_slot: u64,
        records: Option<u64>,
        reason: &'static str,
        source: String,
        detail: String,
        partition: u32,
        offset: u64,
        recorded_at: Millis,
    }
}
