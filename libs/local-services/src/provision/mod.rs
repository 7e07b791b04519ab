//! Fetches, once, what the services need: each function returns where it is, after making sure that it is there.
//!
//! Sources are the official ones (Maven Central, npm, PyPI, the distribution's packages), reached through their own
//! clients, so that a machine's mirrors and proxies apply. Versions are pinned; what has a published hash is checked
//! against it. A finished directory appears by one rename, and a lock file makes a second process wait for the first:
//! an interrupted or doubled run leaves nothing half done.

mod kafka;
mod libchdb;
mod packages;
mod postgres;
mod rocksdb;

use std::{
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context, bail};

use crate::cache_dir;

pub use kafka::kafka;
pub use libchdb::libchdb;
pub use packages::{Package, packages, system_packages};
pub use postgres::{find_postgres, postgres};
pub use rocksdb::rocksdb;

/// One step of something that takes long: `done` of `total`, both in `unit` (0 = not known).
#[derive(Clone, Copy, Debug)]
pub struct Update<'a> {
    pub what: &'a str,
    pub done: u64,
    pub total: u64,
    pub unit: Unit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    Bytes,
    Files,
    Percent,
}

/// Who is told how far a fetch is.
pub struct Progress {
    listener: Option<Box<dyn Fn(Update<'_>) + Send + Sync>>,
}

impl Progress {
    pub fn quiet() -> Self {
        Self { listener: None }
    }

    pub fn new(listener: impl Fn(Update<'_>) + Send + Sync + 'static) -> Self {
        Self {
            listener: Some(Box::new(listener)),
        }
    }

    fn update(&self, what: &str, done: u64, total: u64, unit: Unit) {
        if let Some(listener) = &self.listener {
            listener(Update {
                what,
                done,
                total,
                unit,
            });
        }
    }
}

/// Makes `cache/NAME` exist: `fill` gets an empty directory beside it, which takes the name when `fill` succeeds.
/// `present` says whether a directory is complete.
fn once(
    name: &str,
    present: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    once_in(&cache_dir(), name, present, fill)
}

fn once_in(
    cache: &Path,
    name: &str,
    present: impl Fn(&Path) -> bool,
    fill: impl FnOnce(&Path) -> anyhow::Result<()>,
) -> anyhow::Result<PathBuf> {
    let target = cache.join(name);
    if present(&target) {
        return Ok(target);
    }
    std::fs::create_dir_all(cache)
        .with_context(|| format!("cannot create the cache directory {}", cache.display()))?;
    let lock = File::create(cache.join(format!(".{name}.lock")))
        .with_context(|| format!("cannot write to the cache directory {}", cache.display()))?;
    lock.lock()?;
    if present(&target) {
        return Ok(target);
    }
    let unfinished = cache.join(format!(".{name}.unfinished"));
    let _ = std::fs::remove_dir_all(&unfinished);
    std::fs::create_dir_all(&unfinished)?;
    fill(&unfinished)?;
    if !present(&unfinished) {
        bail!("fetching {name} left {} incomplete", unfinished.display());
    }
    let _ = std::fs::remove_dir_all(&target);
    std::fs::rename(&unfinished, &target)?;
    Ok(target)
}

/// Runs a fetching program to its end, reporting `measure()` ten times a second. The error is one sentence that ends
/// with the program's last words.
fn run_measured(
    command: &mut Command,
    failure: &str,
    mut measure: impl FnMut(),
) -> anyhow::Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{failure}: could not run `{program}`; is it installed?"))?;
    let output = collect(child.stdout.take());
    let errors = collect(child.stderr.take());
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        measure();
        std::thread::sleep(Duration::from_millis(100));
    };
    measure();
    if status.success() {
        return Ok(());
    }
    let said = format!(
        "{}\n{}",
        output.join().unwrap_or_default(),
        errors.join().unwrap_or_default()
    );
    bail!(
        "{failure}: `{program}` ended with {status}: {}",
        last_words(&said)
    )
}

fn collect(stream: Option<impl Read + Send + 'static>) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut text = String::new();
        if let Some(stream) = stream {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        text
    })
}

fn last_words(text: &str) -> String {
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

fn tree_bytes(dir: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(dir) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => tree_bytes(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

fn sha256_file(path: &Path) -> anyhow::Result<String> {
    use sha2::{Digest, Sha256};
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..read]);
    }
}

fn check_sha256(path: &Path, expected: &str, what: &str) -> anyhow::Result<()> {
    let found = sha256_file(path)?;
    if found != expected {
        bail!(
            "{what}: the file fetched has sha256 {found}, expected {expected}; it was not installed. \
             Check the mirror or proxy that npm, Maven or pip is configured with, and try again"
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn present(dir: &Path) -> bool {
        dir.join("file").exists()
    }

    #[test]
    fn racing_callers_fill_once_and_all_see_the_result() {
        let cache = tempfile::tempdir().unwrap();
        let fills = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let dir = once_in(cache.path(), "thing", present, |dir| {
                        fills.fetch_add(1, Ordering::SeqCst);
                        std::thread::sleep(Duration::from_millis(30));
                        Ok(std::fs::write(dir.join("file"), "x")?)
                    })
                    .unwrap();
                    assert!(present(&dir));
                });
            }
        });
        assert_eq!(fills.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_failed_fill_leaves_nothing_that_looks_finished() {
        let cache = tempfile::tempdir().unwrap();
        let failed = once_in(cache.path(), "thing", present, |dir| {
            std::fs::write(dir.join("file"), "half")?;
            bail!("the line went dead")
        });
        assert_eq!(failed.unwrap_err().to_string(), "the line went dead");
        assert!(!cache.path().join("thing").exists());
        let dir = once_in(cache.path(), "thing", present, |dir| {
            assert_eq!(std::fs::read_dir(dir).unwrap().count(), 0, "starts empty");
            Ok(std::fs::write(dir.join("file"), "whole")?)
        })
        .unwrap();
        assert_eq!(std::fs::read_to_string(dir.join("file")).unwrap(), "whole");
    }

    #[test]
    fn a_failing_program_is_one_sentence_with_its_last_words() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo out; echo 'no route to host' >&2; exit 7"]);
        let error = run_measured(&mut command, "fetching the moon", || {})
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("fetching the moon: `sh` ended with"),
            "{error}"
        );
        assert!(error.contains("no route to host"), "{error}");
    }

    #[test]
    fn a_wrong_hash_names_both() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = check_sha256(file.path(), "00", "the moon")
            .unwrap_err()
            .to_string();
        assert!(error.contains("e3b0c44298fc1c14"), "{error}");
    }
}
