//! Will `dlopen` find what the library needs: other libraries, their symbol versions (glibc's among them), and symbols.
//!
//! The search is the loader's: `RPATH`, `LD_LIBRARY_PATH`, `RUNPATH`, the folders of `ld.so.conf`, the default ones. Files are
//! read by section, so that their size does not matter.

mod search;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    fs::File,
    path::{Path, PathBuf},
};

use object::{
    Endianness, ReadCache,
    elf::{self, DT_NEEDED, DT_RPATH, DT_RUNPATH, STB_LOCAL, STB_WEAK, VER_FLG_WEAK},
    read::elf::{ElfFile64, FileHeader, ProgramHeader, Sym},
};

use super::finding::Finding;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Program,
    Shared,
    Other,
}

/// What is read of an ELF file.
#[derive(Debug, Clone)]
pub struct Object {
    pub machine: u16,
    pub kind: Kind,
    /// Names an interpreter: the file is a program.
    pub starts: bool,
    pub needed: Vec<String>,
    pub rpath: Vec<String>,
    pub runpath: Vec<String>,
    /// Symbols for others.
    pub defines: HashSet<String>,
    /// Symbols that must come from others.
    pub wants: BTreeSet<String>,
    pub version_names: HashSet<String>,
    /// By library, the versions that must be defined there.
    pub wanted_versions: BTreeMap<String, BTreeSet<String>>,
}

