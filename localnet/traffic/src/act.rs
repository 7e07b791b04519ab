//! Every kind of transaction, built from a scene and a source of randomness. Pure.

mod setting;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use anyhow::{Context, anyhow};
use rand::{Rng, rngs::StdRng, seq::IndexedRandom};
use serde::Serialize;
use solana_hash::Hash;
use solana_instruction::Instruction;
use solana_keypair::Keypair;
use solana_message::{AddressLookupTableAccount, VersionedMessage, legacy, v0, v1};
use solana_pubkey::Pubkey;
use solana_signer::Signer;
use solana_system_interface::instruction as system;
use solana_transaction::versioned::VersionedTransaction;
use spl_associated_token_account_interface::instruction as associated;
use spl_token_2022_interface::{
    extension::transfer_fee::instruction as transfer_fee, instruction as token,
};

pub use self::setting::{
    extend_table, fee_mint, fee_mint_bytes, fund, lookup_table, mint_to, token_accounts,
    token_mint, token_mint_bytes, version_1_transfer,
};
use crate::scene::{DECIMALS, Effect, FEE_BASIS_POINTS, FEE_MAX, Mint, Opened, Scene};

/// Compute units that a version 1 transaction asks for; left out it would mean none.
const VERSION_1_COMPUTE_UNITS: u32 = 20_000;
/// Bytes of accounts that a version 1 transaction may load; left out it would mean none.
const VERSION_1_LOADED_BYTES: u32 = 256 * 1024;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Fund,
    SolTransfer,
    SolTransferMany,
    Memo,
    TokenMintCreate,
    TokenAccountCreate,
    TokenMintTo,
    TokenTransfer,
    TokenTransferChecked,
    TokenBurn,
    TokenAccountClose,
    FeeMintCreate,
    FeeMintTo,
    FeeTransfer,
    FeeBurn,
    FeeWithdrawWithheld,
    SolWrap,
    SolUnwrap,
    TableCreate,
    TableExtend,
    TableTransfer,
    Version1Transfer,
    FailingSolTransfer,
    FailingTokenTransfer,
    FailingSecondInstruction,
}

/// What the traffic consists of once the scene stands, with the weight of each.
pub const MIX: &[(Kind, u32)] = &[
    (Kind::SolTransfer, 12),
    (Kind::SolTransferMany, 3),
    (Kind::Memo, 3),
    (Kind::TokenMintCreate, 1),
    (Kind::TokenAccountCreate, 4),
    (Kind::TokenMintTo, 3),
    (Kind::TokenTransfer, 6),
    (Kind::TokenTransferChecked, 6),
    (Kind::TokenBurn, 3),
    (Kind::TokenAccountClose, 4),
    (Kind::FeeMintCreate, 1),
    (Kind::FeeMintTo, 2),
    (Kind::FeeTransfer, 6),
    (Kind::FeeBurn, 2),
    (Kind::FeeWithdrawWithheld, 1),
    (Kind::SolWrap, 3),
    (Kind::SolUnwrap, 3),
    (Kind::TableCreate, 1),
    (Kind::TableExtend, 1),
    (Kind::TableTransfer, 5),
    (Kind::Version1Transfer, 4),
    (Kind::FailingSolTransfer, 2),
    (Kind::FailingTokenTransfer, 2),
    (Kind::FailingSecondInstruction, 2),
];

impl Kind {
    /// Whether it is meant to land with an error.
    pub fn fails(self) -> bool {
        matches!(
            self,
            Self::FailingSolTransfer | Self::FailingTokenTransfer | Self::FailingSecondInstruction
        )
    }
}

/// The message format of a transaction.
#[derive(Debug, Clone)]
pub enum Form {
    Legacy,
    V0(Vec<AddressLookupTableAccount>),
    V1,
}

/// A transaction that lacks only a blockhash and its signatures.
#[derive(Debug, Clone)]
pub struct Draft {
    pub kind: Kind,
    pub instructions: Vec<Instruction>,
    /// The first one pays.
    pub signers: Vec<Arc<Keypair>>,
    pub form: Form,
    pub effect: Option<Effect>,
}

impl Draft {
    fn new(kind: Kind, signer: &Arc<Keypair>, instructions: Vec<Instruction>) -> Self {
        Self {
            kind,
            instructions,
            signers: vec![signer.clone()],
            form: Form::Legacy,
            effect: None,
        }
    }

    fn signed_by(mut self, signer: impl Into<Arc<Keypair>>) -> Self {
        self.signers.push(signer.into());
        self
    }

    fn then(mut self, effect: Effect) -> Self {
        self.effect = Some(effect);
        self
    }

    fn form(mut self, form: Form) -> Self {
        self.form = form;
        self
    }

