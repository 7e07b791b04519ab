//! Accounts of Metaplex's Token Metadata program, where most mints of the Token program have their name, and the instructions that
//! make them. Only the first part of an account is read, which all its versions share (`mpl-token-metadata`, `Metadata`).

use super::{
    Instruction, Key, Unread,
    bytes::Reader,
    mint::{MintState, MintStatement},
    programs,
};

/// First byte of an account with metadata of a mint; editions, delegates and others have their own.
const METADATA: u8 = 4;
/// A key, whether it signed, its share.
const CREATOR_BYTES: usize = 34;

/// The mint that the account describes, and what it says of it; `None`: it describes none.
pub fn of_account(owner: &Key, data: &[u8]) -> Option<(Key, MintState)> {
    (*owner == programs::METAPLEX_METADATA)
        .then(|| metadata(data).ok())
        .flatten()
}

fn metadata(data: &[u8]) -> Result<(Key, MintState), Unread> {
    let mut data = Reader::new(data);
    if data.u8()? != METADATA {
        return Err(Unread::Unknown);
    }
    let authority = data.key()?;
    let mint = data.key()?;
    let described = described(&mut data)?;
    // Whether a first sale has taken place.
    data.flag()?;
    let mutable = data.flag()?;
    let state = MintState {
        metadata_authority: Some((authority != [0; 32]).then_some(authority)),
        metadata_mutable: Some(mutable),
        ..described
    };
    Ok((mint, state))
}

/// Rises with every change of what is read of instructions.
pub const INSTRUCTION_READER_VERSION: u16 = 1;

/// What an instruction that makes such an account says of its mint; `None`: another one. Those that change the account do not name
/// the mint.
pub fn of_instruction(instruction: &Instruction<'_>) -> Option<MintStatement> {
    (*instruction.program == programs::METAPLEX_METADATA)
        .then(|| creation(instruction).ok())
        .flatten()
}

fn creation(instruction: &Instruction<'_>) -> Result<MintStatement, Unread> {
    let mut data = Reader::new(instruction.data);
    let (name, [mint, authority]) = match data.u8()? {
        0 => ("create_metadata_account", [1, 4]),
        16 => ("create_metadata_account_v2", [1, 4]),
        33 => ("create_metadata_account_v3", [1, 4]),
        // The only version of its arguments that there is.
        42 if data.u8()? == 0 => ("create", [2, 5]),
        _ => return Err(Unread::Unknown),
    };
    let mut state = described(&mut data)?;
    match name {
        "create_metadata_account" => {}
        "create" => {
            // Whether a first sale has taken place.
            data.flag()?;
        }
        _ => collection_and_uses(&mut data)?,
    }
    state.metadata_mutable = Some(data.flag()?);
    Ok(MintStatement {
        name,
        mint: instruction.account(mint)?,
        metadata_authority: Some(instruction.account(authority)?),
        state,
    })
}

/// What accounts and instructions begin with: name, symbol, URI, royalties, creators.
fn described(data: &mut Reader<'_>) -> Result<MintState, Unread> {
    let state = MintState {
        name: Some(data.text()?),
        symbol: Some(data.text()?),
        uri: Some(data.text()?),
        ..MintState::default()
    };
    // Basis points of royalties.
    data.u16()?;
    if data.flag()? {
        let creators = usize::try_from(data.u32()?).map_err(|_| Unread::Malformed)?;
        let bytes = creators.checked_mul(CREATOR_BYTES);
        data.take(bytes.ok_or(Unread::Malformed)?)?;
    }
    Ok(state)
}

fn collection_and_uses(data: &mut Reader<'_>) -> Result<(), Unread> {
    const COLLECTION_BYTES: usize = 33;
    const USES_BYTES: usize = 17;
    for bytes in [COLLECTION_BYTES, USES_BYTES] {
        if data.flag()? {
            data.take(bytes)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
