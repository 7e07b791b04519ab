//! Where records wait: the spill's disk, and the memory that outlives a kill.

use std::{fs, io::Write as _, path::Path};

use geyser_plugin::config::Config;

use super::finding::Finding;

/// `TMPFS_MAGIC` and `HUGETLBFS_MAGIC` of statfs(2).
const MEMORY_FILE_SYSTEMS: [i64; 2] = [0x0102_1994, 0x9584_58f6];
/// Of a record's or a seal's descriptor in the queue.
const DESCRIPTOR_BYTES: u64 = 64;

pub fn queue(config: &Config) -> Finding {
    let Some(dir) = &config.queue.dir else {
        return Finding::warn(
            "queue",
            "in memory without a name: what it holds is lost when the validator is killed",
            "set `queue.dir` to a memory file system such as \"/dev/shm\"",
        );
    };
    let sizes = config.sizes();
    let bytes =
        (sizes.records + sizes.seals) * DESCRIPTOR_BYTES + sizes.record_bytes + sizes.seal_bytes;
    // Rounded up, and the header with it.
    let wanted = (bytes >> 20) + 1;
    let existing = nearest(dir);
    // The plugin would do without a name.
    let unnamed = |problem: String, fix: &str| {
        Finding::warn(
            "queue",
            format!(
                "`queue.dir` {}: {problem}; the queue would be lost when the validator is killed",
                dir.display()
            ),
            fix,
        )
    };
    if let Err(error) = try_writing(existing) {
        return unnamed(
            format!("user {} cannot write there: {error}", user()),
            "run this check as the validator's user; let that user write there",
        );
    }
    let kind = rustix::fs::statfs(existing).map(|disk| disk.f_type as i64);
    if !kind.is_ok_and(|kind| MEMORY_FILE_SYSTEMS.contains(&kind)) {
        return Finding::warn(
            "queue",
            format!(
                "`queue.dir` {} is on a disk: the kernel may stop a callback at a page that is being written",
                dir.display()
            ),
            "name a memory file system such as \"/dev/shm\"",
        );
    }
    // What an instance of this name has there now is taken over.
    let own = megabytes_in(dir, &format!("heliograph-{}-", config.name));
    match free_megabytes(existing) {
        Ok(free) if free + own >= wanted => Finding::ok(
            "queue",
            format!(
                "{}: {free} MiB free, the queue takes {wanted} MiB",
                dir.display()
            ),
        ),
        Ok(free) => unnamed(
            format!("{free} MiB free, the queue takes {wanted} MiB"),
            "enlarge it (`mount -o remount,size=…`, a container's --shm-size), or lower `queue.megabytes`",
        ),
        Err(error) => unnamed(error, "name a memory file system such as \"/dev/shm\""),
    }
}

pub fn spill(config: &Config) -> Finding {
    let Some(dir) = config
        .spill
        .dir
        .as_deref()
        .filter(|_| config.spill.megabytes > 0)
    else {
        return Finding::warn(
            "spill",
            "turned off: a Kafka that is away costs records as soon as the queue is full",
            "set `spill.megabytes`",
        );
    };
    let existing = nearest(dir);
    let user = user();
    if let Err(error) = try_writing(existing) {
        return Finding::fail(
            "spill",
            format!(
                "`spill.dir` {}: user {user} cannot write in {}: {error}",
                dir.display(),
                existing.display()
            ),
            "run this check as the validator's user; let that user write there, or name another folder in `spill.dir`",
        );
    }
    let free = match free_megabytes(existing) {
        Ok(free) => free,
        Err(error) => {
            return Finding::fail(
                "spill",
                error,
                "name a folder on a local disk in `spill.dir`",
            );
        }
    };
    let used = megabytes_in(dir, "");
    let wanted = config.spill.megabytes.saturating_sub(used);
    let detail = format!(
        "{}: {free} MiB free; the spill may take {} MiB{}",
        dir.display(),
        config.spill.megabytes,
        if used > 0 {
            format!(" and holds {used} MiB")
        } else {
            String::new()
        }
    );
    if free < wanted {
        return Finding::fail(
            "spill",
            detail,
            "lower `spill.megabytes`, free space, or name a folder on a larger disk in `spill.dir`",
        );
    }
    Finding::ok("spill", format!("{detail}; user {user} can write there"))
}

/// Folders are made at load; until then the nearest one that is there stands for it.
fn nearest(dir: &Path) -> &Path {
    dir.ancestors()
        .find(|folder| folder.is_dir())
        .unwrap_or(Path::new("/"))
}

fn try_writing(folder: &Path) -> std::io::Result<()> {
    let probe = folder.join(format!(".heliograph-check-{}", std::process::id()));
    let written = fs::File::create_new(&probe).and_then(|mut file| file.write_all(b"check"));
    let removed = fs::remove_file(&probe);
    written.and(removed)
}

fn user() -> u32 {
    rustix::process::getuid().as_raw()
}

/// For users without privileges.
fn free_megabytes(folder: &Path) -> Result<u64, String> {
    let disk = rustix::fs::statvfs(folder)
        .map_err(|error| format!("{}: free space is not known: {error}", folder.display()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize) >> 20)
}

/// Of the files whose names begin so.
fn megabytes_in(dir: &Path, start: &str) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    let bytes: u64 = files
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(start))
        .filter_map(|entry| entry.metadata().ok())
        .filter(fs::Metadata::is_file)
        .map(|metadata| metadata.len())
        .sum();
    bytes >> 20
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_check::finding::Verdict;

    #[test]
    fn a_spill_larger_than_its_disk_is_refused_and_leaves_no_trace() {
        let dir = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.spill.dir = Some(dir.path().join("not/yet"));
        config.spill.megabytes = 1;
        assert_eq!(spill(&config).verdict, Verdict::Ok);
        config.spill.megabytes = 1 << 30;
        let finding = spill(&config);
        assert_eq!(finding.verdict, Verdict::Fail);
        assert!(finding.fix.contains("spill.megabytes"), "{finding}");
        config.spill.megabytes = 0;
        assert_eq!(spill(&config).verdict, Verdict::Warn);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_queue_that_would_not_outlive_a_kill_is_said() {
        let mut config = Config::default();
        config.queue.megabytes = 1;
        config.queue.dir = None;
        assert!(queue(&config).detail.contains("without a name"));
        config.queue.dir = Some("/dev/shm".into());
        assert_eq!(queue(&config).verdict, Verdict::Ok, "{}", queue(&config));
        config.queue.megabytes = 1 << 24;
        let finding = queue(&config);
        assert_eq!(finding.verdict, Verdict::Warn);
        assert!(finding.fix.contains("queue.megabytes"), "{finding}");
        // The repository's own folder is on a disk, unless somebody builds in memory.
        config.queue.megabytes = 1;
        config.queue.dir = Some(env!("CARGO_MANIFEST_DIR").into());
        let kind = rustix::fs::statfs(env!("CARGO_MANIFEST_DIR"))
            .unwrap()
            .f_type as i64;
        if !MEMORY_FILE_SYSTEMS.contains(&kind) {
            assert!(
                queue(&config).detail.contains("on a disk"),
                "{}",
                queue(&config)
            );
        }
    }
}
