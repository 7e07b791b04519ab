//! The policy file: what is kept of which table, and where. Pure but for reading the file.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use anyhow::Context;
use service_host::ConfigError;
use toml::{Table, Value};

use crate::{engine::cold, sink::is_rollup};

/// What `[default]` does not touch: blocks link through the first, the second says what is final, and rollups are small sums
/// of what goes.
fn is_kept_unless_named(table: &str) -> bool {
    ["blocks", "slot_status"].contains(&table) || is_rollup(table)
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub default: Rules,
    pub tables: BTreeMap<String, Rules>,
    pub storage_policy: String,
    pub cold_volume: String,
}

/// For one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Epochs that stay, the newest one counted; `None`: all.
    pub keep_epochs: Option<u64>,
    /// Epochs that stay on the first volume, the newest one counted; `None`: all.
    pub cold_after_epochs: Option<u64>,
    /// Folder whose folders are archives.
    pub archive: Option<PathBuf>,
    pub require_archive: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            keep_epochs: None,
            cold_after_epochs: None,
            archive: None,
            require_archive: true,
        }
    }
}

const TOP: &[&str] = &["default", "tables", "storage_policy", "cold_volume"];
const OF_RULES: &[&str] = &[
    "keep_epochs",
    "cold_after_epochs",
    "archive",
    "require_archive",
];

impl Policy {
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("--policy {}", path.display()))?;
        let policy = Self::parse(&text).with_context(|| path.display().to_string())?;
        Ok(policy)
    }

    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let root: Table = text.parse().map_err(|error: toml::de::Error| {
            ConfigError::new("(the file)", error.to_string().trim_end(), "Write TOML")
        })?;
        known(&root, TOP, "")?;
        let name = |key: &str, fallback: &str| match root.get(key) {
            None => Ok(fallback.to_owned()),
            Some(Value::String(name)) if !name.is_empty() => Ok(name.clone()),
            Some(other) => Err(ConfigError::new(
                key,
                format!("{other} is no name"),
                "Write it in quotes, as the server's configuration has it",
            )),
        };
        let default = Rules::parse(table(&root, "default")?, "default", &Rules::default())?;
        let mut tables = BTreeMap::new();
        for (name, rules) in table(&root, "tables")? {
            let at = format!("tables.{name}");
            let Value::Table(rules) = rules else {
                return Err(ConfigError::new(
                    at.clone(),
                    format!("{rules} is no table of rules"),
                    format!("Write [{at}], and its rules below"),
                ));
            };
            // What [default] drops or moves says nothing of these.
            let mut base = default.clone();
            if is_kept_unless_named(name) {
                (base.keep_epochs, base.cold_after_epochs) = (None, None);
            }
            tables.insert(name.clone(), Rules::parse(rules, &at, &base)?);
        }
        let policy = Self {
            default,
            tables,
            storage_policy: name("storage_policy", cold::STORAGE_POLICY)?,
            cold_volume: name("cold_volume", cold::VOLUME)?,
        };
        if policy.every_rule().all(Rules::is_idle) {
            return Err(ConfigError::new(
                "default",
                "nothing would be dropped or moved",
                "Set keep_epochs or cold_after_epochs, in [default] or in [tables.NAME]",
            ));
        }
        Ok(policy)
    }

    pub fn rules(&self, table: &str) -> Rules {
        match self.tables.get(table) {
            Some(rules) => rules.clone(),
            None if is_kept_unless_named(table) => Rules::default(),
            None => self.default.clone(),
        }
    }

    pub fn wants_cold(&self) -> bool {
        self.every_rule()
            .any(|rules| rules.cold_after_epochs.is_some())
    }

    fn every_rule(&self) -> impl Iterator<Item = &Rules> {
        self.tables.values().chain([&self.default])
    }

    /// Refuses rules for what is not there, or has no epochs to drop.
    pub fn check_tables(&self, by_epoch: &BTreeSet<String>) -> Result<(), ConfigError> {
        for name in self.tables.keys() {
            let field = format!("tables.{name}");
            if name == "slot_status" {
                return Err(ConfigError::new(
                    field,
                    "it says what is final in every other table, and has no partitions by epoch",
                    "Remove the section; it takes some tens of bytes per block",
                ));
            }
            if !by_epoch.contains(name) {
                return Err(ConfigError::new(
                    field,
                    "there is no such table that is partitioned by epoch",
                    format!(
                        "Remove the section, or name one of {}",
                        by_epoch.iter().cloned().collect::<Vec<_>>().join(", ")
                    ),
                ));
            }
        }
        Ok(())
    }
}

