//! What accounts and instructions say of a deployed program: where its code is, since when, and who may replace it. Layouts are
//! those of `solana-loader-v3-interface` and `solana-loader-v4-interface` (`state`).
//!
//! The code itself is never read: an account of ten megabytes is looked at for its first 48 bytes, and its length.

use super::{Index, Key, Unread, bytes::Reader, mint::Said, programs};

/// See the module. What is not said is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProgramState {
    pub program: Option<Key>,
    /// The account with the code and its settings, of the upgradeable loader.
    pub programdata: Option<Key>,
    pub deployed_slot: Option<u64>,
    /// `Some(None)`: nobody may replace the code.
    pub upgrade_authority: Said<Key>,
    /// Bytes for the code, without the header.
    pub data_length: Option<u64>,
    pub closed: Option<bool>,
}

/// What an instruction says of a program.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProgramStatement {
    pub name: &'static str,
    pub program: Option<Index>,
    pub programdata: Index,
    pub upgrade_authority: Said<Index>,
    pub data_length: Option<u64>,
    /// Whether the code is of this slot from now on.
    pub deploys: bool,
    pub closed: Option<bool>,
}

/// Rises with every change of what is read of accounts.
pub const ACCOUNT_READER_VERSION: u16 = 1;

/// Header of a programdata account; without an authority its bytes are there too.
const PROGRAMDATA_HEADER_BYTES: usize = 45;
const LOADER_4_HEADER_BYTES: usize = 48;

/// The program that an account is, or is the code of; `None`: neither.
pub fn of_account(
    account: &Key,
    owner: &Key,
    executable: bool,
    data: &[u8],
) -> Option<ProgramState> {
    match *owner {
        programs::LOADER_UPGRADEABLE => upgradeable(account, data).ok().flatten(),
        programs::LOADER_4 => loader_4(account, data).ok(),
        programs::LOADER | programs::LOADER_DEPRECATED if executable => Some(ProgramState {
            program: Some(*account),
            // These loaders know no upgrade.
            upgrade_authority: Some(None),
            data_length: u64::try_from(data.len()).ok(),
            closed: Some(false),
            ..ProgramState::default()
        }),
        _ => None,
    }
}

/// `None`: a buffer, or nothing yet.
fn upgradeable(account: &Key, data: &[u8]) -> Result<Option<ProgramState>, Unread> {
    let mut header = Reader::new(data);
    match header.u32()? {
        2 => Ok(Some(ProgramState {
            program: Some(*account),
            programdata: Some(header.key()?),
            ..ProgramState::default()
        })),
        3 => {
            let deployed_slot = header.u64()?;
            let authority = header.optional_key()?;
            Ok(Some(ProgramState {
                programdata: Some(*account),
                deployed_slot: Some(deployed_slot),
                upgrade_authority: Some(authority),
                data_length: length_after(data, PROGRAMDATA_HEADER_BYTES),
                closed: Some(false),
                ..ProgramState::default()
            }))
        }
        _ => Ok(None),
    }
}

fn loader_4(account: &Key, data: &[u8]) -> Result<ProgramState, Unread> {
    let mut header = Reader::new(data);
    let (slot, authority, status) = (header.u64()?, header.key()?, header.u64()?);
    let upgrade_authority = match status {
        // Retracted, deployed.
        0 | 1 => Some(authority),
        // Finalized: there stands the program that comes after it.
        2 => None,
        _ => return Err(Unread::Unknown),
    };
    Ok(ProgramState {
        program: Some(*account),
        deployed_slot: Some(slot),
        upgrade_authority: Some(upgrade_authority),
        data_length: length_after(data, LOADER_4_HEADER_BYTES),
        closed: Some(status == 0),
        ..ProgramState::default()
    })
}

fn length_after(data: &[u8], header: usize) -> Option<u64> {
    u64::try_from(data.len().checked_sub(header)?).ok()
}

impl ProgramState {
    /// The columns of `program_states` that are said, in their order.
    pub fn says(&self) -> Vec<&'static str> {
        let said = [
            ("program", self.program.is_some()),
            ("programdata", self.programdata.is_some()),
            ("deployed_slot", self.deployed_slot.is_some()),
            ("upgrade_authority", self.upgrade_authority.is_some()),
            ("data_length", self.data_length.is_some()),
            ("closed", self.closed.is_some()),
        ];
        said.iter()
            .filter_map(|(column, said)| said.then_some(*column))
            .collect()
    }
}

#[cfg(test)]
mod tests;
