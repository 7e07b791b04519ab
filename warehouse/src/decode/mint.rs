//! What accounts and instructions say of a mint. Layouts are those of `spl-token-2022-interface` (`Mint`, `ExtensionType`) and
//! `spl-token-metadata-interface`.
//!
//! An account says all of its mint at once, an instruction a part. What is not said is `None`; that there is none of it
//! (no freeze authority any more) is said, and is `Some(None)`.
//!
//! Not read: extensions that do not decide what a holder may do with the tokens. Their numbers are told all the same.

use super::{Index, Key, Unread, bytes::Reader, programs};

/// Said or not; and if it is, whether there is one.
pub type Said<T> = Option<Option<T>>;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MintState {
    pub decimals: Option<u8>,
    /// Raw units.
    pub supply: Option<u64>,
    pub mint_authority: Said<Key>,
    pub freeze_authority: Said<Key>,
    /// May close the mint.
    pub close_authority: Said<Key>,
    /// May move and burn everybody's tokens.
    pub permanent_delegate: Said<Key>,
    /// The program that every transfer calls.
    pub transfer_hook: Said<Key>,
    pub transfer_fee: Said<TransferFee>,
    /// Numbers of all extensions of the mint, as `ExtensionType` counts them.
    pub extensions: Option<Vec<u16>>,
    pub name: Option<String>,
    pub symbol: Option<String>,
    pub uri: Option<String>,
    /// May change these three.
    pub metadata_authority: Said<Key>,
    pub metadata_mutable: Option<bool>,
}

/// The newest fee that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransferFee {
    pub basis_points: u16,
    /// Raw units.
    pub maximum: u64,
    /// It holds from this epoch on; `None`: not said.
    pub epoch: Option<u64>,
}

/// What an instruction says of a mint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MintStatement {
    pub name: &'static str,
    pub mint: Index,
    /// The authority of the metadata, where it is an account of the instruction.
    pub metadata_authority: Option<Index>,
    pub state: MintState,
}

/// Rises with every change of what is read of accounts.
pub const ACCOUNT_READER_VERSION: u16 = 1;

/// Bytes of a mint without extensions.
const BASE_BYTES: usize = 82;
/// Where a token account ends, extensions of either kind begin: first a byte that says which kind it is.
const ACCOUNT_BYTES: usize = 165;
const MINT_KIND: u8 = 1;
/// A multisig has this length and no kind; the program gives no mint this length.
const MULTISIG_BYTES: usize = 355;

/// The mint that an account holds; `None`: it holds none.
pub fn of_account(owner: &Key, data: &[u8]) -> Option<MintState> {
    let extended = data.len() > ACCOUNT_BYTES && data.len() != MULTISIG_BYTES;
    let (base, extensions) = match data.split_at_checked(BASE_BYTES)? {
        (base, []) if programs::is_token(owner) => (base, &[][..]),
        (base, _) if *owner == programs::TOKEN_2022 && extended => {
            let (kind, extensions) = data.get(ACCOUNT_BYTES..)?.split_first()?;
            (*kind == MINT_KIND).then_some((base, extensions))?
        }
        _ => return None,
    };
    let mut state = base_of(base).ok().flatten()?;
    let mut whole = MintState {
        close_authority: Some(None),
        permanent_delegate: Some(None),
        transfer_hook: Some(None),
        transfer_fee: Some(None),
        extensions: Some(Vec::new()),
        ..state.clone()
    };
    // What cannot be followed to its end leaves all extensions unsaid.
    if read_extensions(Reader::new(extensions), &mut whole).is_ok() {
        state = whole;
    }
    Some(state)
}

/// `None`: not initialized.
fn base_of(base: &[u8]) -> Result<Option<MintState>, Unread> {
    let mut base = Reader::new(base);
    let mint_authority = counted_key(&mut base)?;
    let supply = base.u64()?;
    let decimals = base.u8()?;
    let initialized = base.u8()? == 1;
    let freeze_authority = counted_key(&mut base)?;
    Ok(initialized.then(|| MintState {
        decimals: Some(decimals),
        supply: Some(supply),
        mint_authority: Some(mint_authority),
        freeze_authority: Some(freeze_authority),
        ..MintState::default()
    }))
}

/// A key behind four bytes that say whether it counts.
fn counted_key(data: &mut Reader<'_>) -> Result<Option<Key>, Unread> {
    let counts = data.u32()?;
    let key = data.key()?;
    match counts {
        0 => Ok(None),
        1 => Ok(Some(key)),
        _ => Err(Unread::Malformed),
    }
}

/// A type, a length and so many bytes, until the type is 0 or nothing is left.
fn read_extensions(mut data: Reader<'_>, state: &mut MintState) -> Result<(), Unread> {
    let mut found = Vec::new();
    while data.rest().len() > 1 {
        let kind = data.u16()?;
        if kind == 0 {
            break;
        }
        let length = usize::from(data.u16()?);
        let mut value = Reader::new(data.take(length)?);
        match kind {
            1 => state.transfer_fee = Some(Some(transfer_fee_config(&mut value)?)),
            3 => state.close_authority = Some(value.nonzero_key()?),
            12 => state.permanent_delegate = Some(value.nonzero_key()?),
            14 => {
                // Who may change the hook.
                value.key()?;
                state.transfer_hook = Some(value.nonzero_key()?);
            }
            19 => {
                state.metadata_authority = Some(value.nonzero_key()?);
                // The mint again.
                value.key()?;
                state.name = Some(value.text()?);
                state.symbol = Some(value.text()?);
                state.uri = Some(value.text()?);
            }
            _ => {}
        }
        found.push(kind);
    }
    state.extensions = Some(found);
    Ok(())
}

/// Two authorities, what is withheld, then the fee that holds and the one that was set last.
fn transfer_fee_config(value: &mut Reader<'_>) -> Result<TransferFee, Unread> {
    const FEE_BYTES: usize = 18;
    value.take(32 + 32 + 8 + FEE_BYTES)?;
    let (epoch, maximum, basis_points) = (value.u64()?, value.u64()?, value.u16()?);
    Ok(TransferFee {
        basis_points,
        maximum,
        epoch: Some(epoch),
    })
}

impl MintState {
    /// The columns of `mint_states` that are said, in their order.
    pub fn says(&self) -> Vec<&'static str> {
        let said = [
            ("decimals", self.decimals.is_some()),
            ("supply", self.supply.is_some()),
            ("mint_authority", self.mint_authority.is_some()),
            ("freeze_authority", self.freeze_authority.is_some()),
            ("close_authority", self.close_authority.is_some()),
            ("permanent_delegate", self.permanent_delegate.is_some()),
            ("transfer_hook", self.transfer_hook.is_some()),
            ("transfer_fee", self.transfer_fee.is_some()),
            ("extensions", self.extensions.is_some()),
            ("name", self.name.is_some()),
            ("symbol", self.symbol.is_some()),
            ("uri", self.uri.is_some()),
            ("metadata_authority", self.metadata_authority.is_some()),
            ("metadata_mutable", self.metadata_mutable.is_some()),
        ];
        said.iter()
            .filter_map(|(column, said)| said.then_some(*column))
            .collect()
    }
}

#[cfg(test)]
mod tests;