    pub fn sign(&self, blockhash: Hash) -> anyhow::Result<VersionedTransaction> {
        let payer = self
            .signers
            .first()
            .context("a transaction has a payer")?
            .pubkey();
        let message = match &self.form {
            Form::Legacy => VersionedMessage::Legacy(legacy::Message::new_with_blockhash(
                &self.instructions,
                Some(&payer),
                &blockhash,
            )),
            Form::V0(tables) => VersionedMessage::V0(
                v0::Message::try_compile(&payer, &self.instructions, tables, blockhash)
                    .map_err(|e| anyhow!("{e:?}"))?,
            ),
            Form::V1 => VersionedMessage::V1(
                v1::Message::try_compile_with_config(
                    &payer,
                    &self.instructions,
                    blockhash,
                    v1::TransactionConfig {
                        priority_fee: Some(1_000),
                        compute_unit_limit: Some(VERSION_1_COMPUTE_UNITS),
                        loaded_accounts_data_size_limit: Some(VERSION_1_LOADED_BYTES),
                        heap_size: None,
                    },
                )
                .map_err(|e| anyhow!("{e:?}"))?,
            ),
        };
        let signers: Vec<&dyn Signer> = self.signers.iter().map(|s| &**s as &dyn Signer).collect();
        VersionedTransaction::try_new(message, &signers).map_err(|e| anyhow!("signing: {e}"))
    }
}

