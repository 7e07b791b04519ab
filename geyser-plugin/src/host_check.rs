//! Was the host built by the same compiler, with the same versions of the crates whose types cross the boundary?
//!
//! The validator does not ask. If it was not, layouts differ and the first callback reads garbage. What can be known from
//! the outside: the compiler writes its exact version into the executable's `.comment` section; and panic and log messages
//! carry the source paths of crates taken from a registry, `…/solana-message-4.4.1/src/…`. A validator built in its own
//! repository shows no version for its own crates, only for those it takes from the registry; then that much is checked.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    path::Path,
};

use object::{Object, ObjectSection, ReadCache};

/// What this plugin was built by, as the compiler writes it: `rustc version 1.95.0 (59807616e 2026-04-14)`.
pub const BUILT_BY: &str = env!("HELIOGRAPH_BUILT_BY");
/// `name version` pairs, separated by commas.
pub const BUILT_WITH: &str = env!("HELIOGRAPH_BUILT_WITH");
/// The same between marks, so that it can be found in the library's file.
const STATED: &str = concat!(
    "heliograph was built with ",
    env!("HELIOGRAPH_BUILT_WITH"),
    ";"
);
const STATED_START: &str = "heliograph was built with ";
/// Set to 1, a host that does not say what it was built by is trusted.
pub const SKIP_VARIABLE: &str = "HELIOGRAPH_UNSAFE_SKIP_ABI_CHECK";

/// What an executable tells about its making.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Making {
    /// Every `rustc version …` in `.comment`.
    pub compilers: BTreeSet<String>,
    /// `name version` of the boundary crates it shows.
    pub crates: BTreeSet<String>,
}

/// Why the host may not call this plugin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    #[error(
        "the host was built by `{host}`, this plugin by `{plugin}`; build both with the same rustc"
    )]
    Compiler { host: String, plugin: String },
    #[error(
        "the host was built with {host}, this plugin with {plugin}; build the plugin for the validator's exact version"
    )]
    Crate { host: String, plugin: String },
    #[error(
        "the host does not say which rustc built it (no .comment section), this plugin was built by `{plugin}`; use an unstripped validator, or, sure of both, set {SKIP_VARIABLE}=1"
    )]
    Unknown { plugin: String },
    #[error(
        "the host executable cannot be read ({0}); make /proc readable, or, sure of the compiler, set {SKIP_VARIABLE}=1"
    )]
    Unreadable(String),
}

/// Compares this process's executable with this plugin. `Ok` carries a note for the log.
pub fn check_host() -> Result<String, Mismatch> {
    let skip = std::env::var(SKIP_VARIABLE).is_ok_and(|value| value == "1");
    // The link stays valid when the file behind it was replaced by an upgrade.
    match examine(Path::new("/proc/self/exe")) {
        Ok(making) => compare(&making, BUILT_BY, stated_pairs(STATED), skip),
        Err(_) if skip => Ok(format!("host not examined, {SKIP_VARIABLE} is set")),
        Err(error) => Err(Mismatch::Unreadable(error)),
    }
}

/// A difference that is known is refused even when `skip` is set.
fn compare(
    host: &Making,
    built_by: &str,
    built_with: &str,
    skip: bool,
) -> Result<String, Mismatch> {
    if host.compilers.is_empty() {
        if !skip {
            return Err(Mismatch::Unknown {
                plugin: built_by.into(),
            });
        }
    } else if !host.compilers.contains(built_by) {
        let host = host
            .compilers
            .iter()
            .cloned()
            .collect::<Vec<_>>()
            .join("`, `");
        return Err(Mismatch::Compiler {
            host,
            plugin: built_by.into(),
        });
    }
    let plugin = built_with.split(',').map(str::to_owned).collect();
    let (same, mut different) = compare_crates(&host.crates, &plugin);
    if !different.is_empty() {
        return Err(different.swap_remove(0));
    }
    let checked = same.len();
    let compiler = if host.compilers.is_empty() {
        "not known, trusted by request"
    } else {
        "the same"
    };
    Ok(format!(
        "compiler {compiler}; {checked} boundary crates of the host show their version, all the same"
    ))
}

