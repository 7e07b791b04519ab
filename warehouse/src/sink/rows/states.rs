//! What a block says of mints and programs, as rows: a row per statement, of an account after a write, or of an instruction
//! that succeeded. Not what follows from several; the views put that together.

use event_schema::proto::geyser::SubscribeUpdateAccountInfo;

use super::{Place, key};
use crate::{
    decode::{
        Effect, Key, metaplex,
        mint::{self, MintState, MintStatement},
        program_state::{self, ProgramState, ProgramStatement},
        programs::Program,
    },
    sink::tables::{MintStateRow, ProgramStateRow},
};

/// Where a statement stands.
#[derive(Debug, Clone, Copy)]
struct Stand {
    slot: u64,
    tx_index: Option<u32>,
    path: Option<u32>,
    event_index: u16,
    write_version: Option<u64>,
    source: &'static str,
    instruction: &'static str,
    decoder_version: u16,
}

/// A write of an account, of any program.
pub struct Write<'a> {
    pub slot: u64,
    pub tx_index: Option<u32>,
    pub account: &'a SubscribeUpdateAccountInfo,
}

impl Write<'_> {
    fn stand(&self, source: &'static str, decoder_version: u16) -> Stand {
        Stand {
            slot: self.slot,
            tx_index: self.tx_index,
            path: None,
            event_index: 0,
            write_version: Some(self.account.write_version),
            source,
            instruction: "",
            decoder_version,
        }
    }

    pub fn mint(&self) -> Option<MintStateRow> {
        let (owner, data) = (key(&self.account.owner)?, &self.account.data);
        let version = mint::ACCOUNT_READER_VERSION;
        if let Some((mint, state)) = metaplex::of_account(&owner, data) {
            return Some(mint_row(self.stand("metaplex", version), mint, None, state));
        }
        let state = mint::of_account(&owner, data)?;
        let mint = key(&self.account.pubkey)?;
        Some(mint_row(
            self.stand("account", version),
            mint,
            Some(owner),
            state,
        ))
    }

    pub fn program(&self) -> Option<ProgramStateRow> {
        let (account, owner) = (key(&self.account.pubkey)?, key(&self.account.owner)?);
        let state = program_state::of_account(
            &account,
            &owner,
            self.account.executable,
            &self.account.data,
        )?;
        let stand = self.stand("account", program_state::ACCOUNT_READER_VERSION);
        program_row(stand, owner, state)
    }
}

