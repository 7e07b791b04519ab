//! Where the events come from: recorded blocks through the plugin's C interface, or a real validator.

use std::{
    fmt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use event_schema::Pubkey;
use local_services::{Child, ChildSpec, workspace_binary};
use serde::Deserialize;

use crate::{
    configs::{self, Wiring},
    layout::{self, RunDir, ServiceNote},
    progress::Say,
};

/// What the user asked for, resolved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Blocks(PathBuf),
    Validator,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Blocks(dir) => write!(f, "blocks {}", dir.display()),
            Self::Validator => f.write_str("validator"),
        }
    }
}

const GET_VALIDATOR: &str =
    "build it once by `./heliograph build --validator` (about 26 CPU-minutes)";

impl Plan {
    /// From the words after `--source`; none: the validator when it has been built, else the shipped blocks.
    pub fn resolve(words: &[String], repository: &Path, say: &Say) -> anyhow::Result<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words[..] {
            [] => {
                if layout::validator_binary().is_some() {
                    return Ok(Self::Validator);
                }
                say.line(&format!(
                    "source: the recorded blocks of the repository. For a real validator, {GET_VALIDATOR}"
                ));
                Self::blocks(&shipped_blocks(repository))
            }
            ["validator"] => match layout::validator_binary() {
                Some(_) => Ok(Self::Validator),
                None => bail!("--source validator: the validator is not built; {GET_VALIDATOR}"),
            },
            ["blocks"] => Self::blocks(&shipped_blocks(repository)),
            ["blocks", dir] => Self::blocks(Path::new(dir)),
            _ => bail!(
                "--source {}: use `--source validator` or `--source blocks DIR`",
                words.join(" ")
            ),
        }
    }

    fn blocks(dir: &Path) -> anyhow::Result<Self> {
        let missing = |problem: &str| {
            anyhow::anyhow!(
                "--source blocks {}: {problem}; name a folder of recorded blocks",
                dir.display()
            )
        };
        if !dir.exists() {
            return Err(missing("there is no such folder"));
        }
        if dir.is_dir() && std::fs::read_dir(dir)?.next().is_none() {
            return Err(missing("the folder is empty"));
        }
        Ok(Self::Blocks(dir.canonicalize()?))
    }

    pub fn is_validator(&self) -> bool {
        matches!(self, Self::Validator)
    }
}

/// The blocks that the repository carries, recorded from its own validator.
pub fn shipped_blocks(repository: &Path) -> PathBuf {
    repository.join("localnet/blocks")
}

/// What the validator says of itself when its first slot is there.
#[derive(Clone, Debug, Deserialize)]
pub struct ValidatorNote {
    pub rpc: String,
    pub identity: String,
}

/// A line of the replayer's standard output.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
pub enum ReplayLine {
    Driven {
        file: String,
        slot: u64,
        transactions: u64,
        /// Which of the sources it was driven through.
        source: usize,
    },
    Skipped {
        file: String,
        skipped: String,
    },
    Failed {
        file: String,
        error: String,
    },
    Done {
        blocks: u64,
    },
}

pub struct Source {
    plan: Plan,
    // Blocks: started by `begin`, after the services. Validator: from the start.
    child: Option<Child>,
    spec: ChildSpec,
    output: PathBuf,
    /// The identities that stand in the records' headers, by number of the source.
    pub identities: Vec<Pubkey>,
    pub validator: Option<ValidatorNote>,
    pub mint_keypair: PathBuf,
}

const VALIDATOR_START_LIMIT: Duration = Duration::from_secs(180);

impl Source {
    /// Starts the validator, or prepares the replay (see [`Source::begin`]).
    pub async fn start(
        plan: &Plan,
        dir: &RunDir,
        wiring: &Wiring,
        say: &Say,
    ) -> anyhow::Result<Self> {
        let library = layout::plugin_library()?;
        let output = dir.data("source.out");
        let mut spec = match plan {
            // As many sources as may carry the same slot: a block kept in a second encoding is a second observation.
            Plan::Blocks(_) => ChildSpec::new(
                "source",
                workspace_binary("replay-blocks"),
                dir.log("source"),
            )
            .arg("--plugin")
            .arg(&library),
            Plan::Validator => ChildSpec::new(
                "source",
                layout::validator_binary().context(GET_VALIDATOR)?,
                dir.log("source"),
            ),
        }
        .output(&output);
        let mut source_identities = Vec::new();
        let sources = if plan.is_validator() { 1 } else { 2 };
        for number in 1..=sources {
            let ledger = dir.data("validator-ledger");
            let identity = match plan {
                Plan::Validator => identity_of(&ledger).unwrap_or_else(random_identity),
                // Fixed, so that a second run of the same blocks is seen as the same observers.
                Plan::Blocks(_) => Pubkey([number as u8; 32]),
            };
            let name = format!("source-{number}");
            let file = dir.config(&format!("{name}.json"));
            let metrics = if number == 1 {
                wiring.ports.plugin_metrics
            } else {
                0
            };
            let spill = dir.data("spill").join(&name);
            std::fs::create_dir_all(&spill)?;
            std::fs::write(
                &file,
                configs::plugin(wiring, &library, &name, &identity, &spill, metrics),
            )?;
            source_identities.push(identity);
            spec = spec
                .arg(if plan.is_validator() {
                    "--geyser-plugin-config"
                } else {
                    "--config"
                })
                .arg(&file);
        }

        let mint_keypair = dir.data("mint-keypair.json");
        let mut source = Self {
            plan: plan.clone(),
            child: None,
            spec,
            output,
            identities: source_identities,
            validator: None,
            mint_keypair: mint_keypair.clone(),
        };
        match plan {
            Plan::Blocks(blocks) => source.spec = source.spec.arg(blocks),
            Plan::Validator => {
                say.step("starting the validator");
                let ports = &wiring.ports;
                for (flag, value) in [
                    (
                        "--ledger",
                        dir.data("validator-ledger").display().to_string(),
                    ),
                    ("--mint-keypair", mint_keypair.display().to_string()),
                    ("--rpc-port", ports.rpc.to_string()),
                    ("--gossip-port", ports.gossip.to_string()),
                    ("--dynamic-port", ports.validator_range.to_string()),
                ] {
                    source.spec = source.spec.arg(flag).arg(value);
                }
                source.begin()?;
                source.wait_for_first_slot(say).await?;
            }
        }
        Ok(source)
    }