/// The crates that both show: the versions they share, and the differences. Both are `name version` pairs.
pub fn compare_crates(
    host: &BTreeSet<String>,
    plugin: &BTreeSet<String>,
) -> (Vec<String>, Vec<Mismatch>) {
    let ours = by_name(plugin.iter().map(String::as_str));
    let theirs = by_name(host.iter().map(String::as_str));
    let (mut same, mut different) = (Vec::new(), Vec::new());
    for (name, ours) in &ours {
        let Some(theirs) = theirs.get(name) else {
            continue;
        };
        let list = |versions: &mut dyn Iterator<Item = &&str>| {
            let versions: Vec<&str> = versions.copied().collect();
            format!("{name} {}", versions.join(" and "))
        };
        // Several versions in one program: one of them is the boundary's, and must be on both sides.
        if ours.is_disjoint(theirs) {
            different.push(Mismatch::Crate {
                host: list(&mut theirs.iter()),
                plugin: list(&mut ours.iter()),
            });
        } else {
            same.push(list(&mut ours.intersection(theirs)));
        }
    }
    (same, different)
}

fn by_name<'a>(pairs: impl Iterator<Item = &'a str>) -> BTreeMap<&'a str, BTreeSet<&'a str>> {
    let mut names: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, version) in pairs.filter_map(|pair| pair.split_once(' ')) {
        names.entry(name).or_default().insert(version);
    }
    names
}

/// Reads what the executable tells. Large binaries are read section by section.
pub fn examine(path: &Path) -> Result<Making, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
    let mut making = Making::default();
    if let Some(comment) = elf.section_by_name(".comment") {
        let data = comment
            .uncompressed_data()
            .map_err(|error| error.to_string())?;
        making.compilers = data
            .split(|byte| *byte == 0)
            .filter_map(|text| std::str::from_utf8(text).ok())
            .filter(|text| text.starts_with("rustc version "))
            .map(str::to_owned)
            .collect();
    }
    if let Some(constants) = elf.section_by_name(".rodata") {
        let data = constants.data().map_err(|error| error.to_string())?;
        for name in BUILT_WITH
            .split(',')
            .filter_map(|pair| pair.split(' ').next())
        {
            making
                .crates
                .extend(versions_in(data, name).map(|version| format!("{name} {version}")));
        }
    }
    Ok(making)
}

/// As [`examine`], for the file of a plugin: what one of ours states in so many words counts, and not what its source
/// paths show. The second value says whether it stated anything.
pub fn examine_plugin(path: &Path) -> Result<(Making, bool), String> {
    let mut making = examine(path)?;
    let file = File::open(path).map_err(|error| error.to_string())?;
    let cache = ReadCache::new(file);
    let elf = object::File::parse(&cache).map_err(|error| error.to_string())?;
    let Some(constants) = elf.section_by_name(".rodata") else {
        return Ok((making, false));
    };
    let data = constants.data().map_err(|error| error.to_string())?;
    let stated: BTreeSet<String> = stated_in(data).collect();
    if stated.is_empty() {
        return Ok((making, false));
    }
    making.crates = stated;
    Ok((making, true))
}

fn stated_in(data: &[u8]) -> impl Iterator<Item = String> + use<'_> {
    const LENGTH_MAX: usize = 4096;
    memchr::memmem::find_iter(data, STATED_START.as_bytes()).flat_map(move |at| {
        let text = &data[at..data.len().min(at + LENGTH_MAX)];
        let end = text
            .iter()
            .position(|byte| *byte == b';')
            .map_or(0, |end| end + 1);
        let text = std::str::from_utf8(&text[..end]).unwrap_or_default();
        let is_pair = |pair: &&str| {
            pair.split_once(' ').is_some_and(|(_, version)| {
                version.starts_with(|first: char| first.is_ascii_digit())
            })
        };
        stated_pairs(text)
            .split(',')
            .filter(is_pair)
            .map(str::to_owned)
            .collect::<Vec<_>>()
    })
}

fn stated_pairs(text: &str) -> &str {
    text.trim_start_matches(STATED_START).trim_end_matches(';')
}

