//! `INSERT … SELECT … FROM input('structure') … FORMAT F`: the body as a table, to be changed or refused on its way.
//!
//! The engine takes streamed rows for plain inserts only. So the whole body is kept in a file without a name first, and
//! `input` becomes `file`. The statement therefore begins when the body has ended: what it asks of other tables, it asks
//! then, however long the client took.

use std::{
    fs::File,
    io::{Read, Write},
    ops::Range,
    os::fd::AsRawFd,
    path::Path,
};

use super::pieces;
use crate::{
    door::{
        error::{Kind, ServerError},
        request::Call,
        token::{self, Tokens},
    },
    engine::{Handle, ffi::Progress, quote_text},
};

/// `input`: where `input(` stands in `head`. `folder`: where the body may be kept.
pub fn insert(
    handle: &mut Handle,
    call: &Call,
    head: &[u8],
    input: Range<usize>,
    format: &str,
    rows: impl Read,
    folder: &Path,
) -> Result<Progress, ServerError> {
    let arguments = &head[input.end..];
    if Tokens::new(arguments).next().map(|first| first.kind) != Some(token::Kind::Literal) {
        return Err(ServerError::new(
            Kind::SyntaxError,
            "input() wants the structure of its rows as a string: input('name Type, …')",
        ));
    }
    let file = kept(rows, folder)?;
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let call_of_file = format!("file({}, {}, ", quote_text(&path), quote_text(format));
    let statement = [&head[..input.start], call_of_file.as_bytes(), arguments].concat();
    let result = handle.connection.query(&statement, "Null", &call.params);
    drop(file);
    Ok(result
        .map_err(|problem| ServerError::of_engine(&problem))?
        .progress())
}

fn kept(rows: impl Read, folder: &Path) -> Result<File, ServerError> {
    let failed = |error| {
        ServerError::new(
            Kind::Engine,
            format!("the body cannot be kept in {}: {error}", folder.display()),
        )
    };
    let mut file = tempfile::tempfile_in(folder).map_err(failed)?;
    pieces(rows, |piece| file.write_all(piece).map_err(failed))?;
    Ok(file)
}
