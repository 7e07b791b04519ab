//! Accounts of Metaplex's Token Metadata program, where most mints of the Token program have their name. Only its first part
//! is read, which all versions of the account share (`mpl-token-metadata`, `Metadata`).

use super::{Key, Unread, bytes::Reader, mint::MintState, programs};

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
    let name = data.text()?;
    let symbol = data.text()?;
    let uri = data.text()?;
    // Basis points of royalties.
    data.u16()?;
    if data.flag()? {
        let creators = usize::try_from(data.u32()?).map_err(|_| Unread::Malformed)?;
        let bytes = creators.checked_mul(CREATOR_BYTES);
        data.take(bytes.ok_or(Unread::Malformed)?)?;
    }
    // Whether a first sale has taken place.
    data.flag()?;
    let mutable = data.flag()?;
    let state = MintState {
        name: Some(name),
        symbol: Some(symbol),
        uri: Some(uri),
        metadata_authority: Some((authority != [0; 32]).then_some(authority)),
        metadata_mutable: Some(mutable),
        ..MintState::default()
    };
    Ok((mint, state))
}

#[cfg(test)]
mod tests;
