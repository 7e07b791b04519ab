//! RocksDB as a shared library, from its official Maven package: saves the validator's build a quarter of its work.

use std::{path::PathBuf, process::Command};

use super::{Progress, Unit, check_sha256, once, run_measured};

const VERSION: &str = "10.4.2";
const LIBRARY_BYTES: u64 = 15_146_104;
const LIBRARY_SHA256: &str = "36d6570459a9ed6b01b0de4adae6d19e19cf9671d59ac878e21fc4a6da487607";

/// The directory to give to `ROCKSDB_LIB_DIR`.
pub fn rocksdb(progress: &Progress) -> anyhow::Result<PathBuf> {
    let name = format!("rocksdb-{VERSION}");
    once(
        &name,
        |dir| dir.join("librocksdb.so").exists(),
        |dir| {
            let artifact = format!("org.rocksdb:rocksdbjni:{VERSION}:jar:linux64");
            let jar = dir.join(format!("rocksdbjni-{VERSION}-linux64.jar"));
            let mut maven = Command::new("mvn");
            maven
                .args(["-q", "-B", "dependency:copy"])
                .arg(format!("-Dartifact={artifact}"))
                .arg(format!("-DoutputDirectory={}", dir.display()));
            run_measured(
                &mut maven,
                &format!("fetching {artifact} from Maven Central failed"),
                || progress.update(&format!("RocksDB {VERSION}"), 0, 0, Unit::Bytes),
            )?;

            let library = dir.join("librocksdb.so");
            // Maven is there, so a JDK's or the system's archive tools need not be: Python reads zip files anywhere.
            let mut unzip = Command::new("python3");
            unzip
                .args(["-c", "import sys,zipfile,shutil; shutil.copyfileobj(zipfile.ZipFile(sys.argv[1]).open('librocksdbjni-linux64.so'), open(sys.argv[2],'wb'))"])
                .arg(&jar)
                .arg(&library);
            run_measured(&mut unzip, "unpacking RocksDB failed", || {
                let done = std::fs::metadata(&library).map_or(0, |file| file.len());
                progress.update("unpacking RocksDB", done, LIBRARY_BYTES, Unit::Bytes);
            })?;
            check_sha256(&library, LIBRARY_SHA256, "RocksDB")?;
            Ok(std::fs::remove_file(jar)?)
        },
    )
}
