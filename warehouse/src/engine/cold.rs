//! The cold volume: a second folder of the engine, for partitions that are seldom read.
//!
//! The engine would take an empty folder for an empty volume, and the rows on it for rows that never were. So folder and
//! data directory carry the same mark, and an engine without its cold volume is not opened.

use std::path::{Path, PathBuf};

use super::EngineError;

/// Storage policy that the engine gets: its own disk first, the cold one second.
pub const STORAGE_POLICY: &str = "heliograph_tiered";
/// The second volume of it. The first keeps the name `default`, since a table changes only to a policy that has its volumes.
pub const VOLUME: &str = "cold";

const MARK_OF_DATA: &str = "cold-volume.mark";
const MARK_OF_COLD: &str = "heliograph-cold-volume.mark";

/// Opens or begins the cold volume of `data_dir`; `None`: there is none, and never was.
pub fn open(data_dir: &Path, cold: Option<&Path>) -> Result<Option<PathBuf>, EngineError> {
    let refused = |problem: String| EngineError::Cold { problem };
    let known = mark(&data_dir.join(MARK_OF_DATA))?;
    let Some(cold) = cold else {
        return match known {
            None => Ok(None),
            Some(_) => Err(refused(format!(
                "{} has partitions on a cold volume, and engine.cold_path is empty. Set it to the folder of that volume (the one with {MARK_OF_COLD})",
                data_dir.display()
            ))),
        };
    };
    let there = mark(&cold.join(MARK_OF_COLD))?;
    match (known, there) {
        (Some(known), Some(there)) if known == there => {}
        (Some(_), Some(_)) => {
            return Err(refused(format!(
                "{} is the cold volume of another data_dir. Set engine.cold_path to the one of {}",
                cold.display(),
                data_dir.display()
            )));
        }
        (Some(_), None) => {
            return Err(refused(format!(
                "{} has no {MARK_OF_COLD}, so it is not the volume that {} has partitions on. Is its disk mounted? Else set engine.cold_path to where the volume is now",
                cold.display(),
                data_dir.display()
            )));
        }
        (None, there) => begin(data_dir, cold, there)?,
    }
    let path = cold
        .canonicalize()
        .map_err(|error| EngineError::folder(cold, &error))?;
    Ok(Some(path))
}

/// The folder is marked first: a start that was killed in between finds a marked folder with nothing else in it.
fn begin(data_dir: &Path, cold: &Path, there: Option<String>) -> Result<(), EngineError> {
    let failed = |path: &Path, error: std::io::Error| EngineError::folder(path, &error);
    std::fs::create_dir_all(cold).map_err(|error| failed(cold, error))?;
    let others = std::fs::read_dir(cold)
        .map_err(|error| failed(cold, error))?
        .filter_map(Result::ok)
        .filter(|entry| entry.file_name() != MARK_OF_COLD && entry.file_name() != "lost+found")
        .count();
    if others > 0 {
        return Err(EngineError::Cold {
            problem: format!(
                "{} is not empty, and {} has no cold volume yet. Name an empty folder, or a new one",
                cold.display(),
                data_dir.display()
            ),
        });
    }
    let mark = there.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    for path in [cold.join(MARK_OF_COLD), data_dir.join(MARK_OF_DATA)] {
        write_durably(&path, &mark).map_err(|error| failed(&path, error))?;
    }
    Ok(())
}

fn write_durably(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    let unfinished = path.with_extension("unfinished");
    let mut file = std::fs::File::create(&unfinished)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&unfinished, path)
}

fn mark(path: &Path) -> Result<Option<String>, EngineError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EngineError::folder(path, &error)),
    }
}

/// Disks and policy, as the engine's configuration wants them. Nothing moves by itself, whatever room is left.
pub fn storage_configuration(cold: &Path) -> String {
    format!(
        "<storage_configuration><disks><{VOLUME}><type>local</type><path>{}/</path></{VOLUME}></disks>\
         <policies><{STORAGE_POLICY}><volumes><default><disk>default</disk></default><{VOLUME}><disk>{VOLUME}</disk></{VOLUME}></volumes>\
         <move_factor>0</move_factor></{STORAGE_POLICY}></policies></storage_configuration>",
        super::escape_xml(cold)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(data: &Path, cold: Option<&Path>) -> String {
        open(data, cold).unwrap_err().to_string()
    }

    #[test]
    fn a_volume_that_is_missing_or_another_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        for name in ["data", "other"] {
            std::fs::create_dir(at(name)).unwrap();
        }
        assert_eq!(open(&at("data"), None).unwrap(), None);
        assert!(open(&at("data"), Some(&at("cold"))).unwrap().is_some());
        assert!(open(&at("data"), Some(&at("cold"))).unwrap().is_some());
        let text = problem(&at("data"), None);
        assert!(text.contains("engine.cold_path is empty"), "{text}");
        // An empty mount point.
        let text = problem(&at("data"), Some(&at("empty")));
        assert!(text.contains("Is its disk mounted?"), "{text}");
        assert!(!at("empty").exists());
        open(&at("other"), Some(&at("cold_of_other"))).unwrap();
        let text = problem(&at("data"), Some(&at("cold_of_other")));
        assert!(text.contains("of another data_dir"), "{text}");
        // It may move.
        std::fs::rename(at("cold"), at("moved")).unwrap();
        assert!(open(&at("data"), Some(&at("moved"))).unwrap().is_some());
    }

    #[test]
    fn a_start_that_was_killed_in_between_is_ended_and_foreign_folders_are_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let (data, cold) = (dir.path().join("data"), dir.path().join("cold"));
        std::fs::create_dir(&data).unwrap();
        std::fs::create_dir(&cold).unwrap();
        std::fs::write(cold.join(MARK_OF_COLD), "mine").unwrap();
        assert!(open(&data, Some(&cold)).unwrap().is_some());
        assert_eq!(
            std::fs::read_to_string(data.join(MARK_OF_DATA)).unwrap(),
            "mine"
        );
        std::fs::remove_file(data.join(MARK_OF_DATA)).unwrap();
        std::fs::create_dir(cold.join("store")).unwrap();
        let text = problem(&data, Some(&cold));
        assert!(text.contains("is not empty"), "{text}");
    }
}