/// A transaction of this kind; none when the scene does not allow it now (nothing to close, version 1 refused …).
pub fn draft(kind: Kind, scene: &mut Scene, random: &mut StdRng) -> anyhow::Result<Option<Draft>> {
    let from = scene.wallets[random.random_range(0..scene.wallets.len())].clone();
    let to = loop {
        match scene.wallets.choose(random) {
            Some(to) if to.pubkey() != from.pubkey() => break to.clone(),
            _ => {}
        }
    };
    // Amounts differ, so that two transactions of one blockhash are not the same.
    let amount = random.random_range(1_000..1_000_000u64);
    let payer = from.pubkey();
    let one = |instruction| Draft::new(kind, &from, vec![instruction]);
    let accounts = |mint: &Mint| (mint.account_of(&payer), mint.account_of(&to.pubkey()));

    let draft = match kind {
        Kind::Fund => return Ok(None),
        Kind::SolTransfer => one(system::transfer(&payer, &to.pubkey(), amount)),
        Kind::SolTransferMany => {
            let instructions = scene
                .wallets
                .iter()
                .filter(|wallet| wallet.pubkey() != payer)
                .map(|wallet| system::transfer(&payer, &wallet.pubkey(), amount))
                .collect();
            Draft::new(kind, &from, instructions)
        }
        Kind::Memo => {
            let memo = Instruction {
                program_id: Pubkey::from_str_const("MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr"),
                accounts: vec![],
                data: format!("traffic {amount}").into_bytes(),
            };
            Draft::new(
                kind,
                &from,
                vec![memo, system::transfer(&payer, &to.pubkey(), amount)],
            )
        }
        Kind::TokenMintCreate => token_mint(&from, scene.token_mint_rent)?.0,
        Kind::FeeMintCreate => fee_mint(&from, scene.fee_mint_rent)?.0,
        Kind::TokenAccountCreate => {
            let mint = if random.random() {
                scene.token
            } else {
                scene.fee_token
            };
            let owner = Keypair::new_from_array(random.random());
            let instruction = associated::create_associated_token_account(
                &payer,
                &owner.pubkey(),
                &mint.address,
                &mint.program,
            );
            one(instruction).then(Effect::Opened(Arc::new(Opened { owner, mint })))
        }
        Kind::TokenAccountClose => {
            let Some(opened) = scene.opened.pop() else {
                return Ok(None);
            };
            let owner = Keypair::new_from_array(*opened.owner.secret_bytes());
            let close = token::close_account(
                &opened.mint.program,
                &opened.mint.account_of(&owner.pubkey()),
                &payer,
                &owner.pubkey(),
                &[],
            )?;
            one(close).signed_by(owner)
        }
        Kind::TokenMintTo | Kind::FeeMintTo => {
            let mint = if kind == Kind::TokenMintTo {
                scene.token
            } else {
                scene.fee_token
            };
            mint_to(
                kind,
                scene.authority(),
                std::slice::from_ref(&to),
                &mint,
                amount,
            )?
        }
        Kind::TokenTransfer => {
            let (source, target) = accounts(&scene.token);
            // The unchecked transfer: old, and still what much of mainnet sends.
            #[allow(deprecated)]
            let transfer = spl_token_interface::instruction::transfer(
                &scene.token.program,
                &source,
                &target,
                &payer,
                &[],
                amount,
            )?;
            one(transfer)
        }
        Kind::TokenTransferChecked => one(transfer_checked(
            &scene.token,
            &payer,
            accounts(&scene.token),
            amount,
            DECIMALS,
        )?),
        Kind::TokenBurn | Kind::FeeBurn => {
            let mint = if kind == Kind::TokenBurn {
                scene.token
            } else {
                scene.fee_token
            };
            let account = mint.account_of(&payer);
            one(token::burn(
                &mint.program,
                &account,
                &mint.address,
                &payer,
                &[],
                amount,
            )?)
        }
        Kind::FeeTransfer => {
            let mint = scene.fee_token;
            let (source, target) = accounts(&mint);
            one(transfer_fee::transfer_checked_with_fee(
                &mint.program,
                &source,
                &mint.address,
                &target,
                &payer,
                &[],
                amount,
                DECIMALS,
                fee_of(amount),
            )?)
        }
        Kind::FeeWithdrawWithheld => {
            let (mint, authority) = (scene.fee_token, scene.authority().clone());
            let withheld = mint.account_of(&to.pubkey());
            let withdraw = transfer_fee::withdraw_withheld_tokens_from_accounts(
                &mint.program,
                &mint.address,
                &mint.account_of(&authority.pubkey()),
                &authority.pubkey(),
                &[],
                &[&withheld],
            )?;
            let transfer = system::transfer(&authority.pubkey(), &to.pubkey(), amount);
            if authority.pubkey() == to.pubkey() {
                Draft::new(kind, &authority, vec![withdraw])
            } else {
                Draft::new(kind, &authority, vec![withdraw, transfer])
            }
        }
        Kind::SolWrap => {
            let Some(wallet) = scene.unwrapped.pop_first() else {
                return Ok(None);
            };
            let owner = scene.wallets[wallet].clone();
            let address = owner.pubkey();
            let native = native_mint();
            let account = native.account_of(&address);
            let instructions = vec![
                associated::create_associated_token_account_idempotent(
                    &address,
                    &address,
                    &native.address,
                    &native.program,
                ),
                system::transfer(&address, &account, amount),
                token::sync_native(&native.program, &account)?,
            ];
            Draft::new(kind, &owner, instructions).then(Effect::Wrapped(wallet))
        }
        Kind::SolUnwrap => {
            let Some(wallet) = scene.wrapped.pop_first() else {
                return Ok(None);
            };
            let owner = scene.wallets[wallet].clone();
            let native = native_mint();
            let close = token::close_account(
                &native.program,
                &native.account_of(&owner.pubkey()),
                &owner.pubkey(),
                &owner.pubkey(),
                &[],
            )?;
            Draft::new(kind, &owner, vec![close]).then(Effect::Unwrapped(wallet))
        }
        Kind::TableCreate => {
            if scene.recent_slot <= scene.last_table_slot {
                return Ok(None);
            }
            scene.last_table_slot = scene.recent_slot;
            lookup_table(&from, scene.recent_slot).0
        }
        Kind::TableExtend => {
            // A fresh table each time keeps the one of the scene, which others look up, as it is.
            if scene.recent_slot <= scene.last_table_slot {
                return Ok(None);
            }
            scene.last_table_slot = scene.recent_slot;
            let (create, address) = lookup_table(&from, scene.recent_slot);
            let extend = extend_table(&from, address, vec![to.pubkey(), scene.token.address]);
            Draft::new(
                kind,
                &from,
                [create.instructions, extend.instructions].concat(),
            )
        }
        Kind::TableTransfer => {
            if scene.recent_slot < scene.table_filled_slot {
                return Ok(None);
            }
            let tokens = transfer_checked(
                &scene.token,
                &payer,
                accounts(&scene.token),
                amount,
                DECIMALS,
            )?;
            let sol = system::transfer(&payer, &to.pubkey(), amount);
            Draft::new(kind, &from, vec![sol, tokens]).form(Form::V0(vec![scene.table.clone()]))
        }
        Kind::Version1Transfer => {
            if !scene.version_1_accepted {
                return Ok(None);
            }
            version_1_transfer(&from, &to.pubkey(), amount)
        }
        Kind::FailingSolTransfer => one(system::transfer(
            &payer,
            &to.pubkey(),
            u64::MAX / 2 + amount,
        )),
        Kind::FailingTokenTransfer => {
            let amount = u64::MAX / 2 + amount;
            one(transfer_checked(
                &scene.token,
                &payer,
                accounts(&scene.token),
                amount,
                DECIMALS,
            )?)
        }
        Kind::FailingSecondInstruction => {
            // The first instruction succeeds and must be undone: only the fee is taken.
            let wrong = transfer_checked(
                &scene.fee_token,
                &payer,
                accounts(&scene.fee_token),
                amount,
                DECIMALS + 1,
            )?;
            Draft::new(
                kind,
                &from,
                vec![system::transfer(&payer, &to.pubkey(), amount), wrong],
            )
        }
    };
    Ok(Some(draft))
}

/// What Token-2022 withholds from a transfer: rounded up, at most `FEE_MAX`.
fn fee_of(amount: u64) -> u64 {
    let fee = (u128::from(amount) * u128::from(FEE_BASIS_POINTS)).div_ceil(10_000);
    u64::try_from(fee).unwrap_or(u64::MAX).min(FEE_MAX)
}

fn transfer_checked(
    mint: &Mint,
    owner: &Pubkey,
    (source, target): (Pubkey, Pubkey),
    amount: u64,
    decimals: u8,
) -> anyhow::Result<Instruction> {
    Ok(token::transfer_checked(
        &mint.program,
        &source,
        &mint.address,
        &target,
        owner,
        &[],
        amount,
        decimals,
    )?)
}

fn native_mint() -> Mint {
    Mint {
        address: spl_token_interface::native_mint::ID,
        program: spl_token_interface::ID,
    }
}
