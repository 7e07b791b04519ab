//! A thread that reads the configuration again when its file changes, and puts its filters in force.
//!
//! Only filters can change while the plugin runs. Whatever else differs is named, and needs a reload; a file that is wrong
//! changes nothing.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, SystemTime},
};

use crate::{config::Config, counters::Counters, filter::Switch};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const STOP_CHECK: Duration = Duration::from_millis(50);

/// When the file was last written, and its length.
type Version = (Option<SystemTime>, u64);

/// See the module.
pub struct FilterWatch {
    thread: Option<JoinHandle<()>>,
}

impl FilterWatch {
    /// `file` holds `config`.
    pub fn start(
        file: PathBuf,
        config: Config,
        switch: Arc<Switch>,
        counters: Arc<Counters>,
        stop: Arc<AtomicBool>,
    ) -> std::io::Result<Self> {
        let mut seen = version(&file);
        let mut running = config;
        let thread = thread::Builder::new().name("hgFilters".into()).spawn(move || {
            while !nap(&stop) {
                let now = version(&file);
                if now == seen {
                    continue;
                }
                seen = now;
                match exchange(&file, &running, &switch) {
                    Ok(None) => {}
                    Ok(Some((config, generation))) => {
                        running = config;
                        counters.filter_generation.set(generation as u64);
                        log::info!(target: crate::LOG_TARGET,
                            "heliograph: filters of {} are in force, generation {generation}", file.display()
                        );
                    }
                    Err(problem) => log::error!(target: crate::LOG_TARGET,
                        "heliograph: {problem}. The filters of before stay in force"
                    ),
                }
            }
        })?;
        Ok(Self {
            thread: Some(thread),
        })
    }

    /// After `stop` was set.
    pub fn join(&mut self) {
        if let Some(thread) = self.thread.take() {
            // It holds no records.
            let _ = thread.join();
        }
    }
}

/// `None`: the file says nothing new.
fn exchange(
    file: &Path,
    running: &Config,
    switch: &Switch,
) -> Result<Option<(Config, usize)>, String> {
    let config = Config::load(file).map_err(|error| error.to_string())?;
    if config == *running {
        return Ok(None);
    }
    if !config.differs_in_filters_alone(running) {
        return Err(format!(
            "{}: more than filters was changed, which takes `agave-validator plugin reload`",
            file.display()
        ));
    }
    let filters = config
        .compile_filters()
        .map_err(|error| error.to_string())?;
    let generation = switch.replace(filters).map_err(|error| error.to_string())?;
    Ok(Some((config, generation)))
}

fn version(file: &Path) -> Version {
    fs::metadata(file).map_or((None, 0), |metadata| {
        (metadata.modified().ok(), metadata.len())
    })
}

/// True when it is time to stop.
fn nap(stop: &AtomicBool) -> bool {
    let mut left = LOOK_EVERY;
    while !left.is_zero() {
        if stop.load(Ordering::Acquire) {
            return true;
        }
        thread::sleep(STOP_CHECK);
        left = left.saturating_sub(STOP_CHECK);
    }
    stop.load(Ordering::Acquire)
}