    /// Lets the recorded blocks flow. Does nothing for the validator, which flows by itself.
    pub fn begin(&mut self) -> anyhow::Result<()> {
        if self.child.is_none() {
            self.child = Some(Child::spawn(self.spec.clone())?);
        }
        Ok(())
    }

    async fn wait_for_first_slot(&mut self, say: &Say) -> anyhow::Result<()> {
        let begin = Instant::now();
        loop {
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            let line = std::fs::read_to_string(&self.output).unwrap_or_default();
            if let Some(note) = line
                .lines()
                .find_map(|line| serde_json::from_str(line).ok())
            {
                self.validator = Some(note);
                say.ready("validator");
                return Ok(());
            }
            if begin.elapsed() > VALIDATOR_START_LIMIT {
                bail!(
                    "the validator has no first slot after {} s; see {}",
                    VALIDATOR_START_LIMIT.as_secs(),
                    self.spec.log.display()
                );
            }
            say.waiting("validator: first slot");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// What the replayer has said so far, and whether it is through.
    pub fn replayed(&mut self) -> (Vec<ReplayLine>, bool) {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<ReplayLine> = text
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect();
        let ended = self.child.as_mut().is_some_and(|child| !child.is_running());
        (lines, ended)
    }

    /// Why the source is of no more use; a replayer that is through, or that met damaged files, is no failure.
    pub fn failure(&mut self) -> Option<anyhow::Error> {
        let child = self.child.as_mut()?;
        let status = child.exit_status()?;
        match self.plan {
            Plan::Blocks(_) if matches!(status.code(), Some(0 | 1)) => None,
            _ => Some(child.failure(&format!("ended ({status})"))),
        }
    }

    pub fn note(&self) -> ServiceNote {
        ServiceNote {
            name: "source".to_owned(),
            pid: self.child.as_ref().map_or(0, Child::pid),
            log: self.spec.log.clone(),
            admin: None,
        }
    }

    pub fn stop(&mut self) {
        if let Some(child) = &mut self.child {
            child.stop(Duration::from_secs(30));
        }
    }
}

// A validator that has run before keeps its key in its ledger.
fn identity_of(ledger: &Path) -> Option<Pubkey> {
    let text = std::fs::read_to_string(ledger.join("validator-keypair.json")).ok()?;
    let bytes: Vec<u8> = serde_json::from_str(&text).ok()?;
    Pubkey::try_from(bytes.get(32..64)?).ok()
}

// Before its first start the validator has no key yet; any fixed key identifies this source as well.
fn random_identity() -> Pubkey {
    use std::io::Read;
    let mut key = [0; 32];
    let _ = std::fs::File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut key));
    Pubkey(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replay_lines_are_told_apart() {
        let parse = |text: &str| serde_json::from_str::<ReplayLine>(text).unwrap();
        assert!(matches!(
            parse(
                r#"{"file":"a","slot":7,"blockhash":"x","parent_slot":6,"transactions":3,"votes":1,"source":1}"#
            ),
            ReplayLine::Driven {
                slot: 7,
                transactions: 3,
                source: 1,
                ..
            }
        ));
        assert!(matches!(
            parse(r#"{"file":"a","skipped":"jsonParsed"}"#),
            ReplayLine::Skipped { .. }
        ));
        assert!(matches!(
            parse(r#"{"file":"a","error":"ends early"}"#),
            ReplayLine::Failed { .. }
        ));
        assert!(matches!(
            parse(r#"{"done":true,"blocks":2,"skipped":1}"#),
            ReplayLine::Done { blocks: 2 }
        ));
    }

    #[test]
    fn a_source_that_is_not_there_is_refused_by_name() {
        let say = Say::default();
        let resolve = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            Plan::resolve(&words, Path::new("/nonexistent"), &say)
        };
        for (words, expected) in [
            (vec!["blocks", "/nonexistent/blocks"], "no such folder"),
            (vec!["kafka"], "--source validator"),
            (vec!["blocks"], "no such folder"),
        ] {
            let error = resolve(&words).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        let empty = tempfile::tempdir().unwrap();
        let error = resolve(&["blocks", empty.path().to_str().unwrap()])
            .unwrap_err()
            .to_string();
        assert!(error.contains("empty"), "{error}");
    }
}
