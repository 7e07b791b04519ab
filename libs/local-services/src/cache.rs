//! Where fetched things are kept, and where this workspace's binaries are.

use std::path::PathBuf;

/// `$HELIOGRAPH_CACHE`, else `$XDG_CACHE_HOME/heliograph`, else `~/.cache/heliograph`. Not created here.
pub fn cache_dir() -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    if let Some(dir) = set("HELIOGRAPH_CACHE") {
        return PathBuf::from(dir);
    }
    match set("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir).join("heliograph"),
        None => PathBuf::from(set("HOME").unwrap_or_else(|| "/root".into()))
            .join(".cache")
            .join("heliograph"),
    }
}

/// The binary `name` of this workspace, built with the same profile as the running executable.
///
/// A test executable lives in `target/PROFILE/deps`, an example in `target/PROFILE/examples`, a binary in `target/PROFILE`: the
/// binary is one level up or beside.
/// The path is returned whether or not the file is there; starting it says clearly that it must be built.
pub fn workspace_binary(name: &str) -> PathBuf {
    let executable = std::env::current_exe().unwrap_or_default();
    let beside = executable.parent().unwrap_or(&executable);
    let profile = if beside.ends_with("deps") || beside.ends_with("examples") {
        beside.parent().unwrap_or(beside)
    } else {
        beside
    };
    profile.join(name)
}
