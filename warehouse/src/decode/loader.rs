//! The upgradeable loader: programs deployed, upgraded, closed. Data is bincode, first a `u32`
//! (`solana-loader-v3-interface`, `UpgradeableLoaderInstruction`).

use super::{Effect, Instruction, Known, Unread, bytes::Reader, program_state::ProgramStatement};

pub fn read(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let mut data = Reader::new(instruction.data);
    match data.u32()? {
        0 => Known::named("initialize_buffer"),
        1 => Known::named("write"),
        2 => said(ProgramStatement {
            name: "deploy_with_max_data_len",
            program: Some(instruction.account(2)?),
            programdata: instruction.account(1)?,
            upgrade_authority: Some(Some(instruction.account(7)?)),
            data_length: Some(data.u64()?),
            deploys: true,
            closed: Some(false),
        }),
        // The buffer's lamports go to the spill account, less what the program data account needs.
        3 => said(ProgramStatement {
            name: "upgrade",
            program: Some(instruction.account(1)?),
            programdata: instruction.account(0)?,
            upgrade_authority: Some(Some(instruction.account(6)?)),
            deploys: true,
            closed: Some(false),
            ..ProgramStatement::default()
        }),
        // Of a buffer, too: an account that no program names as its code.
        4 => said(ProgramStatement {
            name: "set_authority",
            programdata: instruction.account(0)?,
            upgrade_authority: Some(instruction.account(2).ok()),
            ..ProgramStatement::default()
        }),
        5 => close(instruction),
        6 => said(ProgramStatement {
            name: "extend_program",
            program: Some(instruction.account(1)?),
            programdata: instruction.account(0)?,
            ..ProgramStatement::default()
        }),
        7 => said(ProgramStatement {
            name: "set_authority_checked",
            programdata: instruction.account(0)?,
            upgrade_authority: Some(Some(instruction.account(2)?)),
            ..ProgramStatement::default()
        }),
        _ => Err(Unread::Unknown),
    }
}

fn said(statement: ProgramStatement) -> Result<Known, Unread> {
    Known::with(statement.name, Effect::Program(statement))
}

/// Of a program only where it is named; else of a buffer.
fn close(instruction: &Instruction<'_>) -> Result<Known, Unread> {
    let lamports = instruction.lamports("close_program_account", [0, 1], None)?;
    let mut effects = vec![lamports];
    if let Ok(program) = instruction.account(3) {
        effects.push(Effect::Program(ProgramStatement {
            name: "close",
            program: Some(program),
            programdata: instruction.account(0)?,
            closed: Some(true),
            ..ProgramStatement::default()
        }));
    }
    Ok(Known {
        name: "close",
        effects,
    })
}
