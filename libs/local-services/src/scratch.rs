//! A temporary directory that goes with the service it belongs to, or, when a whole run was killed, with a later run.
//!
//! The directory's `owner` file is locked for as long as the process that made it lives; the system takes the lock away even
//! after SIGKILL. A directory whose lock can be had belongs to nobody, and the next service of the same name removes it.

use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rustix::fs::{FlockOperation, flock};

const OWNER: &str = "owner";
/// Younger ones are left alone: their owner may not have locked them yet.
const SPARED: Duration = Duration::from_secs(300);
/// A killed server's last processes may still write while its directory goes.
const REMOVAL_TRIES: usize = 20;
const REMOVAL_PAUSE: Duration = Duration::from_millis(50);

/// See the module. Dropping it removes the directory.
#[derive(Debug)]
pub struct Scratch {
    dir: PathBuf,
    // The lock goes with it.
    _owner: File,
}

impl Scratch {
    /// `PARENT/heliograph-SERVICE-…`, after removing what killed runs left there.
    pub fn new(parent: &Path, service: &str) -> io::Result<Self> {
        let prefix = format!("heliograph-{service}-");
        remove_abandoned(parent, &prefix, SPARED);
        let dir = tempfile::Builder::new()
            .prefix(&prefix)
            .tempdir_in(parent)?
            .keep();
        let owner = File::create(dir.join(OWNER))?;
        flock(&owner, FlockOperation::NonBlockingLockExclusive)?;
        Ok(Self { dir, _owner: owner })
    }

    pub fn path(&self) -> &Path {
        &self.dir
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for _ in 0..REMOVAL_TRIES {
            match std::fs::remove_dir_all(&self.dir) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    std::thread::sleep(REMOVAL_PAUSE);
                }
                _ => return,
            }
        }
    }
}

/// Best effort: what cannot be read or removed (another user's) stays.
fn remove_abandoned(parent: &Path, prefix: &str, spared: Duration) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        let ours = entry.file_name().to_string_lossy().starts_with(prefix);
        if ours && is_abandoned(&entry.path(), spared).unwrap_or(false) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

fn is_abandoned(dir: &Path, spared: Duration) -> io::Result<bool> {
    let owner = File::open(dir.join(OWNER))?;
    let age = SystemTime::now()
        .duration_since(owner.metadata()?.modified()?)
        .unwrap_or_default();
    Ok(age >= spared && flock(&owner, FlockOperation::NonBlockingLockExclusive).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_with_its_owner() {
        let parent = tempfile::tempdir().unwrap();
        let scratch = Scratch::new(parent.path(), "x").unwrap();
        let dir = scratch.path().to_owned();
        std::fs::write(dir.join("data"), "1").unwrap();
        drop(scratch);
        assert!(!dir.exists());
    }

    #[test]
    fn only_what_nobody_owns_is_removed() {
        let parent = tempfile::tempdir().unwrap();
        let alive = Scratch::new(parent.path(), "x").unwrap();
        let foreign = parent.path().join("heliograph-x-foreign");
        std::fs::create_dir(&foreign).unwrap();
        let abandoned = parent.path().join("heliograph-x-abandoned");
        std::fs::create_dir(&abandoned).unwrap();
        std::fs::write(abandoned.join(OWNER), "").unwrap();

        remove_abandoned(parent.path(), "heliograph-x-", SPARED);
        assert!(abandoned.exists(), "too young to judge");

        remove_abandoned(parent.path(), "heliograph-x-", Duration::ZERO);
        assert!(!abandoned.exists());
        assert!(alive.path().exists());
        assert!(foreign.exists(), "nobody says whose it is");
    }
}
