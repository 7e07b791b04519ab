//! The embedded ClickHouse engine from npm.

use std::{path::PathBuf, process::Command};

use super::{Progress, Unit, check_sha256, once, run_measured, tree_bytes};

const VERSION: &str = "26.7.3";
const PACKAGE: &str = "@chdb/lib-linux-x64-gnu@26.7.3-stable.1";
const ARCHIVE: &str = "chdb-lib-linux-x64-gnu-26.7.3-stable.1.tgz";
// Of the archive whose sha512 the registry states as XP97mMqnc5tZpKQywR8N7cLTsHNiTmHr30pC5mzo3jWmukjKn2IBa60c2B/gWUNcuFjOMjWoorQICCqBVj5wpw==
const ARCHIVE_SHA256: &str = "c0d32b129e988f2b9a9a31c9141aecf5e1e2453f9a079efc4d36ab8e3f92b2ad";
const ARCHIVE_BYTES: u64 = 177_817_999;
const LIBRARY_BYTES: u64 = 566_330_096;

/// Path of `libchdb.so`.
pub fn libchdb(progress: &Progress) -> anyhow::Result<PathBuf> {
    let complete = |dir: &std::path::Path| {
        std::fs::metadata(dir.join("libchdb.so"))
            .is_ok_and(|metadata| metadata.len() == LIBRARY_BYTES)
    };
    let dir = once(&format!("libchdb-{VERSION}"), complete, |dir| {
        if cfg!(not(all(target_arch = "x86_64", target_env = "gnu"))) {
            anyhow::bail!("libchdb {VERSION} is fetched for x86_64 Linux with glibc only");
        }
        let scratch = dir.join("npm-cache");
        let mut npm = Command::new("npm");
        npm.args(["pack", "--silent", PACKAGE, "--pack-destination"])
            .arg(dir)
            // A cache of its own: its growth is the progress, and it goes away with the archive.
            .arg("--cache")
            .arg(&scratch);
        run_measured(
            &mut npm,
            &format!("fetching {PACKAGE} from npm failed"),
            || {
                let done = tree_bytes(&scratch).min(ARCHIVE_BYTES);
                progress.update(
                    &format!("ClickHouse engine (libchdb {VERSION})"),
                    done,
                    ARCHIVE_BYTES,
                    Unit::Bytes,
                );
            },
        )?;
        std::fs::remove_dir_all(&scratch)?;
        let archive = dir.join(ARCHIVE);
        check_sha256(&archive, ARCHIVE_SHA256, PACKAGE)?;

        let mut tar = Command::new("tar");
        tar.arg("-xzf")
            .arg(&archive)
            .args(["--strip-components=1", "-C"])
            .arg(dir)
            .arg("package/libchdb.so");
        run_measured(&mut tar, "unpacking libchdb failed", || {
            let done = std::fs::metadata(dir.join("libchdb.so")).map_or(0, |file| file.len());
            progress.update("unpacking libchdb", done, LIBRARY_BYTES, Unit::Bytes);
        })?;
        Ok(std::fs::remove_file(archive)?)
    })?;
    Ok(dir.join("libchdb.so"))
}