impl Rules {
    pub fn is_idle(&self) -> bool {
        self.keep_epochs.is_none() && self.cold_after_epochs.is_none()
    }

    fn parse(given: &Table, at: &str, base: &Self) -> Result<Self, ConfigError> {
        known(given, OF_RULES, at)?;
        let mut rules = base.clone();
        let field = |key: &str| format!("{at}.{key}");
        for (key, value, never) in [
            ("keep_epochs", &mut rules.keep_epochs, "all"),
            ("cold_after_epochs", &mut rules.cold_after_epochs, "never"),
        ] {
            match given.get(key) {
                None => {}
                Some(Value::Integer(epochs)) if *epochs > 0 => {
                    *value = u64::try_from(*epochs).ok();
                }
                Some(Value::String(word)) if word == never => *value = None,
                Some(other) => {
                    return Err(ConfigError::new(
                        field(key),
                        format!("{other} is no number of epochs"),
                        format!("Write 1 or more, the newest epoch counted, or \"{never}\""),
                    ));
                }
            }
        }
        match given.get("archive") {
            None => {}
            Some(Value::String(folder)) if !folder.is_empty() => {
                rules.archive = Some(folder.into());
            }
            Some(other) => {
                return Err(ConfigError::new(
                    field("archive"),
                    format!("{other} is no folder"),
                    "Write the folder that holds the archives, in quotes",
                ));
            }
        }
        match given.get("require_archive") {
            None => {}
            Some(Value::Boolean(required)) => rules.require_archive = *required,
            Some(other) => {
                return Err(ConfigError::new(
                    field("require_archive"),
                    format!("{other} is neither true nor false"),
                    "Write true, or false to drop what no archive holds",
                ));
            }
        }
        if rules.keep_epochs.is_some() && rules.require_archive && rules.archive.is_none() {
            return Err(ConfigError::new(
                field("archive"),
                "epochs are to be dropped once an archive holds them, and no folder is named",
                "Set it to the folder of the archives, or require_archive = false to drop without",
            ));
        }
        if let (Some(keep), Some(cold)) = (rules.keep_epochs, rules.cold_after_epochs)
            && cold >= keep
        {
            return Err(ConfigError::new(
                field("cold_after_epochs"),
                format!("epochs would be moved after {cold}, and are dropped after {keep}"),
                "Set it below keep_epochs, or to \"never\"",
            ));
        }
        Ok(rules)
    }
}

fn known(given: &Table, keys: &[&str], at: &str) -> Result<(), ConfigError> {
    let Some(key) = given.keys().find(|key| !keys.contains(&key.as_str())) else {
        return Ok(());
    };
    let field = match at {
        "" => key.clone(),
        at => format!("{at}.{key}"),
    };
    Err(ConfigError::new(
        field,
        "there is no such key",
        format!("Use {}", keys.join(", ")),
    ))
}