/// Versions in source paths `/name-1.2.3/`.
fn versions_in<'a>(data: &'a [u8], name: &str) -> impl Iterator<Item = &'a str> {
    let start = format!("/{name}-");
    let length = start.len();
    memchr::memmem::find_iter(data, start.as_bytes())
        .map(move |at| at + length)
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(move |at| {
            let rest = &data[at..data.len().min(at + 40)];
            let version =
                std::str::from_utf8(&rest[..rest.iter().position(|byte| *byte == b'/')?]).ok()?;
            version
                .starts_with(|first: char| first.is_ascii_digit())
                .then_some(version)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn making(compilers: &[&str], crates: &[&str]) -> Making {
        let set = |items: &[&str]| items.iter().map(|item| (*item).to_owned()).collect();
        Making {
            compilers: set(compilers),
            crates: set(crates),
        }
    }

    const OURS: &str = "rustc version 1.95.0 (59807616e 2026-04-14)";
    const CRATES: &str = "agave-geyser-plugin-interface 4.2.2,solana-message 4.4.1";

    #[test]
    fn this_test_was_built_as_the_plugin_was() {
        let note = check_host().unwrap();
        assert!(note.contains("compiler the same"), "{note}");
        assert!(
            BUILT_WITH.contains("agave-geyser-plugin-interface 4.2.2"),
            "{BUILT_WITH}"
        );
    }

    #[test]
    fn another_compiler_is_refused_naming_both_and_the_fix() {
        let host = making(&["rustc version 1.96.1 (abcdef012 2026-07-01)"], &[]);
        let message = compare(&host, OURS, CRATES, true).unwrap_err().to_string();
        assert!(
            message.contains("1.96.1")
                && message.contains("1.95.0")
                && message.contains("same rustc"),
            "{message}"
        );
        assert!(!message.contains('\n'));
        // The same release from another commit is another compiler.
        let host = making(&["rustc version 1.95.0 (000000000 2026-04-14)"], &[]);
        assert!(compare(&host, OURS, CRATES, false).is_err());
    }

    #[test]
    fn another_interface_or_boundary_crate_is_refused() {
        let host = making(&[OURS], &["agave-geyser-plugin-interface 4.3.0"]);
        let message = compare(&host, OURS, CRATES, true).unwrap_err().to_string();
        assert!(
            message.contains("4.3.0") && message.contains("4.2.2"),
            "{message}"
        );
        let host = making(&[OURS], &["solana-message 3.0.1"]);
        assert!(compare(&host, OURS, CRATES, false).is_err());
        let host = making(&[OURS], &["solana-message 3.0.1", "solana-message 4.4.1"]);
        assert!(compare(&host, OURS, CRATES, false).is_ok());
    }

    #[test]
    fn a_silent_host_needs_an_explicit_word() {
        let host = making(&[], &[]);
        assert!(matches!(
            compare(&host, OURS, CRATES, false),
            Err(Mismatch::Unknown { .. })
        ));
        assert!(compare(&host, OURS, CRATES, true).is_ok());
    }

    #[test]
    fn versions_are_found_in_source_paths() {
        let data = b"xx/registry/solana-message-4.4.1/src/lib.rs\0/solana-message-legacy/src\0/solana-message-3.0.1/src";
        let found: Vec<&str> = versions_in(data, "solana-message").collect();
        assert_eq!(found, ["4.4.1", "3.0.1"]);
    }

    #[test]
    fn what_a_plugin_states_is_found_and_a_torn_statement_is_not() {
        let found = |text: &str| stated_in(text.as_bytes()).collect::<Vec<_>>();
        let text =
            format!("abc{STATED_START}solana-message 4.4.1,solana-transaction 4.1.6;not known");
        assert_eq!(
            found(&text),
            ["solana-message 4.4.1", "solana-transaction 4.1.6"]
        );
        assert!(found(&format!("{STATED_START}solana-message 4.4.1")).is_empty());
        // The mark alone is in every program that looks for it.
        assert!(found(&format!("{STATED_START}the host; and so on")).is_empty());
        assert_eq!(stated_pairs(STATED), BUILT_WITH);
    }

    #[test]
    fn what_is_not_an_executable_is_an_error() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"#!/bin/sh\n").unwrap();
        assert!(examine(file.path()).is_err());
        assert!(examine(Path::new("/nonexistent")).is_err());
    }
}
