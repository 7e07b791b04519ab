//! Who and what the traffic moves: wallets, two mints, a lookup table, and what earlier transactions left behind.

use std::{collections::BTreeSet, sync::Arc};

use solana_keypair::Keypair;
use solana_message::AddressLookupTableAccount;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use spl_associated_token_account_interface::address::get_associated_token_address_with_program_id;

pub const WALLETS: usize = 6;
pub const DECIMALS: u8 = 6;
/// The transfer fee of the Token-2022 mint.
pub const FEE_BASIS_POINTS: u16 = 150;
/// Raw units.
pub const FEE_MAX: u64 = 10_000;

/// A mint and the program that owns it.
#[derive(Debug, Clone, Copy)]
pub struct Mint {
    pub address: Pubkey,
    pub program: Pubkey,
}

impl Mint {
    pub fn account_of(&self, owner: &Pubkey) -> Pubkey {
        get_associated_token_address_with_program_id(owner, &self.address, &self.program)
    }
}

/// What a landed transaction makes possible.
#[derive(Debug, Clone)]
pub enum Effect {
    /// An empty token account that can be closed.
    Opened(Arc<Opened>),
    /// The wallet's wrapped SOL account exists.
    Wrapped(usize),
    /// The wallet's wrapped SOL account is gone.
    Unwrapped(usize),
}

#[derive(Debug)]
pub struct Opened {
    pub owner: Keypair,
    pub mint: Mint,
}

pub struct Scene {
    pub wallets: Vec<Arc<Keypair>>,
    /// SPL Token, without extensions. The first wallet may mint.
    pub token: Mint,
    /// Token-2022 with a transfer fee. The first wallet may mint.
    pub fee_token: Mint,
    /// Every wallet, mint and token account above.
    pub table: AddressLookupTableAccount,
    /// The slot that filled the table. A leader looks tables up in its rooted bank and drops what it cannot resolve, so the
    /// table is of use once this slot is finalized.
    pub table_filled_slot: u64,
    /// Lamports that keep a mint of either program alive.
    pub token_mint_rent: u64,
    pub fee_mint_rent: u64,
    pub version_1_accepted: bool,
    pub opened: Vec<Arc<Opened>>,
    /// Wallets with a wrapped SOL account, and those without. A wallet whose (un)wrapping is on its way is in neither.
    pub wrapped: BTreeSet<usize>,
    pub unwrapped: BTreeSet<usize>,
    /// The newest finalized slot: lookup tables are derived from a recent one.
    pub recent_slot: u64,
    /// The slot from which the last table was derived; a second one of the same slot would be the same account.
    pub last_table_slot: u64,
}

impl Scene {
    pub fn authority(&self) -> &Arc<Keypair> {
        &self.wallets[0]
    }

    pub fn apply(&mut self, effect: Effect) {
        match effect {
            Effect::Opened(opened) => self.opened.push(opened),
            Effect::Wrapped(wallet) => {
                self.wrapped.insert(wallet);
            }
            Effect::Unwrapped(wallet) => {
                self.unwrapped.insert(wallet);
            }
        }
    }

    /// The addresses that version 0 transactions look up.
    pub fn table_addresses(wallets: &[Arc<Keypair>], mints: &[Mint]) -> Vec<Pubkey> {
        let owners = wallets.iter().map(|wallet| wallet.pubkey());
        let mut addresses: Vec<Pubkey> = owners.clone().collect();
        for mint in mints {
            addresses.push(mint.address);
            addresses.extend(owners.clone().map(|owner| mint.account_of(&owner)));
        }
        addresses
    }
}