impl Place<'_> {
    /// What a failed transaction says has no effect, and what became of one without a status is not known.
    fn statements(&self) -> impl Iterator<Item = (Stand, &'static Program, &Effect)> {
        let readings = self.decoded.readings.iter().enumerate();
        let of_call =
            readings
                .filter(|_| self.success == Some(true))
                .filter_map(|(call, reading)| {
                    let program = self.program(call)?;
                    let stand = Stand {
                        slot: self.slot,
                        tx_index: Some(self.tx_index),
                        path: Some(self.path(call)),
                        event_index: 0,
                        write_version: None,
                        source: "instruction",
                        instruction: "",
                        decoder_version: program.version,
                    };
                    Some((stand, program, reading.effects()))
                });
        of_call.flat_map(|(stand, program, effects)| {
            effects
                .iter()
                .zip(0_u16..)
                .map(move |(effect, event_index)| {
                    (
                        Stand {
                            event_index,
                            ..stand
                        },
                        program,
                        effect,
                    )
                })
        })
    }

    pub fn mints(&self) -> impl Iterator<Item = MintStateRow> {
        let of_programs = self.statements().filter_map(|(stand, program, effect)| {
            let Effect::Mint(statement) = effect else {
                return None;
            };
            self.mint(stand, Some(program.id), statement)
        });
        of_programs.chain(self.described_mints())
    }

    /// By Metaplex's program, whose instructions are nobody's effects.
    fn described_mints(&self) -> impl Iterator<Item = MintStateRow> {
        let calls = self.trace.calls.iter();
        let calls = calls.filter(|_| self.success == Some(true));
        calls.filter_map(|call| {
            let statement = metaplex::of_instruction(&call.instruction()?)?;
            let stand = Stand {
                slot: self.slot,
                tx_index: Some(self.tx_index),
                path: Some(call.path),
                event_index: 0,
                write_version: None,
                source: "instruction",
                instruction: "",
                decoder_version: metaplex::INSTRUCTION_READER_VERSION,
            };
            self.mint(stand, None, &statement)
        })
    }

    fn mint(
        &self,
        stand: Stand,
        program: Option<Key>,
        statement: &MintStatement,
    ) -> Option<MintStateRow> {
        let mut state = statement.state.clone();
        if let Some(authority) = statement.metadata_authority {
            state.metadata_authority = self.key(Some(authority)).map(Some);
        }
        let stand = Stand {
            instruction: statement.name,
            ..stand
        };
        Some(mint_row(
            stand,
            self.key(Some(statement.mint))?,
            program,
            state,
        ))
    }

    pub fn programs(&self) -> impl Iterator<Item = ProgramStateRow> {
        self.statements().filter_map(|(stand, program, effect)| {
            let Effect::Program(statement) = effect else {
                return None;
            };
            let ProgramStatement {
                upgrade_authority,
                data_length,
                closed,
                ..
            } = *statement;
            let upgrade_authority = match upgrade_authority {
                // An authority that is named, by a key that is not known.
                Some(Some(authority)) => self.key(Some(authority)).map(Some),
                Some(None) => Some(None),
                None => None,
            };
            let state = ProgramState {
                program: self.key(statement.program),
                programdata: self.key(Some(statement.programdata)),
                deployed_slot: statement.deploys.then_some(self.slot),
                upgrade_authority,
                data_length,
                closed,
            };
            let stand = Stand {
                instruction: statement.name,
                ..stand
            };
            program_row(stand, program.id, state)
        })
    }
}

fn mint_row(stand: Stand, mint: Key, program: Option<Key>, state: MintState) -> MintStateRow {
    let states = state.says();
    let fee = state.transfer_fee.flatten();
    MintStateRow {
        mint,
        slot: stand.slot,
        tx_index: stand.tx_index,
        path: stand.path,
        event_index: stand.event_index,
        write_version: stand.write_version,
        source: stand.source,
        instruction: stand.instruction,
        states,
        program,
        decimals: state.decimals,
        supply: state.supply,
        mint_authority: state.mint_authority.flatten(),
        freeze_authority: state.freeze_authority.flatten(),
        close_authority: state.close_authority.flatten(),
        permanent_delegate: state.permanent_delegate.flatten(),
        transfer_hook: state.transfer_hook.flatten(),
        transfer_fee_basis_points: fee.map(|fee| fee.basis_points),
        transfer_fee_maximum: fee.map(|fee| fee.maximum),
        transfer_fee_epoch: fee.and_then(|fee| fee.epoch),
        extensions: state.extensions.unwrap_or_default(),
        name: state.name,
        symbol: state.symbol,
        uri: state.uri,
        metadata_authority: state.metadata_authority.flatten(),
        metadata_mutable: state.metadata_mutable,
        decoder_version: stand.decoder_version,
    }
}

/// `None`: the account that it is about is not known.
fn program_row(stand: Stand, loader: Key, state: ProgramState) -> Option<ProgramStateRow> {
    let states = state.says();
    Some(ProgramStateRow {
        account: state.programdata.or(state.program)?,
        slot: stand.slot,
        tx_index: stand.tx_index,
        path: stand.path,
        write_version: stand.write_version,
        source: stand.source,
        instruction: stand.instruction,
        states,
        loader,
        program: state.program,
        programdata: state.programdata,
        deployed_slot: state.deployed_slot,
        upgrade_authority: state.upgrade_authority.flatten(),
        data_length: state.data_length,
        closed: state.closed,
        decoder_version: stand.decoder_version,
    })
}
