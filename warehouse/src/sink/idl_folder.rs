//! The folder of IDLs, read once at the start: a change of it takes a restart, so that one batch is read by one text.

use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::decode::idl::Idls;

/// All `*.json` of `folder`; an empty path is no folder. A file that is no IDL stops the start: half a folder would leave
/// holes that look like programs without an IDL.
pub fn load(folder: &Path) -> anyhow::Result<Idls> {
    let mut idls = Idls::default();
    if folder.as_os_str().is_empty() {
        return Ok(idls);
    }
    let fix = || {
        format!(
            "idl_folder {}: cannot be read. Create it, or leave idl_folder empty",
            folder.display()
        )
    };
    let entries = std::fs::read_dir(folder).with_context(fix)?;
    let mut files: Vec<PathBuf> = entries
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()
        .with_context(fix)?;
    files.retain(|file| {
        file.extension()
            .is_some_and(|extension| extension == "json")
    });
    files.sort();
    for file in &files {
        let bytes = std::fs::read(file).with_context(|| {
            format!(
                "{}: cannot be read. Make it readable, or take it away",
                file.display()
            )
        })?;
        idls.add(&file.display().to_string(), &bytes)?;
    }
    tracing::info!(folder = %folder.display(), programs = idls.programs(), "IDLs loaded");
    Ok(idls)
}