impl Object {
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| error.to_string())?;
        let cache = ReadCache::new(file);
        Self::parse(&cache).map_err(|error| format!("not a 64-bit ELF file: {error}"))
    }

    fn parse(cache: &ReadCache<File>) -> object::Result<Self> {
        let elf = ElfFile64::<Endianness, _>::parse(cache)?;
        let endian = elf.endian();
        let header = elf.elf_header();
        let mut object = Self {
            machine: header.e_machine(endian),
            kind: match header.e_type(endian) {
                elf::ET_EXEC => Kind::Program,
                elf::ET_DYN => Kind::Shared,
                _ => Kind::Other,
            },
            starts: elf
                .elf_program_headers()
                .iter()
                .any(|segment| segment.p_type(endian) == elf::PT_INTERP),
            needed: Vec::new(),
            rpath: Vec::new(),
            runpath: Vec::new(),
            defines: HashSet::new(),
            wants: BTreeSet::new(),
            version_names: HashSet::new(),
            wanted_versions: BTreeMap::new(),
        };
        let dynamic = elf.elf_dynamic_table()?;
        for entry in dynamic.iter() {
            let list = match entry.tag {
                DT_NEEDED => &mut object.needed,
                DT_RPATH => &mut object.rpath,
                DT_RUNPATH => &mut object.runpath,
                _ => continue,
            };
            list.push(text(dynamic.string(entry)?));
        }
        let symbols = elf.elf_dynamic_symbol_table();
        for symbol in symbols.iter() {
            let name = || symbol.name(endian, symbols.strings()).map(text);
            if symbol.is_undefined(endian) {
                // The first one is empty; a weak one may be missing.
                if symbol.st_name(endian) != 0 && symbol.st_bind() != STB_WEAK {
                    object.wants.insert(name()?);
                }
            } else if symbol.st_bind() != STB_LOCAL {
                object.defines.insert(name()?);
            }
        }
        let sections = elf.elf_section_table();
        if let Some((mut definitions, link)) = sections.gnu_verdef(endian, cache)? {
            let strings = sections.strings(endian, cache, link)?;
            while let Some((_, mut names)) = definitions.next()? {
                // The first name is the version's, the others are those it follows.
                if let Some(name) = names.next()? {
                    object
                        .version_names
                        .insert(text(name.name(endian, strings)?));
                }
            }
        }
        if let Some((mut needs, link)) = sections.gnu_verneed(endian, cache)? {
            let strings = sections.strings(endian, cache, link)?;
            while let Some((need, mut names)) = needs.next()? {
                let file = text(need.file(endian, strings)?);
                let wanted = object.wanted_versions.entry(file).or_default();
                while let Some(name) = names.next()? {
                    if name.vna_flags.get(endian) & VER_FLG_WEAK == 0 {
                        wanted.insert(text(name.name(endian, strings)?));
                    }
                }
            }
        }
        Ok(object)
    }

    pub fn machine_name(&self) -> String {
        match self.machine {
            elf::EM_X86_64 => "x86-64".to_owned(),
            elf::EM_AARCH64 => "aarch64".to_owned(),
            other => format!("ELF machine {other}"),
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub fn examine(plugin: &Path) -> Vec<Finding> {
    // A file that cannot be read was reported with the binaries.
    let Ok(object) = Object::read(plugin) else {
        return Vec::new();
    };
    let search = search::Search::of_this_machine();
    let found = collect(plugin, &object, &search);
    vec![
        libraries(&object, &found),
        versions(&object, &found),
        symbols(&object, &found),
    ]
}

/// Every library that loading would bring, by the name it is asked for; `None` when it is nowhere.
type Found = BTreeMap<String, Option<(PathBuf, Object)>>;

fn collect(plugin: &Path, object: &Object, search: &search::Search) -> Found {
    let mut found = Found::new();
    let mut waiting: VecDeque<(String, PathBuf, Object)> = object
        .needed
        .iter()
        .map(|name| (name.clone(), plugin.to_owned(), object.clone()))
        .collect();
    while let Some((name, asking_path, asking)) = waiting.pop_front() {
        if found.contains_key(&name) {
            continue;
        }
        let answer = search
            .candidates(&name, &asking_path, &asking)
            .into_iter()
            .find_map(|path| {
                let object = Object::read(&path).ok()?;
                // As the loader does, pass over another machine's.
                (object.machine == asking.machine).then_some((path, object))
            });
        if let Some((path, object)) = &answer {
            for next in &object.needed {
                waiting.push_back((next.clone(), path.clone(), object.clone()));
            }
        }
        found.insert(name, answer);
    }
    found
}

fn libraries(object: &Object, found: &Found) -> Finding {
    let missing: Vec<&str> = found
        .iter()
        .filter(|(_, answer)| answer.is_none())
        .map(|(name, _)| name.as_str())
        .collect();
    if missing.is_empty() {
        return Finding::ok("libraries", format!("found: {}", object.needed.join(", ")));
    }
    Finding::fail(
        "libraries",
        format!("not on this machine: {}", missing.join(", ")),
        "install the packages that have them, or build the plugin on this machine",
    )
}

fn versions(object: &Object, found: &Found) -> Finding {
    let mut missing = Vec::new();
    for (library, wanted) in &object.wanted_versions {
        let Some(Some((path, theirs))) = found.get(library) else {
            continue; // Reported as missing, or never asked for by name.
        };
        // A library without versions satisfies any.
        if theirs.version_names.is_empty() {
            continue;
        }
        let lacking: Vec<&str> = wanted
            .iter()
            .filter(|version| !theirs.version_names.contains(*version))
            .map(String::as_str)
            .collect();
        if !lacking.is_empty() {
            let newest = newest(&theirs.version_names);
            missing.push(format!(
                "{} lacks {}{newest}",
                path.display(),
                lacking.join(", ")
            ));
        }
    }
    if missing.is_empty() {
        let glibc = object
            .wanted_versions
            .values()
            .flatten()
            .filter_map(|name| dotted(name))
            .max();
        let needs = glibc.map_or(String::new(), |version| {
            let version: Vec<String> = version.iter().map(u32::to_string).collect();
            format!("; the plugin needs glibc {} or newer", version.join("."))
        });
        return Finding::ok(
            "versions",
            format!("every symbol version is defined{needs}"),
        );
    }
    Finding::fail(
        "versions",
        missing.join("; "),
        "build the plugin on this machine's distribution, or an older one",
    )
}

fn newest(versions: &HashSet<String>) -> String {
    match versions.iter().filter_map(|name| dotted(name)).max() {
        Some(version) => {
            let version: Vec<String> = version.iter().map(u32::to_string).collect();
            format!(" (it is glibc {})", version.join("."))
        }
        None => String::new(),
    }
}

/// `GLIBC_2.34` → 2, 34.
fn dotted(version: &str) -> Option<Vec<u32>> {
    version
        .strip_prefix("GLIBC_")?
        .split('.')
        .map(|part| part.parse().ok())
        .collect()
}

fn symbols(object: &Object, found: &Found) -> Finding {
    let missing: Vec<&str> = object
        .wants
        .iter()
        .filter(|name| {
            !found
                .values()
                .flatten()
                .any(|(_, library)| library.defines.contains(*name))
        })
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Finding::ok(
            "symbols",
            format!(
                "all {} that it takes from others are there",
                object.wants.len()
            ),
        );
    }
    const SHOWN: usize = 5;
    let rest = missing.len().saturating_sub(SHOWN);
    let rest = if rest > 0 {
        format!(" and {rest} more")
    } else {
        String::new()
    };
    Finding::fail(
        "symbols",
        format!(
            "no library defines {}{rest}",
            missing[..missing.len().min(SHOWN)].join(", ")
        ),
        "build the plugin against this machine's libraries",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bare() -> Object {
        Object {
            machine: elf::EM_X86_64,
            kind: Kind::Shared,
            starts: false,
            needed: Vec::new(),
            rpath: Vec::new(),
            runpath: Vec::new(),
            defines: HashSet::new(),
            wants: BTreeSet::new(),
            version_names: HashSet::new(),
            wanted_versions: BTreeMap::new(),
        }
    }

    #[test]
    fn this_programs_own_libraries_fit() {
        let object = Object::read(&std::env::current_exe().unwrap()).unwrap();
        assert!(object.starts && !object.wants.is_empty());
        for finding in examine(&std::env::current_exe().unwrap()) {
            assert_eq!(finding.fix, "", "{finding}");
        }
    }

    #[test]
    fn a_damaged_file_is_an_error_or_an_answer_but_no_panic() {
        let own = std::env::current_exe().unwrap();
        let search = search::Search::of_this_machine();
        let sound = search
            .candidates("libgcc_s.so.1", &own, &Object::read(&own).unwrap())
            .remove(0);
        let sound = std::fs::read(sound).unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let sections = u64::from_le_bytes(sound[0x28..0x30].try_into().unwrap()) as usize;
        let headers = (0..0x140).chain(sections..sound.len());
        for at in headers.step_by(3) {
            for value in [0, 0x7f, 0xff] {
                let mut bytes = sound.clone();
                bytes[at] = value;
                std::fs::write(file.path(), &bytes).unwrap();
                let _ = Object::read(file.path());
            }
        }
        for length in [0, 4, 63, 64, 200, sound.len() / 2] {
            std::fs::write(file.path(), &sound[..length]).unwrap();
            assert!(Object::read(file.path()).is_err(), "{length} bytes");
        }
    }

    #[test]
    fn an_older_glibc_is_told_from_a_newer_one_by_number() {
        let mut plugin = bare();
        plugin.needed = vec!["libc.so.6".into()];
        plugin
            .wanted_versions
            .insert("libc.so.6".into(), ["GLIBC_2.34".into()].into());
        let mut libc = bare();
        libc.version_names = ["GLIBC_2.9", "GLIBC_2.31"].map(str::to_owned).into();
        let found = |library: &Object| -> Found {
            [(
                "libc.so.6".to_owned(),
                Some(("/lib/libc.so.6".into(), library.clone())),
            )]
            .into()
        };
        let finding = versions(&plugin, &found(&libc));
        assert!(
            finding
                .detail
                .contains("lacks GLIBC_2.34 (it is glibc 2.31)"),
            "{finding}"
        );
        libc.version_names.insert("GLIBC_2.34".into());
        let finding = versions(&plugin, &found(&libc));
        assert!(finding.detail.contains("needs glibc 2.34"), "{finding}");
    }

    #[test]
    fn what_nobody_defines_is_named() {
        let mut plugin = bare();
        plugin.needed = vec!["libnowhere.so.9".into()];
        plugin.wants = ["rd_kafka_new".to_owned()].into();
        let found = collect(
            Path::new("/nonexistent/p.so"),
            &plugin,
            &search::Search::of_this_machine(),
        );
        assert!(
            libraries(&plugin, &found)
                .detail
                .contains("libnowhere.so.9")
        );
        assert!(symbols(&plugin, &found).detail.contains("rd_kafka_new"));
    }
}
