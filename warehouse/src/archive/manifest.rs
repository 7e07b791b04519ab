//! What an archive says of itself.

use std::{
    fs::File,
    io::Read,
    path::{Component, Path},
};

use anyhow::{Context, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Raised when a reader of today could misread the folder.
pub const FORMAT_VERSION: u32 = 1;
pub const FILE_NAME: &str = "manifest.json";

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format_version: u32,
    /// Of the engine that wrote the files.
    pub engine_version: String,
    pub from_slot: u64,
    pub to_slot: u64,
    pub epoch: Option<u64>,
    pub tables: Vec<Table>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub name: String,
    /// Name and type of every stored column.
    pub columns: Vec<(String, String)>,
    pub rows: u64,
    pub files: Vec<ParquetFile>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParquetFile {
    /// Below the archive's folder.
    pub path: String,
    pub from_slot: u64,
    pub to_slot: u64,
    pub rows: u64,
    pub bytes: u64,
    pub sha256: String,
    /// Sum over hashes of the rows as the engine reads them.
    pub content: String,
}

impl Manifest {
    pub fn read(folder: &Path) -> anyhow::Result<Self> {
        let path = folder.join(FILE_NAME);
        let text = std::fs::read_to_string(&path).with_context(|| {
            format!(
                "{}: is this an archive, and was its export finished?",
                path.display()
            )
        })?;
        // The version first: another one may have other fields.
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
        }
        let version: Version =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        ensure!(
            version.format_version == FORMAT_VERSION,
            "{} has format_version {}, this program reads {FORMAT_VERSION}: use the release that wrote it",
            path.display(),
            version.format_version
        );
        let manifest: Self =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        for file in manifest.files() {
            let plain = Path::new(&file.path)
                .components()
                .all(|part| matches!(part, Component::Normal(_)));
            ensure!(
                plain,
                "{}: path {:?} leads out of the archive",
                path.display(),
                file.path
            );
        }
        Ok(manifest)
    }

    /// Written last: a folder without it is an export that did not finish.
    pub fn write(&self, folder: &Path) -> anyhow::Result<()> {
        let path = folder.join(FILE_NAME);
        let text = format!("{}\n", serde_json::to_string_pretty(self)?);
        let unfinished = folder.join(".manifest.unfinished");
        std::fs::write(&unfinished, text)
            .and_then(|()| File::open(&unfinished)?.sync_all())
            .and_then(|()| std::fs::rename(&unfinished, &path))
            .with_context(|| path.display().to_string())
    }

    pub fn files(&self) -> impl Iterator<Item = &ParquetFile> {
        self.tables.iter().flat_map(|table| &table.files)
    }

    /// Every file is there with its bytes.
    pub fn verify_files(&self, folder: &Path) -> anyhow::Result<()> {
        for table in &self.tables {
            table.verify_files(folder)?;
        }
        Ok(())
    }
}

impl Table {
    /// Every file of the table is there with its bytes.
    pub fn verify_files(&self, folder: &Path) -> anyhow::Result<()> {
        for file in &self.files {
            let path = folder.join(&file.path);
            let (bytes, sha256) = digest(&path)?;
            if (bytes, sha256.as_str()) != (file.bytes, file.sha256.as_str()) {
                bail!(
                    "{} is damaged: {bytes} bytes with SHA-256 {sha256}, the manifest says {} and {}. Restore the file from another copy",
                    path.display(),
                    file.bytes,
                    file.sha256
                );
            }
        }
        Ok(())
    }

    /// Whether the files hold every slot of these once, in order: no row can lie between two of them.
    pub fn covers(&self, from_slot: u64, to_slot: u64) -> bool {
        let mut next = Some(from_slot);
        for file in &self.files {
            if next != Some(file.from_slot) || file.to_slot < file.from_slot {
                return false;
            }
            next = file.to_slot.checked_add(1);
        }
        self.files.is_empty() || next == to_slot.checked_add(1)
    }
}

fn digest(path: &Path) -> anyhow::Result<(u64, String)> {
    let mut file = File::open(path).with_context(|| path.display().to_string())?;
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    let mut bytes = 0;
    loop {
        let count = file
            .read(&mut buffer)
            .with_context(|| path.display().to_string())?;
        if count == 0 {
            return Ok((bytes, hex::encode(hash.finalize())));
        }
        hash.update(&buffer[..count]);
        bytes += count as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(path: &str) -> Manifest {
        Manifest {
            format_version: FORMAT_VERSION,
            engine_version: "26.7".into(),
            from_slot: 1,
            to_slot: 2,
            epoch: None,
            tables: vec![Table {
                name: "t".into(),
                columns: vec![("slot".into(), "UInt64".into())],
                rows: 1,
                files: vec![ParquetFile {
                    path: path.into(),
                    from_slot: 1,
                    to_slot: 2,
                    rows: 1,
                    bytes: 3,
                    sha256: hex::encode(Sha256::digest(b"abc")),
                    content: "1".into(),
                }],
            }],
        }
    }

    #[test]
    fn files_with_a_hole_between_them_cover_nothing() {
        let mut table = sample("a").tables.remove(0);
        assert!(table.covers(1, 2));
        assert!(!table.covers(0, 2) && !table.covers(1, 3));
        let next = |from_slot, to_slot| ParquetFile {
            from_slot,
            to_slot,
            ..table.files[0].clone()
        };
        let (touching, apart, overlapping) = (next(3, 5), next(4, 5), next(2, 5));
        for (more, covered) in [(touching, true), (apart, false), (overlapping, false)] {
            table.files.truncate(1);
            table.files.push(more);
            assert_eq!(table.covers(1, 5), covered);
        }
        table.files.clear();
        assert!(table.covers(1, 5));
    }

    #[test]
    fn damage_foreign_paths_and_other_versions_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path();
        assert!(Manifest::read(folder).is_err());
        sample("a").write(folder).unwrap();
        std::fs::write(folder.join("a"), "abc").unwrap();
        let manifest = Manifest::read(folder).unwrap();
        assert_eq!(manifest, sample("a"));
        manifest.verify_files(folder).unwrap();
        for damage in ["abd", "ab", "abcd"] {
            std::fs::write(folder.join("a"), damage).unwrap();
            assert!(manifest.verify_files(folder).is_err(), "{damage}");
        }
        std::fs::remove_file(folder.join("a")).unwrap();
        assert!(manifest.verify_files(folder).is_err());
        for path in ["../a", "/etc/passwd", "a/../../b"] {
            sample(path).write(folder).unwrap();
            assert!(Manifest::read(folder).is_err(), "{path}");
        }
        let newer = Manifest {
            format_version: 2,
            ..sample("a")
        };
        newer.write(folder).unwrap();
        let error = Manifest::read(folder).unwrap_err().to_string();
        assert!(error.contains("format_version 2"), "{error}");
    }
}
