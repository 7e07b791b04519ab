//! The transactions that set a scene: money for the wallets, mints, token accounts, lookup tables.

use std::sync::Arc;

use solana_address_lookup_table_interface::instruction as table;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_system_interface::instruction as system;
use spl_associated_token_account_interface::instruction as associated;
use spl_token_2022_interface::{
    extension::{ExtensionType, transfer_fee::instruction as transfer_fee},
    instruction as token,
};

use super::{Draft, Form, Kind};
use crate::scene::{DECIMALS, FEE_BASIS_POINTS, FEE_MAX, Mint};

/// Lamports from `from` to each of `to`.
pub fn fund(from: impl Into<Arc<Keypair>>, to: &[Pubkey], lamports: u64) -> Draft {
    let from = from.into();
    let instructions = to
        .iter()
        .map(|to| system::transfer(&from.pubkey(), to, lamports))
        .collect();
    Draft::new(Kind::Fund, &from, instructions)
}

/// A new mint of the SPL Token program.
pub fn token_mint(payer: &Arc<Keypair>, rent: u64) -> anyhow::Result<(Draft, Mint)> {
    let (mint, address) = new_mint(spl_token_interface::ID);
    let instructions = vec![
        system::create_account(
            &payer.pubkey(),
            &mint.address,
            rent,
            token_mint_bytes() as u64,
            &mint.program,
        ),
        initialize_mint(&mint, payer)?,
    ];
    let draft = Draft::new(Kind::TokenMintCreate, payer, instructions).signed_by(address);
    Ok((draft, mint))
}

/// A new mint of Token-2022 that takes a fee of every transfer.
pub fn fee_mint(payer: &Arc<Keypair>, rent: u64) -> anyhow::Result<(Draft, Mint)> {
    let (mint, address) = new_mint(spl_token_2022_interface::ID);
    let authority = payer.pubkey();
    let instructions = vec![
        system::create_account(
            &authority,
            &mint.address,
            rent,
            fee_mint_bytes()? as u64,
            &mint.program,
        ),
        transfer_fee::initialize_transfer_fee_config(
            &mint.program,
            &mint.address,
            Some(&authority),
            Some(&authority),
            FEE_BASIS_POINTS,
            FEE_MAX,
        )?,
        initialize_mint(&mint, payer)?,
    ];
    let draft = Draft::new(Kind::FeeMintCreate, payer, instructions).signed_by(address);
    Ok((draft, mint))
}

/// The token accounts of all `owners` for one mint.
pub fn token_accounts(payer: &Arc<Keypair>, owners: &[Arc<Keypair>], mint: &Mint) -> Draft {
    let instructions = owners
        .iter()
        .map(|owner| {
            associated::create_associated_token_account_idempotent(
                &payer.pubkey(),
                &owner.pubkey(),
                &mint.address,
                &mint.program,
            )
        })
        .collect();
    Draft::new(Kind::TokenAccountCreate, payer, instructions)
}

/// `amount` of new tokens for each of `owners`.
pub fn mint_to(
    kind: Kind,
    authority: &Arc<Keypair>,
    owners: &[Arc<Keypair>],
    mint: &Mint,
    amount: u64,
) -> anyhow::Result<Draft> {
    let instructions = owners
        .iter()
        .map(|owner| {
            token::mint_to(
                &mint.program,
                &mint.address,
                &mint.account_of(&owner.pubkey()),
                &authority.pubkey(),
                &[],
                amount,
            )
        })
        .collect::<Result<_, _>>()?;
    Ok(Draft::new(kind, authority, instructions))
}

/// A lookup table derived from a slot of the recent past.
pub fn lookup_table(authority: &Arc<Keypair>, recent_slot: u64) -> (Draft, Pubkey) {
    let (instruction, address) =
        table::create_lookup_table(authority.pubkey(), authority.pubkey(), recent_slot);
    let draft = Draft::new(Kind::TableCreate, authority, vec![instruction]);
    (draft, address)
}

pub fn extend_table(authority: &Arc<Keypair>, address: Pubkey, with: Vec<Pubkey>) -> Draft {
    let payer = authority.pubkey();
    let instruction = table::extend_lookup_table(address, payer, Some(payer), with);
    Draft::new(Kind::TableExtend, authority, vec![instruction])
}

pub fn version_1_transfer(from: &Arc<Keypair>, to: &Pubkey, lamports: u64) -> Draft {
    let instructions = vec![system::transfer(&from.pubkey(), to, lamports)];
    Draft::new(Kind::Version1Transfer, from, instructions).form(Form::V1)
}

/// Bytes of a mint without extensions.
pub fn token_mint_bytes() -> usize {
    82
}

/// Bytes of a mint with the transfer fee extension.
pub fn fee_mint_bytes() -> anyhow::Result<usize> {
    Ok(ExtensionType::try_calculate_account_len::<
        spl_token_2022_interface::state::Mint,
    >(&[ExtensionType::TransferFeeConfig])?)
}

fn initialize_mint(mint: &Mint, authority: &Arc<Keypair>) -> anyhow::Result<Instruction> {
    let authority = authority.pubkey();
    Ok(token::initialize_mint2(
        &mint.program,
        &mint.address,
        &authority,
        None,
        DECIMALS,
    )?)
}

pub(super) fn new_mint(program: Pubkey) -> (Mint, Keypair) {
    let keypair = Keypair::new();
    let mint = Mint {
        address: keypair.pubkey(),
        program,
    };
    (mint, keypair)
}