fn table<'t>(root: &'t Table, key: &str) -> Result<&'t Table, ConfigError> {
    static EMPTY: std::sync::LazyLock<Table> = std::sync::LazyLock::new(Table::new);
    match root.get(key) {
        None => Ok(&EMPTY),
        Some(Value::Table(table)) => Ok(table),
        Some(other) => Err(ConfigError::new(
            key,
            format!("{other} is no section"),
            format!("Write [{key}], and its keys below"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_names_the_field_and_the_fix() {
        for (text, field, fix) in [
            ("keep_epochs", "(the file)", "Write TOML"),
            ("", "default", "Set keep_epochs or"),
            (
                "[default]\nkeep = 3",
                "default.keep",
                "Use keep_epochs, cold",
            ),
            (
                "[table.swaps]\nkeep_epochs = 3",
                "table",
                "Use default, tables",
            ),
            ("default = 3", "default", "Write [default]"),
            (
                "[tables]\nswaps = 3",
                "tables.swaps",
                "Write [tables.swaps]",
            ),
            (
                "[default]\nkeep_epochs = 0",
                "default.keep_epochs",
                "Write 1 or more",
            ),
            (
                "[default]\nkeep_epochs = -1",
                "default.keep_epochs",
                "or \"all\"",
            ),
            (
                "[default]\nkeep_epochs = 2.5",
                "default.keep_epochs",
                "Write 1 or more",
            ),
            (
                "[default]\nkeep_epochs = \"ten\"",
                "default.keep_epochs",
                "or \"all\"",
            ),
            (
                "[tables.swaps]\ncold_after_epochs = \"all\"",
                "tables.swaps.cold_after_epochs",
                "or \"never\"",
            ),
            (
                "[default]\nkeep_epochs = 3",
                "default.archive",
                "require_archive = false",
            ),
            (
                "[default]\nkeep_epochs = 3\narchive = 1",
                "default.archive",
                "in quotes",
            ),
            (
                "[default]\nkeep_epochs = 3\narchive = \"\"",
                "default.archive",
                "in quotes",
            ),
            (
                "[default]\nkeep_epochs = 3\nrequire_archive = \"no\"",
                "default.require_archive",
                "Write true",
            ),
            (
                "[tables.swaps]\nkeep_epochs = 3",
                "tables.swaps.archive",
                "Set it to the folder",
            ),
            (
                "[default]\nkeep_epochs = 3\ncold_after_epochs = 3\narchive = \"a\"",
                "default.cold_after_epochs",
                "below keep_epochs",
            ),
            (
                "[default]\nkeep_epochs = 9\ncold_after_epochs = 3\narchive = \"a\"\n[tables.swaps]\nkeep_epochs = 2",
                "tables.swaps.cold_after_epochs",
                "or to \"never\"",
            ),
            (
                "cold_volume = 3\n[default]\ncold_after_epochs = 3",
                "cold_volume",
                "in quotes",
            ),
            (
                "storage_policy = \"\"\n[default]\ncold_after_epochs = 3",
                "storage_policy",
                "in quotes",
            ),
        ] {
            let error = Policy::parse(text).unwrap_err();
            assert_eq!(error.field, field, "{text}: {error}");
            assert!(error.fix.contains(fix), "{text}: {error}");
        }
    }

    #[test]
    fn a_table_takes_over_what_it_does_not_say() {
        let policy = Policy::parse(
            "[default]\nkeep_epochs = 9\ncold_after_epochs = 3\narchive = \"/a\"\n\
             [tables.account_updates]\nkeep_epochs = 2\ncold_after_epochs = \"never\"\nrequire_archive = false\n\
             [tables.swaps]\nkeep_epochs = \"all\"\n[tables.blocks]\ncold_after_epochs = 1",
        )
        .unwrap();
        let rules = |keep, cold, required| Rules {
            keep_epochs: keep,
            cold_after_epochs: cold,
            archive: Some("/a".into()),
            require_archive: required,
        };
        assert_eq!(policy.rules("routes"), rules(Some(9), Some(3), true));
        assert_eq!(policy.rules("account_updates"), rules(Some(2), None, false));
        assert_eq!(policy.rules("swaps"), rules(None, Some(3), true));
        assert_eq!(policy.rules("blocks"), rules(None, Some(1), true));
        assert_eq!(policy.rules("slot_status"), Rules::default());
        let without = Policy::parse("[default]\nkeep_epochs = 9\narchive = \"/a\"").unwrap();
        assert_eq!(without.rules("blocks"), Rules::default());
        assert!(policy.wants_cold() && !without.wants_cold());
    }

    #[test]
    fn rules_are_for_tables_that_have_epochs() {
        let tables = BTreeSet::from(["swaps".to_owned(), "routes".to_owned()]);
        let check = |name: &str| {
            let text = format!("[tables.{name}]\nkeep_epochs = 9\narchive = \"/a\"");
            Policy::parse(&text).unwrap().check_tables(&tables)
        };
        check("swaps").unwrap();
        let error = check("swap").unwrap_err();
        assert_eq!(error.field, "tables.swap");
        assert!(error.fix.contains("routes, swaps"), "{error}");
        let error = check("slot_status").unwrap_err();
        assert_eq!(error.field, "tables.slot_status");
        assert!(error.fix.contains("Remove the section"), "{error}");
    }
}
